import { FarshoreError, invariant } from '../base/errors.ts';
import type { BlockNumber, WriteSeq } from '../base/units.ts';
import { crc32OfWords } from './crc.ts';
import { DESCRIPTOR_WORDS } from './layout.ts';

/**
 * What a data slot holds, 32 bytes as eight little-endian words:
 *
 * | word | content |
 * |---|---|
 * | 0 | CRC-32 of words 1..7, seeded with the chunk's generation and the slot |
 * | 1 | CRC-32 of the slot's 4096 bytes |
 * | 2 | block, low 32 bits |
 * | 3 | sequence, low 32 bits |
 * | 4 | sequence, high 16 bits · block, high 8 bits · kind (8) |
 * | 5 | volume's number in the pool (16) · index in the operation (8) · slots of the operation − 1 (8) |
 * | 6 | how far behind the sequence the volume was on stable storage when this was written; all ones: not known |
 * | 7 | wall time of arrival, in seconds |
 *
 * A write or unmap carries its sequence; a fill carries the volume's sequence as of which it is the content of the block.
 */
export const KIND_WRITE = 1;
export const KIND_FILL = 2;
export const KIND_UNMAP = 3;

const MAX_KIND = KIND_UNMAP;
const UNKNOWN_DELTA = 0xffffffff;
const TWO_32 = 0x1_0000_0000;
/** 48 bits: at a million writes a second, nine years. */
export const MAX_SEQ: WriteSeq = 2 ** 48 - 1;

export interface DescriptorFields {
  dataCrc: number;
  kind: number;
  volume: number;
  block: BlockNumber;
  seq: WriteSeq;
  opIndex: number;
  opSlots: number;
  /** Everything of the volume up to it was on stable storage. -1: not known. */
  syncedThrough: WriteSeq;
  wallSeconds: number;
}

/** Words of a table of descriptors; its bytes are what the chunk file holds. */
export function wordsOf(table: Buffer): Uint32Array {
  invariant(table.byteOffset % 4 === 0 && table.length % 4 === 0, 'a descriptor table lies on whole words');
  return new Uint32Array(table.buffer, table.byteOffset, table.length / 4);
}

/** A zeroed buffer whose words can be addressed. */
export function newTable(bytes: number): Buffer {
  return Buffer.from(new ArrayBuffer(bytes));
}

/**
 * The two factors are odd, so no two generations share a seed for a slot: what a reused chunk still holds of an earlier generation
 * never passes the check, whatever its content (CRC is a bijection of its seed).
 */
function seedOf(generation: number, slot: number): number {
  return (Math.imul(generation, 0x9e3779b1) ^ Math.imul(slot, 0x85ebca6b)) >>> 0;
}

/** Writes the descriptor of `slot` at index `at` (in descriptors) of `words`. */
export function encodeDescriptor(
  words: Uint32Array,
  at: number,
  generation: number,
  slot: number,
  fields: DescriptorFields,
): void {
  const { seq, block } = fields;
  const delta = fields.syncedThrough < 0 ? UNKNOWN_DELTA : seq - fields.syncedThrough;
  const word = at * DESCRIPTOR_WORDS;
  words[word + 1] = fields.dataCrc;
  words[word + 2] = block % TWO_32;
  words[word + 3] = seq % TWO_32;
  words[word + 4] = Math.floor(seq / TWO_32) | (Math.floor(block / TWO_32) << 16) | (fields.kind << 24);
  words[word + 5] = fields.volume | (fields.opIndex << 16) | ((fields.opSlots - 1) << 24);
  words[word + 6] = delta >= 0 && delta < UNKNOWN_DELTA ? delta : UNKNOWN_DELTA;
  words[word + 7] = fields.wallSeconds;
  words[word] = crc32OfWords(words, word + 1, word + DESCRIPTOR_WORDS, seedOf(generation, slot));
}

/** Whether the descriptor at index `at` belongs to this slot and generation, and is whole. */
export function isDescriptor(words: Uint32Array, at: number, generation: number, slot: number): boolean {
  const word = at * DESCRIPTOR_WORDS;
  const kind = (words[word + 4] ?? 0) >>> 24;
  if (kind === 0) return false;
  if (words[word] !== crc32OfWords(words, word + 1, word + DESCRIPTOR_WORDS, seedOf(generation, slot))) return false;
  if (kind > MAX_KIND)
    throw new FarshoreError(
      'damaged',
      `the cache log has a record of the unknown kind ${kind}; it was written by a newer Farshore`,
    );
  return true;
}

export function kindAt(words: Uint32Array, at: number): number {
  return (words[at * DESCRIPTOR_WORDS + 4] ?? 0) >>> 24;
}

export function dataCrcAt(words: Uint32Array, at: number): number {
  return words[at * DESCRIPTOR_WORDS + 1] ?? 0;
}

export function blockAt(words: Uint32Array, at: number): BlockNumber {
  const word = at * DESCRIPTOR_WORDS;
  return (((words[word + 4] ?? 0) >>> 16) & 0xff) * TWO_32 + (words[word + 2] ?? 0);
}

export function seqAt(words: Uint32Array, at: number): WriteSeq {
  const word = at * DESCRIPTOR_WORDS;
  return ((words[word + 4] ?? 0) & 0xffff) * TWO_32 + (words[word + 3] ?? 0);
}

export function volumeAt(words: Uint32Array, at: number): number {
  return (words[at * DESCRIPTOR_WORDS + 5] ?? 0) & 0xffff;
}

export function opIndexAt(words: Uint32Array, at: number): number {
  return ((words[at * DESCRIPTOR_WORDS + 5] ?? 0) >>> 16) & 0xff;
}

export function opSlotsAt(words: Uint32Array, at: number): number {
  return ((words[at * DESCRIPTOR_WORDS + 5] ?? 0) >>> 24) + 1;
}

/** -1 when the record does not know. */
export function syncedThroughAt(words: Uint32Array, at: number): WriteSeq {
  const delta = words[at * DESCRIPTOR_WORDS + 6] ?? 0;
  return delta === UNKNOWN_DELTA ? -1 : seqAt(words, at) - delta;
}

export function wallSecondsAt(words: Uint32Array, at: number): number {
  return words[at * DESCRIPTOR_WORDS + 7] ?? 0;
}
