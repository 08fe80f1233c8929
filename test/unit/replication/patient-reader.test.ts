import { describe, expect, it } from 'vitest';
import { FarshoreError, type ErrorKind } from '../../../gateway/base/errors.ts';
import { patientReader } from '../../../gateway/replication/patient-reader.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimRandom } from '../../sim/sim-random.ts';

const NONE = new Float64Array();

/** A reader that answers so, one after the other, and then for ever with the last. */
function readThrough(
  answers: readonly (readonly number[] | ErrorKind)[],
  abort = new AbortController(),
): { readonly outcome: Promise<readonly number[]>; readonly tries: () => number; readonly clock: SimClock } {
  const clock = new SimClock(new SimRandom(1));
  let tries = 0;
  const reader = patientReader(
    {
      readBlocks: () => {
        const answer = answers[Math.min(tries++, answers.length - 1)] ?? [];
        return typeof answer === 'string' ? Promise.reject(new FarshoreError(answer, 'no')) : Promise.resolve(answer);
      },
    },
    clock,
    abort.signal,
  );
  return { outcome: reader.readBlocks(NONE, NONE, NONE, Buffer.alloc(0)), tries: () => tries, clock };
}

describe('reading the log patiently', () => {
  it('believes that a block is bad only the fifth time', async () => {
    const mended = readThrough([[1], [1], [1], [1], []]);
    expect(await mended.clock.settle(mended.outcome)).toEqual([]);
    const bad = readThrough([[1]]);
    expect(await bad.clock.settle(bad.outcome)).toEqual([1]);
    expect(bad.tries()).toBe(5);
  });

  it('waits for file handles, however long it takes', async () => {
    const { clock, outcome, tries } = readThrough([...new Array<ErrorKind>(20).fill('busy'), []]);
    expect(await clock.settle(outcome)).toEqual([]);
    expect(tries()).toBe(21);
  });

  it('tries a disk that fails again, and gives up the fifth time', async () => {
    const passing = readThrough(['stopped', 'stopped', 'stopped', 'stopped', []]);
    expect(await passing.clock.settle(passing.outcome)).toEqual([]);
    const broken = readThrough(['stopped']);
    await expect(broken.clock.settle(broken.outcome)).rejects.toMatchObject({ kind: 'stopped' });
    expect(broken.tries()).toBe(5);
  });

  it('gives up at once when it is told to, and at what no second look changes', async () => {
    const abort = new AbortController();
    const { clock, outcome } = readThrough(['busy'], abort);
    clock.schedule(3500, 'abort', undefined, () => {
      abort.abort();
    });
    await expect(clock.settle(outcome)).rejects.toMatchObject({ kind: 'stopped' });
    const broken = readThrough(['bug']);
    await expect(broken.clock.settle(broken.outcome)).rejects.toMatchObject({ kind: 'bug' });
    expect(broken.tries()).toBe(1);
  });
});
