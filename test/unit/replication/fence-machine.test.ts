import { describe, expect, it } from 'vitest';
import type { LogPosition, VolumeView } from '../../../gateway/maintenance/walk-machine.ts';
import { MAX_PIPELINED_PUTS, MAX_RAISES, MAX_WALKS, fenceMachine } from '../../../gateway/replication/fence-machine.ts';
import type { FenceEffect, FenceEvent, FenceState } from '../../../gateway/replication/fence-machine.ts';

/** The content of a version is its own name; the chain is the path of names to it. */
const machine = fenceMachine<string>((previous, content) => `${previous}/${content}`);

const NOTHING: LogPosition = { n: 0, epoch: 0, chain: '' };
const FRESH: VolumeView = { epoch: 4, owner: 'old', floor: 0, checkpoint: NOTHING };
/** As FRESH, after the machine raised the epoch. */
const MINE: VolumeView = { ...FRESH, epoch: 5, owner: 'me' };
const FIRST = { n: 1, epoch: 3, chain: '/a', content: 'a' };
const SECOND = { n: 2, epoch: 4, chain: '/a/b', content: 'b' };

/** A machine and what it asked for last. */
class Run {
  state: FenceState = machine.start.state;
  effects: readonly FenceEffect[] = machine.start.effects;

  tell(...events: readonly FenceEvent<string>[]): this {
    for (const event of events) {
      const step = machine.next(this.state, event);
      this.state = step.state;
      this.effects = step.effects;
    }
    return this;
  }

  raised(): this {
    return this.tell({ type: 'volume', view: FRESH }, { type: 'notified' }, { type: 'raised', outcome: 'ok' });
  }

  /** Walked over FIRST and SECOND, the takeover under way at 3. */
  taking(): this {
    return this.raised().tell(
      { type: 'page', entries: [FIRST, SECOND] },
      { type: 'page', entries: [] },
      { type: 'volume', view: MINE },
      { type: 'send', n: 3, chain: '/a/b/t' },
    );
  }

  active(): this {
    return this.taking().tell({ type: 'put-answer', n: 3, outcome: 'ok' }, { type: 'volume', view: MINE });
  }

  send(count: number): this {
    for (let n = 4; n < 4 + count; n += 1) this.tell({ type: 'send', n, chain: `v${n}` });
    return this;
  }
}

const ok = (n: number): FenceEvent<string> => ({ type: 'put-answer', n, outcome: 'ok' });
const conflict = (n: number): FenceEvent<string> => ({ type: 'put-answer', n, outcome: 'conflict' });
const unknown = (n: number): FenceEvent<string> => ({ type: 'put-answer', n, outcome: 'unknown' });

describe('a takeover', () => {
  it('tells the old owner before it raises the epoch', () => {
    const run = new Run().tell({ type: 'volume', view: FRESH });
    expect(run.effects).toEqual([{ type: 'notify', owner: 'old', epoch: 5 }]);
    expect(run.tell({ type: 'notified' }).effects).toEqual([{ type: 'raise', from: 4, to: 5 }]);
  });

  it('has nobody to tell when the volume was never served', () => {
    const run = new Run().tell({ type: 'volume', view: { ...FRESH, epoch: 0, owner: '' } });
    expect(run.effects).toEqual([{ type: 'raise', from: 0, to: 1 }]);
  });

  it.each(['conflict', 'unknown'] as const)(
    'after a raise that ended in %s looks again and never takes the epoch for its own',
    (outcome) => {
      const run = new Run().tell({ type: 'volume', view: FRESH }, { type: 'notified' }, { type: 'raised', outcome });
      expect(run.effects).toEqual([{ type: 'read-volume', attempt: 1 }]);
      // The item holds our name and the number we asked for: a copy of this gateway may have raised it.
      run.tell({ type: 'volume', view: MINE }, { type: 'notified' });
      expect(run.effects).toEqual([{ type: 'raise', from: 5, to: 6 }]);
    },
  );

  it('puts its record after the last one, over nothing or what is older than that', () => {
    expect(new Run().taking().effects).toEqual([{ type: 'put', n: 3, previousEpoch: 4, again: false }]);
  });

  it('walks on over pages of any size, and stops before a gap or a lower epoch', () => {
    const gap = new Run().raised().tell({ type: 'page', entries: [FIRST, { ...SECOND, n: 3 }] });
    expect(gap.effects).toEqual([
      { type: 'accepted', count: 1 },
      { type: 'read-volume', attempt: 0 },
    ]);
    const lower = new Run().raised().tell({ type: 'page', entries: [FIRST, { ...SECOND, epoch: 2 }] });
    expect(lower.state).toMatchObject({ phase: 'checking-before', end: 'tail', position: { n: 1 } });
    const page = new Run().raised().tell({ type: 'page', entries: [FIRST] });
    expect(page.effects).toEqual([
      { type: 'accepted', count: 1 },
      { type: 'list', from: 2 },
    ]);
  });

  it('starts from the checkpoint, with its epoch and chain', () => {
    const view = { ...FRESH, checkpoint: { n: 9, epoch: 4, chain: 'nine' } };
    const run = new Run().tell({ type: 'volume', view }, { type: 'notified' }, { type: 'raised', outcome: 'ok' });
    expect(run.effects).toEqual([{ type: 'restart' }, { type: 'list', from: 10 }]);
    run.tell({ type: 'page', entries: [{ n: 10, epoch: 3, chain: 'nine/x', content: 'x' }] });
    expect(run.state).toMatchObject({ phase: 'checking-before', position: { n: 9 } });
  });

  it('walks again when the checkpoint moved meanwhile, and takes a broken chain for damage only when it did not', () => {
    const broken = { ...SECOND, chain: '/else' };
    const walked = (): Run => new Run().raised().tell({ type: 'page', entries: [FIRST, broken] });
    const moved = { ...MINE, checkpoint: { n: 1, epoch: 3, chain: '/a' } };
    expect(walked().tell({ type: 'volume', view: moved }).effects).toEqual([
      { type: 'restart' },
      { type: 'list', from: 2 },
    ]);
    expect(walked().tell({ type: 'volume', view: MINE }).state).toEqual({ phase: 'stopped', why: 'damaged' });
  });

  it.each([
    ['before its record', (run: Run) => run.raised().tell({ type: 'page', entries: [] })],
    ['after its record', (run: Run) => run.taking().tell(ok(3))],
  ])('is fenced when somebody raises the epoch %s', (_when, lead) => {
    const run = lead(new Run()).tell({ type: 'volume', view: { ...MINE, epoch: 6 } });
    expect(run.state).toEqual({ phase: 'stopped', why: 'fenced' });
  });

  it('starts over with a new epoch when its record lies at or below the floor', () => {
    const run = new Run().taking().tell(ok(3));
    expect(run.tell({ type: 'volume', view: { ...MINE, floor: 3 } }).state).toEqual({ phase: 'looking', raises: 1 });
    const above = new Run()
      .taking()
      .tell(ok(3))
      .tell({ type: 'volume', view: { ...MINE, floor: 2 } });
    expect(above.state).toMatchObject({ phase: 'active', committed: { n: 3, epoch: 5, chain: '/a/b/t' } });
    expect(above.effects).toEqual([{ type: 'active', after: { n: 3, epoch: 5, chain: '/a/b/t' } }]);
  });

  it('sends its record again after an unknown outcome, and knows it by its chain after a conflict', () => {
    const run = new Run().taking().tell(unknown(3));
    expect(run.effects).toEqual([{ type: 'put', n: 3, previousEpoch: 4, again: true }]);
    expect(run.tell(conflict(3)).effects).toEqual([{ type: 'read', n: 3 }]);
    run.tell({ type: 'found', n: 3, there: { n: 3, epoch: 5, chain: '/a/b/t' } });
    expect(run.state).toMatchObject({ phase: 'checking-after' });
  });

  it.each([
    ['another writer', { n: 3, epoch: 4, chain: '/a/b/c' }],
    ['itself, on another place of the chain', { n: 3, epoch: 5, chain: '/a/x/t' }],
    ['nobody any more', undefined],
  ])('walks again when its place was taken by %s', (_whom, there) => {
    const run = new Run().taking().tell(conflict(3), { type: 'found', n: 3, there });
    expect(run.effects).toEqual([{ type: 'read-volume', attempt: 1 }]);
    expect(run.tell({ type: 'volume', view: MINE }).effects).toEqual([{ type: 'restart' }, { type: 'list', from: 1 }]);
  });

  it('gives up after MAX_WALKS walks', () => {
    const run = new Run().raised();
    for (let walk = 1; walk <= MAX_WALKS; walk += 1) {
      expect(run.state).toMatchObject({ phase: 'walking', walks: walk });
      const checkpoint = { n: walk, epoch: 4, chain: `${walk}` };
      run.tell({ type: 'page', entries: [] }, { type: 'volume', view: { ...MINE, checkpoint } });
    }
    expect(run.state).toEqual({ phase: 'stopped', why: 'unsettled' });
  });

  it('gives up after MAX_RAISES raises', () => {
    const run = new Run();
    for (let raise = 0; raise < MAX_RAISES; raise += 1)
      run.tell({ type: 'volume', view: FRESH }, { type: 'notified' }, { type: 'raised', outcome: 'unknown' });
    expect(run.state).toEqual({ phase: 'stopped', why: 'unsettled' });
  });

  it('says so when there is no such volume', () => {
    expect(new Run().tell({ type: 'volume', view: undefined }).state).toEqual({ phase: 'stopped', why: 'not-found' });
  });
});

describe('an active writer', () => {
  it('puts over nothing or what is older than its own epoch', () => {
    expect(new Run().active().send(1).effects).toEqual([{ type: 'put', n: 4, previousEpoch: 5, again: false }]);
  });

  it('commits a version only together with all before it, whatever the order of the answers', () => {
    const run = new Run().active().send(3);
    expect(run.tell(ok(6)).effects).toEqual([]);
    expect(run.tell(ok(4)).effects).toEqual([{ type: 'committed', n: 4 }]);
    expect(run.tell(ok(5)).effects).toEqual([{ type: 'committed', n: 6 }]);
    expect(run.state).toMatchObject({ committed: { n: 6, chain: 'v6' }, puts: [] });
  });

  it('sends the same version again after an unknown outcome', () => {
    const run = new Run().active().send(2).tell(unknown(4));
    expect(run.effects).toEqual([{ type: 'put', n: 4, previousEpoch: 5, again: true }]);
  });

  it('takes a conflict with itself for success', () => {
    const run = new Run().active().send(1).tell(unknown(4), conflict(4));
    expect(run.effects).toEqual([{ type: 'read', n: 4 }]);
    expect(run.tell({ type: 'found', n: 4, there: { n: 4, epoch: 5, chain: 'v4' } }).effects).toEqual([
      { type: 'committed', n: 4 },
    ]);
  });

  it('is fenced by a conflict with a higher epoch', () => {
    const run = new Run().active().send(2).tell(conflict(5));
    run.tell({ type: 'found', n: 5, there: { n: 5, epoch: 6, chain: 'v5' } });
    expect(run.state).toEqual({ phase: 'stopped', why: 'fenced' });
  });

  it.each([
    ['nothing', undefined],
    ["a zombie's late put", { n: 4, epoch: 2, chain: 'z' }],
  ])(
    'puts again when its version was folded and deleted before it was read back, and %s lies there',
    (_what, there) => {
      const run = new Run().active().send(1).tell(conflict(4), { type: 'found', n: 4, there });
      expect(run.effects).toEqual([{ type: 'put', n: 4, previousEpoch: 5, again: true }]);
      expect(run.tell(ok(4)).effects).toEqual([{ type: 'committed', n: 4 }]);
    },
  );

  it('is fenced when the volume item shows another epoch, or is gone', () => {
    expect(new Run().active().tell({ type: 'volume', view: MINE }).state).toMatchObject({ phase: 'active' });
    for (const view of [{ ...MINE, epoch: 6 }, undefined])
      expect(new Run().active().tell({ type: 'volume', view }).state).toEqual({ phase: 'stopped', why: 'fenced' });
  });

  it('changes nothing at late answers', () => {
    const run = new Run().active().send(1).tell(ok(4));
    const { state } = run;
    for (const late of [ok(3), ok(4), conflict(4), unknown(4), unknown(9)] as const) {
      expect(run.tell(late).effects).toEqual([]);
      expect(run.state).toEqual(state);
    }
    expect(run.tell({ type: 'found', n: 4, there: undefined }, { type: 'page', entries: [] }).effects).toEqual([]);
  });

  it('asserts that versions follow one another and that the pipeline is bounded', () => {
    expect(() => new Run().active().tell({ type: 'send', n: 5, chain: 'v5' })).toThrow(/was sent after version 3/);
    expect(() => new Run().active().send(MAX_PIPELINED_PUTS + 1)).toThrow(/puts under way/);
  });

  it('does nothing any more once it has stopped', () => {
    const run = new Run().active().send(2).tell(conflict(4));
    run.tell({ type: 'found', n: 4, there: { n: 4, epoch: 7, chain: 'x' } });
    expect(run.tell(ok(5), { type: 'volume', view: MINE }).effects).toEqual([]);
    expect(run.state).toEqual({ phase: 'stopped', why: 'fenced' });
  });
});
