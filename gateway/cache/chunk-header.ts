import { crc32 } from '../base/crc32.ts';
import { FarshoreError } from '../base/errors.ts';
import { SLOT_BYTES } from './layout.ts';

/**
 * Slot 0 of a chunk, the same 64 bytes at 0 and at 2048 so that one bad sector does not lose a chunk: magic (8), format (4), chunk (4),
 * generation (4), slots (4), pool id (16), zeros, CRC-32 of all that (4, at 60). Little-endian.
 */
export interface ChunkHeader {
  readonly chunk: number;
  /** Rises over the whole pool; a chunk takes a new one each time it is made ready for use. */
  readonly generation: number;
  readonly slots: number;
  /** 16 bytes. */
  readonly poolId: Buffer;
}

const MAGIC = Buffer.from('FSCHUNK1');
const FORMAT = 1;
const HEADER_BYTES = 64;
const COPIES = [0, 2048] as const;

export function encodeChunkHeader(header: ChunkHeader): Buffer {
  const slot = Buffer.alloc(SLOT_BYTES);
  for (const at of COPIES) {
    MAGIC.copy(slot, at);
    slot.writeUInt32LE(FORMAT, at + 8);
    slot.writeUInt32LE(header.chunk, at + 12);
    slot.writeUInt32LE(header.generation, at + 16);
    slot.writeUInt32LE(header.slots, at + 20);
    header.poolId.copy(slot, at + 24);
    slot.writeUInt32LE(crc32(slot.subarray(at, at + 60)), at + 60);
  }
  return slot;
}

/** The copy of the highest generation; undefined when neither is whole. Rejects a format it does not know with `damaged`. */
export function decodeChunkHeader(slot: Buffer): ChunkHeader | undefined {
  let best: ChunkHeader | undefined;
  for (const at of COPIES) {
    const header = decodeCopy(slot.subarray(at, at + HEADER_BYTES));
    if (header !== undefined && (best === undefined || header.generation > best.generation)) best = header;
  }
  return best;
}

function decodeCopy(bytes: Buffer): ChunkHeader | undefined {
  if (!bytes.subarray(0, 8).equals(MAGIC)) return undefined;
  if (crc32(bytes.subarray(0, 60)) !== bytes.readUInt32LE(60)) return undefined;
  const format = bytes.readUInt32LE(8);
  if (format !== FORMAT) {
    throw new FarshoreError(
      'damaged',
      `the cache log has a chunk of the unknown format ${format}; it was written by a newer Farshore`,
    );
  }
  return {
    chunk: bytes.readUInt32LE(12),
    generation: bytes.readUInt32LE(16),
    slots: bytes.readUInt32LE(20),
    poolId: Buffer.from(bytes.subarray(24, 40)),
  };
}
