import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../../gateway/base/clock.ts';
import type { Clock } from '../../../gateway/base/clock.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import type { ObjectHead, ObjectStore } from '../../../gateway/cloud/object-store.ts';
import { LONGEST_PUT_PAUSE_MS, putOnce, type PutBy } from '../../../gateway/cloud/put-once.ts';
import { PromptClock } from '../../support/prompt-clock.ts';

const BODY = [Buffer.from('the '), Buffer.from('bytes')];
const WHOLE = Buffer.concat(BODY);
const CRC = crc32(WHOLE);
const trouble = (): FarshoreError => new FarshoreError('retry', 'the cloud is away.');

/** A store with one object, whose answers to puts are scripted: what happens, and what the caller hears of it. */
class ScriptedStore implements ObjectStore {
  object: Buffer | undefined;
  puts = 0;
  heads = 0;
  knowsChecksum = true;
  readonly #script: ((store: ScriptedStore, body: Buffer) => void)[];

  constructor(...script: ((store: ScriptedStore, body: Buffer) => void)[]) {
    this.#script = script;
  }

  put(_key: string, body: readonly Buffer[]): Promise<'created' | 'exists'> {
    this.puts += 1;
    try {
      this.#script.shift()?.(this, Buffer.concat(body));
    } catch (error) {
      return Promise.reject(error instanceof Error ? error : new Error(String(error)));
    }
    if (this.object !== undefined) return Promise.resolve('exists');
    this.object = Buffer.concat(body);
    return Promise.resolve('created');
  }

  get(): Promise<Buffer | undefined> {
    return Promise.resolve(this.object);
  }

  head(): Promise<ObjectHead | undefined> {
    this.heads += 1;
    const { object } = this;
    if (object === undefined) return Promise.resolve(undefined);
    return Promise.resolve({ bytes: object.length, crc32: this.knowsChecksum ? crc32(object) : undefined });
  }

  list(): never {
    throw new Error('not asked for here');
  }

  delete(): never {
    throw new Error('not asked for here');
  }
}

const lost = (store: ScriptedStore, body: Buffer): void => {
  store.object = body;
  throw trouble();
};
const failed = (): void => {
  throw trouble();
};
const holding = (object: Buffer): ScriptedStore => {
  const store = new ScriptedStore();
  store.object = object;
  return store;
};
const run = (store: ObjectStore, signal?: AbortSignal, clock: Clock = new PromptClock()): Promise<PutBy> =>
  putOnce(store, 'k', BODY, CRC, { clock, random: systemRandom }, signal);

describe('putOnce', () => {
  it('puts once when all goes well', async () => {
    const store = new ScriptedStore();
    expect(await run(store)).toBe('only');
    expect([store.puts, store.heads]).toEqual([1, 0]);
  });

  it('takes its own lost success for what it is, and does not upload again', async () => {
    const store = new ScriptedStore(lost);
    expect(await run(store)).toBe('some');
    expect(store.puts).toBe(1);
  });

  it('goes on through any number of failures', async () => {
    const store = new ScriptedStore(...Array.from({ length: 50 }, () => failed));
    expect(await run(store)).toBe('some');
    expect(store.puts).toBe(51);
    expect(store.object?.equals(WHOLE)).toBe(true);
  });

  it('is content with the same bytes of an earlier life', async () => {
    // A store that answers "exists" may not have read the body yet: it is still being sent.
    expect(await run(holding(WHOLE))).toBe('some');
  });

  it('compares the bytes themselves where the store knows no checksum', async () => {
    const store = holding(WHOLE);
    store.knowsChecksum = false;
    await run(store);
    const other = holding(Buffer.from('the bytez'));
    other.knowsChecksum = false;
    await expect(run(other)).rejects.toMatchObject({ kind: 'in-use' });
  });

  it.each([
    ['of another length', Buffer.from('other')],
    ['of the same length', Buffer.from('the bytez')],
  ])('refuses other bytes %s under its key, and leaves them', async (_, other) => {
    const store = holding(other);
    await expect(run(store)).rejects.toMatchObject({
      kind: 'in-use',
      message: expect.stringContaining('given out twice') as string,
    });
    expect(store.object?.equals(other)).toBe(true);
  });

  it('refuses other bytes that came while its own answer was lost', async () => {
    const store = new ScriptedStore((self) => {
      self.object = Buffer.from('x');
      throw trouble();
    });
    await expect(run(store)).rejects.toMatchObject({ kind: 'in-use' });
  });

  it('passes on what cannot be waited out', async () => {
    const store = new ScriptedStore(() => {
      throw new FarshoreError('input', 'no such bucket.');
    });
    await expect(run(store)).rejects.toMatchObject({ kind: 'input' });
    expect(store.puts).toBe(1);
  });

  it('waits longer and longer, never longer than its limit, and each time a little differently', async () => {
    const pauses: number[] = [];
    const clock: Clock = {
      now: () => 0,
      monotonicMs: () => 0,
      startTimer: (delayMs, fire) => {
        pauses.push(delayMs);
        queueMicrotask(fire);
        return () => undefined;
      },
    };
    await run(new ScriptedStore(...Array.from({ length: 20 }, () => failed)), undefined, clock);
    expect(pauses).toHaveLength(20);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(LONGEST_PUT_PAUSE_MS);
    expect(Math.min(...pauses.slice(10))).toBeGreaterThanOrEqual(LONGEST_PUT_PAUSE_MS / 2);
    expect(pauses[0]).toBeLessThan(1000);
    expect(new Set(pauses).size).toBeGreaterThan(15);
  });

  it('gives up when it is told to', async () => {
    const controller = new AbortController();
    let failures = 0;
    const store = new ScriptedStore(
      ...Array.from({ length: 1000 }, () => () => {
        failures += 1;
        if (failures === 3) controller.abort();
        throw trouble();
      }),
    );
    await expect(run(store, controller.signal)).rejects.toMatchObject({ kind: 'stopped' });
    expect(failures).toBe(3);
  });
});
