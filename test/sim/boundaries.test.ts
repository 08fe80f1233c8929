import { describe, expect, it } from 'vitest';
import { undergo, type Ordeal } from './boundaries.ts';
import type { CallKind } from './disk-calls.ts';
import { PATIENCE_MS } from './seed-range.ts';

/** `all`: everything at every call. Otherwise one way to die, or to fail, at one of so many calls, in turns: `npm run sim:boundaries` is the long form. */
const IS_LONG = process.env['FARSHORE_BOUNDARIES'] === 'all';
const STRIDE = IS_LONG ? 1 : 12;
/** The long form takes the better part of an hour, on a busy machine several. */
const TIMEOUT_MS = IS_LONG ? 24 * PATIENCE_MS : PATIENCE_MS;
const SEED = Number(process.env['FARSHORE_BOUNDARY_SEED'] ?? 1);

type Way = Pick<NonNullable<Ordeal['death']>, 'moment' | 'kind' | 'late' | 'fate'>;

const DEATHS: readonly Way[] = [
  { moment: 'begun', kind: 'process', late: 0, fate: undefined },
  { moment: 'done', kind: 'power', late: 0, fate: 'lost' },
  { moment: 'begun', kind: 'process', late: 0.7, fate: undefined },
  { moment: 'begun', kind: 'power', late: 1, fate: 'sectors' },
  { moment: 'done', kind: 'process', late: 0.5, fate: undefined },
  { moment: 'done', kind: 'power', late: 0.5, fate: 'writes' },
  { moment: 'begun', kind: 'power', late: 0.5, fate: 'prefix' },
];

/** What leaves the disk as it was; a crash there is one after the call before. */
const ONLY_LOOKS: ReadonlySet<CallKind | undefined> = new Set(['read', 'size', 'ls', 'open', 'close']);
const CANNOT_FAIL: ReadonlySet<CallKind | undefined> = new Set(['size', 'ls', 'close', 'rm']);

async function enumerate(
  sameTurn: 0 | 1,
  leftOut: ReadonlySet<CallKind | undefined>,
  ordealsAt: (call: number, turn: number) => readonly Omit<Ordeal, 'seed' | 'sameTurn'>[],
): Promise<number> {
  const kinds = await undergo({ seed: SEED, sameTurn });
  const calls = kinds.flatMap((kind, index) => (leftOut.has(kind) ? [] : [index + 1]));
  let ran = 0;
  for (let turn = SEED % STRIDE; turn < calls.length; turn += STRIDE)
    for (const ordeal of ordealsAt(calls[turn] ?? 0, Math.floor(turn / STRIDE))) {
      await undergo({ seed: SEED, sameTurn, ...ordeal });
      ran++;
    }
  process.stdout.write(`boundaries: ${ran} runs over ${calls.length} of ${kinds.length} calls\n`);
  return calls.length;
}

describe.each(IS_LONG ? ([0, 1] as const) : ([0] as const))(
  'a crash at any call of the disk (answers in the same turn: %i)',
  (sameTurn) => {
    it(
      'keeps what was answered over the death of the process, and what was flushed over a power cut',
      { timeout: TIMEOUT_MS },
      async () => {
        const calls = await enumerate(sameTurn, ONLY_LOOKS, (call, turn) => {
          const ways = IS_LONG ? DEATHS : [DEATHS[turn % DEATHS.length]];
          return ways.flatMap((way) => (way === undefined ? [] : [{ death: { call, ...way } }]));
        });
        expect(calls).toBeGreaterThan(300);
      },
    );
  },
);

describe.each(IS_LONG ? ([0, 1] as const) : ([1] as const))(
  'a fault at any call of the disk (answers in the same turn: %i)',
  (sameTurn) => {
    it('shows nothing but what was written, whether it fails once or for ever', { timeout: TIMEOUT_MS }, async () => {
      const calls = await enumerate(sameTurn, CANNOT_FAIL, (call, turn) => {
        const ever = IS_LONG ? [false, true] : [turn % 2 === 0];
        return ever.map((forEver) => ({ failure: { call, forEver } }));
      });
      expect(calls).toBeGreaterThan(300);
    });
  },
);
