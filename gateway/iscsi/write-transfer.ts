import { KIB } from '../base/units.ts';
import type { ByteCount } from '../base/units.ts';
import type { Sense } from '../scsi/sense.ts';
import { SENSE } from '../scsi/sense.ts';
import { NO_TAG } from './constants.ts';
import { copyOf } from './received-chunks.ts';
import type { ReceivedChunks } from './received-chunks.ts';
import type { DataOutRequest } from './requests.ts';

/**
 * So slowly may the data of one write trickle in, beside `dataTimeoutSeconds`: it holds room that others wait for, and
 * hosts give a command up long before.
 */
const MIN_BYTES_PER_SECOND = 64 * KIB;

/** What is wrong with a Data-Out PDU, if anything. */
export type DataOutFault = 'unknown-tag' | 'out-of-order' | 'too-long';

/** A run of Data-Out PDUs with one transfer tag (RFC 7143 4.2.5.2): unsolicited, or the answer to one R2T. */
interface Burst {
  readonly tag: number;
  readonly start: ByteCount;
  readonly end: ByteCount;
  dataSn: number;
  /** Made when the burst turns out to come in several PDUs. */
  buffer: Buffer | undefined;
}

/**
 * The data of one write as it arrives: immediate, unsolicited, solicited, always in order (DataPDUInOrder and
 * DataSequenceInOrder are Yes, one R2T outstanding). Bytes beyond what the command takes are counted and dropped.
 */
export class WriteTransfer {
  /** What the command takes from the initiator. */
  readonly wantedBytes: ByteCount;
  readonly #pieces: Buffer[] = [];
  readonly #chunks: ReceivedChunks;
  /** The last piece, when it lies where it was received. */
  #inPlace: Buffer | undefined;
  #receivedBytes: ByteCount = 0;
  /** Seconds without data that was waited for, and seconds in which some was. */
  #silentSeconds = 0;
  #owedSeconds = 0;
  #burst: Burst | undefined;
  #readyToTransfers = 0;
  #failure: Sense | undefined;

  constructor(wantedBytes: ByteCount, immediate: Buffer, chunks: ReceivedChunks) {
    this.wantedBytes = wantedBytes;
    this.#chunks = chunks;
    if (immediate.length === 0) return;
    const usable = immediate.length <= wantedBytes ? immediate : immediate.subarray(0, wantedBytes);
    if (usable.length < wantedBytes || !this.#keep(usable)) this.#pieces.push(copyOf(usable));
    this.#receivedBytes = immediate.length;
  }

  /** The data so far, in order. */
  get pieces(): readonly Buffer[] {
    return this.#pieces;
  }

  /** How much of the wanted data is there. */
  get bytes(): ByteCount {
    return Math.min(this.#receivedBytes, this.wantedBytes);
  }

  /**
   * Whether the initiator owes data for too long: none for `timeoutSeconds`, or too little of it for too long. Called
   * once a second.
   */
  isOverdue(timeoutSeconds: number): boolean {
    if (this.#burst === undefined) return false;
    this.#silentSeconds += 1;
    this.#owedSeconds += 1;
    const longest = timeoutSeconds + this.wantedBytes / MIN_BYTES_PER_SECOND;
    return this.#silentSeconds > timeoutSeconds || this.#owedSeconds > longest;
  }

  /** The data will wait for others: it is taken out of the chunk it came in. */
  detach(): void {
    const data = this.#inPlace;
    if (data === undefined) return;
    this.#pieces[this.#pieces.length - 1] = copyOf(data);
    this.release();
  }

  /** The data is not needed any more. */
  release(): void {
    if (this.#inPlace !== undefined) this.#chunks.release(this.#inPlace);
    this.#inPlace = undefined;
  }

  get readyToTransfers(): number {
    return this.#readyToTransfers;
  }

  /** Why the command must not run although its data has ended. */
  get failure(): Sense | undefined {
    return this.#failure;
  }

  /** Whether Data-Out PDUs are on their way. */
  get inBurst(): boolean {
    return this.#burst !== undefined;
  }

  get isComplete(): boolean {
    return this.#burst === undefined && (this.#failure !== undefined || this.#receivedBytes >= this.wantedBytes);
  }

  /** Unsolicited Data-Out PDUs follow, up to offset `end`. */
  openUnsolicited(end: ByteCount): void {
    this.#burst = { tag: NO_TAG, start: this.#receivedBytes, end, dataSn: 0, buffer: undefined };
  }

  /** Solicits the next burst of at most `maxBytes` under this tag; what the R2T has to say. */
  openSolicited(tag: number, maxBytes: ByteCount): { r2tSn: number; bufferOffset: ByteCount; desiredBytes: ByteCount } {
    const start = this.#receivedBytes;
    const desiredBytes = Math.min(maxBytes, this.wantedBytes - start);
    this.#burst = { tag, start, end: start + desiredBytes, dataSn: 0, buffer: undefined };
    this.#silentSeconds = 0;
    const r2tSn = this.#readyToTransfers;
    this.#readyToTransfers += 1;
    return { r2tSn, bufferOffset: start, desiredBytes };
  }

  /** Whether a Data-Out PDU with `bytes` of data is the one that must come next. */
  check(request: DataOutRequest, bytes: ByteCount): DataOutFault | undefined {
    const burst = this.#burst;
    if (burst === undefined || burst.tag !== request.targetTransferTag) return 'unknown-tag';
    if (request.dataSn !== burst.dataSn || request.bufferOffset !== this.#receivedBytes) return 'out-of-order';
    if (this.#receivedBytes + bytes > burst.end) return 'too-long';
    return undefined;
  }

  /** Where the data of this PDU belongs, when `check` has passed it and all of it is wanted. */
  destination(request: DataOutRequest, bytes: ByteCount): Buffer | undefined {
    const burst = this.#burst;
    if (burst === undefined || this.#failure !== undefined || this.check(request, bytes) !== undefined)
      return undefined;
    if (this.#receivedBytes + bytes > this.wantedBytes) return undefined;
    const at = this.#receivedBytes - burst.start;
    return this.#bufferOf(burst).subarray(at, at + bytes);
  }

  /** Takes the data of a PDU that `check` has passed. */
  receive(request: DataOutRequest, data: Buffer): void {
    const burst = this.#burst;
    if (burst === undefined) return;
    if (data.length > 0) this.#silentSeconds = 0;
    if (this.#failure === undefined) this.#place(burst, data);
    this.#receivedBytes += data.length;
    burst.dataSn += 1;
    if (request.final || this.#receivedBytes === burst.end) this.#closeBurst(burst);
  }

  /** The command must not run. What still comes of the open burst is dropped; it ends with `final`. */
  fail(sense: Sense, final: boolean): void {
    this.#failure ??= sense;
    if (final) this.#burst = undefined;
  }

  #place(burst: Burst, data: Buffer): void {
    const usable = Math.min(data.length, this.wantedBytes - this.#receivedBytes);
    if (usable <= 0) return;
    const wholeBurst = this.#receivedBytes === burst.start && usable === this.#usefulBytes(burst);
    const isLast = this.#receivedBytes + usable === this.wantedBytes;
    if (wholeBurst && isLast && burst.buffer === undefined) {
      if (this.#keep(usable === data.length ? data : data.subarray(0, usable))) return;
    }
    const fresh = burst.buffer === undefined;
    const buffer = this.#bufferOf(burst);
    if (fresh || !isInside(data, buffer)) data.copy(buffer, this.#receivedBytes - burst.start, 0, usable);
  }

  /** Takes the data that completes the write as it is, if there is room for what that keeps in memory. */
  #keep(data: Buffer): boolean {
    if (!this.#chunks.hold(data)) return false;
    this.#pieces.push(data);
    this.#inPlace = data;
    return true;
  }

  #closeBurst(burst: Burst): void {
    this.#burst = undefined;
    if (this.#failure !== undefined) return;
    const { buffer } = burst;
    if (buffer !== undefined) {
      const filled = Math.min(this.#receivedBytes, this.wantedBytes) - burst.start;
      this.#pieces.push(filled === buffer.length ? buffer : buffer.subarray(0, filled));
    }
    // Only an unsolicited burst may stop early; the rest is then solicited.
    if (burst.tag !== NO_TAG && this.#receivedBytes < burst.end) this.#failure = SENSE.dataPhaseError;
  }

  #bufferOf(burst: Burst): Buffer {
    burst.buffer ??= Buffer.allocUnsafeSlow(this.#usefulBytes(burst));
    return burst.buffer;
  }

  #usefulBytes(burst: Burst): ByteCount {
    return Math.min(burst.end, this.wantedBytes) - burst.start;
  }
}

/** Whether the framer has already put the data into the burst's buffer. */
function isInside(data: Buffer, buffer: Buffer): boolean {
  return data.buffer === buffer.buffer;
}
