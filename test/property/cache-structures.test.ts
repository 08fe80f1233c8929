import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BlockIndex } from '../../gateway/cache/block-index.ts';
import { LeafSlab } from '../../gateway/cache/leaf-slab.ts';
import { RamTier } from '../../gateway/cache/ram-tier.ts';
import { BatchBuilder } from '../../gateway/volume/batch-builder.ts';
import { BlockSet } from '../../gateway/volume/block-set.ts';
import { PendingUnmaps } from '../../gateway/volume/pending-unmaps.ts';

const SPACE = 200;
const block = fc.integer({ min: 0, max: SPACE - 1 });
const count = fc.integer({ min: 1, max: 30 });

/** Timers that fire when a turn ends, and the views that were given out in the present one, which nobody may change. */
class ManualTurns {
  views: { readonly data: Buffer; readonly byte: number | undefined }[] = [];
  #waiting: (() => void)[] = [];

  startTimer(_delayMs: number, fire: () => void): () => void {
    this.#waiting.push(fire);
    return () => undefined;
  }

  pass(): void {
    // A timer may fire in the very turn in which something was lent.
    for (const fire of this.#waiting.splice(0)) fire();
    for (const view of this.views) expect([view.data[0], view.data[4095]]).toEqual([view.byte, view.byte]);
    this.views = [];
  }
}

/** Copies what is there of the range, in runs, and compares it with the model, but for the first and the last byte, which are left out. */
function expectCopies(
  ram: RamTier,
  { volume, block, count }: { readonly volume: number; readonly block: number; readonly count: number },
  model: ReadonlyMap<string, number>,
): void {
  const slots = Int32Array.from({ length: count }, (_, at) => ram.slotOf(volume, block + at + 2 ** 33));
  const hits = ram.hits;
  let there = 0;
  for (let at = 0; at < count;) {
    const slot = slots[at] ?? -1;
    if (slot < 0) {
      at += 1;
      continue;
    }
    const run = ram.runOf(slots, at, count);
    const into = Buffer.alloc(run * 4096 + 10);
    expect(ram.copyOut(slot, run, 1, run * 4096 - 1, into, 7)).toBe(run * 4096 - 2);
    const expected = Buffer.alloc(run * 4096 + 10);
    for (let i = 0; i < run; i++)
      expected.fill(model.get(`${volume}/${block + at + i}`) ?? 0, 6 + i * 4096, 6 + (i + 1) * 4096);
    expected.fill(0, 0, 7).fill(0, 7 + run * 4096 - 2);
    expect(into.equals(expected)).toBe(true);
    at += run;
    there += run;
  }
  expect(ram.hits - hits).toBe(there);
}

describe('the RAM tier', () => {
  test('gives back the newest content of what it still has, never anything else, and changes nothing it has given out in a turn', () => {
    const step = fc.record({
      what: fc.constantFrom('put', 'put', 'run', 'run', 'get', 'copy', 'remove', 'range', 'volume', 'read', 'turn'),
      volume: fc.integer({ min: 1, max: 3 }),
      block,
      count,
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), fc.integer({ min: 1, max: 40 }), (steps, slots) => {
        const turns = new ManualTurns();
        const ram = new RamTier(slots * 4096, turns);
        const model = new Map<string, number>();
        let stamp = 0;
        for (const each of steps) {
          const key = `${each.volume}/${each.block}`;
          if (each.what === 'put') {
            const bytes = Buffer.alloc(5000, ++stamp);
            ram.put(each.volume, each.block + 2 ** 33, [bytes.subarray(0, 1000), bytes.subarray(1000)], 900);
            model.set(key, stamp & 255);
          } else if (each.what === 'run') {
            // Block i of the run is filled with stamp + i.
            const data = Buffer.alloc(100 + each.count * 4096);
            for (let i = 0; i < each.count; i++) data.fill(++stamp, 100 + i * 4096, 100 + (i + 1) * 4096);
            ram.putRun(each.volume, each.block + 2 ** 33, each.count, data, 100);
            for (let i = 0; i < each.count; i++)
              model.set(`${each.volume}/${each.block + i}`, (stamp - each.count + 1 + i) & 255);
          } else if (each.what === 'copy') {
            expectCopies(ram, each, model);
          } else if (each.what === 'read') {
            const slot = ram.borrow();
            if (slot >= 0) {
              ram.viewOf(slot).fill(++stamp);
              if (each.count % 2 === 0) ram.giveBack(slot);
              else {
                ram.enter(slot, each.volume, each.block + 2 ** 33);
                model.set(key, stamp & 255);
              }
            }
          } else if (each.what === 'turn') {
            turns.pass();
          } else if (each.what === 'remove') {
            ram.remove(each.volume, each.block + 2 ** 33);
            model.delete(key);
          } else if (each.what === 'range') {
            ram.removeRange(each.volume, each.block + 2 ** 33, each.count);
            for (let i = 0; i < each.count; i++) model.delete(`${each.volume}/${each.block + i}`);
          } else if (each.what === 'volume') {
            ram.removeVolume(each.volume);
            for (const known of [...model.keys()]) if (known.startsWith(`${each.volume}/`)) model.delete(known);
          }
          const data = ram.get(each.volume, each.block + 2 ** 33);
          if (data !== undefined) {
            expect([data[0], data[4095]]).toEqual([model.get(key), model.get(key)]);
            turns.views.push({ data, byte: model.get(key) });
          }
          for (const view of turns.views) expect([view.data[0], view.data[4095]]).toEqual([view.byte, view.byte]);
          expect(ram.blocks).toBeLessThanOrEqual(Math.min(slots, model.size === 0 ? 0 : slots));
        }
      }),
      { numRuns: 200 },
    );
  });

  test('keeps everything while there is room', () => {
    const ram = new RamTier(1000 * 4096, new ManualTurns());
    for (let at = 0; at < 1000; at++) ram.put(1, at * 7919, [Buffer.alloc(4096, at)], 0);
    for (let at = 0; at < 1000; at++) expect(ram.get(1, at * 7919)?.[17]).toBe(at & 255);
    expect(ram.blocks).toBe(1000);
  });
});

describe('the block index', () => {
  test('does what a map does, and counts', () => {
    const step = fc.record({
      what: fc.constantFrom('set', 'dirty', 'clean', 'clear', 'range', 'clearIfAt', 'visit', 'places'),
      block: fc.integer({ min: 0, max: 3000 }),
      count: fc.integer({ min: 1, max: 2000 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const index = new BlockIndex(new LeafSlab(1 << 20));
        const model = new Map<number, { place: number; dirty: boolean }>();
        let place = 100;
        for (const each of steps) {
          const known = model.get(each.block);
          switch (each.what) {
            case 'set':
            case 'dirty':
              index.set(each.block, ++place, each.what === 'dirty');
              model.set(each.block, { place, dirty: each.what === 'dirty' });
              break;
            case 'clean':
              index.markClean(each.block, known?.place ?? 7);
              if (known !== undefined) known.dirty = false;
              break;
            case 'clear':
              index.clear(each.block);
              model.delete(each.block);
              break;
            case 'clearIfAt':
              index.clearIfAt(each.block, each.count % 2 === 0 ? (known?.place ?? 7) : 7);
              if (each.count % 2 === 0) model.delete(each.block);
              break;
            case 'visit':
              index.visit(each.block);
              break;
            case 'range':
              index.clearRange(each.block, each.count);
              for (const at of [...model.keys()])
                if (at >= each.block && at < each.block + each.count) model.delete(at);
              break;
            case 'places':
              index.clearPlaces(each.block, each.block + 5);
              for (const [at, entry] of [...model])
                if (entry.place >= each.block && entry.place < each.block + 5) model.delete(at);
              break;
          }
          expect(index.place(each.block)).toBe(model.get(each.block)?.place ?? 0);
          expect(index.isDirty(each.block)).toBe(model.get(each.block)?.dirty ?? false);
        }
        expect(index.blocks).toBe(model.size);
        expect(index.dirtyBlocks).toBe([...model.values()].filter(({ dirty }) => dirty).length);
        for (const [at, entry] of model) expect(index.place(at)).toBe(entry.place);
      }),
      { numRuns: 200 },
    );
  });

  test('stays within its budget by dropping clean leaves, and never a dirty one', () => {
    const slab = new LeafSlab(64 * 2048);
    const index = new BlockIndex(slab);
    const other = new BlockIndex(slab);
    for (let leaf = 0; leaf < 20; leaf++) index.set(leaf * 512, leaf + 1, true);
    for (let leaf = 0; leaf < 500; leaf++) other.set(leaf * 512 + 3, leaf + 1, false);
    expect(slab.leavesInUse).toBe(64);
    for (let leaf = 0; leaf < 20; leaf++) expect(index.place(leaf * 512)).toBe(leaf + 1);
    expect(other.blocks).toBe(44);
    expect(other.place(499 * 512 + 3)).toBe(500);
    other.clearAll();
    index.clearAll();
    expect(slab.leavesInUse).toBe(0);
  });

  test('says when too many leaves are dirty', () => {
    const slab = new LeafSlab(64 * 2048);
    const index = new BlockIndex(slab);
    for (let leaf = 0; leaf < 70; leaf++) index.set(leaf * 512, leaf + 1, true);
    expect(slab.crowded).toBe(true);
    for (let leaf = 0; leaf < 30; leaf++) index.markClean(leaf * 512, leaf + 1);
    expect(slab.crowded).toBe(false);
  });
});

describe('a set of blocks', () => {
  test('is the set of its blocks, in ranges that neither overlap nor touch', () => {
    const step = fc.record({ add: fc.boolean(), block, count });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const set = new BlockSet();
        const model = new Set<number>();
        for (const each of steps) {
          if (each.add) set.add(each.block, each.count);
          else set.remove(each.block, each.count);
          for (let i = 0; i < each.count; i++) {
            if (each.add) model.add(each.block + i);
            else model.delete(each.block + i);
          }
        }
        const pairs = set.pairs();
        const blocks: number[] = [];
        for (let at = 0; at < pairs.length; at += 2) {
          if (at > 0) expect(pairs[at]).toBeGreaterThan((pairs[at - 2] ?? 0) + (pairs[at - 1] ?? 0));
          for (let i = 0; i < (pairs[at + 1] ?? 0); i++) blocks.push((pairs[at] ?? 0) + i);
        }
        expect(blocks).toEqual([...model].sort((a, b) => a - b));
        for (let at = 0; at < SPACE + 40; at++) expect(set.has(at)).toBe(model.has(at));
        expect(set.size).toBe(pairs.length / 2);
      }),
    );
  });
});

describe('pending unmaps', () => {
  test('cover what was unmapped after the last commit, the newest sequence counting', () => {
    const step = fc.record({ commit: fc.boolean(), block, count, back: fc.integer({ min: 0, max: 5 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const unmaps = new PendingUnmaps();
        const model = new Map<number, number>();
        let seq = 0;
        for (const each of steps) {
          if (each.commit) {
            const through = seq - each.back;
            unmaps.dropThrough(through);
            for (const [at, since] of [...model]) if (since <= through) model.delete(at);
          } else {
            unmaps.add(each.block, each.count, ++seq);
            for (let i = 0; i < each.count; i++) model.set(each.block + i, seq);
          }
        }
        for (let at = 0; at < SPACE + 40; at++) {
          expect(unmaps.covers(at)).toBe(model.has(at));
          const boundary = Math.min(unmaps.boundaryAfter(at), SPACE + 40);
          let end = at + 1;
          while (end < SPACE + 40 && model.has(end) === model.has(at)) end++;
          // A stretch may be cut where sequences differ, but never joined.
          expect(boundary > at && boundary <= end).toBe(true);
        }
      }),
    );
  });
});

describe('a batch', () => {
  test('has each block once in its newest form, and unmaps that touch no block of it', () => {
    const step = fc.record({ unmap: fc.boolean(), block, count });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 80 }), (steps) => {
        const builder = new BatchBuilder();
        const written = new Map<number, { place: number; seq: number }>();
        const unmapped = new Set<number>();
        steps.forEach((each, at) => {
          const seq = at + 10;
          if (each.unmap) {
            builder.addUnmap(seq, 1000 + at, at, [{ block: each.block, count: each.count }]);
            for (let i = 0; i < each.count; i++) {
              written.delete(each.block + i);
              unmapped.add(each.block + i);
            }
          } else {
            builder.addWrite(seq, 1000 + at, at, each.block, each.count, {
              placeAt: (index) => seq * 100 + index,
            });
            for (let i = 0; i < each.count; i++) {
              written.set(each.block + i, { place: seq * 100 + i, seq });
              unmapped.delete(each.block + i);
            }
          }
        });
        expect(builder.blocks).toBe(written.size);
        const batch = builder.seal();
        expect([batch.firstSeq, batch.throughSeq]).toEqual([10, steps.length + 9]);
        expect([...batch.blocks]).toEqual([...written.keys()].sort((a, b) => a - b));
        batch.blocks.forEach((each, at) => {
          expect({ place: batch.places[at], seq: batch.seqs[at] }).toEqual(written.get(each));
        });
        const blocks = new Set<number>();
        for (let at = 0; at < batch.unmaps.length; at += 2)
          for (let i = 0; i < (batch.unmaps[at + 1] ?? 0); i++) blocks.add((batch.unmaps[at] ?? 0) + i);
        expect([...blocks].sort((a, b) => a - b)).toEqual([...unmapped].sort((a, b) => a - b));
        expect(batch.newestWriteAt).toBe(1000 + steps.length - 1);
        expect(batch.oldestMs).toBe(0);
        expect(builder.isEmpty).toBe(true);
      }),
    );
  });
});
