import { describe, expect, test } from 'vitest';
import { isKind } from '../../../gateway/base/errors.ts';
import { descriptorPosition, slotPosition } from '../../../gateway/cache/layout.ts';
import { recordsOn } from '../../support/log-surgery.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const SLOTS = 384;
const COPY_BYTES = 512 * 1024;
const VALUES = { 10: 3, 11: 4, 12: 3, 13: 3, 20: 2, 30: 5 } as const;

/** What a start makes of it, and then what reads show: `same` the newest content everywhere, `told` the same but for the block hit, which is refused. */
type Outcome = 'same' | 'told' | 'refuses to start';

interface Row {
  readonly what: string;
  /** Files and positions of which a bit is flipped, one after the other; several at a time where they lie in one array. */
  readonly at: (
    bench: VolumeBench,
    dirty: boolean,
  ) => readonly (readonly (readonly [path: string, position: number])[])[];
  readonly committed: Outcome;
  readonly dirty: Outcome;
}

const range = (from: number, to: number, step = 1): number[] =>
  Array.from({ length: Math.ceil((to - from) / step) }, (_, index) => from + index * step);

function recordOf(bench: VolumeBench, block: number): { readonly path: string; readonly slot: number } {
  const found = recordsOn(bench.disk, SLOTS).findLast((each) => each.block === block);
  if (found === undefined) throw new Error(`no record of block ${block}`);
  return found;
}

function sizeOf(bench: VolumeBench, path: string): number {
  const file = bench.disk.file(path);
  const content = Buffer.alloc(file?.size ?? 0);
  file?.read(content, 0);
  // Of a copy of the pool's state, what is not padding.
  return path.endsWith('pool.state') ? 20 + content.readUInt32LE(12) : content.length;
}

const TABLE: readonly Row[] = [
  {
    what: 'any byte of the first copy of a chunk header',
    at: (bench) => range(0, 64).map((at) => [[recordOf(bench, 30).path, at]]),
    committed: 'same',
    dirty: 'same',
  },
  {
    what: 'any byte of the second copy of a chunk header',
    at: (bench) => range(2048, 2112).map((at) => [[recordOf(bench, 30).path, at]]),
    committed: 'same',
    dirty: 'same',
  },
  {
    what: 'the rest of the header slot',
    at: (bench) => [...range(64, 2048, 97), ...range(2112, 4096, 97)].map((at) => [[recordOf(bench, 30).path, at]]),
    committed: 'same',
    dirty: 'same',
  },
  {
    what: 'both copies of a chunk header, at any byte',
    at: (bench) =>
      range(0, 64).map((at) => [
        [recordOf(bench, 30).path, at],
        [recordOf(bench, 30).path, 2048 + at],
      ]),
    committed: 'same',
    dirty: 'refuses to start',
  },
  {
    what: 'any byte of the descriptor of a whole write',
    at: (bench) => {
      const { path, slot } = recordOf(bench, 30);
      return range(descriptorPosition(slot), descriptorPosition(slot + 1)).map((at) => [[path, at]]);
    },
    committed: 'same',
    dirty: 'refuses to start',
  },
  {
    what: 'the data of a write, in every sector',
    at: (bench) => {
      const { path, slot } = recordOf(bench, 30);
      return range(slotPosition(slot), slotPosition(slot + 1), 251).map((at) => [[path, at]]);
    },
    committed: 'same',
    dirty: 'told',
  },
  {
    what: 'a place that holds nothing: behind the last record, in the table and in the data',
    at: (bench) => {
      const { path, slot } = recordOf(bench, 30);
      const table = range(descriptorPosition(slot + 1), descriptorPosition(slot + 3), 5);
      return [...table, ...range(slotPosition(slot + 1), slotPosition(slot + 2), 499)].map((at) => [[path, at]]);
    },
    committed: 'same',
    dirty: 'same',
  },
  ...[0, COPY_BYTES].map((copy, index): Row => ({
    what: `bytes of the ${index === 0 ? 'first' : 'second'} copy of pool.state`,
    at: (bench) => range(index, sizeOf(bench, 'cache/pool.state'), 4).map((at) => [['cache/pool.state', copy + at]]),
    committed: 'same',
    dirty: 'same',
  })),
  {
    what: 'both copies of pool.state',
    at: (bench) =>
      range(0, sizeOf(bench, 'cache/pool.state'), 7).map((at) => [
        ['cache/pool.state', at],
        ['cache/pool.state', COPY_BYTES + at],
      ]),
    committed: 'refuses to start',
    dirty: 'refuses to start',
  },
  {
    what: 'bytes of the state file of the volume',
    at: (bench) => range(0, sizeOf(bench, 'volumes/vol.json'), 2).map((at) => [['volumes/vol.json', at]]),
    committed: 'refuses to start',
    dirty: 'refuses to start',
  },
];

/** Three generations of some blocks, all of it on stable storage; `dirty`: in no version. */
async function written(dirty: boolean): Promise<VolumeBench> {
  const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS, chunks: 4 });
  await bench.start();
  bench.shore.holdCommits = dirty;
  await bench.write(10, 1, 4);
  await bench.write(20, 2);
  await bench.write(10, 3, 4);
  await bench.write(11, 4);
  await bench.write(30, 5);
  if (!dirty) await bench.flushRemote();
  await bench.stop();
  return bench;
}

async function outcomeOf(bench: VolumeBench): Promise<string> {
  try {
    await bench.start();
  } catch (error) {
    return isKind(error, 'damaged') ? 'refuses to start' : String(error);
  }
  let outcome = 'same';
  for (const [block, value] of Object.entries(VALUES)) {
    try {
      const shown = await bench.byteOf(Number(block));
      if (shown !== value) return `block ${block} shows ${shown}, not ${value}`;
    } catch (error) {
      if (!isKind(error, 'damaged') || block !== '30') return `block ${block}: ${String(error)}`;
      outcome = 'told';
    }
  }
  return outcome;
}

describe.each(['committed', 'dirty'] as const)('what a start makes of a flipped bit, with everything %s', (state) => {
  test.each(TABLE.map((row) => [row.what, row] as const))('in %s', async (_, row) => {
    const bench = await written(state === 'dirty');
    const whole = bench.disk;
    const outcomes = new Map<string, string>();
    const places = row.at(bench, state === 'dirty');
    expect(places.length).toBeGreaterThan(0);
    for (const bits of places) {
      bench.disk = whole.copy('copy');
      for (const [path, position] of bits) bench.disk.file(path)?.flipBit(position, position % 8);
      const outcome = await outcomeOf(bench);
      bench.crash('process');
      if (outcome !== row[state]) outcomes.set(JSON.stringify(bits), outcome);
    }
    expect([...outcomes]).toEqual([]);
  });
});

describe('the end of a log that was not synced, torn at any sector of its data and at any descriptor', () => {
  /** Behind what was flushed: three writes, the last one over a part of the first. */
  const TAIL = [
    { block: 40, count: 2, value: 7 },
    { block: 42, count: 1, value: 8 },
    { block: 40, count: 1, value: 9 },
  ] as const;

  test('is what comes before the torn write, whole, and nothing of that one or of those behind it', async () => {
    const bench = new VolumeBench({ ramBlocks: 0, chunkSlots: SLOTS, chunks: 4, rpoMs: 600_000 });
    await bench.start();
    await bench.write(30, 5);
    await bench.flush();
    await bench.pass(5_000);
    for (const { block, count, value } of TAIL) await bench.write(block, value, count);
    bench.crash('process');
    const whole = bench.disk;
    const first = Math.max(...recordsOn(whole, SLOTS).map(({ seq }) => seq)) - TAIL.length + 1;
    const shownAfter = (writes: number): number[] => {
      const shown = [0, 0, 0];
      for (const { block, count, value } of TAIL.slice(0, writes)) shown.fill(value, block - 40, block - 40 + count);
      return shown;
    };
    for (const { path, slot, seq } of recordsOn(whole, SLOTS)) {
      if (seq < first) continue;
      for (const position of [
        descriptorPosition(slot) + 20,
        ...range(slotPosition(slot), slotPosition(slot + 1), 512),
      ]) {
        bench.disk = whole.copy('copy');
        bench.disk.file(path)?.flipBit(position, 1);
        await bench.start();
        const shown = [await bench.byteOf(40), await bench.byteOf(41), await bench.byteOf(42)];
        expect([seq, position, ...shown]).toEqual([seq, position, ...shownAfter(seq - first)]);
        expect(await bench.byteOf(30)).toBe(5);
        // And so it stays, over a power cut right behind too: what can be read of the torn write was destroyed.
        const isData = position >= slotPosition(slot);
        bench.crash(isData ? 'power' : 'process', { fate: isData ? 'lost' : undefined });
        await bench.start();
        expect([await bench.byteOf(40), await bench.byteOf(41), await bench.byteOf(42)]).toEqual(shown);
        bench.crash('process');
      }
    }
  });
});
