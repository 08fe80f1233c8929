import type { MaybePromise } from '../../gateway/base/block-device.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import type { Life, SimClock } from './sim-clock.ts';
import type { SimRandom } from './sim-random.ts';

/** Everything a process may ask of its disk; `size`, `ls` and `close` included, because a crash may come at any of them. */
export type CallKind =
  'mkdir' | 'ls' | 'open' | 'create' | 'mv' | 'rm' | 'syncdir' | 'size' | 'read' | 'write' | 'sync' | 'close';

/** Chances per call; all zero to begin with. */
export interface DiskFaults {
  /** A read fails with EIO, and may go well when it is tried again. */
  readError: number;
  /** A sector can't be read any more (EIO), until it is written or the disk is healed. */
  badSector: number;
  /** A write fails with EIO after some of it was written. */
  writeError: number;
  /** A sync fails, and what it should have covered is arbitrary from then on; 1: for ever. */
  syncError: number;
  /** A write, a new file or directory, a rename, or the sync of a directory fails with ENOSPC, a write after some of it was written. */
  noSpace: number;
  /** Opening fails with EMFILE. */
  noHandles: number;
  /** A write stores a bit other than what it was given. */
  flipOnWrite: number;
  /** Multiplies every delay. */
  slowness: number;
  /** The call takes effect and is answered in the turn in which it was made. */
  sameTurn: number;
}

export const HEALTHY_DISK: DiskFaults = {
  readError: 0,
  badSector: 0,
  writeError: 0,
  syncError: 0,
  noSpace: 0,
  noHandles: 0,
  flipOnWrite: 0,
  slowness: 1,
  sameTurn: 0,
};

/** How a call fails; the file it is for does what such a failure leaves behind. */
export type CallFault = 'EIO' | 'ENOSPC' | 'EMFILE';

export interface DiskCall {
  /** Counts the calls of the disk, from 1. */
  readonly n: number;
  readonly kind: CallKind;
  readonly path: string;
}

/** For tests that go through all calls one by one. */
export interface DiskProbe {
  /** The call has been made, and nothing of it has happened; it may end the life of its process. */
  readonly begun?: (call: DiskCall) => void;
  /** How it is to fail. */
  readonly fault?: (call: DiskCall) => CallFault | undefined;
  /** It has happened, and its answer is not under way yet; it may end the life of its process. */
  readonly done?: (call: DiskCall) => void;
}

/** What an unanswered call may still have done when its process dies. */
export type LateEffect = () => void;

const NO_SPACE: ReadonlySet<CallKind> = new Set(['mkdir', 'create', 'mv', 'syncdir', 'write']);
const NEEDS_HANDLE: ReadonlySet<CallKind> = new Set(['open', 'create', 'syncdir']);
const SYNCS: ReadonlySet<CallKind> = new Set(['sync', 'syncdir']);

/** Base delays in milliseconds; each call takes between half of it and, rarely, twenty times it. */
function delayOf(kind: CallKind): number {
  if (SYNCS.has(kind)) return 1;
  if (kind === 'write') return 0.05;
  return kind === 'read' || kind === 'size' || kind === 'close' ? 0.1 : 0.2;
}

/** What the call is told of its fate when its time has come. */
export type Act<T> = (fault: CallFault | undefined) => T;

/** The calls of one disk: when they take effect, how they fail, and what is left of those under way when the process dies. */
export class DiskCalls {
  readonly faults: DiskFaults = { ...HEALTHY_DISK };
  probe: DiskProbe | undefined;
  /** How many there have been. */
  count = 0;
  /** When a call last failed, or was slow. */
  troubledAtMs = -Infinity;
  readonly #name: string;
  readonly #clock: SimClock;
  readonly #random: SimRandom;
  readonly #underWay = new Set<LateEffect>();

  constructor(name: string, clock: SimClock, random: SimRandom) {
    this.#name = name;
    this.#clock = clock;
    this.#random = random;
  }

  /** The process has died: what was under way may have happened (`late`: the chance of each), wholly or in part. */
  crash(late: number): void {
    const effects = [...this.#underWay];
    this.#underWay.clear();
    for (const effect of effects) if (this.#random.chance(late)) effect();
  }

  /** Makes a call that changes nothing, or whose effect a crash keeps back with its answer. */
  ask<T>(life: Life, kind: CallKind, path: string, act: Act<T>, label = path): MaybePromise<T> {
    return this.#make(life, kind, path, label, act, undefined);
  }

  /** Makes a call that may have taken effect although a crash kept the answer back: then `late` happens. */
  change<T>(life: Life, kind: CallKind, path: string, act: Act<T>, late: LateEffect, label = path): MaybePromise<T> {
    const effect = (): void => {
      try {
        late();
      } catch (error) {
        if (!(error instanceof FarshoreError)) throw error;
      }
    };
    return this.#make(life, kind, path, label, act, effect);
  }

  #make<T>(
    life: Life,
    kind: CallKind,
    path: string,
    label: string,
    act: Act<T>,
    late: LateEffect | undefined,
  ): MaybePromise<T> {
    if (!life.alive) return never();
    const call: DiskCall = { n: ++this.count, kind, path };
    if (late !== undefined) this.#underWay.add(late);
    this.probe?.begun?.(call);
    if (!isAlive(life)) return never();
    const happen = (): MaybePromise<T> => {
      if (late !== undefined) this.#underWay.delete(late);
      const answer = settled(() => act(this.#faultOf(call)));
      this.probe?.done?.(call);
      if (isAlive(life)) return answer;
      if (answer instanceof Promise) answer.catch(() => undefined);
      return never();
    };
    const name = `${this.#name} ${kind} ${label}`;
    if (this.#random.chance(this.faults.sameTurn)) {
      this.#clock.note(name);
      return happen();
    }
    return new Promise((resolve) => {
      this.#clock.schedule(this.#delay(kind), name, life, () => {
        resolve(happen());
      });
    });
  }

  #delay(kind: CallKind): number {
    if (this.faults.slowness > 1) this.troubledAtMs = this.#clock.monotonicMs();
    const base = delayOf(kind) * this.faults.slowness;
    const tail = this.#random.chance(0.02) ? 20 : 1;
    return base * (0.5 + this.#random.fraction()) * tail;
  }

  #faultOf(call: DiskCall): CallFault | undefined {
    const fault = this.probe?.fault?.(call) ?? this.#drawFault(call);
    if (fault !== undefined) this.troubledAtMs = this.#clock.monotonicMs();
    return fault;
  }

  #drawFault({ kind }: DiskCall): CallFault | undefined {
    const { faults } = this;
    if (kind === 'read' && this.#random.chance(faults.readError)) return 'EIO';
    if (kind === 'write' && this.#random.chance(faults.writeError)) return 'EIO';
    if (SYNCS.has(kind) && this.#random.chance(faults.syncError)) return 'EIO';
    if (NO_SPACE.has(kind) && this.#random.chance(faults.noSpace)) return 'ENOSPC';
    if (NEEDS_HANDLE.has(kind) && this.#random.chance(faults.noHandles)) return 'EMFILE';
    return undefined;
  }
}

/** A dead process hears nothing any more. Each call has its own: a shared one would keep all who ever waited. */
function never(): Promise<never> {
  return new Promise<never>(() => undefined);
}

/** A failure is a rejection, never thrown. */
function settled<T>(act: () => T): MaybePromise<T> {
  try {
    return act();
  } catch (error) {
    return Promise.reject(error instanceof Error ? error : new Error(String(error)));
  }
}

/** Asked anew: a probe may have ended it. */
function isAlive(life: Life): boolean {
  return life.alive;
}

/** As the adapter for a real disk translates it. */
export function failureOf(fault: CallFault, kind: CallKind, path: string): FarshoreError {
  return new FarshoreError(fault === 'EIO' ? 'stopped' : 'busy', `${fault} at ${kind} ${path}`);
}
