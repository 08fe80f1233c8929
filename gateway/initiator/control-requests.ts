import type { Clock } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import { decodeKeyList, encodeKeys } from './negotiation.ts';
import type { Outbox } from './outbox.ts';
import {
  CONTINUE_BIT,
  FINAL_BIT,
  IMMEDIATE_BIT,
  INITIATOR_OPCODE,
  RESERVED_TAG,
  flagsOf,
  taskTagOf,
  transferTagOf,
  writeLun,
} from './wire.ts';

/** Task tags that no SCSI command has: its slot number is beyond every task slot. */
const CONTROL_SLOT = 0xffe;
/** A target that continues its text answer for longer is broken. */
const MAX_TEXT_EXCHANGES = 256;

/** RFC 7143 11.5.1. */
export const TASK_FUNCTION = { abortTask: 1, abortTaskSet: 2, lunReset: 5, targetWarmReset: 6 } as const;
export type TaskFunction = (typeof TASK_FUNCTION)[keyof typeof TASK_FUNCTION];

interface Answer {
  readonly header: Buffer;
  readonly data: Buffer;
}

interface Deps {
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** A request stayed unanswered: the connection is of no use any more. */
  readonly expired: (error: FarshoreError) => void;
  readonly outbox: Outbox;
  readonly lun: number;
  readonly numbers: () => { readonly cmdSn: number; readonly expStatSn: number };
}

/** Pings, text, task management and logout: immediate requests, one answer each. */
export class ControlRequests {
  private readonly deps: Deps;
  private counter = 0;
  private failure: FarshoreError | undefined;
  private readonly waiting = new Map<
    number,
    { readonly resolve: (answer: Answer) => void; readonly reject: (error: FarshoreError) => void }
  >();

  constructor(deps: Deps) {
    this.deps = deps;
  }

  /** A NOP-Out that the target must answer. */
  async ping(): Promise<void> {
    await this.request((header, at) => {
      header[at] = IMMEDIATE_BIT | INITIATOR_OPCODE.nopOut;
      header[at + 1] = FINAL_BIT;
      writeLun(header, at + 8, this.deps.lun);
      header.writeUInt32BE(RESERVED_TAG, at + 20);
    });
  }

  /** Sends a text request and collects the whole answer, in order. */
  async text(keys: readonly (readonly [string, string])[]): Promise<(readonly [string, string])[]> {
    const collected: Buffer[] = [];
    let transferTag = RESERVED_TAG;
    let data: Buffer = encodeKeys(keys);
    for (let exchanges = 0; exchanges < MAX_TEXT_EXCHANGES; exchanges += 1) {
      const tag = transferTag;
      const answer = await this.request((header, at) => {
        header[at] = IMMEDIATE_BIT | INITIATOR_OPCODE.text;
        header[at + 1] = FINAL_BIT;
        header.writeUInt32BE(tag, at + 20);
      }, data);
      collected.push(answer.data);
      const flags = flagsOf(answer.header, 0);
      if ((flags & FINAL_BIT) !== 0 && (flags & CONTINUE_BIT) === 0) return decodeKeyList(Buffer.concat(collected));
      transferTag = transferTagOf(answer.header, 0);
      data = Buffer.alloc(0);
    }
    throw new FarshoreError('damaged', `the target's text answer did not end after ${MAX_TEXT_EXCHANGES} PDUs`);
  }

  /** Returns the response code of RFC 7143 11.6.1; 0 is "function complete". */
  async taskManagement(
    action: TaskFunction,
    task?: { readonly taskTag: number; readonly cmdSn: number },
    lun = this.deps.lun,
  ): Promise<number> {
    const answer = await this.request((header, at) => {
      header[at] = IMMEDIATE_BIT | INITIATOR_OPCODE.taskManagement;
      header[at + 1] = FINAL_BIT | action;
      writeLun(header, at + 8, lun);
      header.writeUInt32BE(task?.taskTag ?? RESERVED_TAG, at + 20);
      header.writeUInt32BE(task?.cmdSn ?? 0, at + 32);
    });
    return answer.header[2] ?? 0;
  }

  /** Closes the session in an orderly way (RFC 7143 11.14); rejects if the target refuses. */
  async logout(): Promise<void> {
    const answer = await this.request((header, at) => {
      header[at] = IMMEDIATE_BIT | INITIATOR_OPCODE.logout;
      header[at + 1] = FINAL_BIT;
    });
    const response = answer.header[2] ?? 0;
    if (response !== 0) throw new FarshoreError('retry', `the target refused the logout, response ${response}`);
  }

  /** Answers a target's ping (RFC 7143 11.18): same LUN and transfer tag. */
  answerPing(ping: Buffer, pingAt: number): void {
    const at = this.deps.outbox.begin();
    const header = this.deps.outbox.buffer();
    header[at] = IMMEDIATE_BIT | INITIATOR_OPCODE.nopOut;
    header[at + 1] = FINAL_BIT;
    ping.copy(header, at + 8, pingAt + 8, pingAt + 16);
    header.writeUInt32BE(RESERVED_TAG, at + 16);
    header.writeUInt32BE(transferTagOf(ping, pingAt), at + 20);
    this.numbers(header, at);
    this.deps.outbox.finish(at, undefined, 0, 0);
  }

  response(header: Buffer, at: number, data: Buffer): void {
    const tag = taskTagOf(header, at);
    const waiting = this.waiting.get(tag);
    if (waiting === undefined) {
      throw new FarshoreError(
        'damaged',
        `the target broke the protocol: it answered request ${tag}, which is not under way`,
      );
    }
    this.waiting.delete(tag);
    waiting.resolve({ header: Buffer.from(header.subarray(at, at + 48)), data: Buffer.from(data) });
  }

  rejected(tag: number, error: FarshoreError): void {
    const waiting = this.waiting.get(tag);
    if (waiting === undefined) throw error;
    this.waiting.delete(tag);
    waiting.reject(error);
  }

  closed(error: FarshoreError): void {
    this.failure = error;
    const lost = [...this.waiting.values()];
    this.waiting.clear();
    for (const waiting of lost) waiting.reject(error);
  }

  private async request(fill: (header: Buffer, at: number) => void, data: Buffer = Buffer.alloc(0)): Promise<Answer> {
    if (this.failure !== undefined) throw this.failure;
    this.counter = (this.counter + 1) & 0xfffff;
    const tag = ((this.counter << 12) | CONTROL_SLOT) >>> 0;
    const at = this.deps.outbox.begin();
    const header = this.deps.outbox.buffer();
    fill(header, at);
    header.writeUInt32BE(tag, at + 16);
    this.numbers(header, at);
    const answered = new Promise<Answer>((resolve, reject) => {
      this.waiting.set(tag, { resolve, reject });
      this.deps.outbox.finish(at, data, 0, data.length);
    });
    const { clock, timeoutMs } = this.deps;
    const cancel = clock.startTimer(timeoutMs, () => {
      this.deps.expired(new FarshoreError('retry', `the target did not answer a request within ${timeoutMs} ms`));
    });
    try {
      return await answered;
    } finally {
      cancel();
    }
  }

  private numbers(header: Buffer, at: number): void {
    const { cmdSn, expStatSn } = this.deps.numbers();
    header.writeUInt32BE(cmdSn, at + 24);
    header.writeUInt32BE(expStatSn, at + 28);
  }
}
