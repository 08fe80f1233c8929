import type { BlockDevice } from './base/block-device.ts';
import { isLoopbackAddress, type IscsiTarget, type TargetRegistry } from './iscsi/target-registry.ts';
import { normalizeName } from './iscsi/names.ts';
import type { TargetDirectory } from './served-volume.ts';

/** What the directory asks of the target server: who is logged in, and to end them. */
export interface SessionKeeper {
  sessions(): readonly { readonly targetName: string | undefined }[];
  endSessions(targetName: string): Promise<void>;
}

/**
 * The targets of this gateway: one per volume, LUN 0. Until access can be configured a target is open to any initiator on
 * loopback portals and denied on every other address.
 */
export class VolumeTargets implements TargetRegistry, TargetDirectory {
  readonly #targets = new Map<string, IscsiTarget>();
  #keeper: SessionKeeper | undefined;

  /** The server is made from the registry, so it is told afterwards. */
  servedBy(keeper: SessionKeeper): void {
    this.#keeper = keeper;
  }

  find(name: string): IscsiTarget | undefined {
    return this.#targets.get(name);
  }

  list(): Iterable<IscsiTarget> {
    return this.#targets.values();
  }

  add(target: string, device: BlockDevice): void {
    const name = normalizeName(target) ?? target;
    this.#targets.set(name, {
      name,
      luns: new Map([[0, device]]),
      allow: (_initiator, portalAddress) => isLoopbackAddress(portalAddress),
    });
  }

  async remove(target: string): Promise<void> {
    const name = normalizeName(target) ?? target;
    this.#targets.delete(name);
    await this.#keeper?.endSessions(name);
  }

  sessions(target: string): number {
    const name = normalizeName(target) ?? target;
    return this.#keeper?.sessions().filter((session) => session.targetName === name).length ?? 0;
  }
}
