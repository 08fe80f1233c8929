import { assertNever, invariant } from '../base/errors.ts';
import type { Epoch, VersionNumber } from '../base/units.ts';
import { checkpointMoved, setOut, stride } from '../maintenance/walk-machine.ts';
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

/** How far along MAX_WALKS and MAX_RAISES a takeover with this epoch is. */
interface Attempt {
  readonly epoch: Epoch;
  readonly walks: number;
  readonly raises: number;
}

interface Walk extends Attempt {
  /** Where it set out. */
  readonly checkpoint: LogPosition;
  readonly position: LogPosition;
}

/** A takeover record that is fixed: `position` is what it chains to, its n is position.n + 1. */
interface Takeover extends Attempt {
  readonly position: LogPosition;
  readonly chain: string;
}

/** The volume item as read before its epoch is raised to `epoch` + 1. */
interface Raise {
  readonly epoch: Epoch;
  readonly checkpoint: LogPosition;
  readonly raises: number;
}

export type FenceState =
  /** Reading the volume item, before the epoch is raised. */
  | { readonly phase: 'looking'; readonly raises: number }
  | ({ readonly phase: 'notifying' } & Raise)
  | ({ readonly phase: 'raising' } & Raise)
  | ({ readonly phase: 'walking' } & Walk)
  /** Rule 2, before: the volume item is read again. */
  | ({ readonly phase: 'checking-before'; readonly end: WalkEnd } & Walk)
  /** Asking for the bytes of the takeover record. */
  | ({ readonly phase: 'composing'; readonly position: LogPosition } & Attempt)
  | ({ readonly phase: 'taking'; readonly awaits: 'put' | 'read' } & Takeover)
  /** The takeover put met another record: the volume item is read, then the log walked again. */
  | ({ readonly phase: 'returning' } & Attempt)
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
  /** What was accepted so far is to be forgotten: a walk sets out from the checkpoint of the volume item as read last. */
  | { readonly type: 'restart' }
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
        return event.type === 'notified' ? raise(state) : stay(state);
      case 'raising':
        return event.type === 'raised' ? raised(state, event.outcome, rules) : stay(state);
      case 'walking': {
        if (event.type !== 'page') return stay(state);
        const { accepted, position, end } = stride(state.position, event.entries, chainAfter);
        const taken: FenceEffect[] = accepted > 0 ? [{ type: 'accepted', count: accepted }] : [];
        if (end === undefined)
          return { state: { ...state, position }, effects: [...taken, { type: 'list', from: position.n + 1 }] };
        const walked = { ...state, position };
        const step = rules.checkBefore ? checkBefore(walked, end) : compose(walked, position);
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
        return owned(state.epoch, event.view) ? walk(state, event.view.checkpoint, rules) : stop('fenced');
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
  const { epoch, owner, checkpoint } = view;
  if (owner === '') return raise({ epoch, checkpoint, raises });
  return {
    state: { phase: 'notifying', epoch, checkpoint, raises },
    effects: [{ type: 'notify', owner, epoch: epoch + 1 }],
  };
}

function raise({ epoch, checkpoint, raises }: Raise): FenceStep {
  return {
    state: { phase: 'raising', epoch, checkpoint, raises: raises + 1 },
    effects: [{ type: 'raise', from: epoch, to: epoch + 1 }],
  };
}

/**
 * Only a plain 'ok' gives the epoch. After an unknown outcome or a conflict the item may hold our number and our name and yet be
 * another process's (a copied state directory has our name), so the next epoch is raised instead of guessing.
 */
function raised(state: In<'raising'>, outcome: 'ok' | 'conflict' | 'unknown', rules: FenceRules): FenceStep {
  if (outcome !== 'ok') return look(state.raises, state.raises);
  return walk({ epoch: state.epoch + 1, walks: 0, raises: state.raises }, state.checkpoint, rules);
}

function walk({ epoch, walks, raises }: Attempt, checkpoint: LogPosition, rules: FenceRules): FenceStep {
  if (walks >= MAX_WALKS) return stop('unsettled');
  const position = setOut(checkpoint, rules.checkpointEpoch);
  return {
    state: { phase: 'walking', epoch, checkpoint, position, walks: walks + 1, raises },
    effects: [{ type: 'restart' }, { type: 'list', from: position.n + 1 }],
  };
}

function checkBefore({ epoch, checkpoint, position, walks, raises }: Walk, end: WalkEnd): FenceStep {
  return {
    state: { phase: 'checking-before', epoch, checkpoint, position, end, walks, raises },
    effects: [{ type: 'read-volume', attempt: 0 }],
  };
}

function checkedBefore(state: In<'checking-before'>, view: VolumeView | undefined, rules: FenceRules): FenceStep {
  if (!owned(state.epoch, view)) return stop('fenced');
  if (checkpointMoved(state.checkpoint, view)) return walk(state, view.checkpoint, rules);
  // Nothing moved and yet the chain breaks: no interleaving of well-behaved writers leads here.
  return state.end === 'broken' ? stop('damaged') : compose(state, state.position);
}

function compose({ epoch, walks, raises }: Attempt, position: LogPosition): FenceStep {
  return {
    state: { phase: 'composing', epoch, position, walks, raises },
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
    if (event.outcome === 'ok') return taken(state, rules);
    if (event.outcome === 'unknown') return { state, effects: [putTakeover(state.position, rules, true)] };
    if (!rules.readOwn) return returnToWalk(state);
    return { state: { ...state, awaits: 'read' }, effects: [{ type: 'read', n }] };
  }
  if (state.awaits !== 'read') return stay(state);
  return isOwn(state.epoch, state.chain, event.there) ? taken(state, rules) : returnToWalk(state);
}

function isOwn(epoch: Epoch, chain: string, there: LogPosition | undefined): boolean {
  return there?.epoch === epoch && there.chain === chain;
}

function taken(state: Takeover, rules: FenceRules): FenceStep {
  const { epoch, position, chain, walks, raises } = state;
  if (!rules.checkAfter) return begin(epoch, { n: position.n + 1, epoch, chain });
  return {
    state: { phase: 'checking-after', epoch, position, chain, walks, raises },
    effects: [{ type: 'read-volume', attempt: 0 }],
  };
}

function returnToWalk({ epoch, walks, raises }: Attempt): FenceStep {
  return { state: { phase: 'returning', epoch, walks, raises }, effects: [{ type: 'read-volume', attempt: walks }] };
}

function checkedAfter(state: In<'checking-after'>, view: VolumeView | undefined): FenceStep {
  const { epoch, position, chain, raises } = state;
  if (!owned(epoch, view)) return stop('fenced');
  const n = position.n + 1;
  // The place may have been free only because the version there was folded and deleted: void. A new epoch starts afresh.
  if (view.floor >= n) return look(raises, raises);
  return begin(epoch, { n, epoch, chain });
}

function begin(epoch: Epoch, takeover: LogPosition): FenceStep {
  const effects: readonly FenceEffect[] = [{ type: 'active', after: takeover }];
  return { state: { phase: 'active', epoch, committed: takeover, puts: [] }, effects };
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
      if (event.there !== undefined && event.there.epoch >= state.epoch) return stop('fenced');
      // What was there at the conflict has been folded and deleted since (a zombie's put may lie there now): ours, or
      // something beyond a takeover record, which is never deleted and will stop us at its own n.
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
