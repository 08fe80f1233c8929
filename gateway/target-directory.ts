import type { Epoch } from './base/units.ts';
import type { AccessBook } from './access/access-book.ts';
import type { AccessSync } from './access/access-sync.ts';
import { dropVolume } from './access/operations.ts';
import type { AdoptedVolume } from './access/part.ts';
import type { VolumeAccessReport } from './admin/gateway-api.ts';
import type { VolumeItem, VolumeRef } from './cloud/version-log.ts';
import { normalizeName } from './iscsi/names.ts';
import { keptSanitizeState } from './scsi/sanitize/kept.ts';
import type { TargetDirectory } from './served-volume.ts';
import type { AccessEverywhere } from './threads/access-everywhere.ts';
import type { VolumeControl } from './volume-control.ts';

export interface VolumeTargetsDeps {
  readonly book: AccessBook;
  readonly access: AccessEverywhere;
  readonly sync: AccessSync;
  /** Targets came or went, for whoever announces them. */
  readonly changed: () => void;
}

/** Where open volumes meet initiators: their access control is brought here first, then they are offered to whom it lets in. */
export class VolumeTargets implements TargetDirectory {
  readonly #deps: VolumeTargetsDeps;

  constructor(deps: VolumeTargetsDeps) {
    this.#deps = deps;
  }

  adopt(item: VolumeItem, epoch: Epoch, signal: AbortSignal, how: { readonly isRolledBack: boolean }): Promise<void> {
    const { lineage, volume } = item;
    return this.#deps.sync.adopt({ lineage, volume }, adopted(item), epoch, signal, how);
  }

  expect({ volume }: VolumeRef): () => void {
    return this.#deps.access.expect(volume);
  }

  async offer({ item, place }: Pick<VolumeControl, 'item' | 'place'>): Promise<void> {
    await this.#deps.access.offer(adopted(item), place);
    this.#deps.changed();
  }

  async withdraw({ volume }: VolumeRef): Promise<void> {
    await this.#deps.access.withdraw(volume);
    this.#deps.changed();
  }

  sessions({ volume }: VolumeRef): Promise<number> {
    return this.#deps.access.sessions(volume);
  }

  access({ volume }: VolumeRef): VolumeAccessReport {
    const { book, sync } = this.#deps;
    const part = book.document.volumes.find((each) => each.volume === volume);
    const { inTable, problem } = sync.status(volume);
    return { mode: part?.mode ?? 'unknown', maps: part?.maps.length ?? 0, inTable, problem };
  }

  notReady({ volume }: VolumeRef): string | undefined {
    const part = this.#deps.book.document.volumes.find((each) => each.volume === volume);
    switch (keptSanitizeState(part?.unitState)) {
      case 'running':
        return 'its LUN is being sanitized, and not ready until that has ended';
      case 'failed':
        return 'a SANITIZE of its LUN has failed, and it is not ready until an initiator repeats it or ends the failure mode';
      case 'ended':
        return 'a SANITIZE of its LUN has ended, and it is ready once the table knows that: until then a takeover would begin it again';
      case undefined:
        return undefined;
    }
  }

  /** Resolves when its access control is in the table, or can't get there. */
  settled({ volume }: VolumeRef): Promise<void> {
    return this.#deps.sync.settled(volume);
  }

  async isSettled({ volume }: VolumeRef, withinMs: number): Promise<boolean> {
    return (await this.#deps.sync.standing(volume, withinMs)) !== 'waiting';
  }

  /** The volume is not this gateway's any more; what its maps are made of stays. */
  async forget({ volume }: VolumeRef): Promise<void> {
    const { book, sync } = this.#deps;
    sync.forget(volume);
    if (!book.document.volumes.some((part) => part.volume === volume)) return;
    await book.change((document) => ({ document: dropVolume(document, volume), result: undefined, audit: undefined }));
  }

  /** No map, host or target is made or changed from the beginning of the work to its end: what it finds there still holds when it acts by it. */
  whileUnchanged<T>(work: () => Promise<T>): Promise<T> {
    return this.#deps.book.change(async (document) => ({ document, result: await work(), audit: undefined }));
  }

  /** Whether a target made by hand has this name already. */
  isTaken(targetName: string): boolean {
    const name = normalizeName(targetName) ?? targetName;
    return this.#deps.book.document.targets.some((target) => target.name === name);
  }
}

function adopted({ volume, name, targetName }: VolumeItem): AdoptedVolume {
  return { volume, name, target: normalizeName(targetName) ?? targetName };
}
