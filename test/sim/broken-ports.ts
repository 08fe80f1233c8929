import type { Disk, DiskFile } from '../../gateway/base/disk.ts';
import type { ImageFile, ImageStore } from '../../gateway/base/image.ts';
import { decodeChunkHeader } from '../../gateway/cache/chunk-header.ts';
import {
  blockAt,
  dataCrcAt,
  encodeDescriptor,
  isDescriptor,
  kindAt,
  newTable,
  opIndexAt,
  opSlotsAt,
  seqAt,
  syncedThroughAt,
  volumeAt,
  wallSecondsAt,
  wordsOf,
} from '../../gateway/cache/descriptor.ts';
import { chunkGeometry, SLOT_BYTES, TABLE_OFFSET } from '../../gateway/cache/layout.ts';

/** The disk with every file changed whose path fits. */
function withFiles(disk: Disk, fits: (path: string) => boolean, change: (file: DiskFile) => Partial<DiskFile>): Disk {
  return {
    ...disk,
    open: async (path, mode) => {
      const file = await disk.open(path, mode);
      return fits(path) ? { ...file, ...change(file) } : file;
    },
  };
}

const isChunk = (path: string): boolean => /\.chunk(\.new)?$/.test(path);

export function answeringEarly(disk: Disk): Disk {
  return withFiles(
    disk,
    (path) => path.endsWith('.chunk'),
    (file) => ({
      write: (pieces, position) => {
        Promise.resolve(file.write(pieces, position)).catch(() => undefined);
        return Promise.resolve();
      },
    }),
  );
}

export function neverSyncing(disk: Disk): Disk {
  return withFiles(
    disk,
    () => true,
    () => ({ sync: () => Promise.resolve() }),
  );
}

/** Never brings to the platter what is written to the files whose path fits. */
export function neverSyncingThose(disk: Disk, fits: (path: string) => boolean): Disk {
  return withFiles(disk, fits, () => ({ sync: () => Promise.resolve() }));
}

/** The images with every one changed that is opened. */
export function withImages(images: ImageStore, change: (image: ImageFile) => Partial<ImageFile>): ImageStore {
  return {
    open: async (path) => {
      const image = await images.open(path);
      return { ...image, ...change(image) };
    },
    create: (path, bytes) => images.create(path, bytes),
    remove: (path) => images.remove(path),
  };
}

/** Every second chunk is left out. */
export function forgettingAChunk(disk: Disk): Disk {
  return withFiles(
    disk,
    (path) => isChunk(path) && /[13579]\.chunk/.test(path),
    () => ({
      sync: () => Promise.resolve(),
    }),
  );
}

export function ignoringFailedSyncs(disk: Disk): Disk {
  return withFiles(disk, isChunk, (file) => ({ sync: () => file.sync().catch(() => undefined) }));
}

/** What a reused chunk still holds passes for new, as if descriptors did not know the generation of their chunk. */
export function reusingWithOldRecords(disk: Disk): Disk {
  return withFiles(
    disk,
    (path) => path.endsWith('.chunk'),
    (file) => ({
      write: async (pieces, position) => {
        const header = position === 0 ? decodeChunkHeader(Buffer.concat(pieces)) : undefined;
        if (header !== undefined) await carryOver(file, header.generation, header.slots);
        await file.write(pieces, position);
      },
    }),
  );
}

async function carryOver(file: DiskFile, generation: number, slots: number): Promise<void> {
  const slot = Buffer.alloc(SLOT_BYTES);
  await file.read(slot, 0);
  const before = decodeChunkHeader(slot)?.generation;
  if (before === undefined || before === generation) return;
  const { tableBytes, firstSlot } = chunkGeometry(slots);
  const table = newTable(tableBytes);
  await file.read(table, TABLE_OFFSET);
  const words = wordsOf(table);
  for (let at = firstSlot; at < slots; at++) {
    if (!isDescriptor(words, at, before, at)) continue;
    encodeDescriptor(words, at, generation, at, {
      dataCrc: dataCrcAt(words, at),
      kind: kindAt(words, at),
      volume: volumeAt(words, at),
      block: blockAt(words, at),
      seq: seqAt(words, at),
      opIndex: opIndexAt(words, at),
      opSlots: opSlotsAt(words, at),
      syncedThrough: syncedThroughAt(words, at),
      wallSeconds: wallSecondsAt(words, at),
    });
  }
  await file.write([table], TABLE_OFFSET);
}
