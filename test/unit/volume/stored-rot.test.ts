import { describe, expect, test } from 'vitest';
import type { BlockRange } from '../../../gateway/cache/unmap-payload.ts';
import { decodeSegmentHeader, encodeSegment } from '../../../gateway/format/segment.ts';
import { Changes } from '../../../gateway/volume/stored/changes.ts';
import { journalPath, marksPath } from '../../../gateway/volume/stored/stored-state.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { REF, VolumeBench } from '../../support/volume-bench.ts';

/** Three pages of marks. */
const IMAGE = { blocks: 70_000 };
const RECORD = { generation: 1, through: 0, isFull: false, since: 0 };
const MARKED: readonly BlockRange[] = [
  { block: 0, count: 60 },
  { block: 40_000, count: 60 },
];
const JOURNAL = journalPath(REF, 1);
const MARKS = marksPath(REF, 1);

/** Of one with a few ranges. */
const HEADER_BYTES = 256;

/** Of a segment that has these blocks, as zeros. */
function headerOf(range: BlockRange): Buffer {
  const identity = {
    ...{ ...REF, number: 0, n: 1, epoch: 1, kind: 'moved' as const, previousChain: Buffer.alloc(32) },
    ...{ logId: 'log', firstSeq: 0, throughSeq: 0, newestWriteAt: 0, sealedAt: 0, volumeBytes: IMAGE.blocks * 4096 },
  };
  return Buffer.concat(encodeSegment(identity, new Float64Array(), [range], []).pieces);
}

async function copyNext(changes: Changes, from: number): Promise<number> {
  const range = changes.take(from, 20);
  if (range === undefined) return from;
  await changes.copied([range], headerOf(range));
  return range.block + range.count;
}

/** What a crash leaves when five of six pieces were copied, and four of these told the disk. */
async function half(): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const changes = await Changes.begin(disk, REF, RECORD, IMAGE, 1);
  for (const { block, count } of MARKED) changes.mark(block, count);
  await changes.save();
  let from = 0;
  for (let piece = 1; piece <= 5; piece++) {
    from = await copyNext(changes, from);
    if (piece % 2 === 0) await changes.settle();
  }
  return disk;
}

function flip(disk: MemoryDisk, path: string, at: number): void {
  const content = disk.files.get(path) ?? expect.fail();
  content.writeUInt8(content.readUInt8(at) ^ (1 << (at % 8)), at);
}

/** Blocks that are to be copied, or a segment has. */
async function accounted(changes: Changes): Promise<ReadonlySet<number>> {
  const found = new Set<number>();
  const add = ({ block, count }: BlockRange): void => {
    for (let at = block; at < block + count; at++) found.add(at);
  };
  for (const range of changes.leftOver()) add(range);
  await changes.copiedHeaders(async (headers) => {
    for (let at = 0; at < headers.length; at += HEADER_BYTES) {
      const header = decodeSegmentHeader(headers.subarray(at, at + HEADER_BYTES));
      if ('needBytes' in header) expect.fail('a header is cut off');
      header.unmaps.forEach(add);
    }
  });
  return found;
}

async function expectNothingLost(changes: Changes, what: string): Promise<void> {
  const found = await accounted(changes);
  for (const { block, count } of MARKED)
    for (let at = block; at < block + count; at++) {
      if (!found.has(at)) expect.fail(`${what}: block ${at} is in no version, and nobody would copy it`);
      if (!changes.isMarked(at)) expect.fail(`${what}: block ${at} counts as if a version had it`);
    }
}

const load = (disk: MemoryDisk): Promise<Changes> => Changes.load(disk, REF, RECORD, IMAGE, 2);

describe('what is known of the copied blocks', () => {
  test('is what the crash left when nothing is damaged', async () => {
    const changes = await load(await half());
    await expectNothingLost(changes, 'whole');
    expect(changes.openBlocks).toBe(40);
    expect(changes.problem).toBeUndefined();
  });

  test('lets no block be forgotten, whichever byte of the journal has a wrong bit, nor after the crash that follows', async () => {
    const before = await half();
    const size = before.files.get(JOURNAL)?.length ?? 0;
    expect(size).toBeGreaterThan(1_000);
    for (let at = 0; at < size; at += at % 288 < 32 ? 1 : 8) {
      const disk = before.copy();
      flip(disk, JOURNAL, at);
      const changes = await load(disk);
      await expectNothingLost(changes, `byte ${at}`);
      // Those of the last piece were to be copied again anyway.
      if (changes.problem !== undefined) expect(changes.problem).toContain(`${JOURNAL} is damaged`);
      else expect(at).toBeGreaterThanOrEqual((size / 5) * 4);
      if (at % 32 !== 0) continue;
      // What is appended makes the journal as long as it was.
      let from = 0;
      for (let piece = 0; piece < 5; piece++) from = await copyNext(changes, from);
      await expectNothingLost(await load(disk.copy()), `byte ${at}, and a crash`);
      await changes.settle();
      await expectNothingLost(await load(disk.copy()), `byte ${at}, and a crash after the bits were cleared`);
    }
  });

  test('lets none be forgotten where the journal is cut off, or gone', async () => {
    const before = await half();
    const content = before.files.get(JOURNAL) ?? expect.fail();
    for (let bytes = 0; bytes < content.length; bytes += 61) {
      const disk = before.copy();
      disk.files.set(JOURNAL, content.subarray(0, bytes));
      await expectNothingLost(await load(disk), `${bytes} bytes of it`);
    }
    before.files.delete(JOURNAL);
    const changes = await load(before);
    await expectNothingLost(changes, 'none of it');
    expect(changes.problem).toContain(JOURNAL);
  });

  test('lets none be forgotten, whichever byte of the marks has a wrong bit', async () => {
    const before = await half();
    const size = before.files.get(MARKS)?.length ?? 0;
    for (let at = 0; at < size; at += at % 4608 < 32 ? 1 : 97) {
      const disk = before.copy();
      flip(disk, MARKS, at);
      await expectNothingLost(await load(disk), `byte ${at}`);
    }
    // A sector that has become zeros is no page that was never written.
    before.files.get(MARKS)?.fill(0, 0, 512);
    await expectNothingLost(await load(before), 'no head');
  });

  test('lets none be forgotten when the journal is found damaged while it is written anew after a failed sync', async () => {
    const disk = await half();
    const changes = await load(disk);
    disk.before = (operation, path) => {
      if (operation === 'sync' && path.includes('.copies-')) throw new Error('the disk has failed');
    };
    await copyNext(changes, 0);
    await expect(changes.settle()).rejects.toThrow('the disk has failed');
    disk.before = undefined;
    flip(disk, JOURNAL, 40);
    await changes.settle();
    await expectNothingLost(changes, 'written anew');
    expect(changes.hasTodo).toBe(true);
  });

  test('is not committed where a record cannot be read any more: everything marked is copied again', async () => {
    const disk = await half();
    const changes = await load(disk);
    flip(disk, JOURNAL, 40);
    await expect(accounted(changes)).rejects.toMatchObject({
      kind: 'stopped',
      message: expect.stringContaining(JOURNAL) as string,
    });
    await changes.settle();
    expect(changes.hasTodo).toBe(true);
    await expectNothingLost(changes, 'after that');
  });
});

describe('a volume that takes over an image', () => {
  const BLOCKS = 20_000;
  const content = (block: number): number => 1 + (block % 250);
  const everything = (bench: VolumeBench): void => {
    for (let block = 0; block < BLOCKS; block++) {
      const there = bench.shore.blocks.get(block);
      if (there?.equals(Buffer.alloc(4096, content(block))) !== true)
        throw new Error(`block ${block} is ${there?.[0] ?? 'missing'} in the version`);
    }
  };
  async function halfCopied(): Promise<VolumeBench> {
    const seedImage = Buffer.alloc(BLOCKS * 4096);
    for (let block = 0; block < BLOCKS; block++) seedImage.fill(content(block), block * 4096, (block + 1) * 4096);
    const bench = new VolumeBench({ stored: true, volumeBlocks: BLOCKS, ramBlocks: 16, seedImage, remoteMs: 100 });
    await bench.start();
    while ((bench.volume.status().stored?.catchUp?.openBlocks ?? 0) > 13_000) await bench.pass(50);
    expect(bench.volume.status().stored?.catchUp?.openBlocks).toBeGreaterThan(0);
    return bench;
  }
  const copiesOf = (bench: VolumeBench): string =>
    bench.disk.paths().find((path) => path.includes('.copies-')) ?? expect.fail();

  test('makes a version that has all of it, also with a wrong bit in what it knew of the copies at the start', async () => {
    const bench = await halfCopied();
    bench.crash('process');
    bench.disk.file(copiesOf(bench))?.flipBit(100, 3);
    await bench.start();
    await bench.flushRemote();
    everything(bench);
    await bench.stop();
  });

  test('makes one that has all of it with a wrong bit there while it runs, and says which file it is', async () => {
    const bench = await halfCopied();
    bench.disk.file(copiesOf(bench))?.flipBit(100, 3);
    const flushed = bench.volume.flushRemote();
    let said = '';
    while (bench.shore.manifests.length === 0) {
      await bench.pass(500);
      said ||= bench.volume.status().replicationProblem ?? '';
    }
    await bench.settle(flushed);
    expect(said).toContain('.copies-1');
    everything(bench);
    await bench.stop();
  });
});
