import { sleep, type Clock } from './clock.ts';

/** What the work resolves or rejects with, or a rejection with `late()` when that takes longer; then nobody hears what becomes of it. */
export async function inTime<T>(clock: Clock, withinMs: number, work: Promise<T>, late: () => Error): Promise<T> {
  const over = new AbortController();
  const timeUp = sleep(clock, withinMs, over.signal).then(() => {
    if (over.signal.aborted) return work;
    throw late();
  });
  try {
    return await Promise.race([work, timeUp]);
  } finally {
    over.abort();
  }
}
