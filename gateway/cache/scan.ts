import type { Disk, DiskFile } from '../base/disk.ts';
import { FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { WriteSeq } from '../base/units.ts';
import { Chunk } from './chunk.ts';
import { decodeChunkHeader, encodeChunkHeader, type ChunkHeader } from './chunk-header.ts';
import { isDescriptor, KIND_FILL, kindAt, seqAt, syncedThroughAt, volumeAt } from './descriptor.ts';
import { CACHE_DIRECTORY, chunkOfName, chunkPath, SLOT_BYTES, type ChunkGeometry } from './layout.ts';
import type { PoolState } from './pool-state.ts';
import { readTable } from './record-stream.ts';

/** Tables read at once. */
const SCAN_AT_ONCE = 8;

/** What the cache directory holds. */
export interface PoolScan {
  /** Oldest first. */
  readonly chunks: readonly Chunk[];
  readonly nextGeneration: number;
  /** Highest synced mark any record claims, by volume. */
  readonly synced: ReadonlyMap<number, WriteSeq>;
}

/**
 * Opens every chunk and reads headers and descriptor tables. A chunk whose header is gone is set aside as `.bad` (what it held is missed
 * when its volume is recovered), half-made ones are removed. Rejects with `stopped` when the disk fails.
 */
export async function scanPool(disk: Disk, state: PoolState, geometry: ChunkGeometry, diary: Log): Promise<PoolScan> {
  const numbers: number[] = [];
  // The last process may have died between renaming a new chunk and making that durable.
  await disk.syncDirectory(CACHE_DIRECTORY);
  for (const name of await disk.list(CACHE_DIRECTORY)) {
    const number = chunkOfName(name);
    if (number !== undefined) numbers.push(number);
    else if (name.endsWith('.chunk.new')) await disk.remove(`${CACHE_DIRECTORY}/${name}`);
  }
  numbers.sort((a, b) => a - b);
  const chunks: Chunk[] = [];
  const synced = new Map<number, WriteSeq>();
  let nextGeneration = state.lowestNewGeneration;
  for (let from = 0; from < numbers.length; from += SCAN_AT_ONCE) {
    const opened = await Promise.all(
      numbers.slice(from, from + SCAN_AT_ONCE).map((number) => openChunk(disk, number, state, geometry, diary)),
    );
    for (const found of opened) {
      if (found === undefined) continue;
      noteRecords(found.chunk, found.words, geometry, synced);
      if (found.chunk.shares.size === 0) await settleHeader(found.chunk, state, geometry);
      nextGeneration = Math.max(nextGeneration, found.chunk.generation + 1);
      chunks.push(found.chunk);
    }
  }
  return { chunks: chunks.sort((a, b) => a.generation - b.generation), nextGeneration, synced };
}

/**
 * An empty chunk may have been made ready by a process that died before that was durable: a power cut would bring back what was in it
 * before. With records in it, it was synced before they came.
 */
async function settleHeader(
  { file, number, generation }: Chunk,
  state: PoolState,
  { slots }: ChunkGeometry,
): Promise<void> {
  await file.write([encodeChunkHeader({ chunk: number, generation, slots, poolId: state.poolId })], 0);
  await file.sync();
}

async function openChunk(
  disk: Disk,
  number: number,
  state: PoolState,
  geometry: ChunkGeometry,
  diary: Log,
): Promise<{ chunk: Chunk; words: Uint32Array } | undefined> {
  const file = await disk.open(chunkPath(number), 'write');
  const header = await readHeader(file, number, state, geometry);
  if (header === undefined) {
    await file.close();
    diary.error({ chunk: number }, 'a chunk of the cache log has a damaged header and is set aside');
    await disk.rename(chunkPath(number), `${chunkPath(number)}.bad`);
    await disk.syncDirectory(CACHE_DIRECTORY);
    return undefined;
  }
  const chunk = new Chunk(number, file, header.generation);
  return { chunk, words: await readTable(chunk, geometry) };
}

async function readHeader(
  file: DiskFile,
  number: number,
  state: PoolState,
  geometry: ChunkGeometry,
): Promise<ChunkHeader | undefined> {
  if ((await file.size()) !== geometry.bytes) return undefined;
  const slot = Buffer.alloc(SLOT_BYTES);
  await file.read(slot, 0);
  const header = decodeChunkHeader(slot);
  if (header?.chunk !== number || header.slots !== geometry.slots) return undefined;
  if (!header.poolId.equals(state.poolId)) {
    throw new FarshoreError(
      'damaged',
      `${chunkPath(number)} belongs to the cache of another gateway; a state directory must be moved as a whole`,
    );
  }
  return header;
}

function noteRecords(chunk: Chunk, words: Uint32Array, geometry: ChunkGeometry, synced: Map<number, WriteSeq>): void {
  for (let slot = geometry.firstSlot; slot < geometry.slots; slot++) {
    if (!isDescriptor(words, slot, chunk.generation, slot)) continue;
    const volume = volumeAt(words, slot);
    const key = seqAt(words, slot);
    if (kindAt(words, slot) === KIND_FILL) chunk.noteFill(volume, key);
    else chunk.noteWrite(volume, key);
    const claim = syncedThroughAt(words, slot);
    if (claim > (synced.get(volume) ?? 0)) synced.set(volume, claim);
  }
}
