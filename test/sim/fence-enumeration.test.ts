import { describe, expect, it } from 'vitest';
import { READER_RULES } from '../../gateway/maintenance/walk-machine.ts';
import { FENCE_RULES } from '../../gateway/replication/fence-machine.ts';
import { CI_BATTERY } from './fence-battery.ts';
import { NO_MUTATIONS } from './fence-bounds.ts';
import type { Bounds, Mutations } from './fence-bounds.ts';
import { search } from './fence-search.ts';
import { FenceSpace } from './fence-space.ts';

/** Only a last resort against a hang; the bounds decide how long it takes. */
const LONGEST_MS = 600_000;
const MOST_STATES = 5_000_000;
/** A counterexample is a shortest one, and short. */
const LONGEST_TRACE = 30;

describe('the fence holds in every interleaving of', () => {
  it.each(CI_BATTERY)(
    '$name',
    ({ name, bounds, atLeastStates }) => {
      const space = new FenceSpace(bounds);
      const result = search(space, { maxStates: MOST_STATES });
      expect(result).toMatchObject({ outcome: 'holds' });
      expect(result.states).toBeGreaterThanOrEqual(atLeastStates);
      expect([...space.phases].sort()).toEqual([
        'active',
        'checking-after',
        'checking-before',
        'composing',
        'looking',
        'notifying',
        'raising',
        'returning',
        'stopped',
        'taking',
        'walking',
      ]);
      console.info(
        `fence: ${name}: ${result.states} states, ${result.transitions} transitions, depth ${result.depth}; ` +
          `the machines in ${space.machineStates} states, run ${space.machineSteps} times`,
      );
    },
    LONGEST_MS,
  );
});

describe('the fence breaks, and the enumeration shows how, when', () => {
  const small: Bounds = {
    writers: 2,
    versions: 2,
    sends: 2,
    depth: 2,
    slots: 4,
    folds: 1,
    resends: 0,
    lostRaises: 0,
    walks: 1,
    raises: 1,
    readerWalks: 0,
  };
  const without = (rule: keyof typeof FENCE_RULES): Partial<Mutations> => ({
    fence: { ...FENCE_RULES, [rule]: false },
  });
  const readingWithout = (rule: keyof typeof READER_RULES): Partial<Mutations> => ({
    reader: { ...READER_RULES, [rule]: false },
  });

  const broken: readonly {
    readonly what: string;
    readonly mutations: Partial<Mutations>;
    readonly bounds: Partial<Bounds>;
    readonly violation: RegExp;
  }[] = [
    {
      what: 'a takeover is put by attribute_not_exists alone (rule 1)',
      mutations: without('takeoverReplaces'),
      bounds: { writers: 3, folds: 0 },
      violation: /^stuck/,
    },
    {
      what: 'the volume item is not read again before the takeover (rule 2)',
      mutations: without('checkBefore'),
      bounds: { writers: 3, sends: 1 },
      violation: /^mixed history/,
    },
    {
      what: 'the volume item is not read again after the takeover (rule 2)',
      mutations: without('checkAfter'),
      bounds: {},
      violation: /^active, but its takeover is not history/,
    },
    {
      what: "a taker's walk does not start with the checkpoint's epoch (rule 3)",
      mutations: without('checkpointEpoch'),
      bounds: { writers: 3 },
      violation: /damage where there is none/,
    },
    {
      what: "a reader's walk does not start with the checkpoint's epoch (rule 3)",
      mutations: readingWithout('checkpointEpoch'),
      bounds: { readerWalks: 1 },
      violation: /damage where there is none/,
    },
    {
      what: 'a reader does not read the volume item again after its walk (rule 3)',
      mutations: readingWithout('checkAfter'),
      bounds: { folds: 2, sends: 1, readerWalks: 1 },
      violation: /^the reader (missed history|accepted what is not history)/,
    },
    {
      what: 'takeover records are deleted (rule 4)',
      mutations: { deleteTakeovers: true },
      bounds: {},
      violation: /^acked, but not in the history/,
    },
    {
      what: 'versions are deleted before the floor is raised (rule 4)',
      mutations: { deleteAboveFloor: true },
      bounds: {},
      violation: /^active, but its takeover is not history/,
    },
    {
      what: 'a writer starts again in the epoch it had (rule 5)',
      mutations: { keepEpoch: true },
      bounds: {},
      violation: /^(mixed history|acked, but not in the history)/,
    },
    {
      what: 'a conflict is not read back, though it may be our own success',
      mutations: without('readOwn'),
      bounds: { resends: 1 },
      violation: /^fenced in epoch 1, though nobody raised it/,
    },
  ];

  it.each(broken)(
    '$what',
    ({ mutations, bounds, violation }) => {
      const space = new FenceSpace({ ...small, ...bounds }, { ...NO_MUTATIONS, ...mutations });
      const result = search(space, { maxStates: MOST_STATES });
      if (result.outcome !== 'violation') throw new Error(`nothing was noticed in ${result.states} states`);
      expect(result.violation).toMatch(violation);
      expect(result.trace.length).toBe(result.depth);
      expect(result.trace.length).toBeLessThanOrEqual(LONGEST_TRACE);
      // The same bounds hold with all rules in force: it is the rule that was missing.
      if (Object.keys(bounds).length === 0)
        expect(search(new FenceSpace({ ...small, ...bounds }), { maxStates: MOST_STATES }).outcome).toBe('holds');
    },
    LONGEST_MS,
  );
});
