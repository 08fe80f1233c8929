import type { BlockCount, BlockNumber, ByteCount, Epoch, VersionNumber, WallMillis, WriteSeq } from '../base/units.ts';
import type { VolumeItem, VolumeRef } from '../cloud/version-log.ts';
import type { VersionKind } from '../format/version-record.ts';

/**
 * The remote half of one volume, as the volume sees it. The real one (RemoteVolumeEngine) runs in the replication worker
 * thread and is reached through a message channel; the simulation calls it directly. Everything that is passed is plain
 * data that survives structured cloning.
 */
export interface RemoteVolume {
  /**
   * Rule 5: takes the volume over with a new epoch (also from ourselves), walks the log, loads the overlay.
   * Rejects with `fenced` when somebody else took it meanwhile, `not-found`, `damaged`, `retry` (cloud away: call again).
   */
  open(request: OpenRequest): Promise<OpenedRemote>;
  /**
   * Makes one version of the batch: reads its blocks from the cache log, compresses, uploads, puts. Batches are
   * committed in the order of the calls; several may be under way. Resolves when the version is committed. Rejects with `fenced`
   * (final), `damaged` (the far side is not what it should be: final), or `stopped` (closed). Passing trouble is retried inside for ever, and
   * blocks that can't be read from the log are committed as lost.
   */
  commit(batch: CommitBatch): Promise<Committed>;
  /**
   * The committed content of `count` blocks (at most 256) from `block` on. Blocks never written are absent. Rejects with `retry` (cloud away),
   * `damaged`, `fenced`.
   */
  read(block: BlockNumber, count: BlockCount, how?: ReadHow): Promise<RemoteBlocks>;
  /** Somebody waits for these blocks now, which are being read in the background. Nothing is answered, and nothing happens when they are not. */
  hurry(block: BlockNumber, count: BlockCount): void;
  /** How many blocks from `block` on (at most `count`, at least 1) share the first one's state. */
  mapped(block: BlockNumber, count: BlockCount): Promise<{ readonly mapped: boolean; readonly count: BlockCount }>;
  /**
   * How many blocks are mapped in the newest version, or in newer ones that are committed meanwhile. Reads the maps that have changed since their shards
   * were written; of the others the checkpoint knows.
   */
  countMapped(): Promise<BlockCount>;
  /**
   * The next mapped blocks from `from` on, for hydration and images: up to `limit` (≤ 256) of them in ascending order, undefined at the end.
   */
  nextMapped(from: BlockNumber, limit: BlockCount): Promise<{ readonly blocks: readonly BlockNumber[] } | undefined>;
  /**
   * Makes the volume what it was as of version `n` by committing one new version whose manifest undoes everything since; history stays.
   * Only right after `open`, before the first commit. Resolves with the new version, and the size that the volume had then and has again.
   */
  rollBackTo(n: VersionNumber): Promise<RolledBack>;
  /**
   * Uploads blocks beside the log of versions: resolves with the header of the segment that has them (of number 0 and not uploaded when they are all
   * zeros). They are in no version before `commitCopies`; a restart loses nothing but what the caller does not keep. Rejects as `commit`.
   */
  copy(batch: CopyBatch): Promise<Copied>;
  /** Begins (`isFirst`), or goes on with, the list of headers, one behind the other, that the next `commitCopies` makes a version of; later ones win. */
  noteCopies(headers: Buffer, isFirst: boolean): Promise<void>;
  /** One version, whose manifest points into the copied segments. Not while batches are under way. Rejects as `commit`. */
  commitCopies(commit: CopiesCommit): Promise<Committed>;
  /**
   * Of a volume that was fenced: the last write handed to `commit` that is in the history. Nothing behind it is, or can be any more: it resolves only when the record of
   * a later takeover stands. Rejects with `retry` before that, and when the table does not answer; `not-found` when the log does not tell any more.
   */
  provenThrough(): Promise<WriteSeq>;
  /** Folds the committed log into a checkpoint now (maintenance/fold); also runs by itself at the design's thresholds. */
  fold(): Promise<FoldOutcome>;
  /** Reads S3 back: every object the present version needs, its checksums, the frames of every mapped block, the chain. Bounded memory. */
  verify(): Promise<VerifyReport>;
  /** The newest `limit` versions, newest first. */
  versions(limit: number): Promise<readonly VersionSummary[]>;
  status(): Promise<RemoteStatus>;
  /** Waits for nothing: pending commits reject with `stopped`. Idempotent. */
  close(): Promise<void>;
}

export interface OpenRequest {
  readonly ref: VolumeRef;
  /**
   * false (a start): only a volume without an owner, or whose owner is `gateway` itself, is opened; another owner rejects with
   * `fenced`. true (`restore --takeover`): taken from whoever has it. Checked in the same step that raises the epoch.
   */
  readonly takeover: boolean;
  readonly gateway: string;
  /** Epoch the caller believes it held last, from its state directory; for nothing but messages. */
  readonly lastEpoch: Epoch;
  /** Identity of the local log this start will write (see LogOrigin). */
  readonly logId: string;
  /** The volume is still being made: it is marked as deleted until it is whole, and opened nevertheless. */
  readonly isUnfinished?: boolean;
}

/** Who wrote the last data in the log, and how far of that writer's local log it reaches. */
export interface LogOrigin {
  readonly epoch: Epoch;
  readonly logId: string;
  readonly throughSeq: WriteSeq;
}

export interface RolledBack {
  readonly n: VersionNumber;
  readonly volumeBytes: ByteCount;
}

export interface OpenedRemote {
  /** `bytes` is the size as the log has it. */
  readonly item: VolumeItem;
  readonly epoch: Epoch;
  /** The takeover record's n. */
  readonly n: VersionNumber;
  /** undefined when nothing was ever written. */
  readonly lastData: LogOrigin | undefined;
}

/** Blocks to commit: where each lies in the cache log. Coalesced: a block appears once, in its newest form. */
export interface CommitBatch {
  /** Numbered by the volume from 1 in each epoch, without gaps. */
  readonly index: number;
  readonly firstSeq: WriteSeq;
  /** The version is the volume after this write; a write is never split. */
  readonly throughSeq: WriteSeq;
  /** Ascending; same length as `places` and `seqs`. */
  readonly blocks: Float64Array;
  /** Cache log places (chunk * 8192 + slot). */
  readonly places: Float64Array;
  /** The write sequence each place must hold. */
  readonly seqs: Float64Array;
  /** Pairs (first block, count), ascending and disjoint, of ranges that read zero after this version (never overlapping `blocks`). */
  readonly unmaps: Float64Array;
  readonly newestWriteAt: WallMillis;
  /** Somebody waits for the version: the quickest way is the best. */
  readonly isAwaited?: boolean;
  /**
   * The version is one of kind `resize`: the volume has this size from it on. Of such a batch there are no blocks, `unmaps` may be what lies
   * beyond the new end, and `firstSeq` and `throughSeq` are the `throughSeq` of the batch before (0: none).
   */
  readonly volumeBytes?: ByteCount | undefined;
}

export interface Committed {
  readonly n: VersionNumber;
  readonly throughSeq: WriteSeq;
  readonly committedAt: WallMillis;
  /** Bytes of the segment in S3. */
  readonly storedBytes: ByteCount;
  /** Blocks of the batch whose content could not be read from the log any more: the version says that they are lost. */
  readonly lost: readonly BlockNumber[];
}

/** Blocks to be copied beside the log of versions; `blocks` and `unmaps` as in CommitBatch. */
export type CopyBatch =
  | {
      readonly from: 'memory';
      readonly blocks: Float64Array;
      readonly unmaps: Float64Array;
      /** Their contents, without those of the lost ones. It may be moved away. */
      readonly data: Uint8Array<ArrayBuffer>;
      /** Those that nobody has any more. */
      readonly lost: readonly BlockNumber[];
    }
  | {
      readonly from: 'log';
      readonly blocks: Float64Array;
      readonly unmaps: Float64Array;
      readonly places: Float64Array;
      readonly seqs: Float64Array;
    };

export interface Copied {
  readonly header: Buffer;
  /** 0 when there was nothing to upload. */
  readonly storedBytes: ByteCount;
  readonly lost: readonly BlockNumber[];
}

export interface CopiesCommit {
  /** How many were noted. */
  readonly headers: number;
  readonly firstSeq: WriteSeq;
  /** The version is the volume after this write. */
  readonly throughSeq: WriteSeq;
  readonly newestWriteAt: WallMillis;
}

export interface ReadHow {
  /** From S3, whatever memory has of it. */
  readonly fresh?: boolean;
  /** Nobody waits for it (yet): under a download limit what is waited for goes first. */
  readonly background?: boolean;
}

/** In `RemoteBlocks.present`. */
export const LOST_BLOCK = 2;

export interface RemoteBlocks {
  /** Concatenated contents of the present blocks, ascending. */
  readonly data: Buffer;
  /** One byte per asked block: 1 present, 0 never written, LOST_BLOCK (its newest content was in no version, and is gone). */
  readonly present: Uint8Array;
}

export interface FoldOutcome {
  /** Everything through this version is in the checkpoint now. */
  readonly n: VersionNumber;
  readonly versionsFolded: number;
  readonly shardsRewritten: number;
  readonly runs: number;
}

/** `inconclusive` (cloud away half-way) is not `pass`. */
export interface VerifyReport {
  readonly verdict: 'pass' | 'fail' | 'inconclusive';
  readonly n: VersionNumber;
  readonly objects: number;
  readonly blocks: BlockCount;
  readonly bytes: ByteCount;
  /** One sentence per finding, at most 100. */
  readonly problems: readonly string[];
}

export interface VersionSummary {
  readonly n: VersionNumber;
  readonly epoch: Epoch;
  readonly kind: VersionKind;
  readonly blocks: BlockCount;
  readonly bytes: ByteCount;
  readonly newestWriteAt: WallMillis;
  readonly sealedAt: WallMillis;
}

export interface RemoteStatus {
  readonly epoch: Epoch;
  readonly committedN: VersionNumber;
  readonly committedAt: WallMillis;
  readonly checkpointN: VersionNumber;
  readonly overlayEntries: number;
  /** An alarm, with what to do, when commits or folds have failed for a while although they are tried again. */
  readonly problem: string | undefined;
  readonly requests: RequestCounts;
  readonly uploadedBytes: ByteCount;
  readonly downloadedBytes: ByteCount;
}

/** Requests made since the start, for cost. */
export interface RequestCounts {
  readonly s3Put: number;
  readonly s3Get: number;
  readonly s3Other: number;
  readonly dynamoWrite: number;
  readonly dynamoRead: number;
}

/** How the engine reads the cache log of the gateway it belongs to. */
export interface LogReader {
  /**
   * Reads the blocks at `places` into `into` (4096 each), checking generation, block, sequence and CRC. Answers the indices of those that
   * are not there, or that the disk refuses; another attempt may find them. Rejects with `damaged` or `stopped` when nothing can be said
   * of a whole chunk.
   */
  readBlocks(places: Float64Array, blocks: Float64Array, seqs: Float64Array, into: Buffer): Promise<readonly number[]>;
}
