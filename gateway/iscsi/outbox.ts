import type { ScsiResult } from '../scsi/result.ts';
import { encodeSense } from '../scsi/sense.ts';
import { STATUS } from '../scsi/constants.ts';
import { DEFAULT_MAX_RECV_BYTES, HEADER_BYTES, NO_TAG } from './constants.ts';
import {
  NO_RESIDUAL,
  encodeAsyncMessage,
  encodeDataIn,
  encodeLoginResponse,
  encodeLogoutResponse,
  encodeNopIn,
  encodeReadyToTransfer,
  encodeReject,
  encodeScsiResponse,
  encodeTaskManagementResponse,
  encodeTextResponse,
} from './responses.ts';
import type { LoginResponse, NopIn, ReadyToTransfer, Residual, TextResponse } from './responses.ts';
import type { Sender } from './sender.ts';
import { serialAdd } from './serial.ts';
import type { CommandWindow } from './command-window.ts';

const NO_PIECES: readonly Buffer[] = [];

/** What a command's answer is about, besides its result. */
export interface Answered {
  readonly initiatorTaskTag: number;
  /** Expected data transfer length and the direction it was announced for. */
  readonly expectedBytes: number;
  readonly residual: Residual;
  /** R2Ts sent for it. */
  readonly readyToTransfers: number;
}

/** Sends PDUs with the right StatSN, ExpCmdSN and MaxCmdSN (RFC 7143 4.2.2). */
export class Outbox {
  readonly #sender: Sender;
  readonly #window: CommandWindow;
  /** One object for every PDU, filled before each: the hot path allocates nothing. */
  readonly #sequence = { statSn: 0, expCmdSn: 0, maxCmdSn: 0 };
  readonly #wholeRead = {
    initiatorTaskTag: 0,
    final: true,
    status: true,
    dataSn: 0,
    bufferOffset: 0,
    dataBytes: 0,
    residual: NO_RESIDUAL,
  };
  readonly #good = { initiatorTaskTag: 0, status: STATUS.good, expDataSn: 0, residual: NO_RESIDUAL, dataBytes: 0 };
  #statSn: number;
  #maxDataBytes = DEFAULT_MAX_RECV_BYTES;
  #maxBurstBytes = Number.MAX_SAFE_INTEGER;

  constructor(sender: Sender, window: CommandWindow, firstStatSn: number) {
    this.#sender = sender;
    this.#window = window;
    this.#statSn = firstStatSn;
  }

  /** What the initiator takes in one PDU and in one sequence of them. */
  setLimits(maxDataBytes: number, maxBurstBytes: number): void {
    this.#maxDataBytes = maxDataBytes;
    this.#maxBurstBytes = maxBurstBytes;
  }

  get maxDataBytes(): number {
    return this.#maxDataBytes;
  }

  /** Login responses advance StatSN like every other. */
  login(response: LoginResponse, text: Buffer): void {
    const at = this.#sender.openHeader();
    encodeLoginResponse(this.#sender.arena, at, response, this.#next(1));
    this.#finish(at, text);
  }

  /** A Text Response. */
  text(response: TextResponse, text: Buffer): void {
    const at = this.#sender.openHeader();
    encodeTextResponse(this.#sender.arena, at, response, this.#next(1));
    this.#finish(at, text);
  }

  /** The answer to a NOP-Out. */
  nopReply(nop: NopIn, data: Buffer): void {
    const at = this.#sender.openHeader();
    encodeNopIn(this.#sender.arena, at, nop, this.#next(1));
    this.#finish(at, data);
  }

  /** A ping of ours; StatSN is the next one, and not used up (RFC 7143 11.19.3). */
  ping(targetTransferTag: number): void {
    const at = this.#sender.openHeader();
    const nop = { initiatorTaskTag: NO_TAG, targetTransferTag, lun: undefined, dataBytes: 0 };
    encodeNopIn(this.#sender.arena, at, nop, this.#next(0));
    this.#sender.closeHeader(at);
  }

  readyToTransfer(r2t: ReadyToTransfer): void {
    const at = this.#sender.openHeader();
    encodeReadyToTransfer(this.#sender.arena, at, r2t, this.#next(0));
    this.#sender.closeHeader(at);
  }

  taskManagement(initiatorTaskTag: number, response: number): void {
    const at = this.#sender.openHeader();
    encodeTaskManagementResponse(this.#sender.arena, at, { initiatorTaskTag, response }, this.#next(1));
    this.#sender.closeHeader(at);
  }

  logout(initiatorTaskTag: number, response: number): void {
    const at = this.#sender.openHeader();
    encodeLogoutResponse(this.#sender.arena, at, { initiatorTaskTag, response }, this.#next(1));
    this.#sender.closeHeader(at);
  }

  asyncMessage(event: number, parameter1: number, parameter2: number, parameter3: number): void {
    const at = this.#sender.openHeader();
    encodeAsyncMessage(this.#sender.arena, at, { event, parameter1, parameter2, parameter3 }, this.#next(1));
    this.#sender.closeHeader(at);
  }

  /** Refuses a PDU, giving its header back (RFC 7143 11.17). */
  reject(reason: number, header: Buffer): void {
    const at = this.#sender.openHeader();
    encodeReject(this.#sender.arena, at, { reason, dataBytes: header.length }, this.#next(1));
    this.#finish(at, header);
  }

  /** The outcome of a command: its data with the status in the last PDU, or a SCSI Response. */
  result(answered: Answered, result: ScsiResult): void {
    const bytes = Math.min(result.dataInBytes, answered.expectedBytes);
    const dataSn = bytes > 0 ? this.#dataIn(answered, result.dataIn, bytes) : 0;
    if (bytes > 0 && result.status === STATUS.good) return;
    const sense = result.sense === undefined ? undefined : encodeSense(result.sense);
    const data = sense === undefined ? undefined : Buffer.concat([Buffer.from([0, sense.length]), sense]);
    const at = this.#sender.openHeader();
    const response = {
      initiatorTaskTag: answered.initiatorTaskTag,
      status: result.status,
      expDataSn: dataSn + answered.readyToTransfers,
      residual: answered.residual,
      dataBytes: data?.length ?? 0,
    };
    encodeScsiResponse(this.#sender.arena, at, response, this.#next(1));
    if (data === undefined) this.#sender.closeHeader(at);
    else this.#finish(at, data);
  }

  /** A SCSI Response: GOOD, no data, no residual, no R2T before it. */
  good(initiatorTaskTag: number): void {
    const at = this.#sender.openHeader();
    this.#good.initiatorTaskTag = initiatorTaskTag;
    encodeScsiResponse(this.#sender.arena, at, this.#good, this.#next(1));
    this.#sender.closeHeader(at);
  }

  /**
   * Where in `arena` the data of a Data-In PDU may be put that is all of a command's answer: `bytes` (a multiple of four), GOOD, no
   * residual. -1 when it takes more than that. `wholeRead` sends it; otherwise nothing has been said.
   */
  roomForRead(bytes: number): number {
    if (bytes > this.#maxDataBytes || bytes > this.#maxBurstBytes) return -1;
    const at = this.#sender.roomFor(bytes);
    return at < 0 ? -1 : at + HEADER_BYTES;
  }

  /** Changes with the next call. */
  get arena(): Buffer {
    return this.#sender.arena;
  }

  /** The data that was put at `dataAt` is the answer. */
  wholeRead(initiatorTaskTag: number, bytes: number, dataAt: number): void {
    const answer = this.#wholeRead;
    answer.initiatorTaskTag = initiatorTaskTag;
    answer.dataBytes = bytes;
    encodeDataIn(this.#sender.arena, dataAt - HEADER_BYTES, answer, this.#next(1));
    this.#sender.add(bytes);
  }

  /** Data-In PDUs for the first `bytes` of the pieces; how many. GOOD status and residual go with the last one. */
  #dataIn(answered: Answered, pieces: readonly Buffer[], bytes: number): number {
    const { initiatorTaskTag, residual } = answered;
    let dataSn = 0;
    let offset = 0;
    let burstEnd = this.#maxBurstBytes;
    const cursor = new PieceCursor(pieces);
    while (offset < bytes) {
      const dataBytes = Math.min(this.#maxDataBytes, bytes - offset, burstEnd - offset);
      const last = offset + dataBytes === bytes;
      const final = last || offset + dataBytes === burstEnd;
      const at = this.#sender.openHeader();
      encodeDataIn(
        this.#sender.arena,
        at,
        {
          initiatorTaskTag,
          final,
          status: last,
          dataSn,
          bufferOffset: offset,
          dataBytes,
          residual: last ? residual : NO_RESIDUAL,
        },
        this.#next(last ? 1 : 0),
      );
      this.#sender.closeHeader(at);
      this.#sender.data(last && offset === 0 ? cursor.whole(bytes) : cursor.take(dataBytes), dataBytes);
      offset += dataBytes;
      dataSn += 1;
      if (final) burstEnd = offset + this.#maxBurstBytes;
    }
    return dataSn;
  }

  #finish(at: number, data: Buffer): void {
    this.#sender.closeHeader(at);
    this.#sender.data(data.length === 0 ? NO_PIECES : [data], data.length);
  }

  /** The sequence numbers of the next PDU, which uses up `statSns` of them. */
  #next(statSns: number): { statSn: number; expCmdSn: number; maxCmdSn: number } {
    const sequence = this.#sequence;
    sequence.statSn = this.#statSn;
    sequence.expCmdSn = this.#window.expCmdSn;
    sequence.maxCmdSn = this.#window.advance();
    if (statSns > 0) this.#statSn = serialAdd(this.#statSn, statSns);
    return sequence;
  }
}

/** Walks over pieces in lengths that need not match them. */
class PieceCursor {
  readonly #pieces: readonly Buffer[];
  #index = 0;
  #offset = 0;

  constructor(pieces: readonly Buffer[]) {
    this.#pieces = pieces;
  }

  /** All pieces at once when they have exactly `bytes`; cut to it otherwise. */
  whole(bytes: number): readonly Buffer[] {
    const [only] = this.#pieces;
    return this.#pieces.length === 1 && only?.length === bytes ? this.#pieces : this.take(bytes);
  }

  /** The next `bytes` bytes. */
  take(bytes: number): Buffer[] {
    const taken: Buffer[] = [];
    let left = bytes;
    while (left > 0) {
      const piece = this.#pieces[this.#index];
      if (piece === undefined) break;
      const end = Math.min(piece.length, this.#offset + left);
      taken.push(this.#offset === 0 && end === piece.length ? piece : piece.subarray(this.#offset, end));
      left -= end - this.#offset;
      this.#offset = end;
      if (end === piece.length) {
        this.#index += 1;
        this.#offset = 0;
      }
    }
    return taken;
  }
}
