import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import {
  Circuit,
  CIRCUIT_PATIENCE_MS,
  LONGEST_PROBE_PAUSE_MS,
  OPEN_AFTER_FAILURES,
  OPEN_AFTER_MS,
} from '../../../gateway/cloud/circuit.ts';
import { callCloud } from '../../../gateway/cloud/cloud-call.ts';
import { SimRandom } from '../../sim/sim-random.ts';
import { ManualClock } from '../initiator/manual-clock.ts';

const START = 1_700_000_000_000;
/** Lets everything go on that waits for nothing but a turn. */
const settle = (): Promise<void> => new Promise(setImmediate);

function made() {
  const clock = new ManualClock();
  const circuit = new Circuit(clock, new SimRandom('circuit'));
  const fail = async (): Promise<void> => {
    (await circuit.enter('ask')).failed('retry', 'nobody answers');
  };
  /** As many failures, over as long a time, as it takes. */
  const open = async (): Promise<void> => {
    await fail();
    clock.advance(OPEN_AFTER_MS);
    for (let more = 1; more < OPEN_AFTER_FAILURES; more += 1) await fail();
  };
  /** A call, and what became of it. */
  const call = () => {
    const made: { turn?: Awaited<ReturnType<Circuit['enter']>>; error?: unknown } = {};
    circuit.enter('ask').then(
      (turn) => (made.turn = turn),
      (error: unknown) => (made.error = error),
    );
    return made;
  };
  return { clock, circuit, fail, open, call };
}

describe('the circuit of a service', () => {
  it('opens when so many attempts in a row, over so long a time, have failed, and says since when and why', async () => {
    const { clock, circuit, fail } = made();
    for (let many = 0; many < 20; many += 1) await fail();
    expect(circuit.report.state).toBe('closed');
    clock.advance(OPEN_AFTER_MS);
    await fail();
    expect(circuit.report).toEqual({
      ...{ state: 'open', since: START, reason: 'nobody answers', openings: 1, failures: 21 },
    });
  });

  it('stays closed as long as some succeed, also of those that failed at first', async () => {
    const { clock, circuit, fail } = made();
    for (let round = 0; round < 10; round += 1) {
      await fail();
      clock.advance(OPEN_AFTER_MS - 1);
      for (let more = 0; more < OPEN_AFTER_FAILURES; more += 1) await fail();
      (await circuit.enter('ask')).succeeded();
    }
    expect(circuit.report).toMatchObject({ state: 'closed', since: START, openings: 0, failures: 60 });
  });

  it('does not take damaged bytes for a service that is away', async () => {
    const { clock, circuit } = made();
    for (let round = 0; round < 10; round += 1) {
      (await circuit.enter('ask')).failed('damaged', 'a wrong checksum');
      clock.advance(OPEN_AFTER_MS);
    }
    expect(circuit.report).toMatchObject({ state: 'closed', failures: 10 });
  });

  it('lets one probe through at a time, and everybody who waits once that has succeeded', async () => {
    const { clock, circuit, open, call } = made();
    await open();
    const probe = call();
    const waiting = [call(), call(), call()];
    await settle();
    expect(probe.turn).toBeDefined();
    expect(circuit.report.state).toBe('half-open');
    expect(waiting.every(({ turn, error }) => turn === undefined && error === undefined)).toBe(true);
    clock.advance(100);
    probe.turn?.succeeded();
    await settle();
    expect(waiting.every(({ turn }) => turn !== undefined)).toBe(true);
    expect(circuit.report).toMatchObject({ state: 'closed', since: START + OPEN_AFTER_MS + 100, reason: undefined });
  });

  it('tells a call after a while why it cannot be made, and that it was not', async () => {
    const { clock, circuit, open, call } = made();
    await open();
    const probe = call();
    await settle();
    const late = call();
    // The next probes are not answered either, so that nobody else has a turn.
    for (let step = 0; step < CIRCUIT_PATIENCE_MS; step += 10) {
      clock.advance(10);
      await settle();
      if (late.turn !== undefined || late.error !== undefined) break;
    }
    // It was its turn to probe, or its patience was over.
    if (late.turn === undefined) expect(late.error).toBeInstanceOf(FarshoreError);
    const hopeless = Array.from({ length: 20 }, call);
    for (let step = 0; step <= CIRCUIT_PATIENCE_MS; step += 10) {
      clock.advance(10);
      await settle();
    }
    const told = hopeless.filter(({ error }) => error !== undefined);
    expect(told.length).toBeGreaterThanOrEqual(16);
    expect(told[0]?.error).toMatchObject({
      kind: 'retry',
      message: 'could not ask: nothing has succeeded since 2023-11-14T22:13:20.000Z: nobody answers',
    });
    probe.turn?.failed('retry', 'still nobody');
    expect(circuit.report).toMatchObject({ state: 'half-open', reason: 'still nobody' });
  });

  it('probes ever more seldom, but every few seconds, for as long as the trouble lasts', async () => {
    const { clock, circuit, open } = made();
    await open();
    const probedAt: number[] = [];
    for (let step = 0; step < 60_000; step += 250) {
      const call = circuit.enter('ask').then(
        (turn) => {
          probedAt.push(clock.monotonicMs());
          turn.failed('retry', 'nobody answers');
        },
        () => undefined,
      );
      clock.advance(250);
      await settle();
      void call;
    }
    const pauses = probedAt.slice(1).map((at, index) => at - (probedAt[index] ?? 0));
    expect(probedAt.length).toBeGreaterThan(60_000 / (LONGEST_PROBE_PAUSE_MS + 500));
    expect(probedAt.length).toBeLessThan(40);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(LONGEST_PROBE_PAUSE_MS + 250);
    expect(Math.max(...pauses.slice(0, 2))).toBeLessThan(1_500);
  });

  it('counts every attempt of a call, and keeps calls of no hope from being made', async () => {
    const options = { service: 'S3', resource: 'bucket', place: 'there', what: 'put it', deadlineMs: 1_000 } as const;
    const away = () => {
      const { clock, circuit, open } = made();
      const tools = { clock, random: new SimRandom('call'), circuit };
      const seen = { attempts: 0, failed: 0 };
      const refuse = (): Promise<never> => {
        seen.attempts += 1;
        return Promise.reject(Object.assign(new Error('busy'), { name: 'SlowDown' }));
      };
      const call = (): void => {
        callCloud(tools, { ...options, repeat: 'always' }, refuse).catch(() => (seen.failed += 1));
      };
      const pass = async (ms: number): Promise<void> => {
        for (let step = 0; step < ms; step += 10) {
          await settle();
          clock.advance(10);
        }
      };
      return { circuit, open, call, pass, seen };
    };
    const once = away();
    once.call();
    await once.pass(1_000);
    expect(once.seen).toEqual({ attempts: 4, failed: 1 });
    expect(once.circuit.report.failures).toBe(4);
    const many = away();
    await many.open();
    for (let count = 0; count < 20; count += 1) many.call();
    await many.pass(CIRCUIT_PATIENCE_MS + 3_000);
    expect(many.seen.failed).toBe(20);
    expect(many.seen.attempts).toBeLessThan(20);
  });
});
