import { serialAdd, serialDistance } from './serial.ts';

/** Where a command number lies. */
export type WindowPlace = 'next' | 'ahead' | 'outside';

/**
 * The CmdSN window (RFC 7143 4.2.2.1): ExpCmdSN is what must come next, MaxCmdSN what may come at most. MaxCmdSN only
 * ever advances, by as many as there is room for; a window that is not advanced slows the initiator down.
 */
export class CommandWindow {
  #expCmdSn: number;
  #maxCmdSn: number;
  #outstanding = 0;
  readonly #depth: () => number;

  /** `depth` is how many commands may be outstanding at the moment; at least 1. */
  constructor(firstCmdSn: number, depth: () => number) {
    this.#expCmdSn = firstCmdSn >>> 0;
    this.#depth = depth;
    this.#maxCmdSn = serialAdd(this.#expCmdSn, depth() - 1);
  }

  get expCmdSn(): number {
    return this.#expCmdSn;
  }

  /** Goes on where the session has been on an earlier connection. */
  continueAt(expCmdSn: number): void {
    this.#expCmdSn = expCmdSn;
    this.#maxCmdSn = serialAdd(expCmdSn, this.#depth() - 1);
  }

  place(cmdSn: number): WindowPlace {
    const ahead = serialDistance(cmdSn, this.#expCmdSn);
    if (ahead === 0 && serialDistance(this.#maxCmdSn, cmdSn) >= 0) return 'next';
    return ahead > 0 && serialDistance(this.#maxCmdSn, cmdSn) >= 0 ? 'ahead' : 'outside';
  }

  /** The command with ExpCmdSN has been received. */
  receive(): void {
    this.#expCmdSn = serialAdd(this.#expCmdSn, 1);
  }

  /** A command takes a place until `release`. */
  occupy(): void {
    this.#outstanding += 1;
  }

  release(): void {
    this.#outstanding -= 1;
  }

  /** MaxCmdSN as it may be announced now. */
  advance(): number {
    const room = Math.max(this.#depth() - this.#outstanding, 0);
    const target = serialAdd(this.#expCmdSn, room - 1);
    if (serialDistance(target, this.#maxCmdSn) > 0) this.#maxCmdSn = target;
    return this.#maxCmdSn;
  }
}
