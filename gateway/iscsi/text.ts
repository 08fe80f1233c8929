import { MAX_TEXT_BYTES, MAX_TEXT_KEYS } from './constants.ts';

/** Longest key name and value (RFC 7143 6.1): a value may be longer only where its key says so, and none of ours does. */
const MAX_KEY_BYTES = 63;
const MAX_VALUE_BYTES = 8192;

export type KeyValue = readonly [key: string, value: string];

/**
 * Parses the data segment of a login or text request: `key=value` pairs, each ended by a null (RFC 7143 6.1).
 * Undefined when it is malformed, too long, or names a key twice.
 */
export function parseText(text: Buffer): readonly KeyValue[] | undefined {
  if (text.length > MAX_TEXT_BYTES) return undefined;
  const pairs: KeyValue[] = [];
  const seen = new Set<string>();
  for (const part of text.toString('utf8').split('\0')) {
    if (part === '') continue; // padding, and the end of the last pair
    const equals = part.indexOf('=');
    const key = part.slice(0, equals);
    const value = part.slice(equals + 1);
    if (equals < 1 || key.length > MAX_KEY_BYTES || value.length > MAX_VALUE_BYTES) return undefined;
    if (seen.has(key) || pairs.length >= MAX_TEXT_KEYS) return undefined;
    seen.add(key);
    pairs.push([key, value]);
  }
  return pairs;
}

/** The data segment for these pairs. */
export function formatText(pairs: Iterable<KeyValue>): Buffer {
  let text = '';
  for (const [key, value] of pairs) text += `${key}=${value}\0`;
  return Buffer.from(text, 'utf8');
}

/**
 * A numerical value, decimal or hexadecimal with 0x (RFC 7143 6.1), within the bounds; undefined when it is anything else.
 */
export function parseNumber(value: string, lowest: number, highest: number): number | undefined {
  if (!/^(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})$/.test(value)) return undefined;
  const number = Number(value);
  return number >= lowest && number <= highest ? number : undefined;
}
