import type { Bounds } from './fence-bounds.ts';

/** One exhaustive enumeration, and how many states it had when it was set up: fewer means that something is no longer looked at. */
export interface Battery {
  readonly name: string;
  readonly bounds: Bounds;
  readonly atLeastStates: number;
}

const BASE: Bounds = {
  writers: 2,
  versions: 2,
  sends: 4,
  depth: 3,
  slots: 7,
  folds: 2,
  resends: 0,
  lostRaises: 0,
  walks: 2,
  raises: 1,
  readerWalks: 0,
};

/** For every change: about half a minute of one core. */
export const CI_BATTERY: readonly Battery[] = [
  { name: 'two writers, two folds', bounds: BASE, atLeastStates: 73_000 },
  {
    name: 'two writers, answers lost and puts repeated',
    bounds: { ...BASE, slots: 6, folds: 1, resends: 1 },
    atLeastStates: 286_000,
  },
  {
    name: 'two writers, raises of the epoch lost or late',
    bounds: { ...BASE, sends: 1, slots: 4, folds: 1, resends: 1, lostRaises: 1, raises: 2 },
    atLeastStates: 209_000,
  },
  {
    name: 'three writers',
    bounds: { ...BASE, writers: 3, sends: 2, slots: 4, folds: 1, walks: 1 },
    atLeastStates: 969_000,
  },
  {
    name: 'two writers and a reader',
    bounds: { ...BASE, sends: 1, slots: 4, readerWalks: 2 },
    atLeastStates: 417_000,
  },
];

/** Hours, and gigabytes for what was seen: `npm run fence:long`. */
export const LONG_BATTERY: readonly Battery[] = [
  {
    name: 'two writers, many versions',
    bounds: { ...BASE, versions: 3, sends: 6, folds: 3, walks: 3 },
    atLeastStates: 0,
  },
  { name: 'two writers, two repeats', bounds: { ...BASE, resends: 2 }, atLeastStates: 0 },
  {
    name: 'two writers, two raises lost or late',
    bounds: { ...BASE, sends: 2, slots: 6, resends: 1, lostRaises: 2, raises: 3 },
    atLeastStates: 0,
  },
  {
    name: 'three writers, walking again',
    bounds: { ...BASE, writers: 3, sends: 2, slots: 5, folds: 2 },
    atLeastStates: 0,
  },
  {
    name: 'three writers, a put repeated',
    bounds: { ...BASE, writers: 3, sends: 2, slots: 5, folds: 1, walks: 1, resends: 1 },
    atLeastStates: 0,
  },
  { name: 'two writers and a reader', bounds: { ...BASE, sends: 3, slots: 6, readerWalks: 3 }, atLeastStates: 0 },
  {
    name: 'three writers and a reader',
    bounds: { ...BASE, writers: 3, sends: 2, slots: 4, folds: 1, walks: 1, readerWalks: 2 },
    atLeastStates: 0,
  },
  {
    name: 'four writers',
    bounds: { ...BASE, writers: 4, sends: 2, slots: 5, folds: 1, walks: 1 },
    atLeastStates: 0,
  },
];
