import type { BlockDevice } from '../../base/block-device.ts';
import { sleep, type Clock } from '../../base/clock.ts';
import { FarshoreError, isKind } from '../../base/errors.ts';
import { GIB, MIB, type ByteCount, type Lba, type SectorCount } from '../../base/units.ts';
import { STATUS } from '../constants.ts';
import type { ExtentLock } from '../extent-lock.ts';
import { INTERNAL_CHUNK_BYTES } from '../limits.ts';
import { GOOD, plainStatus } from '../result.ts';
import type { ScsiResult } from '../result.ts';
import { SENSE, checkCondition, invalidCdbField, resultOfError } from '../sense.ts';
import type { Sense } from '../sense.ts';
import type { UnitCommand } from '../traits.ts';
import type { UnitDocument } from '../unit-document.ts';
import { decodeKept, encodeKept } from './kept.ts';
import type { KeptSanitize } from './kept.ts';
import { blockOfPattern, parseSanitize } from './request.ts';
import type { SanitizeJob } from './request.ts';

/** An overwrite leaves the log, the cache and the line to the volumes that are in use: it goes no faster than this. */
const OVERWRITE_BYTES_PER_SECOND: ByteCount = 16 * MIB;

/** An erase goes by such steps, between which its progress shows. */
const ERASE_BYTES: ByteCount = 16 * GIB;

/** After so much its place is kept, so that a restart costs no more. */
const KEEP_PLACE_BYTES: ByteCount = 4 * GIB;

/** How often, and how long in all, a device that is busy or out of reach for the moment is tried again. */
const RETRY_MS = 1000;
const MAX_RETRIES = 3600;

/** So soon a command that waits for the end is let go after it was aborted. */
const LET_GO_MS = 1000;

const ABORTED = plainStatus(STATUS.taskAborted);

/** A command that waits for the end of the operation it began. */
interface Waiter {
  readonly life: { readonly state: string };
  answer(result: ScsiResult): void;
}

type State =
  | { readonly kind: 'idle' }
  | { readonly kind: 'running'; readonly job: SanitizeJob; pass: number; lba: Lba }
  /** The medium is as it shall be, but a successor might not know it yet. */
  | { readonly kind: 'ended'; readonly job: SanitizeJob }
  | { readonly kind: 'failed'; readonly job: SanitizeJob };

const IDLE: State = { kind: 'idle' };

/**
 * Sanitize operations of one logical unit (SBC-3). Once begun, one goes on whatever becomes of the command, the session, or
 * the process: it is kept in the unit's document before it is answered, and taken up again when the unit is made anew. Until it has
 * ended, and whoever may take the volume over knows that, nobody reads or writes the medium.
 */
export class Sanitizer {
  readonly #device: BlockDevice;
  readonly #extents: ExtentLock;
  readonly #document: UnitDocument;
  readonly #clock: Clock;
  #state: State = IDLE;
  #waiters: Waiter[] = [];

  constructor(device: BlockDevice, extents: ExtentLock, document: UnitDocument, clock: Clock) {
    this.#device = device;
    this.#extents = extents;
    this.#document = document;
    this.#clock = clock;
    const section = document.section('sanitize');
    if (section === undefined) return;
    const kept = decodeKept(section);
    if (kept === undefined) document.markDamaged('sanitize');
    else if (kept.state === 'failed') this.#state = { kind: 'failed', job: kept.job };
    else if (kept.state === 'ended')
      void this.#settle(kept.job); // what rejects is a bug, and must end the process
    // On a device that may have lost what was done it is done again, from the start.
    else this.#begin(kept.history === device.identity.history ? kept : { ...kept, pass: 0, lba: 0 });
  }

  /** What there is to say to a command that may not be processed now; undefined: it may (SBC-3). */
  refusal(command: UnitCommand): Sense | undefined {
    if (this.#state.kind === 'idle' || isAllowed(command)) return undefined;
    if (this.#state.kind !== 'failed') return this.condition;
    return command.kind === 'sanitize' ? undefined : SENSE.sanitizeFailed;
  }

  /** No command is refused for it. */
  get isIdle(): boolean {
    return this.#state.kind === 'idle';
  }

  /** What REQUEST SENSE reports, with how far it is. */
  get condition(): Sense | undefined {
    const state = this.#state;
    switch (state.kind) {
      case 'idle':
        return undefined;
      case 'failed':
        return SENSE.sanitizeFailed;
      case 'ended':
        return { ...SENSE.sanitizeInProgress, progress: 0xffff };
      case 'running': {
        const done = (state.pass + state.lba / this.#device.geometry().sectors) / state.job.passes;
        return { ...SENSE.sanitizeInProgress, progress: done * 65_536 };
      }
    }
  }

  /** SANITIZE (SBC-3). Nothing is answered before the operation is sure to go on. */
  async sanitize(
    command: UnitCommand & { readonly kind: 'sanitize' },
    list: Buffer,
    life: { readonly state: string },
  ): Promise<ScsiResult> {
    const { action } = command;
    if (action === 'exit-failure-mode') return this.#exitFailureMode(life);
    const parsed = parseSanitize({ ...command, action }, list, this.#device.geometry().sectorSize);
    if (parsed.kind === 'refused') return parsed.result;
    const before = this.#state;
    // After a failure that nothing may excuse only an operation that nothing may excuse is taken (SBC-3).
    if (before.kind === 'failed' && !before.job.mayExit && command.mayFail) return invalidCdbField(1, 5);
    const kept = { job: parsed.job, state: 'running' as const, pass: 0, lba: 0 };
    this.#state = { kind: 'running', job: parsed.job, pass: 0, lba: 0 }; // from here on nothing else begins
    try {
      await this.#keep(kept);
    } catch (error) {
      this.#state = before;
      return resultOfError(error);
    }
    this.#begin(kept);
    return command.immediate ? GOOD : this.#end(life);
  }

  async #exitFailureMode(life: Waiter['life']): Promise<ScsiResult> {
    const state = this.#state;
    if (state.kind !== 'failed') return GOOD;
    const { job } = state;
    if (!job.mayExit) return invalidCdbField(1, 4);
    try {
      await this.#keep({ job, state: 'ended', pass: 0, lba: 0 });
    } catch (error) {
      return resultOfError(error);
    }
    if (this.#state !== state) return GOOD; // another one has begun meanwhile
    const outcome = this.#end(life); // first: whoever waits for the table looks after those that are there
    void this.#settle(job); // what rejects is a bug, and must end the process
    return outcome;
  }

  /** The outcome for a command that waits for it. */
  #end(life: Waiter['life']): Promise<ScsiResult> {
    return new Promise((answer) => {
      this.#waiters.push({ life, answer });
    });
  }

  #begin({ job, pass, lba }: Omit<KeptSanitize, 'history' | 'state'>): void {
    const state = { kind: 'running' as const, job, pass, lba };
    this.#state = state;
    void this.#run(state); // what rejects is a bug, and must end the process
  }

  async #run(state: State & { kind: 'running' }): Promise<void> {
    // What was in the device before is over first, and nothing that came before lands after.
    let release = (): void => undefined;
    const { job } = state;
    try {
      await this.#persistently(async () => {
        release = await this.#extents.acquire(0, Infinity, 'exclusive');
      });
      await (job.method === 'overwrite' ? this.#overwrite(state) : this.#erase(state));
      await this.#persistently(() => this.#device.flush());
      await this.#persistently(() => this.#keep({ job, state: 'ended', pass: 0, lba: 0 }));
    } catch (error) {
      const result = await this.#fail(job, error);
      release();
      this.#answer(result);
      return;
    }
    const settled = this.#settle(job);
    release(); // what has waited is told that it has come too late, or not yet in time
    await settled;
  }

  /**
   * Nobody may write before the end is known where a successor looks: a gateway that takes the volume over would begin again, and what was
   * written since, and replicated, would be gone. However long that takes, and over restarts, for the end is kept as such until then.
   */
  async #settle(job: SanitizeJob): Promise<void> {
    this.#state = { kind: 'ended', job };
    try {
      await this.#lettingGo(this.#document.mirrored());
    } catch (error) {
      if (!(error instanceof FarshoreError) || error.kind === 'bug') throw error;
      // It never will be, as this unit is served: whoever serves the volume next goes on from here.
      this.#answer(checkCondition(this.condition ?? SENSE.sanitizeInProgress));
      return;
    }
    try {
      await this.#keep(undefined);
    } catch (error) {
      if (!(error instanceof FarshoreError)) throw error; // one that has ended does no harm where it is kept
    }
    this.#state = IDLE;
    this.#answer(GOOD);
  }

  /** Waits for it, and meanwhile looks after the commands that are aborted. */
  async #lettingGo(awaited: Promise<void>): Promise<void> {
    const over = new AbortController();
    const end = (): void => {
      over.abort();
    };
    void awaited.then(end, end);
    while (!over.signal.aborted && this.#waiters.length > 0) {
      await sleep(this.#clock, LET_GO_MS, over.signal);
      this.#answerAborted();
    }
    await awaited;
  }

  #answer(result: ScsiResult): void {
    for (const waiter of this.#waiters) waiter.answer(waiter.life.state === 'aborted' ? ABORTED : result);
    this.#waiters = [];
  }

  async #fail(job: SanitizeJob, error: unknown): Promise<ScsiResult> {
    if (!(error instanceof FarshoreError) || error.kind === 'bug') throw error;
    this.#state = { kind: 'failed', job };
    // A volume that has been taken over, or whose log has stopped, begins again where it is served next.
    if (!isKind(error, 'fenced', 'stopped')) {
      try {
        await this.#keep({ job, state: 'failed', pass: 0, lba: 0 });
      } catch (failure) {
        if (!(failure instanceof FarshoreError)) throw failure; // it is kept as running, and begins again after a restart
      }
    }
    return checkCondition(SENSE.sanitizeFailed);
  }

  async #overwrite(state: State & { kind: 'running' }): Promise<void> {
    const { sectorSize, sectors: end } = this.#device.geometry();
    const { job } = state;
    let unkept = 0;
    for (; state.pass < job.passes; state.pass += 1, state.lba = 0) {
      const block = blockOfPattern(job, state.pass, sectorSize);
      const piece = Buffer.alloc(INTERNAL_CHUNK_BYTES, block);
      while (state.lba < end) {
        const count = Math.min(INTERNAL_CHUNK_BYTES / sectorSize, end - state.lba);
        const from = this.#clock.monotonicMs();
        await this.#write(state.lba, piece.subarray(0, count * sectorSize));
        state.lba += count;
        this.#answerAborted();
        unkept += count * sectorSize;
        if (unkept >= KEEP_PLACE_BYTES) {
          unkept = 0;
          await this.#persistently(() => this.#device.flush());
          await this.#persistently(() => this.#keep({ ...state, state: 'running' }));
        }
        const due = ((count * sectorSize) / OVERWRITE_BYTES_PER_SECOND) * 1000;
        const left = due - (this.#clock.monotonicMs() - from);
        if (left > 0) await sleep(this.#clock, left);
      }
      // A pass is on stable storage before the next one begins, or there would be only one.
      await this.#persistently(() => this.#device.flush());
    }
  }

  #write(lba: Lba, bytes: Buffer): Promise<void> {
    return this.#persistently(() => this.#device.write(lba, [bytes], { fua: false }));
  }

  async #erase(state: State & { kind: 'running' }): Promise<void> {
    const { sectorSize, sectors: end } = this.#device.geometry();
    const step: SectorCount = ERASE_BYTES / sectorSize;
    while (state.lba < end) {
      const range = { lba: state.lba, sectors: Math.min(step, end - state.lba) };
      await this.#persistently(() => this.#device.unmap([range]));
      state.lba += range.sectors;
      this.#answerAborted();
    }
  }

  /** Aborted commands are let go; the operation goes on without them. */
  #answerAborted(): void {
    const aborted = this.#waiters.filter(({ life }) => life.state === 'aborted');
    if (aborted.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => !aborted.includes(waiter));
    for (const waiter of aborted) waiter.answer(ABORTED);
  }

  /** Does it again as long as that may help. */
  async #persistently(act: () => void | Promise<void>): Promise<void> {
    for (let tries = 0; ; tries += 1) {
      try {
        await act();
        return;
      } catch (error) {
        if (!isKind(error, 'busy', 'retry') || tries === MAX_RETRIES) throw error;
        this.#answerAborted();
        await sleep(this.#clock, RETRY_MS);
      }
    }
  }

  /** Undefined: there is nothing to go on with. A unit that keeps nothing has to do without. */
  async #keep(kept: Omit<KeptSanitize, 'history'> | undefined): Promise<void> {
    if (!this.#document.canKeep) return;
    await this.#document.save(
      'sanitize',
      kept === undefined ? undefined : encodeKept({ ...kept, history: this.#device.identity.history }),
    );
  }
}

/** What is answered while the medium is being sanitized: it says nothing of the medium. */
function isAllowed(command: UnitCommand): boolean {
  switch (command.kind) {
    case 'inquiry':
    case 'request-sense':
    case 'report-opcodes':
    case 'report-task-management':
    case 'report-target-port-groups':
    case 'log-sense':
    case 'mode-sense':
    case 'read-capacity-10':
    case 'read-capacity-16':
      return true;
    default:
      return false;
  }
}
