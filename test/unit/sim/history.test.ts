import { describe, expect, it } from 'vitest';
import { History, LOST, Violation, type Op } from '../../sim/history.ts';
import { readStamp, stampRange } from '../../sim/stamp.ts';

function op(id: number, lba: number, sectors: number, times: [number, number], kind: Op['kind'] = 'write'): Op {
  return {
    id,
    kind,
    spans: [{ lba, sectors }],
    invokedAt: times[0],
    ackedAt: times[1],
    durable: false,
    durableAtMs: Infinity,
    marked: false,
  };
}

/** Matches the state that has `values` in sectors 0, 1, 2, …; answers with the ids found to be inside. */
function match(history: History, values: readonly number[], required: (op: Op) => boolean = () => false): number[] {
  const found = history.matchPrefix('state', values.keys(), (sector) => values[sector] ?? 0, required);
  return [...found].map(({ id }) => id).sort((a, b) => a - b);
}

describe('the history of a volume', () => {
  it('recognises a prefix of the writes', () => {
    const history = new History('h');
    history.add(op(1, 0, 2, [1, 2]));
    history.add(op(2, 1, 2, [3, 4]));
    history.add(op(3, 0, 1, [5, 6]));
    expect(match(history, [0, 0, 0])).toEqual([]);
    expect(match(history, [1, 1, 0])).toEqual([1]);
    expect(match(history, [1, 2, 2])).toEqual([1, 2]);
    expect(match(history, [3, 2, 2])).toEqual([1, 2, 3]);
  });

  it('refuses a state with a hole, half a write, or bytes of another time', () => {
    const history = new History('h');
    history.add(op(1, 0, 2, [1, 2]));
    history.add(op(2, 2, 2, [3, 4]));
    expect(() => match(history, [0, 0, 2, 2])).toThrow(Violation);
    expect(() => match(history, [1, 0, 0, 0])).toThrow(Violation);
    expect(() => match(history, [1, 1, 2, 0])).toThrow(Violation);
    expect(() => match(history, [1, 1, 9, 9])).toThrow(Violation);
  });

  it('lets concurrent writes be there in any combination', () => {
    const history = new History('h');
    history.add(op(1, 0, 1, [1, 10]));
    history.add(op(2, 1, 1, [2, 9]));
    expect(match(history, [1, 0])).toEqual([1]);
    expect(match(history, [0, 2])).toEqual([2]);
    expect(match(history, [1, 2])).toEqual([1, 2]);
  });

  it('refuses a state that lacks what is required', () => {
    const history = new History('h');
    history.add(op(1, 0, 1, [1, 2]));
    history.add(op(2, 1, 1, [3, 4]));
    expect(() => match(history, [1, 0], ({ id }) => id === 2)).toThrow('must be there');
  });

  it('tells an unmap from never-written where the writes around it do', () => {
    const history = new History('h');
    history.add(op(1, 0, 2, [1, 2]));
    history.add(op(2, 0, 2, [3, 4], 'unmap'));
    history.add(op(3, 2, 1, [5, 6]));
    expect(match(history, [0, 0, 3])).toEqual([1, 2, 3]);
    expect(() => match(history, [1, 1, 3])).toThrow(Violation);
    expect(() => match(history, [0, 1, 0])).toThrow(Violation);
    expect(match(history, [0, 0, 0])).toEqual([]);
    expect(match(history, [0, 0, 0], ({ id }) => id === 1)).toEqual([1, 2]);
  });

  it('goes on from what a restart has shown', () => {
    const history = new History('h');
    history.add(op(1, 0, 1, [1, 2]));
    history.add(op(2, 1, 1, [3, Infinity]));
    const survivors = history.matchPrefix(
      'restart',
      [0, 1],
      (sector) => (sector === 0 ? 1 : 0),
      () => false,
    );
    history.settle(survivors, 10);
    expect(() => match(history, [1, 2])).toThrow(Violation);
    expect(
      new History('next', history.stateAfter(survivors)).matchPrefix(
        's',
        [0],
        () => 1,
        () => false,
      ).size,
    ).toBe(0);
  });

  it('allows a read what was answered before or is under way, and never goes back', () => {
    const history = new History('h');
    history.add(op(1, 0, 8, [1, 2]));
    const second = op(2, 0, 8, [3, Infinity]);
    history.add(second);
    const read = (value: number, startedAt: number, now: number): void => {
      history.checkRead({ lba: 0, sectors: 8 }, startedAt, now, () => value);
    };
    read(1, 4, 5);
    read(2, 6, 7);
    expect(() => {
      read(1, 8, 9);
    }).toThrow(Violation);
    expect(() => {
      read(0, 3, 9);
    }).toThrow(Violation);
  });

  it('refuses a read that mixes two writes within a block', () => {
    const history = new History('h');
    history.add(op(1, 0, 8, [1, 2]));
    history.add(op(2, 0, 8, [3, Infinity]));
    expect(() => {
      history.checkRead({ lba: 0, sectors: 8 }, 4, 5, (sector) => (sector < 4 ? 2 : 1));
    }).toThrow('half of write 2');
  });
});

describe('a stamp', () => {
  it('is read back from its own place only', () => {
    const data = stampRange(7, 100, 3, 42);
    expect(readStamp(7, 101, data.subarray(512, 1024))).toBe(42);
    expect(readStamp(7, 102, data.subarray(512, 1024))).toBeUndefined();
    expect(readStamp(8, 101, data.subarray(512, 1024))).toBeUndefined();
    data[1000] = (data[1000] ?? 0) ^ 1;
    expect(readStamp(7, 101, data.subarray(512, 1024))).toBeUndefined();
    expect(readStamp(7, 101, Buffer.alloc(512))).toBe(0);
  });

  it('knows that a write is not there when a part of it is not, though another part can never be read again', () => {
    const history = new History('h');
    history.add(op(1, 0, 16, [1, 2]));
    history.add(op(2, 0, 16, [3, 4]));
    // Begun after the one that is not there was answered.
    history.add(op(3, 8, 2, [5, 6]));
    const values = (sector: number): number => (sector < 8 ? 1 : LOST);
    const sectors = [...Array(16).keys()];
    const survivors = history.matchPrefix('state', sectors, values, () => false);
    const gone = history.contradicted(sectors, values);
    history.settle(survivors, 10, (sector) => values(sector) === LOST, gone);
    expect(history.ops.map(({ id }) => id)).toEqual([1]);
  });
});
