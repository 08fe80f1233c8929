import { FarshoreError } from '../base/errors.ts';
import { FLAG, HEADER_BYTES, VERSION } from './constants.ts';

/** One iSNSP message, put together from its PDUs. */
export interface Message {
  readonly functionId: number;
  readonly transactionId: number;
  /** Of the first PDU, without the bits that are about PDUs (first, last). */
  readonly flags: number;
  readonly payload: Buffer;
}

/** A PDU that is sent carries at most this: servers exist that take no PDU above 8 KiB, header included. */
export const MAX_SENT_PAYLOAD = 4096;
/** A longer message is not read: the answer about 256 targets with names of full length is under 64 KiB. */
export const MAX_MESSAGE_BYTES = 256 * 1024;
/** Nor one in more pieces than this, however small they are. */
export const MAX_PDUS = 1024;

/** The message as PDUs (RFC 4171 5.1 and 5.2). The payload is a multiple of 4 bytes, as TLVs are. */
export function encodeMessage(message: Message): Buffer {
  const { functionId, transactionId, payload } = message;
  const pieces: Buffer[] = [];
  const count = Math.max(1, Math.ceil(payload.length / MAX_SENT_PAYLOAD));
  for (let sequenceId = 0; sequenceId < count; sequenceId += 1) {
    const part = payload.subarray(sequenceId * MAX_SENT_PAYLOAD, (sequenceId + 1) * MAX_SENT_PAYLOAD);
    const first = sequenceId === 0 ? FLAG.first : 0;
    const last = sequenceId === count - 1 ? FLAG.last : 0;
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt16BE(VERSION, 0); // 5.1.1
    header.writeUInt16BE(functionId, 2); // 5.1.2
    header.writeUInt16BE(part.length, 4); // 5.1.3
    header.writeUInt16BE(message.flags | first | last, 6); // 5.1.4
    header.writeUInt16BE(transactionId, 8); // 5.1.5
    header.writeUInt16BE(sequenceId, 10); // 5.1.6
    pieces.push(header, part);
  }
  return Buffer.concat(pieces);
}

interface Pdu {
  readonly functionId: number;
  readonly flags: number;
  readonly transactionId: number;
  readonly sequenceId: number;
  readonly payload: Buffer;
}

/**
 * Bytes of a connection in, messages out. What breaks RFC 4171 5.1 or 5.2, or a cap, is thrown as `damaged`; the connection can't
 * be used any more then. Holds at most MAX_MESSAGE_BYTES and one PDU.
 */
export class MessageReader {
  #pending: Buffer = Buffer.alloc(0);
  #pdus: Pdu[] = [];
  #bytes = 0;

  push(chunk: Buffer): Message[] {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const messages: Message[] = [];
    for (let pdu = this.#nextPdu(); pdu !== undefined; pdu = this.#nextPdu()) {
      const message = this.#assemble(pdu);
      if (message !== undefined) messages.push(message);
    }
    return messages;
  }

  #nextPdu(): Pdu | undefined {
    const bytes = this.#pending;
    if (bytes.length < HEADER_BYTES) return undefined;
    const version = bytes.readUInt16BE(0);
    if (version !== VERSION) throw damaged(`speaks iSNSP version ${version}`);
    const length = bytes.readUInt16BE(4);
    if (length % 4 !== 0) throw damaged(`sent a PDU of ${length} bytes, not a multiple of 4`);
    const flags = bytes.readUInt16BE(6);
    if ((flags & FLAG.authentication) !== 0)
      throw damaged('sent an authentication block, which is not supported; turn authentication off there');
    if (bytes.length < HEADER_BYTES + length) return undefined;
    this.#pending = bytes.subarray(HEADER_BYTES + length);
    return {
      functionId: bytes.readUInt16BE(2),
      flags,
      transactionId: bytes.readUInt16BE(8),
      sequenceId: bytes.readUInt16BE(10),
      // A copy: what is kept shall not hold the whole chunk.
      payload: Buffer.from(bytes.subarray(HEADER_BYTES, HEADER_BYTES + length)),
    };
  }

  /** The message this PDU is the last of. Over TCP PDUs arrive in order, and messages one after another. */
  #assemble(pdu: Pdu): Message | undefined {
    const first = this.#pdus[0] ?? pdu;
    const isFirst = (pdu.flags & FLAG.first) !== 0;
    if (isFirst !== (this.#pdus.length === 0)) throw damaged('sent a first PDU where none is due, or left it out');
    if (pdu.sequenceId !== this.#pdus.length) throw damaged(`sent PDU ${pdu.sequenceId} out of sequence`);
    if (pdu.functionId !== first.functionId || pdu.transactionId !== first.transactionId)
      throw damaged('mixed the PDUs of two messages');
    this.#pdus.push(pdu);
    this.#bytes += pdu.payload.length;
    if (this.#bytes > MAX_MESSAGE_BYTES || this.#pdus.length > MAX_PDUS)
      throw damaged(`sent a message of more than ${MAX_MESSAGE_BYTES} bytes or ${MAX_PDUS} PDUs`);
    if ((pdu.flags & FLAG.last) === 0) return undefined;
    const payload = Buffer.concat(this.#pdus.map((part) => part.payload));
    this.#pdus = [];
    this.#bytes = 0;
    return {
      functionId: first.functionId,
      transactionId: first.transactionId,
      flags: first.flags & ~(FLAG.first | FLAG.last),
      payload,
    };
  }
}

/** What a peer sent that no server may send; the sentence is about "the iSNS server". */
export function damaged(what: string): FarshoreError {
  return new FarshoreError('damaged', `the iSNS server ${what}`);
}
