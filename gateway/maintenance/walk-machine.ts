import { assertNever } from '../base/errors.ts';
import type { Epoch, VersionNumber } from '../base/units.ts';

/**
 * The walk along the version log as pure functions (architecture, section 3, rule 3). Writers (replication/fence-machine)
 * and readers (maintenance/walk) step along the log with the same code. Everything is plain data; the content of a version is opaque.
 */

/** A point of the log: the last record one knows. `chain` covers everything up to it (hex in the drivers, opaque here). */
export interface LogPosition {
  readonly n: VersionNumber;
  readonly epoch: Epoch;
  readonly chain: string;
}

/** What lies at n, with the chain it claims. */
export interface LogEntry<Content> extends LogPosition {
  readonly content: Content;
}

/** What the fence needs of the volume item. Without a checkpoint, `checkpoint` is the position before the first version. */
export interface VolumeView {
  readonly epoch: Epoch;
  readonly owner: string;
  readonly floor: VersionNumber;
  readonly checkpoint: LogPosition;
}

/** chainAfter of format/version-record, over whatever the content is. */
export type ChainRule<Content> = (previousChain: string, content: Content) => string;

/**
 * `tail`: nothing at the next n, or something of a lower epoch, which was never part of the log. `broken`: a record of a proper
 * epoch that does not chain to its predecessor: a stale walk, or damage when the volume item did not move. `through`: as far as asked.
 */
export type WalkEnd = 'tail' | 'broken' | 'through';

export interface Stride {
  /** How many of the entries, from the first, are history. */
  readonly accepted: number;
  readonly position: LogPosition;
  /** undefined: ask for the next page. */
  readonly end: WalkEnd | undefined;
}

/** Steps along one page of what lies at position.n + 1 and above, in ascending order; an empty page is the end of the log. */
export function stride<Content>(
  from: LogPosition,
  page: readonly LogEntry<Content>[],
  chainAfter: ChainRule<Content>,
  through: VersionNumber = Infinity,
): Stride {
  let position = from;
  let accepted = 0;
  if (position.n >= through) return { accepted, position, end: 'through' };
  for (const entry of page) {
    if (entry.n !== position.n + 1 || entry.epoch < position.epoch) return { accepted, position, end: 'tail' };
    if (chainAfter(position.chain, entry.content) !== entry.chain) return { accepted, position, end: 'broken' };
    position = { n: entry.n, epoch: entry.epoch, chain: entry.chain };
    accepted += 1;
    if (position.n >= through) return { accepted, position, end: 'through' };
  }
  return { accepted, position, end: page.length === 0 ? 'tail' : undefined };
}

/** Whether the checkpoint moved since the walk set out from it: versions that were walked may have been deleted meanwhile. */
export function checkpointMoved(before: LogPosition, after: VolumeView): boolean {
  return before.n !== after.checkpoint.n || before.chain !== after.checkpoint.chain;
}

/** Where a walk from a checkpoint sets out; without the checkpoint's epoch (never but in tests of rule 3) any epoch may follow. */
export function setOut(checkpoint: LogPosition, withEpoch: boolean): LogPosition {
  return withEpoch ? checkpoint : { ...checkpoint, epoch: 0 };
}

/** A reader that meets a takeover or a fold every time gives up after so many walks. */
export const MAX_READER_WALKS = 16;

interface ReaderWalk {
  /** Of the volume item as the walk set out. */
  readonly epoch: Epoch;
  readonly checkpoint: LogPosition;
  readonly position: LogPosition;
  readonly walks: number;
}

/** A reader's walk: from the checkpoint to the end, then the volume item once more (rule 3). */
export type ReaderState =
  | { readonly phase: 'looking' }
  | ({ readonly phase: 'walking' } & ReaderWalk)
  | ({ readonly phase: 'checking'; readonly end: WalkEnd } & ReaderWalk)
  | { readonly phase: 'done'; readonly position: LogPosition; readonly end: 'tail' | 'through' }
  | { readonly phase: 'failed'; readonly why: ReaderFailure };

/** `unsettled`: takeovers and folds came faster than the walk. `behind`: asked to stop at a version that is folded already. */
export type ReaderFailure = 'not-found' | 'unsettled' | 'damaged' | 'behind';

export type ReaderEvent<Content> =
  | { readonly type: 'volume'; readonly view: VolumeView | undefined }
  | { readonly type: 'page'; readonly entries: readonly LogEntry<Content>[] };

export type ReaderEffect =
  | { readonly type: 'read-volume' }
  | { readonly type: 'list'; readonly from: VersionNumber }
  /** The first `count` entries of the page are history (if the walk as a whole is confirmed). */
  | { readonly type: 'accepted'; readonly count: number }
  /** Everything accepted so far is to be forgotten. */
  | { readonly type: 'restart' };

export interface ReaderStep {
  readonly state: ReaderState;
  readonly effects: readonly ReaderEffect[];
}

/** Left out only by tests that show what each rule is for. */
export interface ReaderRules {
  /** Read the volume item again after the walk. */
  readonly checkAfter: boolean;
  /** Compare with the checkpoint's epoch from the first record on. */
  readonly checkpointEpoch: boolean;
}

export const READER_RULES: ReaderRules = Object.freeze({ checkAfter: true, checkpointEpoch: true });

export interface ReaderMachine<Content> {
  readonly start: ReaderStep;
  readonly next: (state: ReaderState, event: ReaderEvent<Content>) => ReaderStep;
}

/** `through`: end the walk at this version instead of at the tail. */
export function readerMachine<Content>(
  chainAfter: ChainRule<Content>,
  through: VersionNumber = Infinity,
  rules: ReaderRules = READER_RULES,
): ReaderMachine<Content> {
  const failed = (why: ReaderFailure): ReaderStep => ({ state: { phase: 'failed', why }, effects: [] });

  const walk = ({ epoch, checkpoint }: VolumeView, walks: number): ReaderStep => {
    if (walks >= MAX_READER_WALKS) return failed('unsettled');
    if (checkpoint.n > through) return failed('behind');
    const position = setOut(checkpoint, rules.checkpointEpoch);
    return {
      state: { phase: 'walking', epoch, checkpoint, position, walks: walks + 1 },
      effects: [...(walks > 0 ? [{ type: 'restart' } as const] : []), { type: 'list', from: position.n + 1 }],
    };
  };

  const finish = (position: LogPosition, end: WalkEnd): ReaderStep =>
    end === 'broken' ? failed('damaged') : { state: { phase: 'done', position, end }, effects: [] };

  const next = (state: ReaderState, event: ReaderEvent<Content>): ReaderStep => {
    switch (state.phase) {
      case 'looking': {
        if (event.type !== 'volume') return { state, effects: [] };
        return event.view === undefined ? failed('not-found') : walk(event.view, 0);
      }
      case 'walking': {
        if (event.type !== 'page') return { state, effects: [] };
        const { accepted, position, end } = stride(state.position, event.entries, chainAfter, through);
        const taken: ReaderEffect[] = accepted > 0 ? [{ type: 'accepted', count: accepted }] : [];
        if (end === undefined)
          return { state: { ...state, position }, effects: [...taken, { type: 'list', from: position.n + 1 }] };
        if (!rules.checkAfter) {
          const done = finish(position, end);
          return { state: done.state, effects: [...taken, ...done.effects] };
        }
        const { epoch, checkpoint, walks } = state;
        return {
          state: { phase: 'checking', epoch, checkpoint, position, end, walks },
          effects: [...taken, { type: 'read-volume' }],
        };
      }
      case 'checking': {
        if (event.type !== 'volume') return { state, effects: [] };
        const { view } = event;
        if (view === undefined) return failed('not-found');
        if (view.epoch !== state.epoch || checkpointMoved(state.checkpoint, view)) return walk(view, state.walks);
        return finish(state.position, state.end);
      }
      case 'done':
      case 'failed':
        return { state, effects: [] };
      default:
        return assertNever(state);
    }
  };

  return { start: { state: { phase: 'looking' }, effects: [{ type: 'read-volume' }] }, next };
}
