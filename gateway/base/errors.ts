/**
 * Few kinds, each saying what the caller must do:
 *
 * - `input`     mend the argument, configuration or request; trying again unchanged is useless
 * - `not-found` the named thing does not exist (here or in the cloud)
 * - `in-use`    somebody else holds it (state directory, name, number)
 * - `busy`      not now: slow down and try again (full cache, queue limits)
 * - `retry`     a passing failure outside; the outcome may be unknown
 * - `fenced`    another writer owns the volume: stop serving it
 * - `full`      what is written has no room in its quota: unmap something or raise it
 * - `unreplicated` the far side does not answer, and the volume is to fail then rather than to wait: nothing was done
 * - `stopped`   the volume or gateway has stopped acking (failed disk, shutdown)
 * - `damaged`   bytes are not what their checksum says, or an unknown format
 * - `bug`       an invariant is broken; crash
 */
export type ErrorKind =
  | 'input'
  | 'not-found'
  | 'in-use'
  | 'busy'
  | 'retry'
  | 'full'
  | 'unreplicated'
  | 'fenced'
  | 'stopped'
  | 'damaged'
  | 'bug';

export class FarshoreError extends Error {
  readonly kind: ErrorKind;

  /** `message` is one sentence that names what, where and how to mend it. */
  constructor(kind: ErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'FarshoreError';
    this.kind = kind;
  }
}

/** Exit code of the CLI per kind (documented in the README); 1 is left to the runtime itself. */
export const EXIT_CODES: Readonly<Record<ErrorKind, number>> = {
  input: 2,
  'not-found': 3,
  'in-use': 4,
  retry: 5,
  busy: 5,
  full: 5,
  unreplicated: 5,
  fenced: 6,
  damaged: 7,
  stopped: 8,
  bug: 70,
};

export function isKind(error: unknown, ...kinds: readonly ErrorKind[]): error is FarshoreError {
  return error instanceof FarshoreError && kinds.includes(error.kind);
}

/** A broken invariant crashes, in production too. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new FarshoreError('bug', `invariant broken: ${message}`);
}

export function assertNever(value: never): never {
  throw new FarshoreError('bug', `impossible case: ${String(value)}`);
}

/** The text of whatever was thrown, for messages and logs. */
export function describeError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
