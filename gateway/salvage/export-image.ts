import { basename, dirname } from 'node:path';
import type { Disk } from '../base/disk.ts';
import { FarshoreError, isKind } from '../base/errors.ts';
import type { ImageFile, ImageStore } from '../base/image.ts';
import { BLOCK_SIZE, MIB, type BlockCount, type BlockNumber, type ByteCount, type WriteSeq } from '../base/units.ts';
import type { VersionNumber } from '../base/units.ts';
import type { VolumeItem } from '../cloud/version-log.ts';
import { SHARD_BLOCKS } from '../format/run.ts';
import { FrameReader } from '../maintenance/frame-reader.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import { loadPastMap } from '../maintenance/past-map.ts';
import { MAINTENANCE_ATTEMPTS, withRetries } from '../maintenance/retry.ts';
import { readBlocks } from '../replication/frames.ts';
import { LOST_BLOCK } from '../replication/remote-volume.ts';
import type { SalvageFile } from '../volume/salvage-reader.ts';
import { committedThrough } from './common-version.ts';
import { MAX_LOST_TOLD, type TailOutcome } from './commit-tail.ts';

/** Frames kept between two reads: neighbouring blocks share them. */
const FRAME_CACHE_BYTES: ByteCount = 4 * MIB;
/** Blocks read from the cloud at a time. */
const READ_BLOCKS: BlockCount = 256;
const ZEROS = Buffer.alloc(MIB);

export interface ExportDeps {
  readonly maintenance: MaintenanceDeps;
  readonly images: ImageStore;
  /** Any directory of the machine. */
  readonly diskAt: (directory: string) => Disk;
}

export interface ExportRequest {
  readonly file: SalvageFile;
  readonly passOverDamage: boolean;
  /** The volume and the version that the writes follow; without it only what they wrote is in the image. */
  readonly base: { readonly item: VolumeItem; readonly n: VersionNumber } | undefined;
  /** Absolute; nothing must be there. */
  readonly out: string;
  readonly signal: AbortSignal;
  readonly onProgress: (phase: string, blocks: BlockCount) => void;
}

export interface ExportOutcome extends TailOutcome {
  readonly bytes: ByteCount;
}

/**
 * Writes a raw image: the volume as of the common version, and the salvaged writes over it. It gets its name when it is whole and on stable storage; until
 * then it is `<name>.part`, and what an attempt that was cut short left of that is written anew. Rejects with `in-use` (there is something), `busy` (disk
 * full), `input`, `damaged` (the salvage file), `retry` (cloud away), `stopped`.
 */
export async function exportImage(deps: ExportDeps, request: ExportRequest): Promise<ExportOutcome> {
  const { images } = deps;
  const { out } = request;
  const directory = deps.diskAt(dirname(out));
  await requireFree(directory, out);
  const part = `${out}.part`;
  const base = request.base && (await openBase(deps.maintenance, request.base, request));
  const bytes = base?.volumeBytes ?? (await extentOf(request));
  await images.remove(part);
  await images.create(part, bytes);
  let outcome: TailOutcome;
  const image = await images.open(part);
  try {
    await base?.copyInto(image);
    const after = base?.end === undefined ? request.file.header.after : committedThrough(request.file.header, base.end);
    outcome = await writeTail(image, request, after, bytes, base?.lost ?? new Set());
    await image.syncWhole();
  } catch (error) {
    await image.close();
    await images.remove(part);
    throw error;
  }
  await image.close();
  await requireFree(directory, out);
  await directory.rename(basename(part), basename(out));
  await directory.syncDirectory('');
  return { ...outcome, bytes };
}

async function requireFree(directory: Disk, out: string): Promise<void> {
  try {
    await (await directory.open(basename(out), 'read')).close();
  } catch (error) {
    if (isKind(error, 'not-found')) return;
    throw error;
  }
  throw new FarshoreError('in-use', `${out} exists already; name a file that does not`);
}

/** Where the last of the writes ends. */
async function extentOf({ file, passOverDamage }: ExportRequest): Promise<ByteCount> {
  let blocks: BlockCount = 0;
  await file.read(
    (record) => {
      if (record.kind === 'write') blocks = Math.max(blocks, record.block + 1);
    },
    { passOverDamage },
  );
  return blocks * BLOCK_SIZE;
}

async function openBase(
  maintenance: MaintenanceDeps,
  { item, n }: NonNullable<ExportRequest['base']>,
  { signal, onProgress }: ExportRequest,
) {
  const retrying = <Result>(work: () => Promise<Result>): Promise<Result> =>
    withRetries(maintenance, { attempts: MAINTENANCE_ATTEMPTS, signal, passing: ['retry'] }, work);
  const { map, images, volumeBytes, end } = await retrying(() => loadPastMap(maintenance, item, n));
  const { compression, store } = maintenance;
  const frames = new FrameReader(store, compression, item.lineage, FRAME_CACHE_BYTES);
  const lost = new Set<BlockNumber>();
  const copyInto = async (image: ImageFile): Promise<void> => {
    let done: BlockCount = 0;
    const volumeBlocks = Math.ceil(volumeBytes / BLOCK_SIZE);
    for (let from = 0; ;) {
      const shard = await retrying(() => map.nextShard(from));
      if (shard === undefined) return;
      const entries = await retrying(() => map.shardEntries(shard));
      for (let at = 0; at < SHARD_BLOCKS; at += READ_BLOCKS) {
        const block = shard * SHARD_BLOCKS + at;
        const count = Math.min(READ_BLOCKS, volumeBlocks - block);
        const part = entries.subarray(2 * at, 2 * (at + count));
        if (count <= 0 || part.every((word) => word === 0)) continue;
        const { data, present } = await retrying(() => readBlocks({ frames, images, compression }, block, count, part));
        done += await writePresent(image, block, data, present, lost);
        onProgress('reading the common version', done);
      }
      from = shard + 1;
    }
  };
  return { volumeBytes, end, lost, copyInto };
}

/** Answers how many there were. */
async function writePresent(
  image: ImageFile,
  block: BlockNumber,
  data: Buffer,
  present: Uint8Array,
  lost: Set<BlockNumber>,
): Promise<BlockCount> {
  let taken: BlockCount = 0;
  for (let at = 0; at < present.length;) {
    if (present[at] === LOST_BLOCK) lost.add(block + at);
    if (present[at] !== 1) {
      at += 1;
      continue;
    }
    let end = at;
    while (present[end] === 1) end += 1;
    const piece = data.subarray(taken * BLOCK_SIZE, (taken + end - at) * BLOCK_SIZE);
    await image.write([piece], (block + at) * BLOCK_SIZE);
    taken += end - at;
    at = end;
  }
  return taken;
}

async function writeTail(
  image: ImageFile,
  { file, passOverDamage, onProgress }: ExportRequest,
  after: WriteSeq,
  bytes: ByteCount,
  lost: Set<BlockNumber>,
): Promise<TailOutcome> {
  const volumeBlocks = Math.ceil(bytes / BLOCK_SIZE);
  let [blocks, beyond, lostUnmaps] = [0, 0, 0];
  await file.read(
    async (record) => {
      if (record.seq <= after) return;
      if (record.kind === 'lost-unmap') {
        lostUnmaps += 1;
        return;
      }
      const { block } = record;
      const count = record.kind === 'write' ? 1 : record.count;
      const within = Math.max(0, Math.min(count, volumeBlocks - block));
      beyond += count - within;
      if (record.kind === 'unmap') {
        for (const each of lost) if (each >= block && each < block + within) lost.delete(each);
        await writeZeros(image, block * BLOCK_SIZE, within * BLOCK_SIZE);
      } else if (within > 0) {
        if (record.data === undefined) lost.add(block);
        else lost.delete(block);
        await image.write([record.data ?? ZEROS.subarray(0, BLOCK_SIZE)], block * BLOCK_SIZE);
        blocks += 1;
        if (blocks % READ_BLOCKS === 0) onProgress('writing the salvaged writes', blocks);
      }
    },
    { passOverDamage },
  );
  return { blocks, beyond, lostUnmaps, lost: [...lost].sort((a, b) => a - b).slice(0, MAX_LOST_TOLD) };
}

/** Only where there is something else, so that what was never written stays a hole. */
async function writeZeros(image: ImageFile, from: ByteCount, bytes: ByteCount): Promise<void> {
  const there = Buffer.alloc(Math.min(bytes, MIB));
  for (let at = 0; at < bytes; at += MIB) {
    const length = Math.min(MIB, bytes - at);
    const window = there.subarray(0, length);
    await image.read(window, from + at);
    if (!window.equals(ZEROS.subarray(0, length))) await image.write([ZEROS.subarray(0, length)], from + at);
  }
}
