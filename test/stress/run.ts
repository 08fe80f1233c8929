import { parseArgs } from 'node:util';
import { formatSize, parseSize } from '../../gateway/base/size.ts';
import { workingSet } from './working-set.ts';

/**
 * A working set of several times the cache, every block of it compared (npm run build first):
 *   npm run stress                                     eight times 256 MiB
 *   npm run stress -- --cache 1G --ratio 8 --operations N --seed S
 */
const { values } = parseArgs({
  options: {
    cache: { type: 'string', default: '256M' },
    ratio: { type: 'string', default: '8' },
    operations: { type: 'string', default: '400000' },
    seed: { type: 'string', default: '1' },
  },
});
const started = performance.now();
const report = await workingSet({
  cacheBytes: parseSize(values.cache, '--cache'),
  ratio: Number(values.ratio),
  operations: Number(values.operations),
  seed: Number(values.seed),
  tell: (line) => process.stdout.write(`${Math.round((performance.now() - started) / 1000)} s: ${line}\n`),
});
const { wrong, hitRatios, mostRssBytes, ...figures } = report;
process.stdout.write(
  `${JSON.stringify({ ...figures, hitRatio: hitRatios.at(-1), mostRss: formatSize(mostRssBytes), seconds: Math.round((performance.now() - started) / 1000) })}\n`,
);
for (const line of wrong) process.stdout.write(`${line}\n`);
process.stdout.write(`${wrong.length === 0 ? 'every block was what was written last' : 'FAILED'}\n`);
process.exitCode = wrong.length === 0 && report.verdict === 'pass' ? 0 : 1;
