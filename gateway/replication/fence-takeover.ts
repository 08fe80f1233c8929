import type { Clock, Random } from '../base/clock.ts';
import { sleep } from '../base/clock.ts';
import { FarshoreError, assertNever, invariant, isKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ByteCount, Epoch, WallMillis } from '../base/units.ts';
import type { VersionItem, VersionLog, VolumeItem, VolumeRef } from '../cloud/version-log.ts';
import { chainAfter, encodeRecord } from '../format/version-record.ts';
import { WALK_PAGE, chainOfItem, entryOf, tailRecord, viewOf } from '../maintenance/walk.ts';
import type { TailRecord, WalkVisitor } from '../maintenance/walk.ts';
import type { LogPosition } from '../maintenance/walk-machine.ts';
import { backoffMs } from './fence-backoff.ts';
import { fenceMachine } from './fence-machine.ts';
import { volumeName } from './volume-name.ts';
import type { FenceEffect, FenceEvent, FenceMachine, FenceState, FenceStep, StopReason } from './fence-machine.ts';

export interface FenceDeps {
  readonly versions: VersionLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface TakeoverRequest extends WalkVisitor {
  readonly ref: VolumeRef;
  /** Identity of this gateway; becomes the volume's owner. */
  readonly gateway: string;
  /** Identity of the local log whose writes will follow. */
  readonly logId: string;
  /** Gives up with `stopped` when aborted. */
  readonly signal?: AbortSignal;
  /**
   * What the volume's checkpoint says of the last record in it, for when there is none after it; undefined when the checkpoint is gone (it has
   * moved on, and the walk begins again). Rejects as the store does.
   */
  readonly checkpointEnd?: (item: VolumeItem) => Promise<LogEnd | undefined>;
}

/** Times in records never run backwards. */
export interface RecordTimes {
  readonly newestWriteAt: WallMillis;
  readonly sealedAt: WallMillis;
}

/** What the next record goes on from. */
export interface LogEnd extends RecordTimes {
  /** Size of the volume. */
  readonly bytes: ByteCount;
}

export interface Takeover {
  readonly machine: FenceMachine<VersionItem>;
  readonly state: Extract<FenceState, { phase: 'active' }>;
  /** As read last, after the takeover. */
  readonly item: VolumeItem;
  readonly times: RecordTimes;
  /** Size of the volume as the log has it: what the item says is a copy, made after the version that changed the size. */
  readonly bytes: ByteCount;
}

/** Requests in a row that may fail before a takeover gives up with the last failure; the caller calls again, with a new epoch. */
export const MAX_TAKEOVER_FAILURES = 8;

/**
 * Executes the machine's effects until the takeover stands. One request at a time. Rejects with `fenced`, `not-found`,
 * `retry` (the table is away, or takeovers and folds came too fast: call again), `damaged`, `input`, `stopped` (aborted).
 */
export async function takeOver(deps: FenceDeps, request: TakeoverRequest): Promise<Takeover> {
  const run = new TakeoverRun(deps, request);
  return run.toTheEnd();
}

class TakeoverRun {
  readonly #deps: FenceDeps;
  readonly #request: TakeoverRequest;
  readonly #machine = fenceMachine(chainOfItem);
  #failures = 0;
  /** Records of the walk. */
  #accepted = 0;
  /** As read last. */
  #item: VolumeItem | undefined;
  #page: readonly VersionItem[] = [];
  #times: RecordTimes = { newestWriteAt: 0, sealedAt: 0 };
  #bytes: ByteCount = 0;
  #takeover: VersionItem | undefined;

  constructor(deps: FenceDeps, request: TakeoverRequest) {
    this.#deps = deps;
    this.#request = request;
  }

  async toTheEnd(): Promise<Takeover> {
    let step: FenceStep = this.#machine.start;
    for (;;) {
      const { state, effects } = step;
      if (state.phase === 'stopped') throw takeoverFailure(this.#name, state.why);
      let event: FenceEvent<VersionItem> | undefined;
      for (const effect of effects) event = (await this.#execute(effect)) ?? event;
      if (state.phase === 'active')
        return { machine: this.#machine, state, item: this.#lastItem(), times: this.#times, bytes: this.#bytes };
      invariant(event, `a takeover in phase ${state.phase} waits for nothing`);
      step = this.#machine.next(state, event);
    }
  }

  async #execute(effect: FenceEffect): Promise<FenceEvent<VersionItem> | undefined> {
    const { versions } = this.#deps;
    const { ref } = this.#request;
    switch (effect.type) {
      case 'read-volume': {
        await this.#pause(effect.attempt);
        this.#item = await this.#persist(() => versions.getVolume(ref));
        return { type: 'volume', view: this.#item && viewOf(this.#item) };
      }
      case 'notify': {
        const notice = { volume: ref.volume, epoch: effect.epoch };
        await this.#persist(() => versions.notify(effect.owner, notice));
        return { type: 'notified' };
      }
      case 'raise': {
        const { from, to } = effect;
        const outcome = await this.#outcome(() => versions.raiseEpoch(ref, from, to, this.#request.gateway));
        if (outcome === 'ok') this.#item = { ...this.#lastItem(), epoch: to, owner: this.#request.gateway };
        return { type: 'raised', outcome };
      }
      case 'restart': {
        const item = this.#lastItem();
        this.#times = { newestWriteAt: 0, sealedAt: item.createdAt };
        this.#bytes = item.bytes;
        this.#accepted = 0;
        this.#request.onRestart(item);
        return undefined;
      }
      case 'list': {
        this.#page = await this.#persist(() => versions.listVersions(ref.volume, effect.from, WALK_PAGE));
        return { type: 'page', entries: this.#page.map(entryOf) };
      }
      case 'accepted': {
        for (const item of this.#page.slice(0, effect.count)) this.#accept(tailRecord(ref, item));
        return undefined;
      }
      case 'compose': {
        if (this.#accepted === 0) this.#goOnFrom(await this.#checkpointEnd());
        const item = this.#compose(effect.after, effect.epoch);
        this.#takeover = item;
        return { type: 'send', n: item.n, chain: item.chain.toString('hex') };
      }
      case 'put': {
        const item = this.#takeover;
        invariant(item?.n === effect.n, 'a takeover put without its bytes');
        if (effect.again) await this.#pause(this.#failures);
        const outcome = await this.#outcome(() => versions.putVersion(ref.volume, item, effect.previousEpoch));
        return { type: 'put-answer', n: effect.n, outcome };
      }
      case 'read': {
        const item = await this.#persist(() => versions.getVersion(ref.volume, effect.n));
        return { type: 'found', n: effect.n, there: item && entryOf(item) };
      }
      case 'active':
      case 'committed':
        return undefined;
      default:
        return assertNever(effect);
    }
  }

  #accept(tail: TailRecord): void {
    const { record } = tail;
    this.#goOnFrom({ ...record, bytes: record.volumeBytes });
    this.#accepted += 1;
    this.#request.onRecord(tail);
  }

  #goOnFrom(end: LogEnd | undefined): void {
    if (end === undefined) return;
    this.#times = {
      newestWriteAt: Math.max(this.#times.newestWriteAt, end.newestWriteAt),
      sealedAt: Math.max(this.#times.sealedAt, end.sealedAt),
    };
    this.#bytes = end.bytes;
  }

  /** After a fold of the whole log nothing else says how far time has come, and how large the volume is. */
  async #checkpointEnd(): Promise<LogEnd | undefined> {
    const item = this.#lastItem();
    if (item.checkpoint === undefined || this.#request.checkpointEnd === undefined) return undefined;
    const ask = this.#request.checkpointEnd;
    return this.#persist(() => ask(item));
  }

  #compose(after: LogPosition, epoch: Epoch): VersionItem {
    const { ref, logId } = this.#request;
    const sealedAt = Math.max(this.#times.sealedAt, this.#deps.clock.now());
    this.#times = { ...this.#times, sealedAt };
    const n = after.n + 1;
    const record = encodeRecord({
      volume: ref.volume,
      n,
      epoch,
      kind: 'takeover',
      payload: { kind: 'none' },
      logId,
      throughSeq: 0,
      blocks: 0,
      bytes: 0,
      newestWriteAt: this.#times.newestWriteAt,
      sealedAt,
      volumeBytes: this.#bytes,
    });
    const chain = chainAfter(Buffer.from(after.chain, 'hex'), record);
    return { n, epoch, record, chain, inline: Buffer.alloc(0) };
  }

  /** Repeats a request whose outcome does not matter until it is answered. */
  async #persist<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      this.#checkAborted();
      try {
        const answer = await ask();
        this.#failures = 0;
        return answer;
      } catch (error) {
        this.#failed(error);
        await this.#pause(this.#failures);
      }
    }
  }

  /** One attempt; the machine decides what an unknown outcome means. */
  async #outcome(ask: () => Promise<'ok' | 'conflict'>): Promise<'ok' | 'conflict' | 'unknown'> {
    this.#checkAborted();
    try {
      const outcome = await ask();
      this.#failures = 0;
      return outcome;
    } catch (error) {
      this.#failed(error);
      return 'unknown';
    }
  }

  #failed(error: unknown): void {
    if (!isKind(error, 'retry')) throw error;
    this.#failures += 1;
    if (this.#failures >= MAX_TAKEOVER_FAILURES) throw error;
    this.#deps.log.debug(
      { volume: this.#request.ref.volume, name: this.#item?.name, failures: this.#failures, err: error },
      'taking over: trying again',
    );
  }

  async #pause(attempt: number): Promise<void> {
    if (attempt === 0) return;
    await sleep(this.#deps.clock, backoffMs(attempt, this.#deps.random), this.#request.signal);
    this.#checkAborted();
  }

  #checkAborted(): void {
    if (this.#request.signal?.aborted) throw new FarshoreError('stopped', `opening ${this.#name} was given up`);
  }

  get #name(): string {
    return volumeName(this.#request.ref, this.#item?.name);
  }

  #lastItem(): VolumeItem {
    invariant(this.#item, 'the volume item has been read');
    return this.#item;
  }
}

/** `volume` as messages name it. */
export function takeoverFailure(volume: string, why: StopReason): FarshoreError {
  switch (why) {
    case 'fenced':
      return new FarshoreError('fenced', `another gateway has taken over ${volume}`);
    case 'not-found':
      return new FarshoreError('not-found', `there is no ${volume} in the table`);
    case 'unsettled':
      return new FarshoreError(
        'retry',
        `the log of ${volume} kept moving during the takeover; its old owner may still be writing`,
      );
    case 'damaged':
      return new FarshoreError(
        'damaged',
        `the version log of ${volume} holds a record that does not chain to the one before it`,
      );
    default:
      return assertNever(why);
  }
}
