import type { SpaceLimit } from '../base/block-device.ts';
import type { Clock } from '../base/clock.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber, type ByteCount } from '../base/units.ts';
import type { RemoteVolume } from '../replication/remote-volume.ts';
import type { BlockState } from './block-state.ts';
import { provisioningOf } from './provisioning.ts';

/** Initiators are told when so much of the quota is mapped, and told again when it was below the second share in between. */
export const QUOTA_LOW_SHARE = 0.8;
export const QUOTA_FREE_SHARE = 0.7;
/** A full volume is counted again after this long, when something was committed meanwhile; one that could not be counted yet too. */
export const RECOUNT_MS = 5_000;
/** The same for one that runs low: only a count shows that blocks were unmapped. */
export const LOW_RECOUNT_MS = 60_000;

export interface QuotaDeps {
  readonly state: BlockState;
  readonly remote: Pick<RemoteVolume, 'countMapped' | 'mapped'>;
  readonly clock: Clock;
  readonly diary: Log;
}

/**
 * The most blocks a volume may have mapped (decision 0023). What is mapped is never below what is known here: counted in the newest version, and
 * since then every block that was committed or is dirty counts as one more. So nothing has to be looked up for a write; the count is only ever too
 * high, by what was overwritten or unmapped since, and is taken again when that would matter.
 */
export class Quota {
  readonly #deps: QuotaDeps;
  /** Counts what initiators are to be told: that the quota runs low, or is another one. */
  #events = 0;
  #changes = 0;
  #limit: BlockCount | undefined;
  /** Mapped when `#committed` was `#committedBefore`; undefined: not counted. */
  #counted: BlockCount | undefined;
  #countedMs = -Infinity;
  #committedBefore: BlockCount = 0;
  /** Blocks of all batches that were committed since the volume was opened. */
  #committed: BlockCount = 0;
  /** Something was committed since the last count began: another one may find less. */
  #isStale = false;
  #counting: Promise<void> | undefined;
  #isLow = false;
  /** With so many dirty blocks the quota runs low. */
  #lowLimit: BlockCount = Infinity;

  constructor(deps: QuotaDeps, bytes: ByteCount | undefined) {
    this.#deps = deps;
    this.#limit = blocksOf(bytes);
  }

  /** Begins to count, if there is a quota. The volume is open. */
  start(): void {
    if (this.#limit !== undefined) void this.#count();
  }

  /** Another quota, or none. Takes effect at once; of a volume that has never had one, when it was counted. */
  set(bytes: ByteCount | undefined): void {
    this.#limit = blocksOf(bytes);
    this.#events += 1;
    this.#changes += 1;
    this.#isLow = false;
    this.#update();
    this.start();
  }

  /** Rises when initiators have something to hear of; asked for every command. */
  get events(): number {
    if (this.#deps.state.log.index.dirtyBlocks >= this.#lowLimit && !this.#isLow) this.#look();
    return this.#events;
  }

  /** How often it became another one; events too. */
  get changes(): number {
    return this.#changes;
  }

  get space(): SpaceLimit | undefined {
    if (this.#limit === undefined) return undefined;
    const mapped = this.#mapped;
    return {
      bytes: this.#limit * BLOCK_SIZE,
      lowBytes: Math.ceil(this.#limit * QUOTA_LOW_SHARE) * BLOCK_SIZE,
      mappedBytes: mapped === undefined ? undefined : mapped * BLOCK_SIZE,
    };
  }

  /** A version was committed with so many blocks; called while they still count as dirty. */
  committed(blocks: BlockCount): void {
    this.#committed += blocks;
    this.#isStale = true;
    if (this.#limit === undefined) return;
    this.#update();
    this.#look();
  }

  /**
   * For a write that the quota has no room for: resolves when all the blocks are mapped already, or there is room after all. Rejects with `full`, and as the
   * remote does, which is asked about blocks that are not cached.
   */
  async admit(block: BlockNumber, count: BlockCount): Promise<void> {
    const { state, clock } = this.#deps;
    if (await this.#isMapped(block, count)) return;
    if (this.#isStale && clock.monotonicMs() - this.#countedMs >= RECOUNT_MS) await this.#count();
    else await this.#counting;
    if (!state.isFullFor(count)) return;
    // What was unmapped counts when it is in a version.
    state.log.onPressure();
    throw new FarshoreError(
      'full',
      `the quota of the volume (${(this.#limit ?? 0) * BLOCK_SIZE} bytes) has no room for it; unmap what is not needed (fstrim, blkdiscard), or raise it with: farshore volume quota`,
    );
  }

  async #isMapped(block: BlockNumber, count: BlockCount): Promise<boolean> {
    const { state, remote } = this.#deps;
    for (let done = 0; done < count;) {
      const { mapped, sectors } = await provisioningOf(state, remote, BLOCK_SIZE, block + done, count - done);
      if (!mapped) return false;
      done += sectors;
    }
    return true;
  }

  get #mapped(): BlockCount | undefined {
    if (this.#counted === undefined) return undefined;
    const since = this.#committed - this.#committedBefore;
    return this.#counted + since + this.#deps.state.log.index.dirtyBlocks;
  }

  /** How many dirty blocks there may be, so that the hot path has one number to compare. */
  #update(): void {
    const limit = this.#limit;
    const { state } = this.#deps;
    if (limit === undefined || this.#counted === undefined) {
      state.dirtyLimit = Infinity;
      // Before it was counted every command asks: the first count may have failed.
      this.#lowLimit = limit === undefined ? Infinity : 0;
      return;
    }
    const inVersions = this.#counted + this.#committed - this.#committedBefore;
    state.dirtyLimit = limit - inVersions;
    this.#lowLimit = Math.ceil(limit * QUOTA_LOW_SHARE) - inVersions;
  }

  #look(): void {
    const mapped = this.#mapped;
    const limit = this.#limit;
    if (limit === undefined || this.#counting !== undefined) return;
    const sinceMs = this.#deps.clock.monotonicMs() - this.#countedMs;
    if (mapped === undefined) {
      if (sinceMs >= RECOUNT_MS) void this.#count();
      return;
    }
    if (mapped < limit * QUOTA_FREE_SHARE) this.#isLow = false;
    if (mapped < limit * QUOTA_LOW_SHARE) return;
    const againAfterMs = this.#isLow ? LOW_RECOUNT_MS : RECOUNT_MS;
    if (this.#isStale && sinceMs >= againAfterMs) void this.#count();
    else if (!this.#isLow) {
      this.#isLow = true;
      this.#events += 1;
    }
  }

  /** Counts once more; calls while it is being counted share that. Never rejects: what was known stays. */
  #count(): Promise<void> {
    this.#counting ??= this.#countNow().finally(() => {
      this.#counting = undefined;
      this.#update();
      this.#look();
    });
    return this.#counting;
  }

  async #countNow(): Promise<void> {
    const { remote, clock, diary } = this.#deps;
    const before = this.#committed;
    this.#isStale = false;
    try {
      // What is committed meanwhile may be in it already, and is added once more: too high, never too low.
      this.#counted = await remote.countMapped();
      this.#committedBefore = before;
    } catch (error) {
      if (!(error instanceof FarshoreError)) throw error;
      this.#isStale = true;
      diary.warn({ reason: describeError(error) }, 'the mapped blocks of the volume could not be counted');
    }
    this.#countedMs = clock.monotonicMs();
  }
}

function blocksOf(bytes: ByteCount | undefined): BlockCount | undefined {
  return bytes === undefined ? undefined : Math.floor(bytes / BLOCK_SIZE);
}
