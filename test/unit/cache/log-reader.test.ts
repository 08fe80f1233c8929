import { crc32 } from 'node:zlib';
import { expect, test } from 'vitest';
import type { DiskFile, OpenMode } from '../../../gateway/base/disk.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { encodeChunkHeader } from '../../../gateway/cache/chunk-header.ts';
import { encodeDescriptor, KIND_WRITE, wordsOf } from '../../../gateway/cache/descriptor.ts';
import { chunkGeometry, chunkPath, descriptorPosition, placeOf, slotPosition } from '../../../gateway/cache/layout.ts';
import { openLogReader } from '../../../gateway/cache/log-reader.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';

const GEOMETRY = chunkGeometry(384);
const BLOCK = 4096;
const COUNT = 8;
const GENERATION = 1;

/** Its file's slots hold the block of their number, each byte of which is that number. */
async function diskWithChunk(disk: MemoryDisk): Promise<void> {
  const bytes = Buffer.from(new ArrayBuffer(GEOMETRY.bytes));
  encodeChunkHeader({ chunk: 0, generation: GENERATION, slots: GEOMETRY.slots, poolId: Buffer.alloc(16) }).copy(bytes);
  const words = wordsOf(bytes.subarray(descriptorPosition(0), descriptorPosition(0) + GEOMETRY.tableBytes));
  for (let slot = GEOMETRY.firstSlot; slot < GEOMETRY.slots; slot++) {
    const data = bytes.subarray(slotPosition(slot), slotPosition(slot) + BLOCK).fill(slot);
    const written = { dataCrc: crc32(data), kind: KIND_WRITE, volume: 1, block: slot, seq: slot } as const;
    const alone = { opIndex: 0, opSlots: 1, syncedThrough: -1, wallSeconds: 0 } as const;
    encodeDescriptor(words, slot, GENERATION, slot, { ...written, ...alone });
  }
  const file = await disk.open(chunkPath(0), 'create');
  await file.write([bytes], 0);
}

/** The first read of data is answered when the test says so; the first of descriptors is refused. */
class LateDisk extends MemoryDisk {
  landLate: () => void = () => undefined;
  readsSince = 0;
  #isLate = false;
  #hasRefused = false;

  override async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const file = await super.open(path, mode);
    if (mode !== 'read') return file;
    return {
      size: () => file.size(),
      write: (pieces, position) => file.write(pieces, position),
      sync: () => file.sync(),
      close: () => file.close(),
      read: (into, position) => {
        if (position === slotPosition(GEOMETRY.firstSlot) && !this.#isLate) {
          this.#isLate = true;
          return new Promise((resolve) => {
            this.landLate = () => {
              resolve(file.read(into, position));
            };
          });
        }
        if (position === descriptorPosition(GEOMETRY.firstSlot) && !this.#hasRefused) {
          this.#hasRefused = true;
          return Promise.reject(new FarshoreError('stopped', 'EIO'));
        }
        this.readsSince++;
        return file.read(into, position);
      },
    };
  }
}

// The memory belongs to the next segment as soon as this one is uploaded: a read that is still under way would write old blocks into that one.
test('a read whose other half was refused is waited for: nothing arrives in the memory of a segment after the answer', async () => {
  const disk = new LateDisk();
  await diskWithChunk(disk);
  const slots = Float64Array.from({ length: COUNT }, (_, at) => GEOMETRY.firstSlot + at);
  const places = slots.map((slot) => placeOf(0, slot));
  const into = Buffer.alloc(COUNT * BLOCK);
  let isAnswered = false;
  const reader = openLogReader(disk);
  const reading = reader.readBlocks(places, slots, slots, into).then((bad) => {
    isAnswered = true;
    return bad;
  });
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  expect({ isAnswered, readsSince: disk.readsSince }).toEqual({ isAnswered: false, readsSince: 0 });
  disk.landLate();
  expect(await reading).toEqual([]);
  for (const [at, slot] of slots.entries())
    expect(into.subarray(at * BLOCK, (at + 1) * BLOCK).equals(Buffer.alloc(BLOCK, slot))).toBe(true);
  await reader.close();
});

/** Gives headers, and no slot; counts the handles it has given out and not got back. */
class RefusingDisk extends MemoryDisk {
  handles = 0;

  override async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const file = await super.open(path, mode);
    if (mode !== 'read') return file;
    this.handles++;
    return {
      size: () => file.size(),
      write: (pieces, position) => file.write(pieces, position),
      sync: () => file.sync(),
      close: () => {
        this.handles--;
        return file.close();
      },
      read: (into, position) =>
        position === 0 ? file.read(into, position) : Promise.reject(new FarshoreError('stopped', 'EIO')),
    };
  }
}

// The blocks are tried again and again, each slot by itself: with a handle left behind each time the process would soon have none.
test('a chunk whose slots the disk refuses is kept open with one handle', async () => {
  const disk = new RefusingDisk();
  await diskWithChunk(disk);
  const slots = Float64Array.from({ length: COUNT }, (_, at) => GEOMETRY.firstSlot + at);
  const reader = openLogReader(disk);
  const places = slots.map((slot) => placeOf(0, slot));
  for (let attempt = 0; attempt < 3; attempt++)
    expect(await reader.readBlocks(places, slots, slots, Buffer.alloc(COUNT * BLOCK))).toHaveLength(COUNT);
  expect(disk.handles).toBe(1);
  await reader.close();
  expect(disk.handles).toBe(0);
});
