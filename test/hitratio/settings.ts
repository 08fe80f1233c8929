import type { TraceOptions } from './traces.ts';

/** Chunks of the modelled cache, and blocks in each: the policy sees nothing but their ratio. */
export const CHUNKS = 64;
export const CHUNK_BLOCKS = 64;
export const CAPACITY = CHUNKS * CHUNK_BLOCKS;

const base = { seed: 'hit ratio', blocks: 8 * CAPACITY, accesses: 24 * CAPACITY, skew: 0.9, writes: 0 };
const NO_SCANS = { scanEvery: 0, scanBlocks: 0 };

/** What the table in docs/CACHE.md shows. The volume is eight times the cache. */
export const TRACES: readonly { readonly name: string; readonly scans: boolean; readonly options: TraceOptions }[] = [
  { name: 'reads, zipf 0.9', scans: false, options: { ...base, ...NO_SCANS } },
  { name: 'reads, zipf 0.7', scans: false, options: { ...base, skew: 0.7, ...NO_SCANS } },
  { name: 'reads, zipf 1.1', scans: false, options: { ...base, skew: 1.1, ...NO_SCANS } },
  {
    name: 'reads, zipf 0.9, a scan of half the cache now and then',
    scans: true,
    options: { ...base, scanEvery: CAPACITY / 2, scanBlocks: CAPACITY / 2 },
  },
  {
    name: 'reads, zipf 0.9, a scan of the size of the cache now and then',
    scans: true,
    options: { ...base, scanEvery: CAPACITY, scanBlocks: CAPACITY },
  },
  {
    name: 'reads, zipf 0.9, a scan of half the volume now and then',
    scans: true,
    options: { ...base, scanEvery: 4 * CAPACITY, scanBlocks: 4 * CAPACITY },
  },
  {
    name: '30 % writes, zipf 0.9, a scan of the size of the cache now and then',
    scans: true,
    options: { ...base, writes: 0.3, scanEvery: CAPACITY, scanBlocks: CAPACITY },
  },
  { name: '30 % writes, zipf 0.9', scans: false, options: { ...base, writes: 0.3, ...NO_SCANS } },
  { name: 'reads, every block alike', scans: false, options: { ...base, skew: 0, ...NO_SCANS } },
];
