/** What is measured; the names are the keys of the JSON and must not change meaning between versions. */
export interface LoadCase {
  readonly name: string;
  readonly title: string;
  readonly ioBytes: number;
  readonly depth: number;
  readonly pattern: 'random' | 'sequential';
  /** Share of reads, 0 to 1. */
  readonly reads: number;
  /** Every write is followed by a SYNCHRONIZE CACHE and counts when that is answered. */
  readonly flushEach: boolean;
}

const KIB = 1024;

export const CASES: readonly LoadCase[] = [
  random('random-read-4k-qd1', 'random read 4 KiB, depth 1', 1, 1),
  random('random-read-4k-qd32', 'random read 4 KiB, depth 32', 32, 1),
  random('random-write-4k-qd1', 'random write 4 KiB, depth 1', 1, 0),
  random('random-write-4k-qd32', 'random write 4 KiB, depth 32', 32, 0),
  random('mixed-70-30-4k-qd32', 'mixed 70/30 4 KiB, depth 32', 32, 0.7),
  sequential('sequential-read-256k-qd8', 'sequential read 256 KiB, depth 8', 1),
  sequential('sequential-write-256k-qd8', 'sequential write 256 KiB, depth 8', 0),
  {
    name: 'write-flush-4k-qd8',
    title: 'write 4 KiB + flush, depth 8',
    ioBytes: 4 * KIB,
    depth: 8,
    pattern: 'random',
    reads: 0,
    flushEach: true,
  },
];

function random(name: string, title: string, depth: number, reads: number): LoadCase {
  return { name, title, ioBytes: 4 * KIB, depth, pattern: 'random', reads, flushEach: false };
}

function sequential(name: string, title: string, reads: number): LoadCase {
  return { name, title, ioBytes: 256 * KIB, depth: 8, pattern: 'sequential', reads, flushEach: false };
}

export function writes(load: LoadCase): boolean {
  return load.reads < 1;
}
