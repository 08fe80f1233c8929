import { expect, it } from 'vitest';
import { workingSet } from '../stress/working-set.ts';

const MIB = 1024 * 1024;
const BLOCK = 4096;
/** The smallest cache there is, and as much more as there is time for: eight times it with npm run stress. */
const CACHE_BYTES = 256 * MIB;
const RATIO = 2;
const MOST_RSS = 512 * MIB;

it('a working set larger than the cache: every block is what was written last, evicted and fetched as it goes, in memory that does not grow with it', async () => {
  const blocks = (CACHE_BYTES * RATIO) / BLOCK;
  const report = await workingSet({ cacheBytes: CACHE_BYTES, ratio: RATIO, operations: 2000, seed: 1 });
  expect(report).toMatchObject({ wrong: [], verdict: 'pass' });
  expect(report.checked).toBeGreaterThan(blocks);
  // What does not fit has left the log at least once, and came back for the last look.
  expect(report.counts.evicted).toBeGreaterThan(blocks / 4);
  expect(report.counts.fills).toBeGreaterThan(0);
  expect(report.counts.reclaimedChunks).toBeGreaterThan(0);
  expect(report.versions).toBeGreaterThan(10);
  expect(new Set(report.hitRatios).size).toBeGreaterThan(2);
  expect(report.mostRssBytes).toBeLessThan(MOST_RSS);
}, 300_000);
