import type { PhysicalSize } from '../base/block-device.ts';
import type { BlockCount, ByteCount, Epoch, SegmentNumber, VersionNumber, WallMillis } from '../base/units.ts';

/** Where a volume's items live. */
export interface VolumeRef {
  readonly lineage: string;
  readonly volume: string;
}

/** `{ sequence, maintenanceEpoch }` make the checkpoint object's key; n, epoch and chain are where a walk starts. */
export interface CheckpointPointer {
  readonly sequence: number;
  readonly maintenanceEpoch: number;
  readonly n: VersionNumber;
  readonly epoch: Epoch;
  readonly chain: Buffer;
}

export const REPLICATION_MODES = ['async', 'flush', 'sync'] as const;
export type ReplicationMode = (typeof REPLICATION_MODES)[number];
/** What becomes of acks that wait for the cloud when it is not to be had. */
export const ON_REMOTE_LOSS = ['block', 'fail', 'degrade'] as const;
export type OnRemoteLoss = (typeof ON_REMOTE_LOSS)[number];

/** The volume item: the one thing about a volume that moves. Attribute names are in docs/FORMAT.md. */
export interface VolumeItem extends VolumeRef {
  readonly name: string;
  readonly bytes: ByteCount;
  readonly sectorSize: 512 | 4096;
  /** Physical blocks that initiators are told of; 4096 bytes when it is not said. */
  readonly physicalSize?: PhysicalSize;
  /** The disk says that its medium can be ejected. */
  readonly removable?: boolean;
  /** Most bytes that may be mapped; without it as many as there are. */
  readonly quotaBytes?: ByteCount;
  readonly replication: ReplicationMode;
  /** `block` when it is not said. */
  readonly onRemoteLoss?: OnRemoteLoss;
  /** Full name of its default target; follows the volume. */
  readonly targetName: string;
  /** 16 bytes. */
  readonly naa: Buffer;
  readonly createdAt: WallMillis;
  /** Highest epoch ever handed out; 0 before the first start. */
  readonly epoch: Epoch;
  /** Gateway that raised the epoch last; '' before the first start. */
  readonly owner: string;
  /** Versions at or below it may be deleted; raised before they are. */
  readonly floor: VersionNumber;
  /** undefined: the log starts at version 1 with nothing folded yet. */
  readonly checkpoint: CheckpointPointer | undefined;
  readonly maintenanceEpoch: number;
  /** Oldest version that can be restored. */
  readonly retainedFrom: VersionNumber;
  /** Set by delete, cleared by undelete. */
  readonly deletedAt: WallMillis | undefined;
  /** A handover under way (see gateway/handover.ts); whoever raises the epoch ends it. */
  readonly handover?: Handover;
}

/** `offered` by the owner, `accepted` by the gateway it is offered to, `released` by the owner: then that gateway may open it. */
export interface Handover {
  readonly to: string;
  readonly state: 'offered' | 'accepted' | 'released';
}

/** One entry of the log as stored. `record` is the canonical encoding (format/version-record); `chain` covers it. */
export interface VersionItem {
  readonly n: VersionNumber;
  readonly epoch: Epoch;
  readonly record: Buffer;
  /** 32 bytes. */
  readonly chain: Buffer;
  /** The inline payload, when the record says inline; empty otherwise. */
  readonly inline: Buffer;
}

export interface NumberRange {
  readonly from: SegmentNumber;
  /** Exclusive. */
  readonly to: SegmentNumber;
}

/** "Somebody raises the epoch of one of your volumes": left by a taker in the old owner's gateway item. */
export interface FenceNotice {
  readonly volume: string;
  readonly epoch: Epoch;
}

export interface GatewayBeat {
  readonly gateway: string;
  readonly at: WallMillis;
  readonly host: string;
  readonly version: string;
  readonly volumes: number;
  readonly dirtyBlocks: BlockCount;
}

/**
 * What belongs to a volume besides its data (access control, reservations), so that it comes back with a restore. The table does not look
 * into `body`; docs/FORMAT.md describes it.
 */
export interface AccessItem {
  /** Of the writer. A taker writes the item anew under its own, and no older epoch can change it any more. */
  readonly epoch: Epoch;
  /** Counts the writes, from 1. */
  readonly revision: number;
  /** At most MAX_ACCESS_BYTES. */
  readonly body: Buffer;
}

/** An item of the table has at most 400 KB; a volume's access stays far below it. */
export const MAX_ACCESS_BYTES: ByteCount = 256 * 1024;

/** Changes a maintainer or administrator may make; undefined fields stay, null clears one. */
export interface VolumeChanges {
  readonly bytes?: ByteCount;
  readonly replication?: ReplicationMode;
  readonly onRemoteLoss?: OnRemoteLoss;
  readonly deletedAt?: WallMillis | null;
  readonly handover?: Handover | null;
  readonly quotaBytes?: ByteCount | null;
  readonly retainedFrom?: VersionNumber;
}

/**
 * The table. Reads are strongly consistent, each write is one single-item conditional write, nothing is a transaction.
 * Every method rejects with FarshoreError: `retry` when the outcome is unknown or the table is in passing trouble,
 * `input` when it can never succeed (no such table, access denied), `damaged` for an item of an unknown format.
 */
export interface VersionLog {
  getVolume(ref: VolumeRef): Promise<VolumeItem | undefined>;
  /** 'exists' may be our own earlier attempt: read it. */
  createVolume(item: VolumeItem): Promise<'ok' | 'conflict'>;
  /** Every volume of the lineage, the deleted ones included: who collects or purges its segments must ask all of them. */
  listVolumes(lineage: string): Promise<VolumeItem[]>;
  /** Compare-and-set of the epoch: from → to, and the owner; a handover is over with it. */
  raiseEpoch(ref: VolumeRef, from: Epoch, to: Epoch, owner: string): Promise<'ok' | 'conflict'>;
  /** Conditional on the volume's epoch being `epoch`. */
  changeVolume(ref: VolumeRef, epoch: Epoch, changes: VolumeChanges): Promise<'ok' | 'conflict'>;
  /** Compare-and-set of the maintenance epoch: from → from + 1. Who wins may publish until somebody else raises it. */
  raiseMaintenanceEpoch(ref: VolumeRef, from: number): Promise<'ok' | 'conflict'>;
  /** Moves the checkpoint; conditional on the maintenance epoch being the pointer's and on its n being above the present one. */
  publishCheckpoint(ref: VolumeRef, pointer: CheckpointPointer): Promise<'ok' | 'conflict'>;
  /** Only upward, only to at most the checkpoint's n, conditional on the maintenance epoch. */
  raiseFloor(ref: VolumeRef, floor: VersionNumber, maintenanceEpoch: number): Promise<'ok' | 'conflict'>;
  /** Removes the volume item, conditional on epoch and on `deletedAt` being set (purge). */
  removeVolume(ref: VolumeRef, epoch: Epoch): Promise<'ok' | 'conflict'>;

  getAccess(ref: VolumeRef): Promise<AccessItem | undefined>;
  /**
   * Writes `item` where revision `item.revision - 1` lies (0: nothing), unless that is of an epoch above `item.epoch`. 'conflict' may be our
   * own earlier attempt: read it.
   */
  putAccess(ref: VolumeRef, item: AccessItem): Promise<'ok' | 'conflict'>;
  /** Removes it (purge), unless it is of an epoch above `epoch`; 'ok' also when there is none. */
  removeAccess(ref: VolumeRef, epoch: Epoch): Promise<'ok' | 'conflict'>;

  /** The fence, rule 1: succeeds when nothing lies at n, or something of an epoch below `previousEpoch` (that of record n-1). */
  putVersion(volume: string, item: VersionItem, previousEpoch: Epoch): Promise<'ok' | 'conflict'>;
  getVersion(volume: string, n: VersionNumber): Promise<VersionItem | undefined>;
  /** What lies at from, from+1, … in ascending order of n (with gaps, if there are any), at most `limit` items, possibly fewer before the end; empty only at the end. */
  listVersions(volume: string, from: VersionNumber, limit: number): Promise<VersionItem[]>;
  /** Rule 4: never takeover records, never above the floor: the caller's duty. At most 25 a call. */
  deleteVersions(volume: string, ns: readonly VersionNumber[]): Promise<void>;

  /** A fresh range of segment numbers, never handed out before in the lineage (1 is the first), entered in the ledger for (volume, epoch). */
  allocateNumbers(ref: VolumeRef, epoch: Epoch, count: number): Promise<NumberRange>;

  /** Binds a name to a volume; 'conflict' when it is bound to another one. */
  claimName(name: string, ref: VolumeRef): Promise<'ok' | 'conflict'>;
  resolveName(name: string): Promise<VolumeRef | undefined>;
  /** Rebinds a name left behind by a creation that never made its volume; conditional on the old binding. */
  rebindName(name: string, from: VolumeRef, to: VolumeRef): Promise<'ok' | 'conflict'>;
  /** Frees it, conditional on the binding. */
  releaseName(name: string, ref: VolumeRef): Promise<'ok' | 'conflict'>;
  /** Every bound name in the table, ascending. */
  listNames(): Promise<{ readonly name: string; readonly ref: VolumeRef }[]>;

  /** Lease renewal: ONE request that writes the gateway's heartbeat and answers with the notices left for it. */
  beat(beat: GatewayBeat): Promise<FenceNotice[]>;
  /** Leaves a notice for a gateway (a taker does so before it raises the epoch). Idempotent. */
  notify(gateway: string, notice: FenceNotice): Promise<void>;
  /** Removes notices that have been dealt with. */
  clearNotices(gateway: string, notices: readonly FenceNotice[]): Promise<void>;
}
