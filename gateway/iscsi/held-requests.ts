import type { ByteBudget } from './budget.ts';
import { decodeRequest } from './requests.ts';
import type { Request } from './requests.ts';

/** A request whose CmdSN is ahead of its turn. */
export interface HeldRequest {
  readonly header: Buffer;
  readonly data: Buffer;
  readonly intact: boolean;
}

/** The requests of a session that came before those with lower CmdSNs (RFC 7143 4.2.2.1); at most one window full. */
export class HeldRequests {
  readonly #budget: ByteBudget;
  /** 'aborted': a place whose command must not be executed when its turn comes. */
  readonly #byCmdSn = new Map<number, HeldRequest | 'aborted'>();
  #stuckSeconds = 0;
  #lastExpCmdSn = 0;

  constructor(budget: ByteBudget) {
    this.#budget = budget;
  }

  get size(): number {
    return this.#byCmdSn.size;
  }

  /**
   * Copies, since the chunk the PDU lies in may be large. What finds no room is dropped, as if it had never come.
   */
  hold(cmdSn: number, header: Buffer, data: Buffer, intact: boolean): void {
    if (this.#byCmdSn.has(cmdSn) || !this.#budget.take(data.length)) return;
    this.#budget.park(data.length); // until the missing request comes, if it ever does
    this.#byCmdSn.set(cmdSn, { header: Buffer.from(header), data: Buffer.from(data), intact });
  }

  /** What is held for this CmdSN; it is held no more. */
  take(cmdSn: number): HeldRequest | 'aborted' | undefined {
    const held = this.#byCmdSn.get(cmdSn);
    if (held === undefined) return undefined;
    this.#byCmdSn.delete(cmdSn);
    if (held !== 'aborted') {
      this.#budget.park(-held.data.length);
      this.#budget.release(held.data.length);
    }
    return held;
  }

  /** The command with this CmdSN will not be executed, whether it is here already or not. */
  abort(cmdSn: number): void {
    this.take(cmdSn);
    this.#byCmdSn.set(cmdSn, 'aborted');
  }

  abortWhere(matches: (request: Request) => boolean): void {
    for (const [cmdSn, held] of [...this.#byCmdSn])
      if (held !== 'aborted' && matches(decodeRequest(held.header))) this.abort(cmdSn);
  }

  clear(): void {
    for (const cmdSn of [...this.#byCmdSn.keys()]) this.take(cmdSn);
  }

  /** How long requests have been held for want of the same one; called once a second. */
  secondsStuck(expCmdSn: number): number {
    const stuck = this.#byCmdSn.size > 0 && expCmdSn === this.#lastExpCmdSn;
    this.#lastExpCmdSn = expCmdSn;
    this.#stuckSeconds = stuck ? this.#stuckSeconds + 1 : 0;
    return this.#stuckSeconds;
  }
}
