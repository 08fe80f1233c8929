import { crc32 } from '../base/crc32.ts';
import { isKind } from '../base/errors.ts';
import type { WriteSeq } from '../base/units.ts';
import type { Chunk } from './chunk.ts';
import { isDescriptor, seqAt, volumeAt } from './descriptor.ts';
import { allDone } from './lane.ts';
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_WORDS,
  descriptorPosition,
  SLOT_BYTES,
  slotPosition,
  TABLE_OFFSET,
  type ChunkGeometry,
} from './layout.ts';
import { isComplete, type KeyLimit, readTable, RecordStream, takeOp, type LoggedOp } from './record-stream.ts';
import { prefixGoesOn } from './recovery-rules.ts';

/** What recovery made of the end of a volume's log. */
export interface RecoveredTail {
  /** The valid prefix ends here; everything in it is on stable storage. */
  readonly lastSeq: WriteSeq;
  /** Operations beyond the synced mark that are part of the prefix. */
  readonly kept: number;
  /** Records beyond the prefix, destroyed. None after a mere crash of the process. */
  readonly discarded: number;
}

/**
 * Finds the end of the volume's log. Up to `synced` everything was on stable storage once, so what is missing there is damage and judged
 * later. Beyond it a power cut may have kept any part: the longest run of whole operations with good data is the log, and whatever lies
 * behind is cut off (`cutOff` makes that durable, and answers what to call when it is destroyed as well), so that its sequences can be given
 * out again. What is kept is written once more and synced: after a failed sync of the last process the page cache may be the only place
 * that has it. Doing all that twice changes nothing.
 */
export async function recoverTail(
  chunks: readonly Chunk[],
  volume: number,
  geometry: ChunkGeometry,
  synced: WriteSeq,
  limit: KeyLimit,
  cutOff: (lastSeq: WriteSeq) => Promise<() => void>,
): Promise<RecoveredTail> {
  const touched = new Set<Chunk>();
  const stream = new RecordStream(chunks, volume, geometry, 'writes', synced, limit);
  let lastSeq = synced;
  let kept = 0;
  if (stream.mustLoad) await stream.load();
  while (!stream.ended) {
    const op = await takeOp(stream);
    if (op.seq <= synced) continue;
    const complete = isComplete(op);
    const dataGood = complete && (await rewriteIfGood(op, touched));
    if (!prefixGoesOn(lastSeq + 1, { seq: op.seq, complete, dataGood })) break;
    lastSeq = op.seq;
    kept++;
  }
  const beyond = chunks.filter((chunk) => (chunk.shares.get(volume)?.maxKey ?? 0) > lastSeq);
  const forget = beyond.length > 0 ? await cutOff(lastSeq) : undefined;
  let discarded = 0;
  for (const chunk of beyond) {
    discarded += await destroyAbove(chunk, volume, geometry, lastSeq);
    touched.add(chunk);
  }
  for (const chunk of touched) await chunk.file.sync();
  forget?.();
  return { lastSeq, kept, discarded };
}

/**
 * Destroys what lies behind earlier cuts for good. Whether the process that cut came to its end, nobody knows any more, and what it zeroed may
 * show as zeros although the platter has the old records: so every table from before the cuts is written again, zeros and all, and synced.
 */
export async function finishCuts(
  chunks: readonly Chunk[],
  volume: number,
  geometry: ChunkGeometry,
  limit: KeyLimit,
): Promise<void> {
  for (const chunk of chunks) {
    const highest = limit(chunk);
    if (highest === Infinity) continue;
    const words = await readTable(chunk, geometry);
    for (let slot = geometry.firstSlot; slot < geometry.slots; slot++) {
      if (!isDescriptor(words, slot, chunk.generation, slot) || volumeAt(words, slot) !== volume) continue;
      if (seqAt(words, slot) > highest) words.fill(0, slot * DESCRIPTOR_WORDS, (slot + 1) * DESCRIPTOR_WORDS);
    }
    await chunk.file.write([Buffer.from(words.buffer, words.byteOffset, words.byteLength)], TABLE_OFFSET);
    await chunk.file.sync();
  }
}

/** Checks the data of a complete operation and writes it and its descriptors back where they are. Disk errors reject: they prove nothing. */
async function rewriteIfGood(op: LoggedOp, touched: Set<Chunk>): Promise<boolean> {
  for (const record of op.records) {
    if (record === undefined) return false;
    const { chunk, slot, dataCrc } = record;
    const data = Buffer.allocUnsafe(SLOT_BYTES);
    const descriptor = Buffer.allocUnsafe(DESCRIPTOR_BYTES);
    try {
      await Promise.all([
        chunk.file.read(data, slotPosition(slot)),
        chunk.file.read(descriptor, descriptorPosition(slot)),
      ]);
    } catch (error) {
      if (isKind(error, 'damaged')) return false;
      throw error;
    }
    if (crc32(data) !== dataCrc) return false;
    // Both, also when one fails: what lands later would land behind a recovery that is tried again.
    await allDone(
      chunk.file.write([data], slotPosition(slot)),
      chunk.file.write([descriptor], descriptorPosition(slot)),
    );
    touched.add(chunk);
  }
  return true;
}

async function destroyAbove(chunk: Chunk, volume: number, geometry: ChunkGeometry, lastSeq: WriteSeq): Promise<number> {
  let destroyed = 0;
  const zeros = Buffer.alloc(DESCRIPTOR_BYTES);
  for (const which of ['writes', 'fills'] as const) {
    const stream = new RecordStream([chunk], volume, geometry, which, lastSeq);
    if (stream.mustLoad) await stream.load();
    while (!stream.ended) {
      if (stream.key > lastSeq) {
        await chunk.file.write([zeros], descriptorPosition(stream.slot));
        destroyed++;
      }
      stream.next();
    }
  }
  const share = chunk.shares.get(volume);
  if (share !== undefined) {
    share.maxKey = Math.min(share.maxKey, lastSeq);
    share.maxSeq = Math.min(share.maxSeq, lastSeq);
    if (share.minSeq > lastSeq) {
      share.minSeq = 0;
      share.maxSeq = 0;
    }
    if (share.minKey > lastSeq) chunk.shares.delete(volume);
  }
  return destroyed;
}
