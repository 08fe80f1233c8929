import { sleep, type Clock } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import { describeError, FarshoreError, isKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { SampleWindow } from '../base/sample-window.ts';
import { BLOCK_SIZE, MIB, type BlockCount, type BlockNumber, type ByteCount, type WallMillis } from '../base/units.ts';
import { LEAF_BLOCKS } from '../cache/leaf-slab.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { RemoteVolume } from '../replication/remote-volume.ts';
import type { BlockState } from './block-state.ts';
import type { ReadPath } from './read-path.ts';
import { mendLocal, mendRemote, type Mended, type ScrubTools } from './scrub-mend.ts';
import {
  loadScrubState,
  newPass,
  saveScrubState,
  withUnrepairable,
  type ScrubPass,
  type ScrubSide,
  type ScrubState,
} from './scrub-pass.ts';
import { checkLocal, checkRemote, localRuns } from './scrub-walk.ts';

export interface ScrubSettings {
  /** Without it nothing is scrubbed unless somebody asks. */
  readonly enabled: boolean;
  readonly localBytesPerSecond: ByteCount;
  readonly remoteBytesPerSecond: ByteCount;
  /** From the end of a pass to the beginning of the next one. */
  readonly intervalMs: number;
}

export const DEFAULT_SCRUB: ScrubSettings = {
  enabled: false,
  localBytesPerSecond: 20 * MIB,
  remoteBytesPerSecond: 5 * MIB,
  intervalMs: 7 * 24 * 3_600_000,
};

/** Blocks looked at, those found damaged, and what became of them: over all passes since the volume was opened. */
export interface ScrubTotals {
  readonly checked: BlockCount;
  readonly found: BlockCount;
  readonly repaired: BlockCount;
  readonly unrepairable: BlockCount;
}

export interface ScrubReport extends ScrubState {
  readonly sinceOpen: Readonly<Record<ScrubSide, ScrubTotals>>;
  /** Of the pass that runs, over the last minute; 0 when none does. */
  readonly bytesPerSecond: number;
  readonly running: ScrubSide | undefined;
  /** Blocks of the volume, what positions are to be compared with. */
  readonly total: BlockCount;
}

export interface ScrubberDeps {
  readonly blocks: BlockState;
  readonly reads: ReadPath;
  readonly remote: RemoteVolume;
  readonly clock: Clock;
  readonly disk: Disk;
  readonly diary: Log;
  readonly ref: VolumeRef;
  readonly settings: ScrubSettings;
  /** See WritePath.writeAgain. */
  readonly writeAgain: (block: BlockNumber, content: Buffer, isNewest: () => boolean) => Promise<void>;
}

/** A position is saved so often while a pass runs. */
const SAVE_EVERY_MS = 60_000;
/** After an open, when there is other work to do. */
export const FIRST_SCRUB_AFTER_MS = 600_000;
/** The schedule is looked at so often. */
const LOOK_EVERY_MS = 3_600_000;
const YIELD_MS = 20;
/** Initiators keep a step waiting for a second at most, or a busy volume would never be scrubbed. */
const MOST_YIELDS = 50;
/** After the cloud was away. */
const RETRY_MS = 5_000;
const RATE_WINDOW_MS = 60_000;
const RATE_SPACING_MS = 1_000;
const NOTHING: ScrubTotals = { checked: 0, found: 0, repaired: 0, unrepairable: 0 };

/**
 * Walks what the cache log and S3 have of a volume, in the order of its blocks and at a bounded rate, checks it and mends what can be mended
 * (decision 0010). One pass at a time; where it is survives a restart, give or take a minute.
 */
export class Scrubber {
  readonly #deps: ScrubberDeps;
  readonly #stop = new AbortController();
  #state: ScrubState = { local: null, remote: null };
  #loaded: Promise<void> | undefined;
  #sinceOpen: Record<ScrubSide, ScrubTotals> = { local: NOTHING, remote: NOTHING };
  #pace: SampleWindow<BlockCount> | undefined;
  #savedMs = 0;
  #running: { readonly side: ScrubSide; readonly cancel: AbortController; readonly ended: Promise<void> } | undefined;
  #schedule: Promise<void> | undefined;

  constructor(deps: ScrubberDeps) {
    this.#deps = deps;
  }

  get report(): ScrubReport {
    return {
      ...this.#state,
      running: this.#running?.side,
      total: this.#deps.blocks.volumeBlocks,
      sinceOpen: { ...this.#sinceOpen },
      bytesPerSecond: this.#bytesPerSecond(),
    };
  }

  /** Takes up what the last process has left, and scrubs when it is time. */
  start(): void {
    this.#schedule ??= this.#keepTo();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#running?.cancel.abort();
    await this.#schedule;
    await this.#running?.ended;
  }

  /**
   * One pass over each of the sides, from the start, now. `fast`: at no more than the disk's or the cloud's own pace. A pass under way is
   * interrupted, and taken up again when it is time. Rejects with `stopped` when the volume is closed meanwhile.
   */
  async run(sides: readonly ScrubSide[], fast: boolean, onProgress: (side: ScrubSide) => void): Promise<ScrubReport> {
    await this.#load();
    for (const side of sides) {
      while (this.#running !== undefined) {
        this.#running.cancel.abort();
        await this.#running.ended;
      }
      this.#set(side, newPass(this.#deps.clock.now(), this.#state[side]));
      await this.#begin(side, fast, onProgress);
      if (this.#state[side]?.finishedAt === null) {
        throw new FarshoreError('stopped', 'the scrub was interrupted; farshore volume show tells how far it came');
      }
    }
    return this.report;
  }

  #load(): Promise<void> {
    this.#loaded ??= loadScrubState(this.#deps.disk, this.#deps.ref).then((state) => {
      this.#state = state;
    });
    return this.#loaded;
  }

  async #keepTo(): Promise<void> {
    const { clock, settings } = this.#deps;
    const { signal } = this.#stop;
    await this.#load();
    await sleep(clock, FIRST_SCRUB_AFTER_MS, signal);
    while (!isOver(signal)) {
      for (const side of ['local', 'remote'] as const) {
        if (!settings.enabled || isOver(signal) || this.#running !== undefined) continue;
        const pass = this.#state[side];
        if (pass === null || isDue(pass, clock.now(), settings.intervalMs)) this.#set(side, newPass(clock.now(), pass));
        else if (pass.finishedAt !== null) continue;
        await this.#begin(side, false, () => undefined);
      }
      await sleep(clock, LOOK_EVERY_MS, signal);
    }
  }

  /** Runs the pass of the side on from its position, to its end or until it is cancelled. */
  async #begin(side: ScrubSide, fast: boolean, onProgress: (side: ScrubSide) => void): Promise<void> {
    const cancel = new AbortController();
    const ended = this.#walk(side, fast, cancel.signal, onProgress);
    this.#running = { side, cancel, ended };
    this.#pace = new SampleWindow(this.#deps.clock, RATE_WINDOW_MS, RATE_SPACING_MS);
    this.#pace.note(this.#sinceOpen[side].checked);
    try {
      await ended;
    } finally {
      this.#running = undefined;
      this.#pace = undefined;
    }
  }

  async #walk(
    side: ScrubSide,
    fast: boolean,
    signal: AbortSignal,
    onProgress: (side: ScrubSide) => void,
  ): Promise<void> {
    const { clock, diary, settings } = this.#deps;
    const rate = fast ? Infinity : side === 'local' ? settings.localBytesPerSecond : settings.remoteBytesPerSecond;
    try {
      const step = side === 'local' ? this.#localSteps(signal) : this.#remoteSteps(signal);
      for await (const blocks of step) {
        onProgress(side);
        await this.#save(false);
        await sleep(clock, (blocks * BLOCK_SIZE * 1000) / rate, signal);
        await this.#giveWay(signal);
        if (isOver(signal)) return;
      }
      if (isOver(signal)) return;
      this.#change(side, (pass) => ({
        ...pass,
        position: this.#deps.blocks.volumeBlocks as number,
        finishedAt: clock.now(),
      }));
      const { found, repaired, unrepairable } = this.#state[side] ?? newPass(0);
      diary[unrepairable > 0 ? 'error' : 'info']({ side, found, repaired, unrepairable }, 'a scrub has ended');
    } catch (error) {
      diary.warn({ side, reason: describeError(error) }, 'a scrub could not go on');
    } finally {
      await this.#save(true);
    }
  }

  /** Answers after each step how many blocks it has read. */
  async *#localSteps(signal: AbortSignal): AsyncGenerator<BlockCount> {
    const { blocks } = this.#deps;
    for (const first of blocks.log.index.leafStarts()) {
      const position = this.#state.local?.position ?? 0;
      if (first + LEAF_BLOCKS <= position) continue;
      for (const run of localRuns(blocks, first, position)) {
        if (isOver(signal)) return;
        for (const bad of await checkLocal(blocks, run)) {
          this.#note('local', bad.block, await mendLocal(this.#tools(signal), bad.block, bad.place));
        }
        if (isOver(signal)) return;
        this.#advance('local', run.first + run.count, run.count);
        yield run.count;
      }
    }
  }

  async *#remoteSteps(signal: AbortSignal): AsyncGenerator<BlockCount> {
    const { remote, blocks, clock } = this.#deps;
    while (!isOver(signal)) {
      try {
        const position = this.#state.remote?.position ?? 0;
        const checked = await checkRemote(blocks, remote, position);
        if (checked === undefined) return;
        for (const { block, what } of checked.bad) {
          const mended = what === 'unreadable' ? await mendRemote(this.#tools(signal), block) : 'unrepairable';
          if (what === 'different') this.#deps.diary.error({ block }, 'S3 and the cache have a block differently');
          this.#note('remote', block, mended);
        }
        if (isOver(signal)) return;
        this.#advance('remote', checked.next, checked.count);
        yield checked.count;
      } catch (error) {
        if (!isKind(error, 'retry', 'busy')) throw error;
        await sleep(clock, RETRY_MS, signal);
      }
    }
  }

  #tools(signal: AbortSignal): ScrubTools {
    const { blocks, reads, clock, diary, writeAgain } = this.#deps;
    return { blocks, reads, clock, diary, writeAgain, signal };
  }

  #bytesPerSecond(): number {
    const oldest = this.#pace?.oldest;
    if (this.#running === undefined || oldest === undefined) return 0;
    const seconds = (this.#deps.clock.monotonicMs() - oldest.atMs) / 1000;
    return seconds > 0 ? ((this.#sinceOpen[this.#running.side].checked - oldest.value) * BLOCK_SIZE) / seconds : 0;
  }

  #count(side: ScrubSide, more: Partial<ScrubTotals>): void {
    const { checked, found, repaired, unrepairable } = this.#sinceOpen[side];
    this.#sinceOpen[side] = {
      checked: checked + (more.checked ?? 0),
      found: found + (more.found ?? 0),
      repaired: repaired + (more.repaired ?? 0),
      unrepairable: unrepairable + (more.unrepairable ?? 0),
    };
  }

  #note(side: ScrubSide, block: BlockNumber, mended: Mended): void {
    if (mended === 'harmless') return;
    this.#count(side, { found: 1, [mended]: 1 });
    this.#change(side, (pass) => {
      const found = { ...pass, found: pass.found + 1 };
      return mended === 'repaired' ? { ...found, repaired: found.repaired + 1 } : withUnrepairable(found, block);
    });
  }

  #advance(side: ScrubSide, position: BlockNumber, blocks: BlockCount): void {
    this.#count(side, { checked: blocks });
    this.#pace?.note(this.#sinceOpen[side].checked);
    this.#change(side, (pass) => ({ ...pass, position, checked: pass.checked + blocks }));
  }

  /** Initiators come first. */
  async #giveWay(signal: AbortSignal): Promise<void> {
    const { reads, blocks, clock } = this.#deps;
    for (let waits = 0; waits < MOST_YIELDS && !isOver(signal); waits++) {
      if (reads.foregroundMisses === 0 && blocks.cache.status().waitingWrites === 0) return;
      await sleep(clock, YIELD_MS, signal);
    }
  }

  async #save(isEnd: boolean): Promise<void> {
    const { clock, disk, ref, diary } = this.#deps;
    if (!isEnd && clock.monotonicMs() - this.#savedMs < SAVE_EVERY_MS) return;
    this.#savedMs = clock.monotonicMs();
    try {
      await saveScrubState(disk, ref, this.#state);
    } catch (error) {
      // Then the next process begins earlier.
      diary.warn({ reason: describeError(error) }, 'the position of a scrub could not be saved');
    }
  }

  #change(side: ScrubSide, change: (pass: ScrubPass) => ScrubPass): void {
    const pass = this.#state[side];
    if (pass !== null) this.#set(side, change(pass));
  }

  #set(side: ScrubSide, pass: ScrubPass): void {
    this.#state = side === 'local' ? { ...this.#state, local: pass } : { ...this.#state, remote: pass };
  }
}

function isDue({ finishedAt }: ScrubPass, now: WallMillis, intervalMs: number): boolean {
  return finishedAt !== null && (now - finishedAt >= intervalMs || now < finishedAt);
}

/** Asked anew each time: it changes while something is waited for. */
function isOver(signal: AbortSignal): boolean {
  return signal.aborted;
}
