import { invariant } from '../../gateway/base/errors.ts';
import type {
  AccessItem,
  CheckpointPointer,
  FenceNotice,
  GatewayBeat,
  NumberRange,
  VersionItem,
  VolumeChanges,
  VolumeItem,
  VolumeRef,
} from '../../gateway/cloud/version-log.ts';

type Outcome = 'ok' | 'conflict';

/** Small on purpose, so that every caller's paging is exercised. */
export const SIM_VERSIONS_PAGE = 7;

/** A range of segment numbers as the ledger remembers it. */
export interface LedgerEntry extends NumberRange {
  readonly ref: VolumeRef;
  readonly epoch: number;
}

/** The table, as it is at one instant: every method is one atomic step of the real service, with its condition. */
export class MemoryTable {
  readonly #volumes = new Map<string, VolumeItem>();
  readonly #versions = new Map<string, Map<number, VersionItem>>();
  readonly #access = new Map<string, AccessItem>();
  readonly #names = new Map<string, VolumeRef>();
  readonly #notices = new Map<string, FenceNotice[]>();
  readonly #beats = new Map<string, GatewayBeat>();
  readonly #nextNumber = new Map<string, number>();
  readonly ledger: LedgerEntry[] = [];

  constructor(copied?: MemoryTable) {
    if (copied === undefined) return;
    for (const [key, item] of copied.#volumes) this.#volumes.set(key, item);
    for (const [volume, versions] of copied.#versions) this.#versions.set(volume, new Map(versions));
    for (const [key, item] of copied.#access) this.#access.set(key, item);
    for (const [name, ref] of copied.#names) this.#names.set(name, ref);
    for (const [lineage, next] of copied.#nextNumber) this.#nextNumber.set(lineage, next);
    this.ledger.push(...copied.ledger);
  }

  getVolume(ref: VolumeRef): VolumeItem | undefined {
    return this.#volumes.get(keyOf(ref));
  }

  createVolume(item: VolumeItem): Outcome {
    if (this.#volumes.has(keyOf(item))) return 'conflict';
    this.#volumes.set(keyOf(item), { ...item });
    return 'ok';
  }

  listVolumes(lineage: string): VolumeItem[] {
    return [...this.#volumes.values()].filter((item) => item.lineage === lineage);
  }

  raiseEpoch(ref: VolumeRef, from: number, to: number, owner: string): Outcome {
    invariant(to > from, 'an epoch only rises');
    const outcome = this.#update(ref, (item) => item.epoch === from && { epoch: to, owner });
    if (outcome === 'ok') this.#remove(ref, 'handover');
    return outcome;
  }

  changeVolume(ref: VolumeRef, epoch: number, changes: VolumeChanges): Outcome {
    const { deletedAt, quotaBytes, handover, ...rest } = changes;
    const outcome = this.#update(
      ref,
      (item) =>
        item.epoch === epoch && {
          ...rest,
          ...(deletedAt === undefined ? {} : { deletedAt: deletedAt ?? undefined }),
          ...(typeof quotaBytes === 'number' ? { quotaBytes } : {}),
          ...(handover ? { handover } : {}),
        },
    );
    if (outcome === 'ok' && quotaBytes === null) this.#remove(ref, 'quotaBytes');
    if (outcome === 'ok' && handover === null) this.#remove(ref, 'handover');
    return outcome;
  }

  raiseMaintenanceEpoch(ref: VolumeRef, from: number): Outcome {
    return this.#update(ref, (item) => item.maintenanceEpoch === from && { maintenanceEpoch: from + 1 });
  }

  publishCheckpoint(ref: VolumeRef, pointer: CheckpointPointer): Outcome {
    return this.#update(
      ref,
      (item) =>
        item.maintenanceEpoch === pointer.maintenanceEpoch &&
        pointer.n > (item.checkpoint?.n ?? -1) && { checkpoint: { ...pointer } },
    );
  }

  raiseFloor(ref: VolumeRef, floor: number, maintenanceEpoch: number): Outcome {
    return this.#update(
      ref,
      (item) =>
        item.maintenanceEpoch === maintenanceEpoch &&
        floor > item.floor &&
        floor <= (item.checkpoint?.n ?? 0) && { floor },
    );
  }

  removeVolume(ref: VolumeRef, epoch: number): Outcome {
    const item = this.#volumes.get(keyOf(ref));
    if (item?.epoch !== epoch || item.deletedAt === undefined) return 'conflict';
    this.#volumes.delete(keyOf(ref));
    return 'ok';
  }

  getAccess(ref: VolumeRef): AccessItem | undefined {
    return this.#access.get(keyOf(ref));
  }

  putAccess(ref: VolumeRef, item: AccessItem): Outcome {
    const present = this.#access.get(keyOf(ref));
    if ((present?.revision ?? 0) !== item.revision - 1 || (present?.epoch ?? 0) > item.epoch) return 'conflict';
    this.#access.set(keyOf(ref), { ...item });
    return 'ok';
  }

  removeAccess(ref: VolumeRef, epoch: number): Outcome {
    if ((this.#access.get(keyOf(ref))?.epoch ?? 0) > epoch) return 'conflict';
    this.#access.delete(keyOf(ref));
    return 'ok';
  }

  putVersion(volume: string, item: VersionItem, previousEpoch: number): Outcome {
    const versions = this.#versionsOf(volume);
    const present = versions.get(item.n);
    if (present !== undefined && present.epoch >= previousEpoch) return 'conflict';
    versions.set(item.n, item);
    return 'ok';
  }

  getVersion(volume: string, n: number): VersionItem | undefined {
    return this.#versionsOf(volume).get(n);
  }

  listVersions(volume: string, from: number, limit: number): VersionItem[] {
    invariant(limit >= 1, 'a page has at least one item');
    const versions = this.#versionsOf(volume);
    const ns = [...versions.keys()].filter((n) => n >= from).sort((a, b) => a - b);
    return ns.slice(0, Math.min(limit, SIM_VERSIONS_PAGE)).flatMap((n) => versions.get(n) ?? []);
  }

  deleteVersions(volume: string, ns: readonly number[]): void {
    invariant(ns.length <= 25, 'at most 25 a call');
    for (const n of ns) this.#versionsOf(volume).delete(n);
  }

  allocateNumbers(ref: VolumeRef, epoch: number, count: number): NumberRange {
    const from = this.#nextNumber.get(ref.lineage) ?? 1;
    this.#nextNumber.set(ref.lineage, from + count);
    const range = { from, to: from + count };
    this.ledger.push({ ...range, ref, epoch });
    return range;
  }

  claimName(name: string, ref: VolumeRef): Outcome {
    const bound = this.#names.get(name);
    if (bound !== undefined && keyOf(bound) !== keyOf(ref)) return 'conflict';
    this.#names.set(name, { ...ref });
    return 'ok';
  }

  resolveName(name: string): VolumeRef | undefined {
    return this.#names.get(name);
  }

  rebindName(name: string, from: VolumeRef, to: VolumeRef): Outcome {
    const bound = this.#names.get(name);
    if (bound === undefined || keyOf(bound) !== keyOf(from)) return 'conflict';
    this.#names.set(name, { ...to });
    return 'ok';
  }

  releaseName(name: string, ref: VolumeRef): Outcome {
    const bound = this.#names.get(name);
    if (bound === undefined || keyOf(bound) !== keyOf(ref)) return 'conflict';
    this.#names.delete(name);
    return 'ok';
  }

  listNames(): { readonly name: string; readonly ref: VolumeRef }[] {
    return [...this.#names].map(([name, ref]) => ({ name, ref })).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  beat(beat: GatewayBeat): FenceNotice[] {
    this.#beats.set(beat.gateway, beat);
    return [...(this.#notices.get(beat.gateway) ?? [])];
  }

  notify(gateway: string, notice: FenceNotice): void {
    const notices = this.#notices.get(gateway) ?? [];
    if (!notices.some((other) => sameNotice(other, notice))) this.#notices.set(gateway, [...notices, { ...notice }]);
  }

  clearNotices(gateway: string, notices: readonly FenceNotice[]): void {
    const left = (this.#notices.get(gateway) ?? []).filter((one) => !notices.some((gone) => sameNotice(one, gone)));
    this.#notices.set(gateway, left);
  }

  #remove(ref: VolumeRef, attribute: 'quotaBytes' | 'handover'): void {
    const item = { ...this.#volumes.get(keyOf(ref)) } as VolumeItem; // it was just changed
    Reflect.deleteProperty(item, attribute);
    this.#volumes.set(keyOf(ref), item);
  }

  #update(ref: VolumeRef, change: (item: VolumeItem) => Partial<VolumeItem> | false): Outcome {
    const item = this.#volumes.get(keyOf(ref));
    const changes = item !== undefined && change(item);
    if (item === undefined || changes === false) return 'conflict';
    this.#volumes.set(keyOf(ref), { ...item, ...changes });
    return 'ok';
  }

  #versionsOf(volume: string): Map<number, VersionItem> {
    const known = this.#versions.get(volume);
    if (known !== undefined) return known;
    const versions = new Map<number, VersionItem>();
    this.#versions.set(volume, versions);
    return versions;
  }
}

function keyOf(ref: VolumeRef): string {
  return `${ref.lineage}/${ref.volume}`;
}

function sameNotice(a: FenceNotice, b: FenceNotice): boolean {
  return a.volume === b.volume && a.epoch === b.epoch;
}
