import { describe, expect, test } from 'vitest';
import { Ghosts, nextVictim, queueSizes, type Queue } from '../../../gateway/cache/s3-fifo.ts';
import { ChunkedCache, LruCache } from '../../hitratio/caches.ts';
import { CAPACITY, CHUNK_BLOCKS, CHUNKS, TRACES } from '../../hitratio/settings.ts';
import { runTrace } from '../../hitratio/traces.ts';

/** A shorter form of each trace: half the length is enough to tell them apart. */
function ratios(name: string): { lru: number; ours: number } {
  const trace = TRACES.find((candidate) => candidate.name === name);
  if (trace === undefined) throw new Error(`there is no trace "${name}"`);
  const caches = [new LruCache(CAPACITY), new ChunkedCache(CHUNKS, CHUNK_BLOCKS)];
  const [lru, ours] = runTrace({ ...trace.options, accesses: trace.options.accesses / 2 }, caches).map(
    ({ hits, reads }) => hits / reads,
  );
  console.log(`${name}: LRU ${((lru ?? 0) * 100).toFixed(1)} %, ours ${((ours ?? 0) * 100).toFixed(1)} %`);
  return { lru: lru ?? 1, ours: ours ?? 0 };
}

describe('the hit ratio of skewed reads', () => {
  test('is above that of an LRU of the same size', () => {
    const { lru, ours } = ratios('reads, zipf 0.9');
    expect(ours).toBeGreaterThan(lru + 0.02);
  });

  test('is clearly above that of an LRU when scans come between, and hardly below what it is without them', () => {
    const calm = ratios('reads, zipf 0.9');
    const scanned = ratios('reads, zipf 0.9, a scan of the size of the cache now and then');
    expect(scanned.ours).toBeGreaterThan(scanned.lru + 0.1);
    expect(scanned.ours).toBeGreaterThan(calm.ours - 0.04);
    expect(scanned.lru).toBeLessThan(calm.lru - 0.08);
  });

  test('is above that of an LRU with scans also when a third of the accesses are writes', () => {
    const { lru, ours } = ratios('30 % writes, zipf 0.9, a scan of the size of the cache now and then');
    expect(ours).toBeGreaterThan(lru + 0.05);
  });
});

describe('the chunk that goes next', () => {
  const sizes = queueSizes(20, 100);
  const chunks = (queues: readonly Queue[]): { queue: Queue; at: number }[] =>
    queues.map((queue, at) => ({ queue, at }));
  const all = (): boolean => true;

  test('is the oldest of small as soon as small is a tenth of the cache', () => {
    expect(nextVictim(chunks(['main', 'small', 'main', 'small']), all, sizes)?.at).toBe(1);
  });

  test('is the oldest of main before that', () => {
    expect(nextVictim(chunks(['small', 'main', 'main']), all, sizes)?.at).toBe(1);
  });

  test('is of the other queue where everything of the first has to stay', () => {
    const isMain = ({ queue }: { queue: Queue }): boolean => queue === 'main';
    expect(nextVictim(chunks(['small', 'small', 'small', 'main']), isMain, sizes)?.at).toBe(3);
    expect(nextVictim(chunks(['small', 'main']), ({ queue }) => queue === 'small', sizes)?.at).toBe(0);
    expect(nextVictim(chunks(['small', 'main']), () => false, sizes)).toBeUndefined();
  });

  test('a pool of a few chunks moves nothing on', () => {
    expect(queueSizes(7, 100).mostMoved).toBe(0);
    expect(queueSizes(8, 100).mostMoved).toBe(50);
  });
});

describe('the ghosts', () => {
  test('know each block once, of its own volume', () => {
    const ghosts = new Ghosts(256);
    ghosts.add(1, 77);
    expect(ghosts.take(2, 77)).toBe(false);
    expect(ghosts.take(1, 77)).toBe(true);
    expect(ghosts.take(1, 77)).toBe(false);
  });

  test('keep blocks beyond 2^32 apart', () => {
    const ghosts = new Ghosts(256);
    ghosts.add(1, 5 + 2 ** 32);
    expect(ghosts.take(1, 5)).toBe(false);
    expect(ghosts.take(1, 5 + 2 ** 32)).toBe(true);
  });

  test('forget the oldest first, and most of half their number not at all', () => {
    const ghosts = new Ghosts(1024);
    for (let block = 0; block < 10_000; block++) ghosts.add(1, block);
    let late = 0;
    for (let block = 9488; block < 10_000; block++) if (ghosts.take(1, block)) late++;
    expect(late).toBeGreaterThan(512 * 0.85);
    let early = 0;
    for (let block = 0; block < 5000; block++) if (ghosts.take(1, block)) early++;
    expect(early).toBe(0);
  });
});
