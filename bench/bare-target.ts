/**
 * A target that does nothing but answer, to learn what the load generator itself can do: one connection at a time, no checks, every read
 * gives the same bytes but for the stamp, writes are thrown away. Prints its port.
 *   npx tsx bench/bare-target.ts
 */
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { decodeKeyList, encodeKeys } from '../gateway/initiator/negotiation.ts';
import {
  BHS_BYTES,
  CONTINUE_BIT,
  FINAL_BIT,
  IMMEDIATE_BIT,
  INITIATOR_OPCODE,
  OPCODE_MASK,
  READ_BIT,
  STATUS_BIT,
  TARGET_OPCODE,
  paddingOf,
  writeDataSegmentLength,
} from '../gateway/initiator/wire.ts';
import { LeanOutbox } from './lean-outbox.ts';
import { BLOCK_BYTES, stamp } from './load-data.ts';

const SECTOR_BYTES = 512;
const SECTORS = (1024 * 1024 * 1024) / SECTOR_BYTES;
const WINDOW = 128;
const MAX_SEGMENT_BYTES = 256 * 1024;
const READ_CAPACITY = 0x9e;
const ANSWERS = new Map([
  ['AuthMethod', 'None'],
  ['HeaderDigest', 'None'],
  ['DataDigest', 'None'],
  ['MaxRecvDataSegmentLength', String(MAX_SEGMENT_BYTES)],
  ['InitialR2T', 'No'],
  ['ImmediateData', 'Yes'],
  ['MaxBurstLength', '16776192'],
  ['FirstBurstLength', String(MAX_SEGMENT_BYTES)],
  ['MaxOutstandingR2T', '1'],
  ['MaxConnections', '1'],
  ['DataPDUInOrder', 'Yes'],
  ['DataSequenceInOrder', 'Yes'],
  ['ErrorRecoveryLevel', '0'],
  ['DefaultTime2Wait', '2'],
  ['DefaultTime2Retain', '0'],
]);

/** The target's end of one connection. */
class BareConnection {
  private readonly socket: Socket;
  private readonly outbox: LeanOutbox;
  private readonly header = Buffer.alloc(BHS_BYTES);
  private readonly content = Buffer.alloc(MAX_SEGMENT_BYTES);
  private headerBytes = 0;
  private left = 0;
  private login = Buffer.alloc(0);
  private statSn = 1;

  constructor(socket: Socket) {
    this.socket = socket;
    this.outbox = new LeanOutbox(socket);
  }

  receive(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;) {
      if (this.left > 0) {
        const step = Math.min(this.left, chunk.length - at);
        if ((this.header[0] ?? 0) === (IMMEDIATE_BIT | INITIATOR_OPCODE.login))
          this.login = Buffer.concat([this.login, chunk.subarray(at, at + step)]);
        this.left -= step;
        at += step;
      } else {
        const step = Math.min(BHS_BYTES - this.headerBytes, chunk.length - at);
        chunk.copy(this.header, this.headerBytes, at, at + step);
        this.headerBytes += step;
        at += step;
        if (this.headerBytes < BHS_BYTES) break;
        this.headerBytes = 0;
        const length = this.header.readUIntBE(5, 3);
        this.left = length + paddingOf(length);
      }
      if (this.left === 0 && this.headerBytes === 0) this.answer();
    }
    this.outbox.flush();
  }

  private answer(): void {
    switch ((this.header[0] ?? 0) & OPCODE_MASK) {
      case INITIATOR_OPCODE.login:
        this.answerLogin();
        return;
      case INITIATOR_OPCODE.scsiCommand:
        this.answerCommand();
        return;
      case INITIATOR_OPCODE.logout: {
        this.begin(TARGET_OPCODE.logoutResponse, FINAL_BIT);
        return;
      }
      default:
        this.socket.destroy();
    }
  }

  private answerLogin(): void {
    const offered = decodeKeyList(this.login);
    this.login = Buffer.alloc(0);
    const keys = offered.flatMap(([key]) => {
      const answer = ANSWERS.get(key);
      return answer === undefined ? [] : [[key, answer] as const];
    });
    const data = encodeKeys(keys);
    const flags = (this.header[1] ?? 0) & ~CONTINUE_BIT;
    const at = this.begin(TARGET_OPCODE.loginResponse, flags);
    const { bytes } = this.outbox;
    this.header.copy(bytes, at + 8, 8, 16);
    bytes.writeUInt16BE(1, at + 14);
    writeDataSegmentLength(bytes, at, data.length);
    const dataAt = this.outbox.take(data.length + paddingOf(data.length));
    this.outbox.bytes.fill(0, dataAt, dataAt + data.length + paddingOf(data.length));
    data.copy(this.outbox.bytes, dataAt);
  }

  private answerCommand(): void {
    const { header, content } = this;
    if (((header[1] ?? 0) & READ_BIT) === 0) {
      this.begin(TARGET_OPCODE.scsiResponse, FINAL_BIT);
      return;
    }
    const length = header.readUInt32BE(20);
    if (header[32] === READ_CAPACITY) {
      content.fill(0, 0, length);
      content.writeUInt32BE(SECTORS - 1, 4);
      content.writeUInt32BE(SECTOR_BYTES, 8);
    } else {
      stamp(content, 0, length, header.readUInt32BE(38) / (BLOCK_BYTES / SECTOR_BYTES), 0);
    }
    const at = this.begin(TARGET_OPCODE.dataIn, FINAL_BIT | STATUS_BIT);
    writeDataSegmentLength(this.outbox.bytes, at, length);
    const dataAt = this.outbox.take(length);
    content.copy(this.outbox.bytes, dataAt, 0, length);
  }

  /** A PDU without data that answers the one received. */
  private begin(opcode: number, flags: number): number {
    const at = this.outbox.take(BHS_BYTES);
    const { bytes } = this.outbox;
    bytes.fill(0, at, at + BHS_BYTES);
    bytes[at] = opcode;
    bytes[at + 1] = flags;
    this.header.copy(bytes, at + 16, 16, 20);
    bytes.writeUInt32BE(this.statSn, at + 24);
    this.statSn = (this.statSn + 1) >>> 0;
    const immediate = ((this.header[0] ?? 0) & IMMEDIATE_BIT) !== 0;
    const expCmdSn = (this.header.readUInt32BE(24) + (immediate ? 0 : 1)) >>> 0;
    bytes.writeUInt32BE(expCmdSn, at + 28);
    bytes.writeUInt32BE((expCmdSn + WINDOW) >>> 0, at + 32);
    return at;
  }
}

const server = createServer({ noDelay: true }, (socket) => {
  const connection = new BareConnection(socket);
  socket.on('data', (chunk) => {
    connection.receive(chunk);
  });
  socket.on('error', () => {
    socket.destroy();
  });
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address !== null && typeof address === 'object') console.log(`listening on ${address.port}`);
});
