import type { BudgetShare } from './budget.ts';
import { HEADER_BYTES } from './constants.ts';
import { copyOf } from './received-chunks.ts';
import { decodeRequest } from './requests.ts';
import type { Request } from './requests.ts';

/** A request whose CmdSN is ahead of its turn. */
export interface HeldRequest {
  readonly header: Buffer;
  readonly data: Buffer;
  readonly intact: boolean;
}

interface Place {
  /** 'aborted': its command must not be executed when its turn comes. */
  request: HeldRequest | 'aborted';
  seconds: number;
}

/** The requests of a session that came before those with lower CmdSNs (RFC 7143 4.2.2.1); at most one window full. */
export class HeldRequests {
  readonly #budget: BudgetShare;
  readonly #byCmdSn = new Map<number, Place>();

  constructor(budget: BudgetShare) {
    this.#budget = budget;
  }

  get size(): number {
    return this.#byCmdSn.size;
  }

  /**
   * Copies, since the chunk the PDU lies in may be large. What finds no room is dropped, as if it had never come.
   */
  hold(cmdSn: number, header: Buffer, data: Buffer, intact: boolean): void {
    const bytes = HEADER_BYTES + data.length;
    // Parked until the missing request comes, if it ever does.
    if (this.#byCmdSn.has(cmdSn) || !this.#budget.takeParked(bytes)) return;
    this.#byCmdSn.set(cmdSn, { request: { header: copyOf(header), data: copyOf(data), intact }, seconds: 0 });
  }

  /** What is held for this CmdSN; it is held no more. */
  take(cmdSn: number): HeldRequest | 'aborted' | undefined {
    const held = this.#byCmdSn.get(cmdSn)?.request;
    if (held === undefined) return undefined;
    this.#byCmdSn.delete(cmdSn);
    if (held !== 'aborted') {
      const bytes = HEADER_BYTES + held.data.length;
      this.#budget.park(-bytes);
      this.#budget.release(bytes);
    }
    return held;
  }

  /** The command with this CmdSN will not be executed, whether it is here already or not. */
  abort(cmdSn: number): void {
    this.take(cmdSn);
    this.#byCmdSn.set(cmdSn, { request: 'aborted', seconds: 0 });
  }

  abortWhere(matches: (request: Request) => boolean): void {
    for (const [cmdSn, { request }] of [...this.#byCmdSn])
      if (request !== 'aborted' && matches(decodeRequest(request.header))) this.abort(cmdSn);
  }

  clear(): void {
    for (const cmdSn of [...this.#byCmdSn.keys()]) this.take(cmdSn);
  }

  /** Whether any of them has waited for longer than this, whatever has come meanwhile; called once a second. */
  isOverdue(timeoutSeconds: number): boolean {
    let isOverdue = false;
    for (const place of this.#byCmdSn.values()) {
      place.seconds += 1;
      if (place.seconds > timeoutSeconds) isOverdue = true;
    }
    return isOverdue;
  }
}
