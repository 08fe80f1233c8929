import { crc32 } from '../base/crc32.ts';
import type { Disk, DiskFile } from '../base/disk.ts';
import { FarshoreError, invariant, isKind } from '../base/errors.ts';
import { decodeChunkHeader } from './chunk-header.ts';
import { blockAt, dataCrcAt, isDescriptor, KIND_UNMAP, kindAt, newTable, seqAt, wordsOf } from './descriptor.ts';
import { allDone } from './lane.ts';
import {
  chunkOfPlace,
  chunkPath,
  DESCRIPTOR_BYTES,
  descriptorPosition,
  SLOT_BYTES,
  slotOfPlace,
  slotPosition,
} from './layout.ts';

/** Chunk files kept open at once. */
const MAX_OPEN_CHUNKS = 64;

/** Longest run read at once (1 MiB). */
const MAX_RUN_SLOTS = 256;

interface OpenChunk {
  readonly file: Promise<DiskFile>;
  generation: number;
  /** Reads under way. */
  users: number;
}

interface Run {
  readonly chunk: number;
  readonly slot: number;
  /** Index of each slot's block in what was asked. */
  readonly indices: number[];
}

/** Reads the cache log of another thread, with file handles of its own (see LogReader in replication/remote-volume). */
export interface CacheLogReader {
  readBlocks(places: Float64Array, blocks: Float64Array, seqs: Float64Array, into: Buffer): Promise<readonly number[]>;
  close(): Promise<void>;
}

/** A reader over the cache directory of `disk`. Places it is asked for must stay pinned (dirty) until it has answered. */
export function openLogReader(disk: Disk): CacheLogReader {
  const open = new Map<number, OpenChunk>();
  let closed = false;

  async function withChunk<T>(number: number, use: (file: DiskFile, chunk: OpenChunk) => Promise<T>): Promise<T> {
    if (closed) throw new FarshoreError('stopped', 'the reader of the cache log is closed');
    let chunk = open.get(number);
    if (chunk === undefined) {
      evictIdle();
      chunk = { file: disk.open(chunkPath(number), 'read'), generation: 0, users: 0 };
    }
    open.delete(number);
    open.set(number, chunk);
    chunk.users++;
    try {
      return await use(await fileOf(number, chunk), chunk);
    } finally {
      chunk.users--;
    }
  }

  /** A chunk that could not be opened is tried anew next time. */
  async function fileOf(number: number, chunk: OpenChunk): Promise<DiskFile> {
    try {
      return await chunk.file;
    } catch (error) {
      if (open.get(number) === chunk) open.delete(number);
      throw error;
    }
  }

  function evictIdle(): void {
    if (open.size < MAX_OPEN_CHUNKS) return;
    for (const [number, chunk] of open) {
      if (chunk.users > 0) continue;
      open.delete(number);
      void chunk.file.then((file) => file.close()).catch(() => undefined);
      return;
    }
  }

  /** Answers the indices (in what was asked) of slots that are not what they should be. Rejects with `stopped` when they can't be read. */
  async function readRun(run: Run, blocks: Float64Array, seqs: Float64Array, into: Buffer): Promise<readonly number[]> {
    return withChunk(run.chunk, async (file, chunk) => {
      const count = run.indices.length;
      const descriptors = newTable(count * DESCRIPTOR_BYTES);
      const first = run.indices[0] ?? 0;
      const contiguous = run.indices.every((index, at) => index === first + at);
      const target = contiguous
        ? into.subarray(first * SLOT_BYTES, (first + count) * SLOT_BYTES)
        : Buffer.allocUnsafe(count * SLOT_BYTES);
      // The caller uses `into` again as soon as this has settled, so nothing may still be reading into it, failed or not.
      await allDone(file.read(target, slotPosition(run.slot)), file.read(descriptors, descriptorPosition(run.slot)));
      const words = wordsOf(descriptors);
      if (!isDescriptor(words, 0, chunk.generation, run.slot)) chunk.generation = await generationOf(file, run.chunk);
      const bad: number[] = [];
      run.indices.forEach((index, at) => {
        const data = target.subarray(at * SLOT_BYTES, (at + 1) * SLOT_BYTES);
        const good =
          isDescriptor(words, at, chunk.generation, run.slot + at) &&
          blockAt(words, at) === (blocks[index] ?? -1) &&
          seqAt(words, at) === seqs[index] &&
          kindAt(words, at) !== KIND_UNMAP &&
          crc32(data) === dataCrcAt(words, at);
        if (!good) bad.push(index);
        else if (!contiguous) data.copy(into, index * SLOT_BYTES);
      });
      return bad;
    });
  }

  /** As readRun, slot by slot when the disk refuses the run: as long as it gives the header of the chunk, only what it refuses is bad. */
  async function readSlots(
    run: Run,
    blocks: Float64Array,
    seqs: Float64Array,
    into: Buffer,
  ): Promise<readonly number[]> {
    try {
      return await readRun(run, blocks, seqs, into);
    } catch (error) {
      if (closed || !isKind(error, 'stopped', 'damaged')) throw error;
    }
    await withChunk(run.chunk, (file) => generationOf(file, run.chunk));
    const bad: number[] = [];
    for (const [at, index] of run.indices.entries()) {
      try {
        const single = { chunk: run.chunk, slot: run.slot + at, indices: [index] };
        bad.push(...(await readRun(single, blocks, seqs, into)));
      } catch (error) {
        if (!isKind(error, 'stopped', 'damaged')) throw error;
        bad.push(index);
      }
    }
    return bad;
  }

  return {
    async readBlocks(places, blocks, seqs, into) {
      invariant(into.length >= places.length * SLOT_BYTES, 'there is room for what is asked');
      const bad: number[] = [];
      for (const run of runsOf(places)) bad.push(...(await readSlots(run, blocks, seqs, into)));
      return bad;
    },
    async close() {
      closed = true;
      for (const chunk of open.values()) await (await chunk.file).close();
      open.clear();
    },
  };
}

async function generationOf(file: DiskFile, chunk: number): Promise<number> {
  const slot = Buffer.alloc(SLOT_BYTES);
  await file.read(slot, 0);
  const header = decodeChunkHeader(slot);
  if (header?.chunk !== chunk) {
    throw new FarshoreError('damaged', `the header of chunk ${chunk} of the cache log is damaged`);
  }
  return header.generation;
}

/** Stretches of consecutive slots, whatever order the places come in. */
function runsOf(places: Float64Array): Run[] {
  const order = Array.from(places.keys()).sort((a, b) => (places[a] ?? 0) - (places[b] ?? 0));
  const runs: Run[] = [];
  let last: Run | undefined;
  for (const index of order) {
    const place = places[index] ?? 0;
    const chunk = chunkOfPlace(place);
    const slot = slotOfPlace(place);
    if (last?.chunk === chunk && last.slot + last.indices.length === slot && last.indices.length < MAX_RUN_SLOTS) {
      last.indices.push(index);
    } else {
      last = { chunk, slot, indices: [index] };
      runs.push(last);
    }
  }
  return runs;
}
