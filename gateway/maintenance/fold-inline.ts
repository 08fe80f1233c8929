import { FarshoreError, invariant } from '../base/errors.ts';
import { BLOCK_SIZE } from '../base/units.ts';
import type { BlockNumber, Epoch } from '../base/units.ts';
import { putOnce } from '../cloud/put-once.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import { decodeFrame, encodeFrame, MAX_FRAME_BLOCKS } from '../format/frame.ts';
import { segmentKey } from '../format/keys.ts';
import type { MapEntry } from '../format/map-entry.ts';
import { UNIT_BYTES, unpackEntry } from '../format/map-entry.ts';
import { segmentEntries } from '../format/segment-decode.ts';
import { encodeSegment } from '../format/segment-encode.ts';
import { MAX_SEGMENT_BLOCKS } from '../format/segment-layout.ts';
import type { SegmentIdentity } from '../format/segment-layout.ts';
import type { ChangeMap } from './change-map.ts';
import type { Relocation } from './fold-source.ts';
import type { InlineImages } from './inline-images.ts';
import { isInline } from './inline-images.ts';
import type { MaintenanceDeps } from './maintenance-deps.ts';

/** The volume and epoch that numbers are entered for in the ledger. */
export type NumbersOwner = VolumeRef & { readonly epoch: Epoch };

/** The version whose place the segments of a fold take in their headers: the last one folded. */
export type FoldIdentity = Omit<SegmentIdentity, 'number'>;

/**
 * Moves the blocks that still lie in inline payloads into segments of their own, sorted by block, since the map in S3 can only
 * point into objects. Answers with the new entry of each. The numbers are entered in the ledger for the volume's present epoch.
 */
export async function relocateInline(
  deps: MaintenanceDeps,
  item: NumbersOwner,
  identity: FoldIdentity,
  changes: ChangeMap,
  images: InlineImages,
  signal: AbortSignal | undefined,
): Promise<Relocation> {
  const moving: { readonly block: BlockNumber; readonly entry: MapEntry }[] = [];
  changes.forEachSorted((block, high, low) => {
    const entry = unpackEntry(high, low);
    if (entry !== undefined && isInline(entry.segment)) moving.push({ block, entry });
  });
  const relocated = new Map<number, readonly [number, number]>();
  if (moving.length === 0) return relocated;
  const needed = Math.ceil(moving.length / MAX_SEGMENT_BLOCKS);
  const range = await deps.versions.allocateNumbers(item, item.epoch, needed);
  for (let at = 0; at < needed; at += 1) {
    const part = moving.slice(at * MAX_SEGMENT_BLOCKS, (at + 1) * MAX_SEGMENT_BLOCKS);
    const number = range.from + at;
    const blocks = Float64Array.from(part, ({ block }) => block);
    const frames: Buffer[] = [];
    for (let from = 0; from < part.length; from += MAX_FRAME_BLOCKS) {
      const held = part.slice(from, from + MAX_FRAME_BLOCKS);
      const raw = Buffer.concat(held.map(({ block, entry }) => readInlineBlock(deps, images, block, entry)));
      frames.push(encodeFrame(raw, blocks.subarray(from, from + held.length), deps.compression));
    }
    const { pieces, header, crc32 } = encodeSegment({ ...identity, number }, blocks, [], frames);
    await putOnce(deps.store, segmentKey(item.lineage, number), pieces, crc32, deps, signal);
    const { entries } = segmentEntries(header);
    blocks.forEach((block, index) => {
      relocated.set(block, [entries[2 * index] ?? 0, entries[2 * index + 1] ?? 0]);
    });
  }
  invariant(relocated.size === moving.length, 'every inline block got a place');
  return relocated;
}

function readInlineBlock(deps: MaintenanceDeps, images: InlineImages, block: BlockNumber, entry: MapEntry): Buffer {
  const image = images.get(entry.segment);
  if (image === undefined) throw new FarshoreError('bug', `the inline payload of block ${block} is not in memory`);
  const frame = image.subarray(entry.offset * UNIT_BYTES, (entry.offset + entry.length) * UNIT_BYTES);
  const raw = decodeFrame(frame, deps.compression, [{ index: entry.index, block }]);
  return raw.subarray(entry.index * BLOCK_SIZE, (entry.index + 1) * BLOCK_SIZE);
}
