/**
 * How writes slow down while the cloud is away: the gateway's admission on a simulated clock, as a table for docs/BACKPRESSURE.md.
 *   npm run backpressure -- [--size 20G] [--depth 32] [--io 4096] [--rate 100M] [--update]
 * `--rate`: what the device would take a second (bytes); `--update`: put the tables into the document.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { describeError, FarshoreError } from '../gateway/base/errors.ts';
import { formatDuration, formatSize, parseSize } from '../gateway/base/size.ts';
import { BLOCK_SIZE } from '../gateway/base/units.ts';
import { Admission } from '../gateway/cache/admission.ts';
import { writeDelayMs } from '../gateway/cache/pressure.ts';
import { SimClock } from '../test/sim/sim-clock.ts';
import { SimRandom } from '../test/sim/sim-random.ts';

/** As in the gateway's settings. */
const MAX_WAIT_MS = 20_000;
/** What is told of each step: writes that were let in while the share was between two of them. */
const STEPS = [0, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1];
const DOCUMENT = join(resolve(import.meta.dirname, '../docs'), 'BACKPRESSURE.md');
const BEGIN = '<!-- npm run backpressure -->';
const END = '<!-- end -->';
/** The cache is simulated with so many slots at most: the curve depends on shares and times alone. */
const MAX_SLOTS = 40_000;

export interface Load {
  readonly cacheBytes: number;
  readonly depth: number;
  readonly ioBytes: number;
  /** Bytes a second, before anything is held back. */
  readonly rate: number;
}

export interface StepFigures {
  readonly from: number;
  readonly to: number;
  readonly writes: number;
  /** How long admission held writes back, in ms. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly busy: number;
  /** How long the share stayed within the step, in seconds of the whole cache (not of the simulated one). */
  readonly seconds: number;
}

/** Writes without a cloud until the cache is full and a write is told BUSY; one entry for each step. */
export async function fillWithoutCloud(load: Load): Promise<readonly StepFigures[]> {
  const clock = new SimClock(new SimRandom(1));
  const perWrite = Math.max(1, Math.ceil(load.ioBytes / BLOCK_SIZE));
  const total = Math.min(MAX_SLOTS * perWrite, Math.floor(load.cacheBytes / BLOCK_SIZE));
  /** So much longer the real cache takes for the same share. */
  const scale = load.cacheBytes / BLOCK_SIZE / total;
  let used = 0;
  const writer = {};
  const admission: Admission<object> = new Admission<object>(clock, MAX_WAIT_MS, {
    space: () => total - used,
    share: (): number => Math.min(1, (used + admission.reserved) / total),
    weight: () => 1,
    isKeptFrom: () => false,
    pressed: () => undefined,
  });
  const serviceMs = (load.depth * load.ioBytes * 1000) / load.rate;
  const steps = STEPS.slice(1).map((to, index) => ({
    from: STEPS[index] ?? 0,
    to,
    delays: [] as number[],
    busy: 0,
    ms: 0,
  }));
  const stepOf = (share: number): (typeof steps)[number] => {
    const last = steps[steps.length - 1];
    return steps.find(({ to }) => share < to) ?? (last as (typeof steps)[number]); // there are steps
  };
  let isOver = false;
  let lastMs = 0;
  const one = async (): Promise<void> => {
    while (!isOver) {
      const arrivedMs = clock.monotonicMs();
      try {
        await admission.reserve(perWrite, writer);
      } catch (error) {
        if (!(error instanceof FarshoreError) || error.kind !== 'busy') throw error;
        stepOf(used / total).busy += 1;
        isOver = true;
        return;
      }
      const now = clock.monotonicMs();
      const step = stepOf(used / total);
      step.delays.push(now - arrivedMs);
      step.ms += now - lastMs;
      lastMs = now;
      used += perWrite;
      admission.release(perWrite);
      await new Promise<void>((resolve) => {
        clock.startTimer(serviceMs, resolve);
      });
    }
  };
  await clock.settle(Promise.all(Array.from({ length: load.depth }, one)));
  return steps.map(({ from, to, delays, busy, ms }) => {
    delays.sort((a, b) => a - b);
    const at = (share: number): number => delays[Math.min(delays.length - 1, Math.floor(delays.length * share))] ?? 0;
    const seconds = (ms / 1000) * scale;
    return { from, to, writes: delays.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1), busy, seconds };
  });
}

/** As a table in Markdown. */
export function table(load: Load, steps: readonly StepFigures[]): string {
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  const ms = (value: number): string => (value < 0.05 ? '0' : formatDelay(value));
  let seconds = 0;
  const rows = steps.map((step) => {
    seconds += step.seconds;
    const bytes = (step.to - step.from) * load.cacheBytes;
    const rate = step.seconds > 0 ? `${formatSize(bytes / step.seconds)}/s` : '';
    const cells = [
      `${percent(step.from)} to ${percent(step.to)}`,
      ms(writeDelayMs(step.from)),
      ms(step.p50Ms),
      ms(step.p99Ms),
      rate,
      formatDuration(seconds * 1000),
      step.busy > 0 ? 'BUSY after 20 s' : '',
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    `${formatSize(load.cacheBytes)} of cache, writes of ${formatSize(load.ioBytes)} at depth ${load.depth}, ${formatSize(load.rate)}/s before anything is held back:`,
    '',
    '| dirty | delay by the formula | held back, p50 | p99 | written | after | |',
    '|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

function formatDelay(value: number): string {
  return value < 10 ? `${value.toFixed(1)} ms` : formatDuration(value);
}

if (process.argv[1] === import.meta.filename) {
  try {
    const { values } = parseArgs({
      options: {
        size: { type: 'string' },
        depth: { type: 'string', default: '32' },
        io: { type: 'string' },
        rate: { type: 'string', default: '100M' },
        update: { type: 'boolean', default: false },
      },
    });
    const cacheBytes = parseSize(values.size ?? '20G', '--size');
    const rate = parseSize(values.rate, '--rate');
    const sizes = values.io === undefined ? [4096, 256 * 1024] : [parseSize(values.io, '--io')];
    const tables: string[] = [];
    for (const ioBytes of sizes) {
      const load = { cacheBytes, depth: Number(values.depth), ioBytes, rate };
      tables.push(table(load, await fillWithoutCloud(load)));
    }
    const text = tables.join('\n\n');
    console.log(text);
    if (values.update) {
      const document = readFileSync(DOCUMENT, 'utf8');
      const from = document.indexOf(BEGIN);
      const to = document.indexOf(END);
      if (from < 0 || to < from) throw new FarshoreError('input', `${DOCUMENT} has no place for the tables`);
      writeFileSync(DOCUMENT, `${document.slice(0, from + BEGIN.length)}\n\n${text}\n\n${document.slice(to)}`);
    }
  } catch (error) {
    console.error(`backpressure: ${describeError(error)}`);
    process.exitCode = 1;
  }
}
