import { crc32 } from '../../gateway/base/crc32.ts';
import { BLOCK_SIZE } from '../../gateway/base/units.ts';
import type { ObjectStore } from '../../gateway/cloud/object-store.ts';
import type { VersionItem, VersionLog, VolumeRef } from '../../gateway/cloud/version-log.ts';
import { loadCompression } from '../../gateway/format/compression.ts';
import { decodeFrame } from '../../gateway/format/frame.ts';
import { segmentKey } from '../../gateway/format/keys.ts';
import { decodeSegment } from '../../gateway/format/segment-decode.ts';
import { chainAfter, decodeRecord, EMPTY_CHAIN } from '../../gateway/format/version-record.ts';
import { SECTOR, stampsIn } from '../crash/stamp.ts';

const PAGE = 100;
const BLOCK_SECTORS = BLOCK_SIZE / SECTOR;

export interface ReplayedVersion {
  readonly n: number;
  readonly kind: string;
  /** The stamp of each sector as of this version. The next one changes it. */
  readonly stamps: Float64Array;
}

/**
 * Every version of a volume from the first on, as the log in the table and the objects in the bucket have it, and nothing else: no map, no
 * checkpoint, no walk of the product's. Throws where the chain breaks or bytes are not those that the record names.
 */
export async function* replayVersions(
  { store, log }: { readonly store: ObjectStore; readonly log: VersionLog },
  ref: VolumeRef,
  sectors: number,
): AsyncIterable<ReplayedVersion> {
  const compression = await loadCompression();
  const stamps = new Float64Array(sectors);
  let chain = EMPTY_CHAIN;
  for (let n = 1; ;) {
    const items = await log.listVersions(ref.volume, n, PAGE);
    if (items.length === 0) return;
    for (const item of items) {
      if (item.n !== n) throw new Error(`after version ${n - 1} comes ${item.n}`);
      chain = chainAfter(chain, item.record);
      if (!chain.equals(item.chain)) throw new Error(`the chain breaks at version ${n}`);
      const payload = await payloadOf(store, ref, item);
      if (payload !== undefined) apply(stamps, payload, compression);
      yield { n, kind: decodeRecord(item.record).kind, stamps };
      n += 1;
    }
  }
}

async function payloadOf(store: ObjectStore, { lineage }: VolumeRef, item: VersionItem): Promise<Buffer | undefined> {
  const { payload } = decodeRecord(item.record);
  if (payload.kind === 'none') return undefined;
  if (payload.kind === 'manifest') throw new Error(`version ${item.n} has a manifest, which nobody asked for`);
  const bytes = payload.kind === 'inline' ? item.inline : await store.get(segmentKey(lineage, payload.number));
  if (bytes === undefined) throw new Error(`the segment of version ${item.n} is not there`);
  if (crc32(bytes) !== payload.crc32) throw new Error(`the segment of version ${item.n} holds other bytes`);
  return bytes;
}

function apply(stamps: Float64Array, bytes: Buffer, compression: Awaited<ReturnType<typeof loadCompression>>): void {
  const { header, frames } = decodeSegment(bytes);
  for (const { block, count } of header.unmaps) stamps.fill(0, block * BLOCK_SECTORS, (block + count) * BLOCK_SECTORS);
  const decoded = frames.map((frame) => decodeFrame(frame, compression));
  for (const { block, count, frame, index } of header.extents) {
    const data = decoded[frame]?.subarray(index * BLOCK_SIZE, (index + count) * BLOCK_SIZE) ?? Buffer.alloc(0);
    stamps.set(stampsIn(block * BLOCK_SECTORS, data), block * BLOCK_SECTORS);
  }
}
