import { describe, expect, it } from 'vitest';
import { handlesOf, portalsOf } from '../../../gateway/threads/thread-parts.ts';
import { IoThreads, threadsNeeded } from '../../../gateway/threads/io-threads.ts';
import type { IoThread } from '../../../gateway/threads/io-thread.ts';
import { SessionTable } from '../../../gateway/iscsi/session-table.ts';

const entry = (name: string, thread?: number, deletedAt?: number) => ({
  name,
  lineage: name,
  volume: name,
  ...(thread === undefined ? {} : { thread }),
  ...(deletedAt === undefined ? {} : { deletedAt }),
});

describe('what a thread has of the gateway', () => {
  it('is the ports behind the portals by its number, inside and outside', () => {
    const given = [{ host: '10.0.0.1', port: 3260, advertise: [{ host: '203.0.113.9', port: 13260 }] }];
    expect(portalsOf(given, 0)).toEqual(given);
    expect(portalsOf(given, 2)).toEqual([
      { host: '10.0.0.1', port: 3262, advertise: [{ host: '203.0.113.9', port: 13262 }] },
    ]);
    expect(portalsOf([{ host: '::1', port: 0 }], 3)).toEqual([{ host: '::1', port: 0 }]);
  });

  it('is a range of session handles that no other has, and all of them where it is alone', () => {
    expect(handlesOf(0, 1)).toEqual({ first: 1, last: 0xffff });
    for (const threads of [2, 3, 16]) {
      const ranges = Array.from({ length: threads }, (_, number) => handlesOf(number, threads));
      ranges.forEach(({ first, last }, number) => {
        expect(first).toBe((ranges[number - 1]?.last ?? 0) + 1);
        expect(last).toBeLessThanOrEqual(0xffff);
        expect(last - first).toBeGreaterThan(4000);
      });
    }
  });

  it('gives its handles out in turn, and never another', async () => {
    const table = new SessionTable({ first: 5, last: 7 });
    const given: (number | undefined)[] = [];
    for (let login = 0; login < 4; login += 1) {
      const identity = {
        sessionType: 'discovery' as const,
        initiatorName: 'iqn.2026-11.com.example:h',
        isid: '800000000000',
        connectionId: 0,
        reinstates: 0,
      };
      await table.makeWay(
        identity,
        () => true,
        (way) => given.push(way.kind === 'free' ? way.tsih : undefined),
      );
    }
    expect(given).toEqual([5, 6, 7, 5]);
  });
});

describe('where volumes are', () => {
  const threads = (volumes: readonly ReturnType<typeof entry>[], configured = 2): IoThreads => {
    const bare = (number: number): IoThread => ({ number }) as IoThread; // nobody asks them for anything
    return new IoThreads([bare(0), bare(1), bare(2)], configured, { volumes });
  };

  it('is the thread with the fewest for a new one, deleted ones not counted, and never one beyond the configured', () => {
    expect(threads([]).placeFor('new')).toEqual({});
    expect(threads([entry('a')]).placeFor('new')).toEqual({ thread: 1 });
    expect(threads([entry('a'), entry('b', 1), entry('c', 1, 5)]).placeFor('new')).toEqual({});
    expect(threads([entry('a'), entry('b', 2)]).placeFor('new')).toEqual({ thread: 1 });
    expect(threads([entry('a')], 1).placeFor('new')).toEqual({});
  });

  it('is where a volume is already, or where it is asked to be if there is such a thread', () => {
    const some = threads([entry('a', 1), entry('b', 2)]);
    expect(some.placeFor('a')).toEqual({ thread: 1 });
    expect(some.placeFor('b')).toEqual({ thread: 2 });
    expect(some.placeFor('a', 0)).toEqual({});
    expect(() => some.placeFor('a', 2)).toThrow(/no I\/O thread 2: they are numbered from 0 to 1/);
    expect(some.numberOf('b')).toBe(2);
  });

  it('are as many threads as are configured, and those that still have volumes', () => {
    expect(threadsNeeded(2, [])).toBe(2);
    expect(threadsNeeded(1, [entry('a'), entry('b', 3)])).toBe(4);
  });
});
