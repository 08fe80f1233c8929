import { ChunkedCache, LruCache } from './caches.ts';
import { CAPACITY, CHUNK_BLOCKS, CHUNKS, TRACES } from './settings.ts';
import { runTrace, type TraceResult } from './traces.ts';

// npm run hitratio: the table of docs/CACHE.md.
const percent = ({ hits, reads }: TraceResult): string => `${((100 * hits) / reads).toFixed(1)} %`;
const NONE: TraceResult = { reads: 1, hits: 0 };

console.log('| trace | LRU | Farshore | written again per block reclaimed |');
console.log('|---|---|---|---|');
for (const { name, options } of TRACES) {
  const cache = new ChunkedCache(CHUNKS, CHUNK_BLOCKS);
  const [lru = NONE, ours = NONE] = runTrace(options, [new LruCache(CAPACITY), cache]);
  const again = cache.moved / (cache.reclaimed * CHUNK_BLOCKS);
  console.log(`| ${name} | ${percent(lru)} | ${percent(ours)} | ${again.toFixed(2)} |`);
}
