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

/** Who is measured. The three farshore-… with an upload mode are one gateway; farshore-disk has a small RAM tier. */
export type PeerName = 'farshore' | 'farshore-paused' | 'farshore-uncapped' | 'farshore-disk' | 'tgtd' | 'null';

export interface BenchCase {
  readonly load: LoadCase;
  /** The one that is compared with tgtd. */
  readonly subject: PeerName;
  readonly peers: readonly PeerName[];
  /** The subject over tgtd that is asked for. */
  readonly target: number;
}

const KIB = 1024;

/** The subject over the null target, which has the same protocol code and no storage. */
export const NULL_TARGET_RATIO = 0.6;
/** What replication may take of the rate, capped as the subject is, against uploads paused. */
export const REPLICATION_COST = 0.2;

const MAIN: readonly PeerName[] = ['tgtd', 'farshore', 'null'];
const WITH_MODES: readonly PeerName[] = [...MAIN, 'farshore-paused', 'farshore-uncapped'];

export const CASES: readonly BenchCase[] = [
  main(random('random-read-4k-qd1', 'random read 4 KiB, depth 1', 1, 1), 1.2),
  main(random('random-read-4k-qd32', 'random read 4 KiB, depth 32', 32, 1), 3.0, WITH_MODES),
  main(random('random-write-4k-qd1', 'random write 4 KiB, depth 1', 1, 0), 2.0),
  main(random('random-write-4k-qd32', 'random write 4 KiB, depth 32', 32, 0), 4.0, WITH_MODES),
  main(random('mixed-70-30-4k-qd32', 'mixed 70/30 4 KiB, depth 32', 32, 0.7), 3.0, WITH_MODES),
  main(sequential('sequential-read-256k-qd8', 'sequential read 256 KiB, depth 8', 1), 3.0),
  main(sequential('sequential-write-256k-qd8', 'sequential write 256 KiB, depth 8', 0), 1.3),
  main(
    {
      name: 'write-flush-4k-qd8',
      title: 'write 4 KiB + flush, depth 8',
      ioBytes: 4 * KIB,
      depth: 8,
      pattern: 'random',
      reads: 0,
      flushEach: true,
    },
    1.0,
  ),
  {
    load: random('random-read-4k-qd32-disk', 'random read 4 KiB, depth 32, from the disk log', 32, 1),
    subject: 'farshore-disk',
    peers: ['tgtd', 'farshore-disk'],
    target: 1.5,
  },
];

function main(load: LoadCase, target: number, peers = MAIN): BenchCase {
  return { load, subject: 'farshore', peers, target };
}

function random(name: string, title: string, depth: number, reads: number): LoadCase {
  return { name, title, ioBytes: 4 * KIB, depth, pattern: 'random', reads, flushEach: false };
}

function sequential(name: string, title: string, reads: number): LoadCase {
  return { name, title, ioBytes: 256 * KIB, depth: 8, pattern: 'sequential', reads, flushEach: false };
}

export function writes(load: LoadCase): boolean {
  return load.reads < 1;
}
