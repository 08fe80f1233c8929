import type { InitiatorPort } from '../logical-unit.ts';
import type { NamedPort } from './requests.ts';

/** Protocol identifier of iSCSI (SPC-4 7.6.1). */
const ISCSI = 0x5;

/** FORMAT CODE (SPC-4 7.6.4.6): an initiator device by name, or an initiator port by name and ISID. */
const DEVICE = 0b00;
const PORT = 0b01;

const SEPARATOR = ',i,0x';
const HEADER_BYTES = 4;
/** Least ADDITIONAL LENGTH. */
const MIN_NAME_BYTES = 20;
/** RFC 7143 4.2.7.1. */
const MAX_ISCSI_NAME = 223;

/** The TransportID of an iSCSI initiator port (SPC-4 7.6.4.6, table 506). */
export function encodeTransportId({ name, isid }: InitiatorPort): Buffer {
  const text = Buffer.from(`${name}${SEPARATOR}${isid}`, 'utf8');
  const bytes = Buffer.alloc(HEADER_BYTES + Math.max(MIN_NAME_BYTES, (text.length + 4) & ~3));
  bytes[0] = (PORT << 6) | ISCSI;
  bytes.writeUInt16BE(bytes.length - HEADER_BYTES, 2);
  text.copy(bytes, HEADER_BYTES);
  return bytes;
}

/**
 * The TransportID at the start of `bytes` and how long it is; undefined when it is cut off, of another protocol or not
 * well-formed. Names are taken in lower case, as iSCSI names are normalised; whether there is such a port is not asked.
 */
export function decodeTransportId(bytes: Buffer): { readonly port: NamedPort; readonly bytes: number } | undefined {
  if (bytes.length < HEADER_BYTES + MIN_NAME_BYTES) return undefined;
  const first = bytes.readUInt8(0);
  const additional = bytes.readUInt16BE(2);
  const length = HEADER_BYTES + additional;
  if ((first & 0x0f) !== ISCSI || additional < MIN_NAME_BYTES || additional % 4 !== 0 || length > bytes.length)
    return undefined;
  const field = bytes.subarray(HEADER_BYTES, length);
  const end = field.indexOf(0);
  if (end < 0) return undefined;
  const port = parse(first >> 6, field.toString('utf8', 0, end).toLowerCase());
  return port === undefined ? undefined : { port, bytes: length };
}

function parse(format: number, text: string): NamedPort | undefined {
  if (format === DEVICE) return isName(text) ? { name: text, isid: undefined } : undefined;
  if (format !== PORT) return undefined;
  const at = text.indexOf(SEPARATOR);
  if (at < 0) return undefined;
  const name = text.slice(0, at);
  const isid = text.slice(at + SEPARATOR.length);
  return isName(name) && /^[0-9a-f]{12}$/.test(isid) ? { name, isid } : undefined;
}

function isName(text: string): boolean {
  return /^(iqn|eui|naa)\.[^\s,]+$/.test(text) && Buffer.byteLength(text) <= MAX_ISCSI_NAME;
}
