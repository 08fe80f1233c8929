import { createHash } from 'node:crypto';
import { parseNumber } from './text.ts';

/** Longest C or R in binary (RFC 7143 12.1.3: "SHALL NOT exceed 1024 bytes"). */
const MAX_BINARY_BYTES = 1024;
/** More algorithms than are registered is no honest list. */
const MAX_OFFERED_ALGORITHMS = 32;

export interface ChapAlgorithm {
  /** PPP authentication algorithm number, as registered with IANA (RFC 1994 3, RFC 7143 12.1.3). */
  readonly number: number;
  readonly hash: string;
  /** Length of a response, and of the challenges we send: not shorter than the hash, so that it loses no strength. */
  readonly bytes: number;
}

const ALGORITHMS: readonly ChapAlgorithm[] = [
  { number: 5, hash: 'md5', bytes: 16 },
  { number: 6, hash: 'sha1', bytes: 20 },
  { number: 7, hash: 'sha256', bytes: 32 },
  { number: 8, hash: 'sha3-256', bytes: 32 },
];

/**
 * The first algorithm of a CHAP_A offer that is known here: the list is in the initiator's order of preference, and
 * consists of whole numbers ("56" is not 5). Undefined: none is known, or it is no such list.
 */
export function chooseAlgorithm(offer: string): ChapAlgorithm | undefined {
  const offered = offer.split(',');
  if (offered.length > MAX_OFFERED_ALGORITHMS) return undefined;
  const numbers = offered.map((text) => parseNumber(text, 0, 255));
  if (numbers.includes(undefined)) return undefined;
  for (const number of numbers) {
    const known = ALGORITHMS.find((algorithm) => algorithm.number === number);
    if (known !== undefined) return known;
  }
  return undefined;
}

/** The response to a challenge (RFC 1994 4.1): the hash over the identifier, the secret and the challenge. */
export function chapResponse(algorithm: ChapAlgorithm, identifier: number, secret: Buffer, challenge: Buffer): Buffer {
  return createHash(algorithm.hash).update(Buffer.of(identifier)).update(secret).update(challenge).digest();
}

/** How a binary value is written (RFC 7143 6.1). */
export type BinaryForm = 'hex' | 'base64';

export interface BinaryValue {
  readonly bytes: Buffer;
  readonly form: BinaryForm;
}

/** A binary value, 1 to 1024 bytes, hexadecimal after 0x or base64 after 0b (RFC 7143 6.1); undefined: it is neither. */
export function decodeBinary(text: string): BinaryValue | undefined {
  const digits = text.slice(2);
  const prefix = text.slice(0, 2).toLowerCase();
  const form: BinaryForm | undefined = prefix === '0x' ? 'hex' : prefix === '0b' ? 'base64' : undefined;
  // Cut off before decoding; base64 is the shorter of the two.
  if (form === undefined || digits.length === 0 || digits.length > 2 * MAX_BINARY_BYTES) return undefined;
  const bytes = form === 'hex' ? decodeHex(digits) : decodeBase64(digits);
  return bytes === undefined || bytes.length === 0 || bytes.length > MAX_BINARY_BYTES ? undefined : { bytes, form };
}

/** An odd number of digits has lost a leading zero: it is a number, after all. */
function decodeHex(digits: string): Buffer | undefined {
  if (!/^[0-9a-fA-F]+$/.test(digits)) return undefined;
  return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex');
}

/** Strict, but for padding that was left out. */
function decodeBase64(digits: string): Buffer | undefined {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(digits)) return undefined;
  const significant = digits.replace(/=+$/, '');
  if (significant.length % 4 === 1 || (digits !== significant && digits.length % 4 !== 0)) return undefined;
  return Buffer.from(significant, 'base64');
}

export function encodeBinary(bytes: Buffer, form: BinaryForm): string {
  return form === 'hex' ? `0x${bytes.toString('hex')}` : `0b${bytes.toString('base64')}`;
}
