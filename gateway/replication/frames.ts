import { FarshoreError } from '../base/errors.ts';
import { BLOCK_SIZE } from '../base/units.ts';
import type { BlockCount, BlockNumber } from '../base/units.ts';
import type { Urgency } from '../base/urgency.ts';
import type { Compression } from '../format/compression.ts';
import type { FramePlace } from '../format/frame.ts';
import { decodeFrame } from '../format/frame.ts';
import { unpackEntry, UNIT_BYTES } from '../format/map-entry.ts';
import type { FrameReader, WantedFrame } from '../maintenance/frame-reader.ts';
import type { InlineImages } from '../maintenance/inline-images.ts';
import { isInline } from '../maintenance/inline-images.ts';
import { LOST_BLOCK, type RemoteBlocks } from './remote-volume.ts';

interface Wanted extends WantedFrame {
  readonly places: FramePlace[];
}

/** Where the content of blocks comes from. */
export interface FrameSources {
  readonly frames: FrameReader;
  readonly images: InlineImages;
  readonly compression: Compression;
  /** Left out: somebody waits for it. */
  readonly urgency?: Urgency;
}

/** The contents that `entries` (two words per block) give `count` blocks from `block` on. */
export async function readBlocks(
  sources: FrameSources,
  block: BlockNumber,
  count: BlockCount,
  entries: Uint32Array,
): Promise<RemoteBlocks> {
  const present = new Uint8Array(count);
  const wanted = new Map<string, Wanted>();
  let mapped: BlockCount = 0;
  for (let at = 0; at < count; at += 1) {
    const entry = unpackEntry(entries[2 * at] ?? 0, entries[2 * at + 1] ?? 0);
    if (entry === undefined) continue;
    present[at] = 1;
    mapped += 1;
    const { segment, offset, length, index } = entry;
    const key = `${segment}.${offset}.${length}`;
    const frame = wanted.get(key) ?? { segment, offset, length, places: [] };
    frame.places.push({ index, block: block + at });
    wanted.set(key, frame);
  }
  const frames = [...wanted.values()];
  const stored = frames.filter(({ segment }) => !isInline(segment));
  const inline = frames.filter(({ segment }) => isInline(segment));
  const raws = stored.length === 0 ? [] : await sources.frames.read(stored, sources.urgency);
  stored.forEach(({ places }, at) => {
    if (raws[at] !== undefined) return;
    for (const place of places) present[place.block - block] = LOST_BLOCK;
    mapped -= places.length;
  });
  // Not from the shared pool: the bytes are moved to another thread.
  const data = Buffer.alloc(mapped * BLOCK_SIZE);
  const positions = positionsOf(present);
  const copy = (frame: Wanted, raw: Buffer): void => {
    for (const place of frame.places) {
      const to = (positions[place.block - block] ?? 0) * BLOCK_SIZE;
      raw.copy(data, to, place.index * BLOCK_SIZE, (place.index + 1) * BLOCK_SIZE);
    }
  };
  stored.forEach((frame, at) => {
    const raw = raws[at];
    if (raw !== undefined) copy(frame, raw);
  });
  for (const frame of inline) copy(frame, readInline(sources, frame));
  return { data, present };
}

/** A pinned image that is gone was folded meanwhile: the caller looks the blocks up again. */
function readInline(
  { images, compression }: Pick<FrameSources, 'images' | 'compression'>,
  { segment, offset, length, places }: Wanted,
): Buffer {
  const image = images.get(segment);
  if (image === undefined) throw new FarshoreError('not-found', 'an inline payload was folded while it was read');
  return decodeFrame(image.subarray(offset * UNIT_BYTES, (offset + length) * UNIT_BYTES), compression, places);
}

/** For each asked block its position among the present ones. */
function positionsOf(present: Uint8Array): Uint32Array {
  const positions = new Uint32Array(present.length);
  let next = 0;
  for (let at = 0; at < present.length; at += 1) {
    positions[at] = next;
    if (present[at] === 1) next += 1;
  }
  return positions;
}
