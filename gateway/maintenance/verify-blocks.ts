import { FarshoreError, isKind } from '../base/errors.ts';
import type { BlockNumber, SegmentNumber } from '../base/units.ts';
import { KIB, MIB } from '../base/units.ts';
import { FIRST_READ_BYTES } from '../format/envelope.ts';
import { segmentKey } from '../format/keys.ts';
import { entrySegment, unpackEntry } from '../format/map-entry.ts';
import { SHARD_BLOCKS } from '../format/run.ts';
import { decodeSegmentHeader, segmentEntries } from '../format/segment-decode.ts';
import type { SegmentEntries } from '../format/segment-decode.ts';
import { LOST, type FramePlace } from '../format/frame.ts';
import type { WantedFrame } from './frame-reader.ts';
import { FrameReader } from './frame-reader.ts';
import type { InlineImages } from './inline-images.ts';
import { isInline } from './inline-images.ts';
import { ByteLru } from './lru.ts';
import type { MapSource } from './map-reader.ts';
import { mapParallel } from './parallel.ts';
import { throwIfAborted } from './verify-findings.ts';
import type { Findings } from './verify-findings.ts';
import type { VolumeMap } from './volume-map.ts';

/** Map entries of segments kept while the shards pass by. */
const HEADER_CACHE_BYTES = 32 * MIB;
const HEADER_COST_BYTES = 32 * KIB;
const PARALLEL_SEGMENTS = 4;
/** Frames checked by one call of the reader, which fetches neighbours together. */
const FRAMES_AT_ONCE = 64;

interface Claim {
  readonly block: BlockNumber;
  readonly high: number;
  readonly low: number;
}

/**
 * Every mapped block: the segment it is mapped to must be there, must be of this lineage, must hold the block just where the
 * map says, and its frame must decode. Segments in `whole` have been read already; only the map is compared with them.
 */
export async function verifyBlocks(
  source: MapSource,
  map: VolumeMap,
  images: InlineImages,
  whole: ReadonlySet<SegmentNumber>,
  findings: Findings,
  signal: AbortSignal | undefined,
): Promise<void> {
  const headers = new ByteLru<SegmentNumber, SegmentEntries>(HEADER_CACHE_BYTES);
  const seen = new Set<SegmentNumber>(whole);
  const frames = new FrameReader(source.store, source.compression, source.ref.lineage, 0);
  let shard = await map.nextShard(0);
  while (shard !== undefined && !findings.full) {
    throwIfAborted(signal);
    const entries = await readShard(map, shard, findings);
    const claims =
      entries === undefined ? new Map<SegmentNumber, Claim[]>() : claimsOf(shard, entries, images, findings);
    await mapParallel([...claims], PARALLEL_SEGMENTS, async ([segment, held]) => {
      throwIfAborted(signal);
      if (!seen.has(segment)) {
        seen.add(segment);
        findings.objects += 1;
      }
      await verifyClaims(source, headers, frames, segment, held, whole.has(segment), findings);
    });
    shard = await map.nextShard(shard + 1);
  }
}

async function readShard(map: VolumeMap, shard: number, findings: Findings): Promise<Uint32Array | undefined> {
  try {
    return await map.shardEntries(shard);
  } catch (error) {
    if (!isKind(error, 'damaged', 'not-found')) throw error;
    findings.add(
      `The map of blocks ${shard * SHARD_BLOCKS} to ${(shard + 1) * SHARD_BLOCKS - 1} cannot be read: ${error.message}.`,
    );
    return undefined;
  }
}

function claimsOf(
  shard: number,
  entries: Uint32Array,
  images: InlineImages,
  findings: Findings,
): Map<SegmentNumber, Claim[]> {
  const claims = new Map<SegmentNumber, Claim[]>();
  for (let index = 0; index < SHARD_BLOCKS; index += 1) {
    const high = entries[2 * index] ?? 0;
    const low = entries[2 * index + 1] ?? 0;
    const segment = entrySegment(high, low);
    if (segment === 0) continue;
    findings.blocks += 1;
    // Inline payloads were decoded as a whole when their versions were read.
    if (isInline(segment) && images.get(segment) !== undefined) continue;
    const held = claims.get(segment);
    const claim = { block: shard * SHARD_BLOCKS + index, high, low };
    if (held === undefined) claims.set(segment, [claim]);
    else held.push(claim);
  }
  return claims;
}

async function verifyClaims(
  source: MapSource,
  headers: ByteLru<SegmentNumber, SegmentEntries>,
  frames: FrameReader,
  segment: SegmentNumber,
  claims: readonly Claim[],
  whole: boolean,
  findings: Findings,
): Promise<void> {
  const key = segmentKey(source.ref.lineage, segment);
  let held: SegmentEntries;
  try {
    held = headers.get(segment) ?? (await loadEntries(source, key, segment));
    headers.set(segment, held, HEADER_COST_BYTES);
  } catch (error) {
    if (!isKind(error, 'damaged', 'not-found')) throw error;
    findings.add(
      `Object ${key}, which ${claims.length} blocks from ${claims[0]?.block ?? 0} on are mapped to: ${error.message}.`,
    );
    return;
  }
  const right = claims.filter((claim) => {
    const fits = holds(held, claim);
    if (!fits) findings.add(`Object ${key} does not hold block ${claim.block} where the map says.`);
    return fits;
  });
  if (!whole) await verifyFrames(frames, key, right, findings);
}

async function verifyFrames(
  reader: FrameReader,
  key: string,
  claims: readonly Claim[],
  findings: Findings,
): Promise<void> {
  const wanted = framesOf(claims);
  for (let at = 0; at < wanted.length; at += FRAMES_AT_ONCE) {
    const part = wanted.slice(at, at + FRAMES_AT_ONCE);
    try {
      const raws = await reader.read(part);
      part.forEach(({ places }, index) => {
        if (raws[index] === undefined)
          for (const { block } of places) findings.add(`Object ${key}: block ${block} ${LOST}.`);
      });
    } catch (error) {
      if (!isKind(error, 'damaged', 'not-found')) throw error;
      await verifyOneByOne(reader, key, part, findings);
    }
  }
}

async function verifyOneByOne(
  reader: FrameReader,
  key: string,
  wanted: readonly WantedFrame[],
  findings: Findings,
): Promise<void> {
  for (const frame of wanted) {
    if (findings.full) return;
    try {
      const [raw] = await reader.read([frame]);
      if (raw === undefined)
        for (const { block } of frame.places) findings.add(`Object ${key}: block ${block} ${LOST}.`);
    } catch (error) {
      if (!isKind(error, 'damaged', 'not-found')) throw error;
      const blocks = frame.places.map(({ block }) => block).join(', ');
      findings.add(`Object ${key}: the frame with block ${blocks} cannot be read: ${error.message}.`);
    }
  }
}

function framesOf(claims: readonly Claim[]): WantedFrame[] {
  const wanted = new Map<number, WantedFrame & { readonly places: FramePlace[] }>();
  for (const { block, high, low } of claims) {
    const entry = unpackEntry(high, low);
    if (entry === undefined) continue;
    const { segment, offset, length, index } = entry;
    const frame = wanted.get(offset) ?? { segment, offset, length, places: [] };
    frame.places.push({ index, block });
    wanted.set(offset, frame);
  }
  return [...wanted.values()];
}

async function loadEntries(source: MapSource, key: string, segment: SegmentNumber): Promise<SegmentEntries> {
  let length = FIRST_READ_BYTES;
  for (;;) {
    const bytes = await source.store.get(key, { offset: 0, length });
    if (bytes === undefined) throw new FarshoreError('not-found', 'it is missing');
    const header = decodeSegmentHeader(bytes);
    if ('needBytes' in header) {
      if (header.needBytes <= bytes.length || bytes.length < length)
        throw new FarshoreError('damaged', 'it ends within its header');
      length = header.needBytes;
      continue;
    }
    if (header.number !== segment || header.lineage !== source.ref.lineage) {
      throw new FarshoreError('damaged', `it says that it is segment ${header.number} of lineage ${header.lineage}`);
    }
    return segmentEntries(header);
  }
}

/** Whether the segment gives the block just this entry. */
function holds({ blocks, entries }: SegmentEntries, { block, high, low }: Claim): boolean {
  let from = 0;
  let to = blocks.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((blocks[middle] ?? Infinity) >= block) to = middle;
    else from = middle + 1;
  }
  return blocks[from] === block && entries[2 * from] === high && entries[2 * from + 1] === low;
}
