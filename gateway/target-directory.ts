import type { BlockDevice } from './base/block-device.ts';
import {
  isLoopbackAddress,
  type Authorization,
  type Initiator,
  type IscsiTarget,
  type TargetRegistry,
} from './iscsi/target-registry.ts';
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

  authorize(targetName: string, _initiator: Initiator, portalAddress: string): Authorization {
    const target = this.#targets.get(targetName);
    if (target === undefined || !isLoopbackAddress(portalAddress)) return { kind: 'not-found' };
    return { kind: 'allowed', target, chap: undefined };
  }

  discover(_initiator: Initiator, portalAddress: string): Iterable<IscsiTarget> {
    return isLoopbackAddress(portalAddress) ? this.#targets.values() : [];
  }

  discoveryChap(): undefined {
    return undefined;
  }

  onEvent(): void {
    // Nobody keeps an audit log yet.
  }

  add(target: string, device: BlockDevice): void {
    const name = normalizeName(target) ?? target;
    const luns = new Map([[0, { device, readOnly: false, state: undefined }]]);
    this.#targets.set(name, { name, luns: () => luns });
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
