import { writeFileSync } from 'node:fs';
import { goldenFiles } from './samples.ts';

/** Writes the golden files: `npx tsx test/golden/write.ts`. Files that were released must come out unchanged. */
for (const [name, bytes] of goldenFiles()) writeFileSync(new URL(name, import.meta.url), bytes);
