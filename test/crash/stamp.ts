/** Sectors of the disks that are written with stamps. */
export const SECTOR = 512;
const WORDS = SECTOR / 4;
const MAGIC = 0x57a3b10c;

/**
 * Fills whole sectors from `first` on with what write `number` leaves there: every byte follows from the sector's number and the
 * write's, so that a single byte of anything else shows.
 */
export function stamped(first: number, count: number, number: number): Buffer {
  const words = new Uint32Array(count * WORDS);
  for (let index = 0; index < count; index += 1) fill(words, index * WORDS, first + index, number);
  return Buffer.from(words.buffer);
}

/** For each of the whole sectors in `data`, `first` being its first: the write its content comes from, 0 for zeros, FOREIGN for anything else. */
export function stampsIn(first: number, data: Buffer): number[] {
  const words = new Uint32Array(Uint8Array.from(data).buffer);
  const scratch = new Uint32Array(WORDS);
  const stamps: number[] = [];
  for (let at = 0; at < words.length; at += WORDS) {
    const number = words[at + 2] ?? 0;
    if (number === 0) scratch.fill(0);
    else fill(scratch, 0, first + at / WORDS, number);
    let index = 0;
    while (index < WORDS && words[at + index] === scratch[index]) index += 1;
    stamps.push(index === WORDS ? number : FOREIGN);
  }
  return stamps;
}

export const FOREIGN = -1;

function fill(words: Uint32Array, at: number, sector: number, number: number): void {
  words[at] = MAGIC;
  words[at + 1] = sector;
  words[at + 2] = number;
  let state = (Math.imul(sector + 1, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b)) >>> 0 || 1;
  for (let index = 3; index < WORDS; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at + index] = state;
  }
}
