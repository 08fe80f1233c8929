import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { parseAddress } from '../gateway/initiator/connection.ts';
import { CDB_BYTES, read16, synchronizeCache16, testUnitReady, write16 } from '../gateway/initiator/cdb.ts';
import type { LoginResult } from '../gateway/initiator/login.ts';
import {
  ATTRIBUTE_SIMPLE,
  BHS_BYTES,
  FINAL_BIT,
  IMMEDIATE_BIT,
  INITIATOR_OPCODE,
  OPCODE_MASK,
  READ_BIT,
  RESERVED_TAG,
  STATUS_BIT,
  TARGET_OPCODE,
  WRITE_BIT,
  paddingOf,
  serialDistance,
  writeDataSegmentLength,
  writeLun,
} from '../gateway/initiator/wire.ts';
import { LeanLogin } from './lean-login.ts';
import { LeanOutbox } from './lean-outbox.ts';
import type { Portal } from './load.ts';

/** As much as one turn of a deep queue brings, and small enough to stay in the processor's cache. */
const RECEIVE_BYTES = 512 * 1024;
/** Data up to this length is copied beside its header; longer data is sent from where it lies. */
const COPY_LIMIT = 32 * 1024;
/** Sense data and refusals. */
const MAX_SEGMENT_BYTES = 4096;
/** Silence of the target with commands outstanding, after which the run fails. */
const SILENCE_MS = 60_000;
const SILENCE_LOOKS = 6;
const MAX_REDIRECTIONS = 4;
/** Of a SCSI command's header (RFC 7143 11.3). */
const CDB_AT = 32;
/** Tags: the slot in the low bits, a counter above. */
const SLOT_BITS = 10;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
const MAX_SLOTS = 1 << SLOT_BITS;

/** What the load does with what comes. All are called in the turn in which it came. */
export interface LeanHandler {
  /** Data of slot's read: `bytes[from, to)` belong at `offset` of the transfer. Valid during the call only. */
  data(slot: number, bytes: Buffer, from: number, to: number, offset: number): void;
  /** The slot is free again. `sense` is there after CHECK CONDITION. */
  answered(slot: number, status: number, sense: Buffer | undefined): void;
  /** The connection is lost or the target broke the protocol; nothing follows. */
  failed(error: Error): void;
}

/**
 * A session made for load alone: commands are templates per slot of which LBA, tag and numbers are patched, answers are parsed where the
 * socket put them, and a turn ends with one write. It checks what an initiator has to (tags, StatSN, DataSN, offsets, lengths) and gives
 * up at the first breach. What is submitted outside `answered` needs a `flush()`.
 */
export class LeanSession {
  /** When the bytes now being handled were received, on performance.now()'s scale. */
  turnAt = 0;

  private readonly handler: LeanHandler;
  private readonly socket: Socket;
  private readonly outbox: LeanOutbox;
  private readonly login: LoginResult;
  private readonly lun: number;

  /** By slot: the header of its next command, its tag while under way (-1: none), and how far its data is. */
  private readonly headers: Buffer;
  private readonly cdbs: readonly Buffer[];
  private readonly tags: Float64Array;
  private readonly expected: Uint32Array;
  private readonly received: Uint32Array;
  private readonly dataSns: Uint32Array;
  private readonly sources: (Buffer | undefined)[];
  private readonly sourceAt: Uint32Array;
  private readonly sourceBytes: Uint32Array;

  private tagCounter = 0;
  private underWay = 0;
  private waiting: number[] = [];
  private cmdSn: number;
  private maxCmdSn: number;
  private expStatSn: number;

  // The PDU being received.
  private readonly header = Buffer.alloc(BHS_BYTES);
  private headerBytes = 0;
  private left = 0;
  private opcode = 0;
  private flags = 0;
  private status = 0;
  private slot = 0;
  private dataOffset = 0;
  private dataLeft = 0;
  private statSn = 0;
  private readonly segment = Buffer.alloc(MAX_SEGMENT_BYTES);
  private segmentBytes = 0;

  private answers = 0;
  private silence: NodeJS.Timeout | undefined;
  private ended = false;

  private constructor(socket: Socket, login: LoginResult, slots: number, lun: number, handler: LeanHandler) {
    if (slots > MAX_SLOTS) throw new Error(`a session has at most ${MAX_SLOTS} slots`);
    this.socket = socket;
    this.handler = handler;
    this.outbox = new LeanOutbox(socket);
    this.login = login;
    this.lun = lun;
    this.cmdSn = login.cmdSn;
    this.maxCmdSn = login.maxCmdSn;
    this.expStatSn = login.expStatSn;
    this.headers = Buffer.alloc(slots * BHS_BYTES);
    this.tags = new Float64Array(slots).fill(-1);
    this.expected = new Uint32Array(slots);
    this.received = new Uint32Array(slots);
    this.dataSns = new Uint32Array(slots);
    this.sources = new Array<Buffer | undefined>(slots).fill(undefined);
    this.sourceAt = new Uint32Array(slots);
    this.sourceBytes = new Uint32Array(slots);
    this.cdbs = Array.from({ length: slots }, (_, slot) =>
      this.headers.subarray(slot * BHS_BYTES + CDB_AT, slot * BHS_BYTES + CDB_AT + CDB_BYTES),
    );
    for (let slot = 0; slot < slots; slot += 1) writeLun(this.headers, slot * BHS_BYTES + 8, lun);
    let seen = 0;
    let looks = 0;
    this.silence = setInterval(() => {
      looks = this.underWay > 0 && seen === this.answers ? looks + 1 : 0;
      seen = this.answers;
      if (looks >= SILENCE_LOOKS) this.fail(new Error(`the target has not answered for ${SILENCE_MS / 1000} s`));
    }, SILENCE_MS / SILENCE_LOOKS);
  }

  /** Logs in, following redirections. Rejects with LoginError, `damaged`, or what the socket says. */
  static async open(portal: Portal, slots: number, handler: LeanHandler): Promise<LeanSession> {
    let { host, port } = portal;
    for (let redirections = 0; redirections <= MAX_REDIRECTIONS; redirections += 1) {
      const opened = await LeanSession.connect({ ...portal, host, port }, slots, handler);
      if (opened instanceof LeanSession) return opened;
      ({ host, port } = parseAddress(opened));
    }
    throw new Error(`the target moved more than ${MAX_REDIRECTIONS} times`);
  }

  /** The session, or the address it was sent to. */
  private static connect(portal: Portal, slots: number, handler: LeanHandler): Promise<LeanSession | string> {
    return new Promise((resolve, reject) => {
      let session: LeanSession | undefined;
      const received = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
      const logIn = (bytes: number): void => {
        try {
          const outcome = exchange.take(received.subarray(0, bytes));
          if (outcome?.kind === 'moved') {
            socket.destroy();
            resolve(outcome.address);
          } else if (outcome !== undefined) {
            session = new LeanSession(socket, outcome.result, slots, portal.lun, handler);
            if (outcome.rest.length > 0) session.receive(outcome.rest, outcome.rest.length);
            resolve(session);
          }
        } catch (error) {
          socket.destroy();
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      const socket = connect({
        host: portal.host,
        port: portal.port,
        noDelay: true,
        onread: {
          buffer: received,
          callback: (bytes) => {
            if (session === undefined) logIn(bytes);
            else session.receive(received, bytes);
            return true;
          },
        },
      });
      const exchange = new LeanLogin(socket, portal.target);
      const lost = (why: string): void => {
        const error = new Error(`connection to ${portal.host}:${portal.port}: ${why}`);
        if (session === undefined) reject(error);
        else session.fail(error);
      };
      socket.once('connect', () => {
        exchange.start();
      });
      socket.on('error', (error) => {
        lost(error.message);
      });
      socket.on('end', () => {
        lost('the target closed it');
      });
      socket.on('close', () => {
        lost('it was closed');
      });
    });
  }

  // --- commands ------------------------------------------------------------------------------------------------

  testUnitReady(slot: number): void {
    this.command(slot, 0, 0);
    testUnitReady(this.cdbOf(slot));
    this.submit(slot);
  }

  read(slot: number, lba: number, sectors: number, bytes: number): void {
    this.command(slot, READ_BIT, bytes);
    read16(this.cdbOf(slot), lba, sectors);
    this.submit(slot);
  }

  /** Writes `source[at, at + bytes)`, which must stay as it is until the answer. */
  write(slot: number, lba: number, sectors: number, source: Buffer, at: number, bytes: number): void {
    this.command(slot, WRITE_BIT, 0);
    this.sources[slot] = source;
    this.sourceAt[slot] = at;
    this.sourceBytes[slot] = bytes;
    write16(this.cdbOf(slot), lba, sectors, false);
    this.submit(slot);
  }

  /** SYNCHRONIZE CACHE of the whole device. */
  synchronize(slot: number): void {
    this.command(slot, 0, 0);
    synchronizeCache16(this.cdbOf(slot));
    this.submit(slot);
  }

  /** Sends the slot's last command again. */
  repeat(slot: number): void {
    this.submit(slot);
  }

  flush(): void {
    this.outbox.flush();
  }

  /** Leaves without a logout, which a target has to bear (RFC 7143 6.1.4.4). */
  close(): void {
    this.ended = true;
    clearInterval(this.silence);
    this.socket.destroy();
  }

  private command(slot: number, direction: number, expectedIn: number): void {
    const at = slot * BHS_BYTES;
    this.headers[at] = INITIATOR_OPCODE.scsiCommand;
    this.headers[at + 1] = FINAL_BIT | direction | ATTRIBUTE_SIMPLE;
    this.expected[slot] = expectedIn;
    this.sources[slot] = undefined;
    this.sourceBytes[slot] = 0;
  }

  private cdbOf(slot: number): Buffer {
    const cdb = this.cdbs[slot];
    if (cdb === undefined) throw new Error(`there is no slot ${slot}`);
    return cdb;
  }

  private submit(slot: number): void {
    if (this.waiting.length > 0 || serialDistance(this.maxCmdSn, this.cmdSn) < 0) this.waiting.push(slot);
    else this.send(slot);
  }

  private sendWaiting(): void {
    while (this.waiting.length > 0 && serialDistance(this.maxCmdSn, this.cmdSn) >= 0) {
      const slot = this.waiting.shift();
      if (slot !== undefined) this.send(slot);
    }
  }

  private send(slot: number): void {
    this.tagCounter = (this.tagCounter + 1) & 0x1fffff;
    const tag = this.tagCounter * MAX_SLOTS + slot;
    this.tags[slot] = tag;
    this.received[slot] = 0;
    this.dataSns[slot] = 0;
    this.underWay += 1;

    const source = this.sources[slot];
    const outBytes = this.sourceBytes[slot] ?? 0;
    const { firstBurstBytes, maxSendDataSegmentBytes, immediateData, initialR2T } = this.login.negotiated;
    const immediate = immediateData ? Math.min(outBytes, firstBurstBytes, maxSendDataSegmentBytes) : 0;
    const unsolicited = initialR2T ? immediate : Math.min(outBytes, firstBurstBytes);
    const at = this.outbox.take(BHS_BYTES);
    const { bytes } = this.outbox;
    this.headers.copy(bytes, at, slot * BHS_BYTES, slot * BHS_BYTES + BHS_BYTES);
    if (unsolicited > immediate) bytes[at + 1] = (bytes[at + 1] ?? 0) & ~FINAL_BIT;
    put32(bytes, at + 16, tag);
    put32(bytes, at + 20, outBytes > 0 ? outBytes : (this.expected[slot] ?? 0));
    put32(bytes, at + 24, this.cmdSn);
    put32(bytes, at + 28, this.expStatSn);
    this.cmdSn = (this.cmdSn + 1) >>> 0;
    if (source === undefined) return;
    if (immediate > 0) {
      writeDataSegmentLength(bytes, at, immediate);
      this.sendSegment(source, this.sourceAt[slot] ?? 0, immediate);
    }
    if (unsolicited > immediate) this.sendData(slot, tag, immediate, unsolicited, RESERVED_TAG);
  }

  private sendSegment(source: Buffer, from: number, length: number): void {
    const padding = paddingOf(length);
    if (length <= COPY_LIMIT) {
      const at = this.outbox.take(length + padding);
      source.copy(this.outbox.bytes, at, from, from + length);
      if (padding > 0) this.outbox.bytes.fill(0, at + length, at + length + padding);
      return;
    }
    this.outbox.append(source.subarray(from, from + length));
    if (padding > 0) {
      const at = this.outbox.take(padding);
      this.outbox.bytes.fill(0, at, at + padding);
    }
  }

  /** Data-Out PDUs for bytes `from` to `to` of the write, the last one final (RFC 7143 11.7). */
  private sendData(slot: number, tag: number, from: number, to: number, transferTag: number): void {
    const source = this.sources[slot];
    if (source === undefined) throw broke('asked for the data of a command that writes nothing');
    let dataSn = 0;
    for (let offset = from; offset < to; dataSn += 1) {
      const length = Math.min(to - offset, this.login.negotiated.maxSendDataSegmentBytes);
      const at = this.outbox.take(BHS_BYTES);
      const { bytes } = this.outbox;
      bytes.fill(0, at, at + BHS_BYTES);
      bytes[at] = INITIATOR_OPCODE.dataOut;
      bytes[at + 1] = offset + length === to ? FINAL_BIT : 0;
      writeDataSegmentLength(bytes, at, length);
      writeLun(bytes, at + 8, this.lun);
      put32(bytes, at + 16, tag);
      put32(bytes, at + 20, transferTag);
      put32(bytes, at + 28, this.expStatSn);
      put32(bytes, at + 36, dataSn);
      put32(bytes, at + 40, offset);
      this.sendSegment(source, (this.sourceAt[slot] ?? 0) + offset, length);
      offset += length;
    }
  }

  // --- answers -------------------------------------------------------------------------------------------------

  private receive(chunk: Buffer, bytes: number): void {
    if (this.ended) return;
    this.turnAt = performance.now();
    try {
      this.take(chunk, bytes);
      this.outbox.flush();
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  private take(chunk: Buffer, end: number): void {
    let at = 0;
    while (at < end && !this.ended) {
      if (this.left === 0) {
        if (this.headerBytes === 0 && end - at >= BHS_BYTES) {
          this.begin(chunk, at);
          at += BHS_BYTES;
        } else {
          const step = Math.min(BHS_BYTES - this.headerBytes, end - at);
          chunk.copy(this.header, this.headerBytes, at, at + step);
          this.headerBytes += step;
          at += step;
          if (this.headerBytes < BHS_BYTES) return;
          this.headerBytes = 0;
          this.begin(this.header, 0);
        }
      } else {
        const step = Math.min(this.left, end - at);
        this.takeData(chunk, at, at + Math.min(step, this.dataLeft));
        this.left -= step;
        at += step;
      }
      if (this.left === 0) this.finish();
    }
  }

  private begin(bytes: Buffer, at: number): void {
    this.opcode = (bytes[at] ?? 0) & OPCODE_MASK;
    this.flags = bytes[at + 1] ?? 0;
    this.status = bytes[at + 3] ?? 0;
    if (bytes[at + 4] !== 0) throw broke('sent an additional header segment');
    const length = ((bytes[at + 5] ?? 0) << 16) | ((bytes[at + 6] ?? 0) << 8) | (bytes[at + 7] ?? 0);
    this.dataLeft = length;
    this.left = length + paddingOf(length);
    this.statSn = get32(bytes, at + 24);
    const maxCmdSn = get32(bytes, at + 32);
    if (serialDistance(maxCmdSn, this.maxCmdSn) > 0) this.maxCmdSn = maxCmdSn;
    if (this.opcode === TARGET_OPCODE.dataIn) {
      this.slot = this.slotOf(get32(bytes, at + 16));
      this.dataOffset = get32(bytes, at + 40);
      const { slot } = this;
      if (
        this.dataOffset !== this.received[slot] ||
        this.dataOffset + length > (this.expected[slot] ?? 0) ||
        get32(bytes, at + 36) !== this.dataSns[slot]
      )
        throw broke(`sent ${length} bytes of a read at ${this.dataOffset}, which are not the next ones`);
      this.dataSns[slot] = (this.dataSns[slot] ?? 0) + 1;
      this.received[slot] = this.dataOffset + length;
      return;
    }
    this.segmentBytes = 0;
    if (length > MAX_SEGMENT_BYTES) throw broke(`sent ${length} bytes with opcode ${this.opcode}`);
    if (bytes !== this.header) bytes.copy(this.header, 0, at, at + BHS_BYTES);
  }

  private takeData(chunk: Buffer, from: number, to: number): void {
    if (from >= to) return;
    this.dataLeft -= to - from;
    if (this.opcode === TARGET_OPCODE.dataIn) {
      this.handler.data(this.slot, chunk, from, to, this.dataOffset);
      this.dataOffset += to - from;
      return;
    }
    this.segmentBytes += chunk.copy(this.segment, this.segmentBytes, from, to);
  }

  private finish(): void {
    switch (this.opcode) {
      case TARGET_OPCODE.dataIn:
        if ((this.flags & STATUS_BIT) !== 0) this.complete(this.slot, undefined);
        break;
      case TARGET_OPCODE.scsiResponse:
        this.response();
        break;
      case TARGET_OPCODE.r2t:
        this.readyToTransfer();
        break;
      case TARGET_OPCODE.nopIn:
        this.ping();
        break;
      default:
        throw broke(`sent a PDU with opcode ${this.opcode} in the middle of the load`);
    }
    if (this.waiting.length > 0) this.sendWaiting();
  }

  private response(): void {
    if (this.header[2] !== 0) throw new Error(`the target failed a command with iSCSI response ${this.header[2] ?? 0}`);
    const slot = this.slotOf(get32(this.header, 16));
    const length = this.segmentBytes > 2 ? this.segment.readUInt16BE(0) : 0;
    this.complete(slot, length > 0 ? Buffer.from(this.segment.subarray(2, 2 + length)) : undefined);
  }

  private complete(slot: number, sense: Buffer | undefined): void {
    this.takeStatSn();
    if (this.status === 0 && this.received[slot] !== this.expected[slot])
      throw broke(`answered a read of ${this.expected[slot] ?? 0} bytes with ${this.received[slot] ?? 0}`);
    this.tags[slot] = -1;
    this.underWay -= 1;
    this.answers += 1;
    this.handler.answered(slot, this.status, sense);
  }

  private readyToTransfer(): void {
    const tag = get32(this.header, 16);
    const slot = this.slotOf(tag);
    const from = get32(this.header, 40);
    const to = from + get32(this.header, 44);
    if (to > (this.sourceBytes[slot] ?? 0) || from >= to)
      throw broke(`asked for bytes ${from} to ${to} of a write of ${this.sourceBytes[slot] ?? 0}`);
    this.answers += 1;
    this.sendData(slot, tag, from, to, get32(this.header, 20));
  }

  /** A ping is answered with its data (RFC 7143 11.18); an unasked NOP-In only tells the window. */
  private ping(): void {
    const transferTag = get32(this.header, 20);
    if (transferTag === RESERVED_TAG) return;
    const at = this.outbox.take(BHS_BYTES);
    const { bytes } = this.outbox;
    bytes.fill(0, at, at + BHS_BYTES);
    bytes[at] = IMMEDIATE_BIT | INITIATOR_OPCODE.nopOut;
    bytes[at + 1] = FINAL_BIT;
    this.header.copy(bytes, at + 8, 8, 16);
    put32(bytes, at + 16, RESERVED_TAG);
    put32(bytes, at + 20, transferTag);
    put32(bytes, at + 24, this.cmdSn);
    put32(bytes, at + 28, this.expStatSn);
    if (this.segmentBytes === 0) return;
    writeDataSegmentLength(bytes, at, this.segmentBytes);
    this.sendSegment(this.segment, 0, this.segmentBytes);
  }

  private slotOf(tag: number): number {
    const slot = tag & SLOT_MASK;
    if (this.tags[slot] !== tag) throw broke(`answered task ${tag}, which is not under way`);
    return slot;
  }

  private takeStatSn(): void {
    if (this.statSn !== this.expStatSn) throw broke(`sent StatSN ${this.statSn} where ${this.expStatSn} was due`);
    this.expStatSn = (this.expStatSn + 1) >>> 0;
  }

  private fail(error: Error): void {
    if (this.ended) return;
    this.close();
    this.handler.failed(error);
  }
}

function get32(bytes: Buffer, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
  );
}

function put32(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

function broke(what: string): Error {
  return new Error(`the target broke the protocol: it ${what}`);
}
