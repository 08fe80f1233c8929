/**
 * The world of the enumeration as 32-bit numbers: these, then the slots of the log (ids of versions, 0 for nothing), then the
 * writers' parts, then the reader's.
 */
export const EPOCH = 0;
/** Id of the version the checkpoint stands at. */
export const CHECKPOINT = 1;
export const FLOOR = 2;
export const FOLDS_LEFT = 3;
export const RESENDS_LEFT = 4;
/** Ghost: id of the last version of the true history. */
export const TAIL = 5;
export const LOST_RAISES_LEFT = 6;
/** A raise under way whose sender has given it up (the newest such): from + 1, or 0. */
export const STRAY_RAISE = 7;
export const SENDS_LEFT = 8;
/** Slot n is at SLOTS + n; the first is 1. */
export const SLOTS = 8;

/** At the start of a writer's and of the reader's part: number of the machine's state, and the request under way. */
export const STATE = 0;
export const ASK = 1;

/** States that are not the machine's: not started; dead (stopped, or beyond the bounds). */
export const OFF = 0;
export const DEAD = 1;
export const FIRST_MACHINE_STATE = 2;

/** A request other than a put, of which there is one at a time: kind in the low 2 bits, argument above. */
export const ASK_VOLUME = 1;
export const ASK_RAISE = 2;
export const ASK_LIST = 3;

export function askFor(kind: number, argument: number): number {
  return kind | (argument << 2);
}

/** One step of the world: its name, and what it does. */
export type Step = (label: () => string, act: (next: Int32Array) => void) => void;

export function at(world: Int32Array, index: number): number {
  return world[index] ?? 0;
}
