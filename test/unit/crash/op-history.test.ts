import { describe, expect, test } from 'vitest';
import { OpHistory, type StampedOp } from '../../crash/op-history.ts';
import { FOREIGN, stamped, stampsIn } from '../../crash/stamp.ts';

const SECTORS = 64;

/** A disk of 64 sectors whose history the test tells, and what is found on it. */
class Told {
  readonly history = new OpHistory(SECTORS);
  readonly found = new Float64Array(SECTORS);

  begun(first: number, count: number, kind: StampedOp['kind'] = 'write', durable = false): StampedOp {
    return this.history.submit(kind, first, count, durable);
  }

  acked(first: number, count: number, kind: StampedOp['kind'] = 'write', durable = false): StampedOp {
    const op = this.begun(first, count, kind, durable);
    op.acked = this.history.now();
    return op;
  }

  shows({ number, kind }: StampedOp, first: number, count: number): void {
    this.found.fill(kind === 'unmap' ? 0 : number, first, first + count);
  }
}

describe('what a crash may leave', () => {
  test('acked writes, and those under way as a whole or not at all', () => {
    const told = new Told();
    told.shows(told.acked(0, 8), 0, 8);
    told.begun(8, 16);
    told.shows(told.begun(24, 16), 24, 16);
    expect(told.history.settle(told.found, 'acked')).toEqual([]);
  });

  test('at an earlier moment: some of the writes, with all that came before them, and each moment what the one before had', () => {
    const told = new Told();
    const [one, two] = [told.acked(0, 8), told.acked(8, 8)];
    const three = told.begun(16, 8);
    const nothing = told.history.heldOnce(told.found, new Set());
    expect([nothing.wrong, [...nothing.inside]]).toEqual([[], []]);
    told.shows(three, 16, 8);
    const third = told.history.heldOnce(told.found, new Set());
    expect(third.wrong).toContain('sector 0 holds zeros, but write 1 came after that and is part of what is there');
    told.shows(one, 0, 8);
    told.shows(two, 8, 8);
    const all = told.history.heldOnce(told.found, new Set());
    expect([all.wrong, all.inside]).toEqual([[], new Set([one, two, three])]);
    told.found.fill(0, 16, 24);
    expect(told.history.heldOnce(told.found, new Set()).wrong).toEqual([]);
    expect(told.history.heldOnce(told.found, all.inside).wrong).toContain(
      'sector 16 holds zeros, but write 3 came after that and is in an earlier version',
    );
  });

  test('not the loss of an acked write', () => {
    const told = new Told();
    told.acked(3, 1);
    expect(told.history.settle(told.found, 'acked')).toEqual([
      'sector 3 holds zeros, but write 1 came after that and is acked',
    ]);
  });

  test('not part of a write that was under way', () => {
    const told = new Told();
    const under = told.begun(0, 16);
    told.shows(under, 0, 8);
    expect(told.history.settle(told.found, 'acked')).toHaveLength(8);
  });

  test('not what an acked write has overwritten, be it of an earlier round', () => {
    const told = new Told();
    const old = told.acked(0, 8);
    told.shows(old, 0, 8);
    expect(told.history.settle(told.found, 'acked')).toEqual([]);
    told.acked(0, 8);
    expect(told.history.settle(told.found, 'acked')).toHaveLength(8);
  });

  test('not what was found before and then nobody changed', () => {
    const told = new Told();
    const under = told.begun(0, 8);
    expect(told.history.settle(told.found, 'acked')).toEqual([]);
    told.shows(under, 0, 8);
    expect(told.history.settle(told.found, 'acked')).toHaveLength(8);
  });

  test('either of two writes that overlapped in time, but no mix of them within a block', () => {
    const told = new Told();
    const one = told.begun(0, 8);
    const two = told.begun(0, 8);
    one.acked = told.history.now();
    two.acked = told.history.now();
    told.shows(one, 0, 8);
    told.shows(two, 4, 4);
    expect(told.history.settle(told.found, 'acked')).toEqual(['block 0 is a mix of writes 1 and 2']);
    const third = told.begun(8, 8);
    const fourth = told.begun(8, 2);
    third.acked = told.history.now();
    fourth.acked = told.history.now();
    told.shows(third, 8, 8);
    told.shows(fourth, 8, 2);
    expect(told.history.settle(told.found, 'acked')).toEqual([]);
  });

  test('not what an acked unmap took away', () => {
    const told = new Told();
    const old = told.acked(0, 16);
    told.acked(8, 8, 'unmap');
    told.shows(old, 0, 16);
    expect(told.history.settle(told.found, 'acked')).toHaveLength(8);
  });

  test('no byte of anything else', () => {
    const told = new Told();
    told.found[5] = FOREIGN;
    expect(told.history.settle(told.found, 'acked')).toEqual([
      'sector 5 holds foreign bytes, which nobody can have left there',
    ]);
  });
});

describe('what a power cut may leave', () => {
  test('any end of the history behind the last flush', () => {
    const told = new Told();
    told.shows(told.acked(0, 8), 0, 8);
    told.history.flushed(told.history.now());
    told.acked(8, 8);
    told.acked(16, 8);
    expect(told.history.settle(told.found, 'flushed')).toEqual([]);
  });

  test('not the loss of what was flushed, nor of a write with FUA', () => {
    const told = new Told();
    told.acked(0, 1);
    told.history.flushed(told.history.now());
    told.acked(8, 1, 'write', true);
    expect(told.history.settle(told.found, 'flushed')).toHaveLength(2);
  });

  test('not a flush that covers what was acked after it was submitted', () => {
    const told = new Told();
    const moment = told.history.now();
    told.acked(0, 1);
    told.history.flushed(moment);
    expect(told.history.settle(told.found, 'flushed')).toEqual([]);
  });

  test('no hole: what came before anything that is there is there too', () => {
    const told = new Told();
    told.acked(0, 8);
    told.shows(told.acked(8, 8), 8, 8);
    expect(told.history.settle(told.found, 'flushed')).toHaveLength(8);
  });
});

describe('what a read may answer', () => {
  test('not what had been overwritten when it was submitted', () => {
    const told = new Told();
    const old = told.acked(0, 2);
    const newer = told.acked(0, 1);
    const moment = told.history.now();
    expect(told.history.wrongRead(0, [newer.number, old.number], moment)).toEqual([]);
    expect(told.history.wrongRead(0, [old.number], moment)).toHaveLength(1);
  });
});

describe('the stamps', () => {
  test('tell the write of each sector, and any byte that is another one', () => {
    const data = Buffer.concat([stamped(7, 2, 41), Buffer.alloc(512), stamped(3, 1, 9)]);
    expect(stampsIn(7, data)).toEqual([41, 41, 0, FOREIGN]);
    for (const at of [0, 5, 9, 300, 511]) {
      const spoilt = Buffer.from(stamped(7, 1, 41));
      spoilt.writeUInt8((spoilt.readUInt8(at) + 1) % 256, at);
      expect(stampsIn(7, spoilt)).toEqual([FOREIGN]);
    }
  });
});
