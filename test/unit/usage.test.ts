import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { costOfRequests, monthlyCost } from '../../gateway/cost.ts';
import { StoredSize } from '../../gateway/stored-size.ts';
import { UsageWindow, type Usage } from '../../gateway/usage.ts';
import { ManualClock } from '../support/iscsi-world.ts';

const HOUR = 3_600_000;
const MIB = 2 ** 20;

function usage(times: number): Usage {
  return {
    ...{ writtenBytes: 12 * MIB * times, sentBytes: 3 * MIB * times, fetchedBytes: MIB * times },
    requests: { s3Put: 10 * times, s3Get: 2 * times, s3Other: 0, dynamoWrite: 10 * times, dynamoRead: times },
  };
}

describe('what a volume uses', () => {
  it('is told since the opening and over the last day, with what coalescing saves', () => {
    const clock = new ManualClock();
    const window = new UsageWindow(clock);
    expect(window.report(undefined)).toMatchObject({ writtenBytes: 0, coalescing: undefined, monthlyCost: undefined });
    for (let hour = 1; hour <= 50; hour += 1) {
      clock.advance(HOUR);
      // In the second day ten times as much.
      window.note(usage(hour <= 25 ? hour : 25 + (hour - 25) * 10), 0);
    }
    const report = window.report(undefined);
    expect(report.writtenBytes).toBe(12 * MIB * 275);
    expect(report.coalescing).toBe(4);
    expect(report.day.coalescing).toBe(4);
    expect(report.day.seconds).toBeGreaterThanOrEqual(86_400);
    expect(report.day.seconds).toBeLessThanOrEqual(86_400 + 3600);
    expect(report.day.requests.s3Put / (report.day.seconds / 3600)).toBeCloseTo(100, 0);
  });

  it('costs in a month what thirty such days would, and says nothing before ten minutes are over', () => {
    const clock = new ManualClock();
    const window = new UsageWindow(clock);
    clock.advance(599_000);
    window.note(usage(1), 0);
    expect(window.report(undefined).monthlyCost).toBeUndefined();
    clock.advance(3_001_000);
    window.note(usage(60), 0);
    const cost = window.report(10 * 2 ** 30).monthlyCost;
    // 600 PUT, 120 GET, 600 writes and 60 reads an hour; 60 MiB of downloads an hour; 10 GiB stored.
    expect(cost?.requests).toBeCloseTo(720 * (600 * 5e-6 + 120 * 0.4e-6 + 600 * 0.625e-6 + 60 * 0.125e-6), 6);
    expect(cost?.transfer).toBeCloseTo(720 * ((60 * MIB) / 1e9) * 0.09, 6);
    expect(cost?.storage).toBeCloseTo(0.23, 6);
    expect(cost?.total).toBeCloseTo((cost?.requests ?? 0) + (cost?.transfer ?? 0) + 0.23, 9);
  });

  it('has no storage in its cost before that was counted, and no cost for figures of no time', () => {
    const { requests } = usage(1);
    const figures = { requests, downloadedBytes: 0, seconds: 2_592_000 };
    expect(monthlyCost(figures, undefined)).toMatchObject({
      storage: undefined,
      transfer: 0,
      total: costOfRequests(requests),
    });
    expect(monthlyCost({ ...figures, seconds: 0 }, 1)).toBeUndefined();
  });

  it('goes on with what was last told while the remote half does not answer', () => {
    const clock = new ManualClock();
    const window = new UsageWindow(clock);
    clock.advance(HOUR);
    window.note(usage(5), 1);
    clock.advance(HOUR);
    window.note(undefined, 2);
    expect(window.report(undefined)).toMatchObject(usage(5));
  });

  it('tells when nothing will lag any more, at the pace of the last minute', () => {
    const clock = new ManualClock();
    const window = new UsageWindow(clock);
    expect(window.drainSeconds(0, 0)).toBe(0);
    expect(window.drainSeconds(MIB, 0)).toBeUndefined();
    for (let at = 1; at <= 30; at += 1) {
      clock.advance(20_000);
      window.note(undefined, at * 20 * MIB);
    }
    // A mebibyte a second.
    expect(window.drainSeconds(90 * MIB, 600 * MIB)).toBeCloseTo(90, 6);
    // The cloud is away: what was before the last minute does not count.
    for (let at = 0; at < 6; at += 1) {
      clock.advance(20_000);
      window.note(undefined, 600 * MIB);
    }
    expect(window.drainSeconds(90 * MIB, 600 * MIB)).toBeUndefined();
  });
});

describe('what S3 has of a lineage', () => {
  const world = (pages: readonly (readonly number[])[]) => {
    const clock = new ManualClock();
    const lists: (string | undefined)[] = [];
    const trouble = { on: false };
    const size = new StoredSize(
      clock,
      (prefix, _limit, after) => {
        lists.push(after);
        if (trouble.on) return Promise.reject(new FarshoreError('retry', 'away'));
        const at = Number(after ?? 0);
        const objects = (pages[at] ?? []).map((bytes, index) => ({ key: `${prefix}${at}.${index}`, bytes }));
        return Promise.resolve({ objects, next: at + 1 < pages.length ? String(at + 1) : undefined });
      },
      'lin',
    );
    return { clock, lists, trouble, size, signal: new AbortController().signal };
  };

  it('is counted once a day, page by page', async () => {
    const { clock, lists, size, signal } = world([[1, 2], [3], [4]]);
    expect(size.bytes).toBeUndefined();
    await Promise.all([size.look(signal), size.look(signal)]);
    expect(size.bytes).toBe(10);
    expect(lists).toEqual([undefined, '1', '2']);
    clock.advance(23 * HOUR);
    await size.look(signal);
    expect(lists).toHaveLength(3);
    clock.advance(HOUR);
    await size.look(signal);
    expect(lists).toHaveLength(6);
  });

  it('stays what it was when the cloud is away, and is tried again', async () => {
    const { clock, lists, size, signal, trouble } = world([[7]]);
    await size.look(signal);
    clock.advance(25 * HOUR);
    trouble.on = true;
    await size.look(signal);
    await size.look(signal);
    expect(size.bytes).toBe(7);
    expect(lists).toHaveLength(2);
    trouble.on = false;
    clock.advance(HOUR);
    await size.look(signal);
    expect(lists).toHaveLength(3);
  });

  it('is not counted on when the volume is closed', async () => {
    const { size, lists } = world([[1], [2]]);
    await size.look(AbortSignal.abort());
    expect(lists).toEqual([]);
    expect(size.bytes).toBeUndefined();
  });
});
