import { sleep, type Clock } from '../../base/clock.ts';
import { describeError, FarshoreError, isKind } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import {
  BLOCK_SIZE,
  type BlockCount,
  type BlockNumber,
  type ByteCount,
  type WallMillis,
  type WriteSeq,
} from '../../base/units.ts';
import type { BlockRange } from '../../cache/unmap-payload.ts';
import { MAX_SEGMENT_BLOCKS } from '../../format/segment.ts';
import type { Copied, CopyBatch, RemoteVolume } from '../../replication/remote-volume.ts';
import { BatchBuilder } from '../batch-builder.ts';
import type { BlockState } from '../block-state.ts';
import { ZERO_BLOCK } from '../block-state.ts';
import type { CommittedVersion } from '../sealer.ts';
import type { SettledBatch } from '../unsettled.ts';
import type { Changes } from './changes.ts';
import type { Image } from './image.ts';

/** Segments of copied blocks on their way at once; the upload limit is shared with everything else. */
const COPIES_AT_ONCE = 3;

/** One read of the image. */
const READ_BLOCKS: BlockCount = 256;

/** Blocks looked at for one segment, zeros included. */
const MAX_LOOKED: BlockCount = 32_768;
/** Stretches of zeros told with one segment. */
const MAX_ZERO_RANGES = 4096;

/** So many copies are made again after a crash. */
const SETTLE_COPIES = 4;

/** After a piece that was all zeros: 620 MiB/s at most. */
const ZEROS_PAUSE_MS = 200;

/** After a failure of a disk. */
const RETRY_MS = 5_000;

/** How often what the log has lost is looked for in the image. */
const MAX_RESCUES = 3;

export interface CatchUpDeps {
  readonly state: BlockState;
  readonly image: Image;
  readonly remote: RemoteVolume;
  readonly clock: Clock;
  readonly diary: Log;
  /** Blocks that the image has an older content of. */
  readonly lost: ReadonlySet<BlockNumber>;
  /** Resolves when no version is on its way. */
  idle(): Promise<void>;
  committedThrough(): WriteSeq;
  changes(): Changes | undefined;
  /** Everything that is logged is in the image, and marked. */
  markAll(): Promise<void>;
  /** The version is committed, `replicated` being what of the log it has; settles what is still marked. */
  caughtUp(committed: CommittedVersion, replicated: readonly SettledBatch[], storedBytes: ByteCount): Promise<void>;
  /** Replication can't go on. */
  failed(error: Error): void;
}

/** What is read of the image for one segment. */
interface Piece {
  readonly ranges: BlockRange[];
  /** Where to go on. */
  readonly next: BlockNumber;
  readonly blocks: Float64Array;
  readonly unmaps: Float64Array;
  readonly data: Uint8Array<ArrayBuffer>;
  readonly lost: readonly BlockNumber[];
}

/** What the log has behind the marks. */
interface LoggedPart {
  readonly headers: readonly Buffer[];
  readonly replicated: readonly SettledBatch[];
  readonly newestWriteAt: WallMillis;
  readonly storedBytes: ByteCount;
  readonly lost: number;
}

/**
 * Replicates the blocks that the image has and no version, while everything goes on as ever: copies them into segments, whatever they are at that moment, then
 * everything that was logged behind the marks up to some write, N, that was logged after the last of them was read, and commits all of it as one
 * version as of N. A block that was written while it was read, or after, lies in the log behind it, so the version is exact.
 */
export class CatchUp {
  readonly #deps: CatchUpDeps;
  readonly #stop = new AbortController();
  readonly #halted: Promise<never>;
  #running: Promise<void> | undefined;
  copiedBytes: ByteCount = 0;
  problem: string | undefined;
  /** What the remote rejects with is final. */
  #remoteFailure: Error | undefined;

  constructor(deps: CatchUpDeps) {
    this.#deps = deps;
    this.#halted = new Promise((_, reject) => {
      this.#stop.signal.addEventListener('abort', () => {
        reject(new FarshoreError('stopped', 'the volume is closed'));
      });
    });
    this.#halted.catch(() => undefined);
  }

  /** There may be something to do. */
  kick(): void {
    if (this.#stop.signal.aborted || this.#running !== undefined || this.#deps.changes() === undefined) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** Resolves when nothing of the image or of the journal is being read or written any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  async #run(): Promise<void> {
    let rescues = 0;
    for (
      let changes = this.#deps.changes();
      changes !== undefined && !this.#isStopped();
      changes = this.#deps.changes()
    ) {
      try {
        await this.#final(this.#deps.idle());
        if (!(await this.#copyMarked(changes))) {
          await sleep(this.#deps.clock, RETRY_MS, this.#stop.signal);
          continue;
        }
        rescues = await this.#finish(changes, rescues);
        this.problem = undefined;
      } catch (error) {
        if (this.#isStopped()) return;
        const mayPass = this.#remoteFailure === undefined && this.#deps.state.cache.stoppedBy === undefined;
        if (isKind(error, 'stopped', 'busy') && mayPass) {
          this.problem = `what the image has and the cloud does not cannot be replicated (tried again all the time): ${describeError(error)}`;
          this.#deps.diary.warn({ reason: describeError(error) }, 'the image is not replicated now; trying again');
          await sleep(this.#deps.clock, RETRY_MS, this.#stop.signal);
          continue;
        }
        this.#deps.failed(error instanceof Error ? error : new Error(String(error)));
        return;
      }
    }
  }

  /** false when the image refuses some of them now. */
  async #copyMarked(changes: Changes): Promise<boolean> {
    const underWay = new Set<Promise<void>>();
    const failures: unknown[] = [];
    const refused: BlockRange[] = [];
    let copies = 0;
    // What an attempt that failed has copied may have been marked again: its old copies are settled before any of it is taken once more.
    await changes.settle();
    try {
      for (let from = 0; failures.length === 0;) {
        const piece = await this.#read(changes, from, refused);
        if (piece === undefined) break;
        from = piece.next;
        if (piece.ranges.length === 0) continue;
        const upload: Promise<void> = this.#upload(changes, piece)
          .catch((error: unknown) => {
            changes.giveBack(piece.ranges);
            failures.push(error);
          })
          .finally(() => {
            underWay.delete(upload);
          });
        underWay.add(upload);
        if (underWay.size >= COPIES_AT_ONCE) await Promise.race(underWay);
        if (++copies % SETTLE_COPIES === 0) await changes.settle();
        // Nothing to upload, so nothing to wait for; and others read from that disk too.
        if (piece.data.length === 0) await sleep(this.#deps.clock, ZEROS_PAUSE_MS, this.#stop.signal);
      }
    } finally {
      // Nothing is taken a second time while it is on its way: what is copied last would not be what counts last.
      await Promise.all(underWay);
      changes.giveBack(refused);
    }
    if (failures.length > 0) throw failures[0];
    this.#throwIfStopped();
    await changes.settle();
    const [first] = refused;
    if (first === undefined) {
      this.problem = undefined;
      return true;
    }
    this.problem = `block ${first.block} of the image${refused.length > 1 ? ' and others' : ''} cannot be read, and no version has it, so nothing is replicated (tried again all the time); write it again, or mend the disk of the image`;
    return false;
  }

  async #upload(changes: Changes, { ranges, blocks, unmaps, data, lost }: Piece): Promise<void> {
    const copied = await this.#copy({ from: 'memory', blocks, unmaps, data, lost });
    await changes.copied(ranges, copied.header);
  }

  async #copy(batch: CopyBatch): Promise<Copied> {
    const copied = await this.#final(this.#deps.remote.copy(batch));
    this.#throwIfStopped();
    this.copiedBytes += copied.storedBytes;
    return copied;
  }

  /** Takes marked blocks and reads them; undefined when there are none from `from` on. */
  async #read(changes: Changes, from: BlockNumber, refused: BlockRange[]): Promise<Piece | undefined> {
    const { image, lost } = this.#deps;
    const ranges: BlockRange[] = [];
    const blocks: BlockNumber[] = [];
    const unmaps: number[] = [];
    const lostHere: BlockNumber[] = [];
    const data = new Uint8Array(MAX_SEGMENT_BLOCKS * BLOCK_SIZE);
    const run = Buffer.allocUnsafe(READ_BLOCKS * BLOCK_SIZE);
    let filled = 0;
    let looked = 0;
    try {
      while (looked < MAX_LOOKED && blocks.length < MAX_SEGMENT_BLOCKS && unmaps.length < 2 * MAX_ZERO_RANGES) {
        this.#throwIfStopped();
        const taken = changes.take(from, Math.min(READ_BLOCKS, MAX_SEGMENT_BLOCKS - blocks.length));
        if (taken === undefined) break;
        const { block: first, count } = taken;
        from = first + count;
        looked += count;
        ranges.push(taken);
        const into = run.subarray(0, count * BLOCK_SIZE);
        try {
          await image.read(first, into);
        } catch (error) {
          if (!isKind(error, 'stopped')) throw error;
          ranges.pop();
          refused.push(...(await this.#readEach(taken, into, ranges)));
        }
        for (let at = 0; at < count; at++) {
          const block = first + at;
          if (refused.some((range) => range.block === block)) continue;
          const content = into.subarray(at * BLOCK_SIZE, (at + 1) * BLOCK_SIZE);
          if (lost.has(block)) {
            blocks.push(block);
            lostHere.push(block);
          } else if (content.equals(ZERO_BLOCK)) addZero(unmaps, block);
          else {
            blocks.push(block);
            data.set(content, filled);
            filled += BLOCK_SIZE;
          }
        }
      }
    } catch (error) {
      changes.giveBack(ranges);
      throw error;
    }
    if (looked === 0) return undefined;
    return {
      ranges,
      next: from,
      blocks: Float64Array.from(blocks),
      unmaps: Float64Array.from(unmaps),
      data: data.slice(0, filled),
      lost: lostHere,
    };
  }

  /** Block by block: answers those that the disk refuses; the others are `taken`. */
  async #readEach({ block: first, count }: BlockRange, into: Buffer, taken: BlockRange[]): Promise<BlockRange[]> {
    const refused: BlockRange[] = [];
    for (let at = 0; at < count; at++) {
      const range = { block: first + at, count: 1 };
      try {
        await this.#deps.image.read(range.block, into.subarray(at * BLOCK_SIZE, (at + 1) * BLOCK_SIZE));
        taken.push(range);
      } catch (error) {
        if (!isKind(error, 'stopped')) throw error;
        refused.push(range);
      }
    }
    return refused;
  }

  /** Everything marked is copied: copies what is logged behind it, and commits. Answers how often the image has helped out. */
  async #finish(changes: Changes, rescues: number): Promise<number> {
    const { state, remote } = this.#deps;
    const { cache, log } = state;
    const { through: after } = changes;
    const target = log.appendedThrough;
    // Rule 6: versions are made of what is on stable storage.
    while (log.syncedThrough < target) await cache.sync(log);
    const part = await this.#copyLogged(changes, after, target);
    // What was marked meanwhile may be gone from the log, and is copied first.
    if (part === undefined || changes.through !== after || changes.hasTodo) return rescues;
    if (part.lost > 0 && rescues < MAX_RESCUES) {
      await this.#unlessStopped(this.#deps.markAll());
      return rescues + 1;
    }
    let isFirst = true;
    const note = async (headers: Buffer): Promise<void> => {
      this.#throwIfStopped();
      await this.#final(remote.noteCopies(headers, isFirst));
      isFirst = false;
    };
    await note(Buffer.alloc(0));
    const copied = await changes.copiedHeaders(note);
    for (const header of part.headers) await note(header);
    const { n, committedAt, storedBytes } = await this.#final(
      remote.commitCopies({
        headers: copied + part.headers.length,
        firstSeq: Math.min(this.#deps.committedThrough() + 1, target),
        throughSeq: target,
        newestWriteAt: Math.max(part.newestWriteAt, changes.since),
      }),
    );
    this.#throwIfStopped();
    await this.#deps.caughtUp({ n, throughSeq: target, at: committedAt }, part.replicated, storedBytes);
    return 0;
  }

  /** undefined when the log may have dropped some of it meanwhile. */
  async #copyLogged(changes: Changes, after: WriteSeq, target: WriteSeq): Promise<LoggedPart | undefined> {
    const { clock } = this.#deps;
    const headers: Buffer[] = [];
    const replicated: SettledBatch[] = [];
    let newestWriteAt = 0;
    let storedBytes = 0;
    let lost = 0;
    for (let through = after; through < target;) {
      const builder = new BatchBuilder();
      through = await this.#replay(builder, through, target, clock.monotonicMs());
      if (changes.through !== after) return undefined;
      if (builder.isEmpty) throw lostOperation(through + 1);
      const { blocks, places, seqs, unmaps, throughSeq, newestWriteAt: newest } = builder.seal();
      const copied = await this.#copy({ from: 'log', blocks, unmaps, places, seqs });
      if (changes.through !== after) return undefined;
      headers.push(copied.header);
      newestWriteAt = Math.max(newestWriteAt, newest);
      storedBytes += copied.storedBytes;
      lost += copied.lost.length;
      replicated.push({ throughSeq, blocks, places, lost: new Set(copied.lost) });
    }
    return { headers, replicated, newestWriteAt, storedBytes, lost };
  }

  /** Fills the builder with what follows `after`; answers how far it came. */
  async #replay(builder: BatchBuilder, after: WriteSeq, target: WriteSeq, nowMs: number): Promise<WriteSeq> {
    const { cache, log } = this.#deps.state;
    let through = after;
    await cache.replay(log, after, (op) => {
      if (op.seq !== through + 1 || op.seq > target) return false;
      const at = op.wallSeconds * 1000;
      if (op.kind === 'unmap') {
        if (op.ranges === undefined || (!builder.isEmpty && !builder.fitsUnmap(op.ranges.length))) return false;
        builder.addUnmap(op.seq, at, nowMs, op.ranges);
      } else {
        const { block, places } = op;
        if (!builder.isEmpty && !builder.fitsWrite(block, places.length)) return false;
        builder.addWrite(op.seq, at, nowMs, block, places.length, { placeAt: (index) => places[index] ?? 0 });
      }
      through = op.seq;
      return through < target;
    });
    return through;
  }

  #throwIfStopped(): void {
    if (this.#isStopped()) throw new FarshoreError('stopped', 'the volume is closed');
  }

  async #final<T>(work: Promise<T>): Promise<T> {
    try {
      return await this.#unlessStopped(work);
    } catch (error) {
      this.#remoteFailure ??= error instanceof Error ? error : new Error(String(error));
      throw error;
    }
  }

  #unlessStopped<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#halted]);
  }
}

/** To the pairs of first block and count. */
function addZero(pairs: number[], block: BlockNumber): void {
  const last = pairs.length - 2;
  const first = pairs[last];
  const count = pairs[last + 1];
  if (first !== undefined && count !== undefined && first + count === block) pairs[last + 1] = count + 1;
  else pairs.push(block, 1);
}

function lostOperation(seq: WriteSeq): FarshoreError {
  return new FarshoreError(
    'damaged',
    `the cache log has lost write ${seq}, which is in no version yet; restore the volume with --takeover to go on from the last version`,
  );
}
