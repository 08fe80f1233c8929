import type { Readable, Writable } from 'node:stream';
import { sleep, type Clock } from '../../../gateway/base/clock.ts';

/** What is under way of one body at most, as in the window of a connection. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** So that several bodies share a slow line fairly. */
const PIECE_BYTES = 16 * 1024;

/** One direction of a line: all connections share its rate, each byte takes its turn. */
export class Line {
  readonly #clock: Clock;
  #bytesPerSecond = Infinity;
  /** When what was given to the line has left it. */
  #freeAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  setRate(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
    this.#freeAt = 0;
  }

  get isLimited(): boolean {
    return this.#bytesPerSecond < Infinity;
  }

  /** Puts so many bytes on the line: answers when the last of them has left. */
  send(bytes: number): number {
    const now = this.#clock.monotonicMs();
    this.#freeAt = Math.max(now, this.#freeAt) + (bytes / this.#bytesPerSecond) * 1000;
    return this.#freeAt;
  }
}

export interface Way {
  readonly clock: Clock;
  readonly line: Line;
  /** How long each byte is under way. */
  readonly delayMs: number;
  /** Ends the carrying: what is under way is lost. */
  readonly signal: AbortSignal;
}

/**
 * Carries what `source` gives to `sink` over the way, in order, and ends it. With `most`, so many bytes of it arrive and the sink is not ended.
 * Resolves with the bytes carried; rejects when either side fails or `signal` aborts.
 */
export async function carry(
  source: Readable | AsyncIterable<Buffer> | Iterable<Buffer>,
  sink: Writable,
  { clock, line, delayMs, signal }: Way,
  most = Infinity,
): Promise<number> {
  let carried = 0;
  let underWay = 0;
  let failure: unknown;
  let tail: Promise<void> = Promise.resolve();
  const deliver = (piece: Buffer, leftAt: number): void => {
    underWay += piece.length;
    tail = tail.then(async () => {
      if (failure !== undefined) return;
      try {
        await until(clock, leftAt + delayMs, signal);
        await write(sink, piece, signal);
      } catch (error) {
        failure = error;
      } finally {
        underWay -= piece.length;
      }
    });
  };
  for await (const chunk of source) {
    if (failure !== undefined) break;
    for (const piece of pieces(chunk as Buffer, line)) {
      const left = Math.min(piece.length, most - carried);
      if (left <= 0) break;
      carried += left;
      const leftAt = line.send(left);
      deliver(piece.subarray(0, left), leftAt);
      await until(clock, leftAt, signal);
    }
    if (carried >= most) break;
    if (underWay > WINDOW_BYTES) await tail;
  }
  await tail;
  if (failure !== undefined) throw failure instanceof Error ? failure : new Error('a body was not carried');
  // Its head is under way as long as a body would be.
  if (carried === 0) await until(clock, line.send(0) + delayMs, signal);
  if (carried < most) sink.end();
  return carried;
}

/** Resolves at `atMs`, or rejects when the carrying is ended. */
export async function until(clock: Clock, atMs: number, signal: AbortSignal): Promise<void> {
  const leftMs = atMs - clock.monotonicMs();
  if (leftMs > 0) await sleep(clock, leftMs, signal);
  if (signal.aborted) throw new Error('the connection is gone');
}

function* pieces(chunk: Buffer, line: Line): Iterable<Buffer> {
  if (!line.isLimited) {
    yield chunk;
    return;
  }
  for (let from = 0; from < chunk.length; from += PIECE_BYTES) yield chunk.subarray(from, from + PIECE_BYTES);
}

function write(sink: Writable, piece: Buffer, signal: AbortSignal): Promise<void> {
  if (sink.destroyed) throw new Error('the connection is gone');
  if (sink.write(piece)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const end = (): void => {
      sink.off('drain', end);
      sink.off('close', end);
      signal.removeEventListener('abort', end);
      if (sink.destroyed || signal.aborted) reject(new Error('the connection is gone'));
      else resolve();
    };
    sink.once('drain', end);
    sink.once('close', end);
    signal.addEventListener('abort', end, { once: true });
  });
}
