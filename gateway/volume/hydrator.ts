import { sleep, type Clock } from '../base/clock.ts';
import { isKind } from '../base/errors.ts';
import type { BlockCount, BlockNumber } from '../base/units.ts';
import type { RemoteVolume } from '../replication/remote-volume.ts';
import type { BlockState } from './block-state.ts';
import type { ReadPath } from './read-path.ts';

/** Blocks asked of the map at once. */
const MAP_BLOCKS: BlockCount = 256;

/** Reads of the remote under way at once. */
const READS_AT_ONCE = 4;

/** Blocks per read: a frame. */
const READ_BLOCKS: BlockCount = 16;

/** While initiators wait for the remote, or the log can't take more. */
const YIELD_MS = 20;

/** After the cloud was away. */
const RETRY_MS = 2_000;

/** `full`: as much as fits without dropping what is cached. */
export type HydrationState = 'running' | 'finished' | 'full' | 'stopped';

export interface HydrationProgress {
  readonly state: HydrationState;
  /** Volume looked at so far. */
  readonly done: BlockCount;
  readonly total: BlockCount;
  readonly fetched: BlockCount;
}

/**
 * Fills the cache with what the remote has, in the background after an open: in the order of blocks, a few frames at a time, giving way to
 * reads that somebody waits for, and ending when the log would have to drop something.
 */
export class Hydrator {
  readonly #state: BlockState;
  readonly #reads: ReadPath;
  readonly #remote: RemoteVolume;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  /** Blocks from the start of the volume that were looked at: also the next one to look at. */
  #looked = 0;
  #fetched: BlockCount = 0;
  #droppedBefore = 0;
  #progress: HydrationState = 'running';
  #running: Promise<void> | undefined;

  constructor(state: BlockState, reads: ReadPath, remote: RemoteVolume, clock: Clock) {
    this.#state = state;
    this.#reads = reads;
    this.#remote = remote;
    this.#clock = clock;
  }

  get progress(): HydrationProgress {
    return { state: this.#progress, done: this.#looked, total: this.#state.volumeBlocks, fetched: this.#fetched };
  }

  start(): void {
    this.#droppedBefore = this.#state.cache.droppedChunks;
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted && this.#progress === 'running') {
      try {
        await this.#step();
      } catch (error) {
        if (isKind(error, 'retry', 'busy')) await sleep(this.#clock, RETRY_MS, signal);
        else this.#progress = 'stopped';
      }
    }
    if (this.#progress === 'running') this.#progress = 'stopped';
  }

  async #step(): Promise<void> {
    const next = await this.#remote.nextMapped(this.#looked, MAP_BLOCKS);
    const last = next?.blocks.at(-1);
    if (next === undefined || last === undefined) {
      this.#looked = this.#state.volumeBlocks;
      this.#progress = 'finished';
      return;
    }
    const runs = runsOf(next.blocks.filter((block) => this.#state.isRemote(block)));
    for (let at = 0; at < runs.length; at += READS_AT_ONCE) {
      if (!(await this.#turn())) return;
      const fetched = await Promise.all(
        runs.slice(at, at + READS_AT_ONCE).map(({ first, count }) => this.#reads.prefetch(first, count)),
      );
      this.#fetched += fetched.reduce((sum, count) => sum + count, 0);
    }
    this.#looked = last + 1;
  }

  /** Waits until nobody is in the way; false when it is time to end. */
  async #turn(): Promise<boolean> {
    const { cache } = this.#state;
    const { signal } = this.#stop;
    while (!signal.aborted && (this.#reads.foregroundMisses > 0 || !cache.takesFills)) {
      if (cache.state.kind === 'stopped') return this.#end('stopped');
      await sleep(this.#clock, YIELD_MS, signal);
    }
    if (signal.aborted) return false;
    return cache.hasUnusedRoom && cache.droppedChunks === this.#droppedBefore ? true : this.#end('full');
  }

  #end(state: HydrationState): false {
    this.#progress = state;
    return false;
  }
}

/** Neighbouring blocks of one read's window. */
function runsOf(blocks: readonly BlockNumber[]): { first: BlockNumber; count: BlockCount }[] {
  const runs: { first: BlockNumber; count: BlockCount }[] = [];
  for (const block of blocks) {
    const last = runs.at(-1);
    if (last !== undefined && last.first + last.count === block && block % READ_BLOCKS !== 0) last.count++;
    else runs.push({ first: block, count: 1 });
  }
  return runs;
}
