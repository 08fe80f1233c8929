import { sleep } from '../base/clock.ts';
import { FarshoreError, isKind } from '../base/errors.ts';
import type { Epoch, VersionNumber } from '../base/units.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { FoldResult } from '../maintenance/fold.ts';
import { foldVolume } from '../maintenance/fold.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import { CheckpointMap } from '../maintenance/map-reader.ts';
import { withRetries } from '../maintenance/retry.ts';
import type { FoldThresholds } from './engine-settings.ts';
import { BACKLOG_LIMIT, FAILED_FOLD_DELAY_MS } from './engine-settings.ts';
import type { FoldBacklog } from './fold-backlog.ts';
import type { VolumeMap } from '../maintenance/volume-map.ts';
import { Trouble } from './trouble.ts';

/** How often a fold that met another maintainer is begun again. */
const FOLD_ATTEMPTS = 5;

export interface BackgroundFoldHooks {
  readonly signal: AbortSignal;
  /** The map stands on a checkpoint of version n now. */
  adopted(n: VersionNumber): void;
  /** A checkpoint holds versions of this epoch, which is above ours: another gateway writes the volume. */
  overtaken(epoch: Epoch): void;
}

/** Folds the log of one volume when it is due or asked for, one fold at a time, and moves the map onto the result. */
export class BackgroundFold {
  readonly #deps: MaintenanceDeps;
  readonly #ref: VolumeRef;
  readonly #epoch: Epoch;
  readonly #thresholds: FoldThresholds;
  readonly #backlog: FoldBacklog;
  readonly #map: VolumeMap;
  readonly #hooks: BackgroundFoldHooks;
  #underWay: Promise<FoldResult> | undefined;
  #background: Promise<void> | undefined;
  readonly #trouble: Trouble;
  #notBeforeMs = 0;

  constructor(
    deps: MaintenanceDeps,
    ref: VolumeRef,
    epoch: Epoch,
    thresholds: FoldThresholds,
    backlog: FoldBacklog,
    map: VolumeMap,
    hooks: BackgroundFoldHooks,
  ) {
    this.#deps = deps;
    this.#ref = ref;
    this.#epoch = epoch;
    this.#thresholds = thresholds;
    this.#backlog = backlog;
    this.#map = map;
    this.#hooks = hooks;
    this.#trouble = new Trouble(deps.clock);
  }

  /** An alarm when folding has failed for a while; undefined when there is nothing to tell. */
  get problem(): string | undefined {
    const { alarm } = this.#trouble;
    if (alarm === undefined) return undefined;
    const effect = this.#due(BACKLOG_LIMIT)
      ? 'nothing more is replicated until it can be'
      : 'replication goes on for now, and will wait when too much of it has piled up';
    return `the version log cannot be folded ${alarm}; ${effect}. It is tried again every ${FAILED_FOLD_DELAY_MS / 1000} s; farshore verify says what is damaged`;
  }

  /** A fold that begins after the call, so that it covers everything committed before it. */
  async now(): Promise<FoldResult> {
    while (this.#underWay !== undefined) {
      await this.#underWay.then(
        () => undefined,
        () => undefined,
      );
    }
    const folding = this.#fold();
    this.#underWay = folding;
    try {
      const result = await folding;
      this.#trouble.passed();
      return result;
    } finally {
      this.#underWay = undefined;
    }
  }

  /** Starts a fold in the background when one is due. */
  check(): void {
    if (this.#background !== undefined || this.#hooks.signal.aborted || !this.#due(1)) return;
    if (this.#deps.clock.monotonicMs() < this.#notBeforeMs) return;
    this.#background = this.#tryInBackground().finally(() => {
      this.#background = undefined;
    });
  }

  /** Resolves when the log that waits for a fold is within bounds. */
  async room(): Promise<void> {
    while (this.#due(BACKLOG_LIMIT)) {
      if (this.#hooks.signal.aborted) throw new FarshoreError('stopped', `volume ${this.#ref.volume} was closed`);
      this.check();
      if (this.#background !== undefined) await this.#background;
      else await sleep(this.#deps.clock, this.#notBeforeMs - this.#deps.clock.monotonicMs(), this.#hooks.signal);
    }
  }

  /**
   * Moves the map onto a checkpoint that was published, by whomever; an older one is passed over. One that reaches into somebody else's epoch must
   * not be shown to our readers: they would see a mix of what they wrote and what others did.
   */
  adopt(checkpoint: CheckpointMap): void {
    if (checkpoint.n <= this.#map.checkpoint.n) return;
    const epoch = checkpoint.checkpoint?.epoch ?? 0;
    if (epoch > this.#epoch) {
      this.#hooks.overtaken(epoch);
      return;
    }
    this.#map.adopt(checkpoint);
    this.#backlog.folded(checkpoint.n);
    this.#hooks.adopted(checkpoint.n);
  }

  #due(times: number): boolean {
    return this.#backlog.reaches(this.#thresholds, this.#map.overlayRanges, times);
  }

  async #tryInBackground(): Promise<void> {
    try {
      await this.now();
    } catch (error) {
      if (isKind(error, 'bug') || !(error instanceof FarshoreError)) throw error;
      if (this.#hooks.signal.aborted) return;
      this.#trouble.failed(error.message);
      this.#notBeforeMs = this.#deps.clock.monotonicMs() + FAILED_FOLD_DELAY_MS;
      const fields = { err: error, volume: this.#ref.volume };
      if (isKind(error, 'damaged', 'input'))
        this.#deps.log.error(fields, 'the log cannot be folded; trying again later');
      else this.#deps.log.warn(fields, 'the log could not be folded; trying again later');
    }
  }

  /** Where another maintainer (a Lambda, or a gateway that was fenced) is at it, it is let finish what it began. */
  async #fold(): Promise<FoldResult> {
    const { store, compression, versions } = this.#deps;
    const { signal } = this.#hooks;
    const source = { store, compression, ref: this.#ref };
    const rules = { attempts: FOLD_ATTEMPTS, signal, passing: ['busy'] as const };
    const result = await withRetries(this.#deps, rules, async () => {
      try {
        return await foldVolume(this.#deps, this.#ref, { signal });
      } catch (error) {
        if (!isKind(error, 'busy')) throw error;
        const item = await versions.getVolume(this.#ref);
        if (item?.checkpoint !== undefined) this.adopt(await CheckpointMap.load(source, item.checkpoint));
        throw error;
      }
    });
    if (result.checkpoint !== undefined) this.adopt(new CheckpointMap(source, result.checkpoint));
    return result;
  }
}
