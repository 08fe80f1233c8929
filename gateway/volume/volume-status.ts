import {
  BLOCK_SIZE,
  type BlockCount,
  type ByteCount,
  type Epoch,
  type VersionNumber,
  type WallMillis,
} from '../base/units.ts';
import type { SpaceLimit } from '../base/block-device.ts';
import type { BlockState } from './block-state.ts';
import { damageAlarm } from './damage-alarm.ts';
import type { HydrationProgress } from './hydrator.ts';
import type { ReadCounts, ReadPath } from './read-path.ts';
import type { ReplicationReport } from './replication-control.ts';
import type { ScrubReport } from './scrubber.ts';
import type { Sealer } from './sealer.ts';
import type { StoredHalf, StoredStatus } from './stored/stored-half.ts';

export interface VolumeStatus {
  readonly state: 'serving' | 'fenced' | 'stopped';
  /** One sentence when it is not `serving`. */
  readonly reason: string | undefined;
  readonly epoch: Epoch;
  readonly committedN: VersionNumber;
  readonly committedAt: WallMillis | undefined;
  /** Age of the oldest write that is in no committed version; 0 when there is none. */
  readonly lagSeconds: number;
  /** Blocks that no committed version has in their present form. */
  readonly lagBytes: ByteCount;
  /** Written by initiators since the opening, in whole blocks, and what of the log versions have taken since. */
  readonly writtenBytes: ByteCount;
  readonly committedBytes: ByteCount;
  readonly dirtyBlocks: BlockCount;
  readonly cachedBlocks: BlockCount;
  readonly damagedBlocks: BlockCount;
  /** Clean blocks found damaged in the cache and fetched again. */
  readonly repairedBlocks: BlockCount;
  readonly batchesInFlight: number;
  /** Dirty blocks whose places are kept in memory. */
  readonly heldBlocks: BlockCount;
  /** An alarm while the volume serves, and what to do: nothing is replicated any more, or blocks are damaged. */
  readonly replicationProblem: string | undefined;
  readonly hydration: { readonly done: BlockCount; readonly total: BlockCount; readonly finished: boolean } | undefined;
  readonly hydrator: HydrationProgress | undefined;
  readonly reads: ReadCounts;
  readonly scrub: ScrubReport;
  /** Of a volume with an image. */
  readonly stored: StoredStatus | undefined;
  /** Of a volume with a quota. */
  readonly quota: SpaceLimit | undefined;
  /** When writes and flushes are acked. */
  readonly replication: ReplicationReport;
}

/** What the status of a volume is made of. */
export interface StatusParts extends Pick<
  VolumeStatus,
  'state' | 'reason' | 'epoch' | 'scrub' | 'quota' | 'replication'
> {
  readonly blocks: BlockState;
  readonly reads: ReadPath;
  readonly sealer: Sealer;
  readonly stored: StoredHalf | undefined;
  readonly hydration: HydrationProgress | undefined;
  /** On the monotonic clock. */
  readonly nowMs: number;
  /** Why nothing is replicated any more. */
  readonly problem: string | undefined;
}

/** How the volume is. */
export function statusOf(parts: StatusParts): VolumeStatus {
  const { state, reason, epoch, scrub, quota, replication, blocks, reads, sealer, hydration, nowMs, problem } = parts;
  const { index } = blocks.log;
  const { oldestMs, committed } = sealer;
  const stored = parts.stored?.status();
  return {
    state,
    reason,
    epoch,
    committedN: committed.n,
    committedAt: committed.at,
    lagSeconds: oldestMs === undefined ? 0 : Math.max(0, nowMs - oldestMs) / 1000,
    lagBytes: (index.dirtyBlocks + (stored?.catchUp?.blocks ?? 0)) * BLOCK_SIZE,
    writtenBytes: sealer.writtenBlocks * BLOCK_SIZE,
    committedBytes: sealer.committedBlocks * BLOCK_SIZE,
    dirtyBlocks: index.dirtyBlocks,
    cachedBlocks: index.blocks,
    damagedBlocks: blocks.damagedBlocks,
    repairedBlocks: reads.repaired,
    batchesInFlight: sealer.batchesInFlight,
    heldBlocks: sealer.heldBlocks,
    replicationProblem: problem ?? damageAlarm(blocks) ?? stored?.problem,
    hydration: hydration && { done: hydration.done, total: hydration.total, finished: hydration.state !== 'running' },
    hydrator: hydration,
    reads: reads.counts,
    scrub,
    stored,
    quota,
    replication,
  };
}
