import type { WriteSeq } from '../base/units.ts';
import type { LogOrigin } from '../replication/remote-volume.ts';

/** What the state directory says of the volume, after local recovery. */
export interface LocalHistory {
  /** Identity of the log as the last start named it. */
  readonly logId: string;
  /** The remote's newest data when the last start took over; undefined when there was none. */
  readonly base: LogOrigin | undefined;
  /** M: the recovered log ends here. */
  readonly lastSeq: WriteSeq;
}

/**
 * - `fresh`: nothing local; serve the remote
 * - `resume`: the remote is our own history up to `through`; everything after it is dirty
 * - `remote-ahead`: the remote has writes of ours that the local log has lost (state directory rolled back or copied): local is old, drop it
 * - `foreign`: somebody else wrote since: what only we have is salvaged, the local copy is dropped
 * - `history-lost`: the remote once had data of ours and has none now: don't touch anything
 */
export type Reconciliation =
  | { readonly kind: 'fresh' }
  | { readonly kind: 'resume'; readonly through: WriteSeq }
  | { readonly kind: 'remote-ahead'; readonly through: WriteSeq }
  | { readonly kind: 'foreign'; readonly salvageAfter: WriteSeq }
  | { readonly kind: 'history-lost' };

/**
 * Decides what to do with the local log once the volume is taken over. Sequences of one state directory only rise (each start continues
 * above both local and remote), so a sequence of the remote means the same here whenever the remote's data is ours or what we began with.
 */
export function reconcile(local: LocalHistory | undefined, lastData: LogOrigin | undefined): Reconciliation {
  if (local === undefined) return { kind: 'fresh' };
  if (lastData === undefined) {
    return local.base === undefined ? { kind: 'resume', through: 0 } : { kind: 'history-lost' };
  }
  if (lastData.logId !== local.logId && !isSame(lastData, local.base)) {
    return { kind: 'foreign', salvageAfter: local.base?.throughSeq ?? 0 };
  }
  const through = lastData.throughSeq;
  return through <= local.lastSeq ? { kind: 'resume', through } : { kind: 'remote-ahead', through };
}

function isSame(a: LogOrigin, b: LogOrigin | undefined): boolean {
  return b !== undefined && a.epoch === b.epoch && a.logId === b.logId && a.throughSeq === b.throughSeq;
}
