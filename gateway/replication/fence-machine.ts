import { assertNever, invariant } from '../base/errors.ts';
import type { Epoch, VersionNumber } from '../base/units.ts';
import { checkpointMoved, stride } from '../maintenance/walk-machine.ts';
import type { ChainRule, LogEntry, LogPosition, VolumeView, WalkEnd } from '../maintenance/walk-machine.ts';

/**
 * One writer of a volume's version log as a pure machine (architecture, section 3, "The log is the fence"). It decides;
 * VersionWriter does what it decides. test/sim/fence-enumeration explores this very code. The content of versions is opaque: a
 * version is (n, epoch, chain), and since the chain is a hash over the whole record, two versions with one chain are the same bytes.
 *
 * Answers to requests whose outcome does not matter (reads, notices) are repeated by the driver until they come; the machine
 * hears of an unknown outcome only where it decides something: raising the epoch and putting a version.
 */

/** Puts sent and not yet known to be contiguous; bounds the garbage a dead writer leaves beyond a gap. */
export const MAX_PIPELINED_PUTS = 16;
/** Epochs one takeover may use up: a raise that lost its race or its answer, or a takeover record below the floor. */
export const MAX_RAISES = 16;
/** Walks per epoch: each is cut short by a fold or by one more version of the old owner, who has been told and stops within his lease. */
export const MAX_WALKS = 40;

/** `put`: sent, no answer yet. `read`: the put met a conflict, reading what lies there. `done`: known to be ours. */
export interface SentPut {
  readonly n: VersionNumber;
  readonly chain: string;
  readonly awaits: 'put' | 'read' | 'done';
}

/** What one walk has seen, and how it came to it. */
interface Walk {
  readonly epoch: Epoch;
  /** The volume item it set out from. */
  readonly base: VolumeView;
  readonly position: LogPosition;
  readonly walks: number;
  readonly raises: number;
}

/** A takeover record that is fixed: `position` is what it chains to, its n is position.n + 1. */
interface Takeover {
  readonly epoch: Epoch;
  readonly position: LogPosition;
  readonly chain: string;
  readonly walks: number;
  readonly raises: number;
}

export type FenceState =
  /** Reading the volume item, before the epoch is raised. */
  | { readonly phase: 'looking'; readonly raises: number }
  | { readonly phase: 'notifying'; readonly view: VolumeView; readonly raises: number }
  | { readonly phase: 'raising'; readonly view: VolumeView; readonly raises: number }
  | ({ readonly phase: 'walking' } & Walk)
  /** Rule 2, before: the volume item is read again. */
  | ({ readonly phase: 'checking-before'; readonly end: WalkEnd } & Walk)
  /** Asking for the bytes of the takeover record. */
  | ({ readonly phase: 'composing' } & Walk)
  | ({ readonly phase: 'taking'; readonly awaits: 'put' | 'read' } & Takeover)
  /** The takeover put met another record: the volume item is read, then the log walked again. */
  | { readonly phase: 'returning'; readonly epoch: Epoch; readonly walks: number; readonly raises: number }
  /** Rule 2, after: the volume item is read once more. */
  | ({ readonly phase: 'checking-after' } & Takeover)
  | {
      readonly phase: 'active';
      readonly epoch: Epoch;
      readonly committed: LogPosition;
      readonly puts: readonly SentPut[];
    }
  | { readonly phase: 'stopped'; readonly why: StopReason };

/**
 * `fenced`: another writer raised the epoch. `unsettled`: the bounds above were reached, try again later. `damaged`: the log
 * holds a record of a proper epoch that does not chain to its predecessor.
 */
export type StopReason = 'fenced' | 'not-found' | 'unsettled' | 'damaged';

export type FenceEvent<Content> =
  | { readonly type: 'volume'; readonly view: VolumeView | undefined }
  | { readonly type: 'notified' }
  | { readonly type: 'raised'; readonly outcome: 'ok' | 'conflict' | 'unknown' }
  | { readonly type: 'page'; readonly entries: readonly LogEntry<Content>[] }
  /** The bytes of version n are fixed; n is the next one. */
  | { readonly type: 'send'; readonly n: VersionNumber; readonly chain: string }
  | { readonly type: 'put-answer'; readonly n: VersionNumber; readonly outcome: 'ok' | 'conflict' | 'unknown' }
  /** What lies at n after a conflict; undefined: nothing any more. */
  | { readonly type: 'found'; readonly n: VersionNumber; readonly there: LogPosition | undefined };

export type FenceEffect =
  /** `attempt` is 0 for what can be done at once; above, wait a little first. */
  | { readonly type: 'read-volume'; readonly attempt: number }
  | { readonly type: 'notify'; readonly owner: string; readonly epoch: Epoch }
  | { readonly type: 'raise'; readonly from: Epoch; readonly to: Epoch }
  | { readonly type: 'list'; readonly from: VersionNumber }
  /** The first `count` entries of the page are history (if the walk is confirmed). */
  | { readonly type: 'accepted'; readonly count: number }
  /** What was accepted so far is to be forgotten: the walk starts over from `base`. */
  | { readonly type: 'restart'; readonly base: VolumeView }
  /** Fix the bytes of a takeover record that follows `after`, then send it. */
  | { readonly type: 'compose'; readonly after: LogPosition; readonly epoch: Epoch }
  /** Put version n, the same bytes each time, over nothing or over an epoch below `previousEpoch`. */
  | { readonly type: 'put'; readonly n: VersionNumber; readonly previousEpoch: Epoch; readonly again: boolean }
  | { readonly type: 'read'; readonly n: VersionNumber }
  /** The takeover stands: versions may follow `after`. */
  | { readonly type: 'active'; readonly after: LogPosition }
  /** Every version up to n is in the history. */
  | { readonly type: 'committed'; readonly n: VersionNumber };

export interface FenceStep {
  readonly state: FenceState;
  readonly effects: readonly FenceEffect[];
}

/** Left out only by tests that show what each rule is for. */
export interface FenceRules {
  /** Rule 1: a takeover record replaces what a lower epoch left at its n. */
  readonly takeoverReplaces: boolean;
  /** Rule 2: read the volume item between walk and takeover. */
  readonly checkBefore: boolean;
  /** Rule 2: read the volume item after the takeover. */
  readonly checkAfter: boolean;
  /** Rule 3: a walk starts with the checkpoint's epoch. */
  readonly checkpointEpoch: boolean;
  /** A conflict may be our own earlier success. */
  readonly readOwn: boolean;
}

export const FENCE_RULES: FenceRules = Object.freeze({
  takeoverReplaces: true,
  checkBefore: true,
  checkAfter: true,
  checkpointEpoch: true,
  readOwn: true,
});

export interface FenceMachine<Content> {
  readonly start: FenceStep;
  readonly next: (state: FenceState, event: FenceEvent<Content>) => FenceStep;
}

/** Events that a phase does not wait for are late answers, and change nothing. */
export function fenceMachine<Content>(
  chainAfter: ChainRule<Content>,
  rules: FenceRules = FENCE_RULES,
): FenceMachine<Content> {
  const next = (state: FenceState, event: FenceEvent<Content>): FenceStep => {
    switch (state.phase) {
      case 'looking':
        return event.type === 'volume' ? looked(state.raises, event.view) : stay(state);
      case 'notifying':
        return event.type === 'notified' ? raise(state.view, state.raises) : stay(state);
      case 'raising':
        return event.type === 'raised' ? raised(state, event.outcome, rules) : stay(state);
      case 'walking': {
        if (event.type !== 'page') return stay(state);
        const { accepted, position, end } = stride(state.position, event.entries, chainAfter);
        const taken: FenceEffect[] = accepted > 0 ? [{ type: 'accepted', count: accepted }] : [];
        if (end === undefined)
          return { state: { ...state, position }, effects: [...taken, { type: 'list', from: position.n + 1 }] };
        const walked = { ...state, position };
        const step = rules.checkBefore ? checkBefore(walked, end) : compose(walked);
        return { state: step.state, effects: [...taken, ...step.effects] };
      }
      case 'checking-before':
        return event.type === 'volume' ? checkedBefore(state, event.view, rules) : stay(state);
      case 'composing':
        return event.type === 'send' ? take(state, event, rules) : stay(state);
      case 'taking':
        return event.type === 'put-answer' || event.type === 'found' ? taking(state, event, rules) : stay(state);
      case 'returning':
        if (event.type !== 'volume') return stay(state);
        return owned(state.epoch, event.view) ? walk({ ...state, base: event.view }, rules) : stop('fenced');
      case 'checking-after':
        return event.type === 'volume' ? checkedAfter(state, event.view) : stay(state);
      case 'active':
        return active(state, event, rules);
      case 'stopped':
        return stay(state);
      default:
        return assertNever(state);
    }
  };
  return { start: look(0, 0), next };
}

type In<Phase extends FenceState['phase']> = Extract<FenceState, { phase: Phase }>;

const stay = (state: FenceState): FenceStep => ({ state, effects: [] });
const stop = (why: StopReason): FenceStep => ({ state: { phase: 'stopped', why }, effects: [] });

function owned(epoch: Epoch, view: VolumeView | undefined): view is VolumeView {
  return view?.epoch === epoch;
}

function look(raises: number, attempt: number): FenceStep {
  return raises >= MAX_RAISES
    ? stop('unsettled')
    : { state: { phase: 'looking', raises }, effects: [{ type: 'read-volume', attempt }] };
}

/** The old owner is told first: when it is told and we die, it looks, finds its epoch unchanged and goes on. */
function looked(raises: number, view: VolumeView | undefined): FenceStep {
  if (view === undefined) return stop('not-found');
  if (view.owner === '') return raise(view, raises);
  return {
    state: { phase: 'notifying', view, raises },
    effects: [{ type: 'notify', owner: view.owner, epoch: view.epoch + 1 }],
  };
}

function raise(view: VolumeView, raises: number): FenceStep {
  return {
    state: { phase: 'raising', view, raises: raises + 1 },
    effects: [{ type: 'raise', from: view.epoch, to: view.epoch + 1 }],
  };
}

/**
 * Only a plain 'ok' gives the epoch. After an unknown outcome or a conflict the item may hold our number and our name and yet be
 * another process's (a copied state directory has our name), so the next epoch is raised instead of guessing.
 */
function raised(state: In<'raising'>, outcome: 'ok' | 'conflict' | 'unknown', rules: FenceRules): FenceStep {
  if (outcome !== 'ok') return look(state.raises, state.raises);
  const epoch = state.view.epoch + 1;
  return walk({ epoch, base: { ...state.view, epoch }, walks: 0, raises: state.raises }, rules);
}

function walk(from: Omit<Walk, 'position'>, rules: FenceRules): FenceStep {
  const { epoch, base, walks, raises } = from;
  if (walks >= MAX_WALKS) return stop('unsettled');
  const position = rules.checkpointEpoch ? base.checkpoint : { ...base.checkpoint, epoch: 0 };
  return {
    state: { phase: 'walking', epoch, base, position, walks: walks + 1, raises },
    effects: [
      { type: 'restart', base },
      { type: 'list', from: position.n + 1 },
    ],
  };
}

function checkBefore(walk: Walk, end: WalkEnd): FenceStep {
  const { epoch, base, position, walks, raises } = walk;
  return {
    state: { phase: 'checking-before', epoch, base, position, end, walks, raises },
    effects: [{ type: 'read-volume', attempt: 0 }],
  };
}

function checkedBefore(state: In<'checking-before'>, view: VolumeView | undefined, rules: FenceRules): FenceStep {
  if (!owned(state.epoch, view)) return stop('fenced');
  if (checkpointMoved(state.base, view)) return walk({ ...state, base: view }, rules);
  // Nothing moved and yet the chain breaks: no interleaving of well-behaved writers leads here.
  return state.end === 'broken' ? stop('damaged') : compose({ ...state, base: view });
}

function compose(walk: Walk): FenceStep {
  const { epoch, base, position, walks, raises } = walk;
  return {
    state: { phase: 'composing', epoch, base, position, walks, raises },
    effects: [{ type: 'compose', after: position, epoch }],
  };
}

function take(state: In<'composing'>, fixed: { n: VersionNumber; chain: string }, rules: FenceRules): FenceStep {
  const { epoch, position, walks, raises } = state;
  invariant(fixed.n === position.n + 1, `the takeover belongs at ${position.n + 1}, not at ${fixed.n}`);
  return {
    state: { phase: 'taking', awaits: 'put', epoch, position, chain: fixed.chain, walks, raises },
    effects: [putTakeover(position, rules, false)],
  };
}

function putTakeover(position: LogPosition, rules: FenceRules, again: boolean): FenceEffect {
  return { type: 'put', n: position.n + 1, previousEpoch: rules.takeoverReplaces ? position.epoch : 0, again };
}

function taking(
  state: In<'taking'>,
  event: Extract<FenceEvent<unknown>, { type: 'put-answer' | 'found' }>,
  rules: FenceRules,
): FenceStep {
  const n = state.position.n + 1;
  if (event.n !== n) return stay(state);
  if (event.type === 'put-answer') {
    if (state.awaits !== 'put') return stay(state);
    if (event.outcome === 'ok') return taken(state);
    if (event.outcome === 'unknown') return { state, effects: [putTakeover(state.position, rules, true)] };
    if (!rules.readOwn) return returnToWalk(state);
    return { state: { ...state, awaits: 'read' }, effects: [{ type: 'read', n }] };
  }
  if (state.awaits !== 'read') return stay(state);
  return isOwn(state.epoch, state.chain, event.there) ? taken(state) : returnToWalk(state);
}

function isOwn(epoch: Epoch, chain: string, there: LogPosition | undefined): boolean {
  return there?.epoch === epoch && there.chain === chain;
}

function taken(state: Takeover): FenceStep {
  const { epoch, position, chain, walks, raises } = state;
  return {
    state: { phase: 'checking-after', epoch, position, chain, walks, raises },
    effects: [{ type: 'read-volume', attempt: 0 }],
  };
}

function returnToWalk({ epoch, walks, raises }: Takeover): FenceStep {
  return { state: { phase: 'returning', epoch, walks, raises }, effects: [{ type: 'read-volume', attempt: walks }] };
}

function checkedAfter(state: In<'checking-after'>, view: VolumeView | undefined): FenceStep {
  const { epoch, position, chain, raises } = state;
  if (!owned(epoch, view)) return stop('fenced');
  const n = position.n + 1;
  // The place may have been free only because the version there was folded and deleted: void. A new epoch starts afresh.
  if (view.floor >= n) return look(raises, raises);
  const committed = { n, epoch, chain };
  return { state: { phase: 'active', epoch, committed, puts: [] }, effects: [{ type: 'active', after: committed }] };
}

function active(state: In<'active'>, event: FenceEvent<unknown>, rules: FenceRules): FenceStep {
  switch (event.type) {
    case 'volume':
      return owned(state.epoch, event.view) ? stay(state) : stop('fenced');
    case 'send': {
      const last = state.puts.at(-1) ?? state.committed;
      invariant(event.n === last.n + 1, `version ${event.n} was sent after version ${last.n}`);
      invariant(state.puts.length < MAX_PIPELINED_PUTS, `more than ${MAX_PIPELINED_PUTS} puts under way`);
      const put: SentPut = { n: event.n, chain: event.chain, awaits: 'put' };
      return { state: { ...state, puts: [...state.puts, put] }, effects: [putAt(state, event.n, false)] };
    }
    case 'put-answer': {
      if (!awaits(state, event.n, 'put')) return stay(state);
      if (event.outcome === 'ok') return confirm(state, event.n);
      if (event.outcome === 'unknown') return { state, effects: [putAt(state, event.n, true)] };
      if (!rules.readOwn) return stop('fenced');
      return { state: mark(state, event.n, 'read'), effects: [{ type: 'read', n: event.n }] };
    }
    case 'found': {
      const put = awaits(state, event.n, 'read');
      if (!put) return stay(state);
      if (isOwn(state.epoch, put.chain, event.there)) return confirm(state, event.n);
      if (event.there !== undefined) return stop('fenced');
      // Something was there at the conflict and has been folded and deleted since: ours, or beyond a takeover that will stop us.
      return { state: mark(state, event.n, 'put'), effects: [putAt(state, event.n, true)] };
    }
    case 'notified':
    case 'raised':
    case 'page':
      return stay(state);
    default:
      return assertNever(event);
  }
}

/** In a normal put the record before is our own, so `previousEpoch` is our epoch. */
function putAt(state: In<'active'>, n: VersionNumber, again: boolean): FenceEffect {
  return { type: 'put', n, previousEpoch: state.epoch, again };
}

function awaits(state: In<'active'>, n: VersionNumber, what: SentPut['awaits']): SentPut | undefined {
  const put = state.puts[n - state.committed.n - 1];
  return put?.awaits === what ? put : undefined;
}

function mark(state: In<'active'>, n: VersionNumber, what: SentPut['awaits']): In<'active'> {
  return { ...state, puts: state.puts.map((put) => (put.n === n ? { ...put, awaits: what } : put)) };
}

/** A version is committed when it and every earlier one is known to be put. */
function confirm(state: In<'active'>, n: VersionNumber): FenceStep {
  const marked = mark(state, n, 'done');
  const open = marked.puts.findIndex((put) => put.awaits !== 'done');
  const done = open < 0 ? marked.puts.length : open;
  const last = marked.puts[done - 1];
  if (!last) return stay(marked);
  const committed = { n: last.n, epoch: state.epoch, chain: last.chain };
  return {
    state: { ...marked, committed, puts: marked.puts.slice(done) },
    effects: [{ type: 'committed', n: last.n }],
  };
}
