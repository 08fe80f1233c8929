import { isIP } from 'node:net';
import { FarshoreError } from '../base/errors.ts';
import { TAG } from './constants.ts';
import { damaged } from './pdu.ts';

/** One TLV (RFC 4171 5.3). The value includes its padding. */
export interface Attribute {
  readonly tag: number;
  readonly value: Buffer;
}

/** Separates keys from operating attributes (RFC 4171 5.6.3). */
export const DELIMITER: Attribute = { tag: TAG.delimiter, value: Buffer.alloc(0) };

/** Asks for an attribute in a query (RFC 4171 5.6.4.1). */
export const wanted = (tag: number): Attribute => ({ tag, value: Buffer.alloc(0) });

export function number(tag: number, value: number): Attribute {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return { tag, value: bytes };
}

/**
 * UTF-8, closed by NUL, padded with zeros to 4 bytes (RFC 4171 5.3.1), `maxBytes` at most with all of that: a longer text, or what
 * follows a NUL in it, is cut off at a whole character.
 */
export function text(tag: number, value: string, maxBytes: number): Attribute {
  let kept = '';
  let length = 0;
  for (const character of value.split('\0')[0] ?? '') {
    length += Buffer.byteLength(character);
    if (length >= maxBytes) break;
    kept += character;
  }
  const bytes = Buffer.alloc(Math.ceil((Buffer.byteLength(kept) + 1) / 4) * 4);
  bytes.write(kept, 'utf8');
  return { tag, value: bytes };
}

export function readText(value: Buffer): string {
  const end = value.indexOf(0);
  return value.toString('utf8', 0, end < 0 ? value.length : end);
}

/**
 * 16 bytes; IPv4 as IPv4-mapped IPv6 (RFC 4171 6.3.1). `input` when it is no address: portals are told apart by addresses,
 * never by host names.
 */
export function address(tag: number, host: string): Attribute {
  const value = Buffer.alloc(16);
  const plain = host.replace(/%.*$/, '');
  switch (isIP(plain)) {
    case 4:
      value.writeUInt16BE(0xffff, 10);
      writeIpv4(value, 12, plain);
      break;
    case 6:
      writeIpv6(value, plain);
      break;
    default:
      throw new FarshoreError('input', `"${host}" is not an IP address; iSNS registers portals by address`);
  }
  return { tag, value };
}

function writeIpv4(into: Buffer, offset: number, host: string): void {
  for (const [index, part] of host.split('.').entries()) into.writeUInt8(Number(part), offset + index);
}

function writeIpv6(into: Buffer, host: string): void {
  const [head = '', tail] = host.split('::');
  const groups = (half: string): string[] => (half === '' ? [] : half.split(':'));
  /** An address may end in IPv4 notation, which fills two groups. */
  const write = (list: readonly string[], offset: number): void => {
    for (const [index, group] of list.entries()) {
      if (group.includes('.')) writeIpv4(into, offset + 2 * index, group);
      else into.writeUInt16BE(Number.parseInt(group, 16), offset + 2 * index);
    }
  };
  write(groups(head), 0);
  if (tail === undefined) return;
  const end = groups(tail);
  const bytes = end.reduce((sum, group) => sum + (group.includes('.') ? 4 : 2), 0);
  write(end, 16 - bytes);
}

export function encodeAttributes(attributes: readonly Attribute[]): Buffer {
  const pieces: Buffer[] = [];
  for (const { tag, value } of attributes) {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(tag, 0);
    head.writeUInt32BE(value.length, 4);
    pieces.push(head, value);
  }
  return Buffer.concat(pieces);
}

/** The TLVs of a payload from `offset` on; `damaged` when they don't fill it exactly or a length is no multiple of 4 (RFC 4171 5.3.1). */
export function decodeAttributes(payload: Buffer, offset: number): Attribute[] {
  const attributes: Attribute[] = [];
  let at = offset;
  while (at < payload.length) {
    if (payload.length - at < 8) throw damaged('sent a truncated attribute');
    const tag = payload.readUInt32BE(at);
    const length = payload.readUInt32BE(at + 4);
    at += 8;
    if (length % 4 !== 0 || length > payload.length - at)
      throw damaged(`sent attribute ${tag} with an impossible length of ${length}`);
    attributes.push({ tag, value: payload.subarray(at, at + length) });
    at += length;
  }
  return attributes;
}
