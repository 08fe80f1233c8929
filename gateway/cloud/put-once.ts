import { sleep } from '../base/clock.ts';
import { crc32 as computeCrc32 } from '../base/crc32.ts';
import { FarshoreError, isKind } from '../base/errors.ts';
import { pauseMs } from './cloud-call.ts';
import type { CallTools } from './cloud-call.ts';
import type { ObjectStore } from './object-store.ts';

const FIRST_PAUSE_MS = 200;
/** Between attempts, however long the cloud is away. */
export const LONGEST_PUT_PAUSE_MS = 15_000;

export interface PutOnceTools extends CallTools {
  /** Told of every failed attempt, for status and logs. */
  readonly onRetry?: (error: FarshoreError, failures: number) => void;
}

/** `only`: by the one attempt there was. `some`: by any of several, or another's, and one that was given up may still be reading `body`. */
export type PutBy = 'only' | 'some';

/**
 * Puts the object, once and for all: resolves when exactly these bytes lie at `key`, whoever's attempt brought them there. Passing trouble
 * is waited out without limit (each pause at most LONGEST_PUT_PAUSE_MS, jittered), until `signal` aborts: then it rejects with `stopped`.
 * Rejects with `in-use` when other bytes lie there (a number was given out twice), and with whatever else the store rejects with.
 *
 * After an attempt of unknown outcome it asks for the object before it sends it again: on a slow line a lost
 * response must not cost another upload.
 */
export async function putOnce(
  store: ObjectStore,
  key: string,
  body: readonly Buffer[],
  crc32: number,
  tools: PutOnceTools,
  signal?: AbortSignal,
): Promise<PutBy> {
  for (let failures = 0; ;) {
    if (signal?.aborted) throw new FarshoreError('stopped', `putting ${key} was given up: the gateway is stopping.`);
    try {
      if (failures > 0 && (await isThere(store, key, body, crc32))) return 'some';
      if ((await store.put(key, body, crc32)) === 'created') return failures === 0 ? 'only' : 'some';
      if (await isThere(store, key, body, crc32)) return 'some';
      // 'exists' and then gone: somebody deletes what was never committed; write it again.
      throw new FarshoreError('retry', `${key} was there and is gone.`);
    } catch (error) {
      if (!isKind(error, 'retry', 'busy')) throw error;
      failures += 1;
      tools.onRetry?.(error, failures);
    }
    await sleep(tools.clock, pauseMs(tools.random, failures, FIRST_PAUSE_MS, LONGEST_PUT_PAUSE_MS), signal);
  }
}

/** false when nothing is there; rejects with `in-use` when something else is. */
async function isThere(store: ObjectStore, key: string, body: readonly Buffer[], crc32: number): Promise<boolean> {
  const head = await store.head(key);
  if (head === undefined) return false;
  const bytes = body.reduce((sum, piece) => sum + piece.length, 0);
  if (head.bytes === bytes) {
    if (head.crc32 === crc32) return true;
    if (head.crc32 === undefined) {
      const content = await store.get(key);
      if (content === undefined) return false;
      if (content.length === bytes && computeCrc32(content) === crc32) return true;
    }
  }
  throw new FarshoreError(
    'in-use',
    `${key} holds other bytes (${head.bytes}, where ${bytes} were to be put): its number was given out twice.`,
  );
}
