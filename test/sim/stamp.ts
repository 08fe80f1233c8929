import { SECTOR } from './sim-file.ts';

const MAGIC = 0x46535354;
const ZERO_SECTOR = Buffer.alloc(SECTOR);
/** Repeated over the sector. */
const pattern = Buffer.alloc(20);

/** What a write with this id leaves in a sector: unique for (volume, sector, id), all 512 bytes of it. Id 0 is zeros. */
export function stampSector(volume: number, sector: number, id: number, into: Buffer, at = 0): void {
  const end = at + SECTOR;
  if (id === 0) {
    into.fill(0, at, end);
    return;
  }
  pattern.writeUInt32LE(MAGIC, 0);
  pattern.writeUInt32LE(volume, 4);
  pattern.writeUInt32LE(sector, 8);
  pattern.writeUInt32LE(id, 12);
  pattern.writeUInt32LE((Math.imul(id, 0x9e3779b1) ^ Math.imul(sector + 1, 0x85ebca77) ^ volume) >>> 0, 16);
  into.fill(pattern, at, end);
}

/** `sectors` sectors from `lba` on as write `id` leaves them. */
export function stampRange(volume: number, lba: number, sectors: number, id: number): Buffer {
  const data = Buffer.alloc(sectors * SECTOR);
  if (id !== 0) for (let i = 0; i < sectors; i++) stampSector(volume, lba + i, id, data, i * SECTOR);
  return data;
}

const expected = Buffer.alloc(SECTOR);

/** The id of the write that left these bytes; 0 for zeros, undefined when no write can have. */
export function readStamp(volume: number, sector: number, bytes: Buffer): number | undefined {
  if (bytes.readUInt32LE(0) !== MAGIC) return bytes.equals(ZERO_SECTOR) ? 0 : undefined;
  const id = bytes.readUInt32LE(12);
  stampSector(volume, sector, id, expected);
  return bytes.equals(expected) ? id : undefined;
}

/** For messages: what the bytes of a sector look like. */
export function describeSector(bytes: Buffer): string {
  if (bytes.equals(ZERO_SECTOR)) return 'zeros';
  if (bytes.readUInt32LE(0) !== MAGIC) return `foreign bytes ${bytes.toString('hex', 0, 16)}…`;
  return `stamp of volume ${bytes.readUInt32LE(4)}, sector ${bytes.readUInt32LE(8)}, write ${bytes.readUInt32LE(12)}`;
}
