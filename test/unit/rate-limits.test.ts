import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { silentLog } from '../../gateway/base/log.ts';
import type { RatePlanText } from '../../gateway/base/rate-plan.ts';
import { parsePlanFor, RateLimits } from '../../gateway/rate-limits.ts';
import { ManualClock } from '../support/iscsi-world.ts';

const HOUR = 3_600_000;
const MBYTE_S = 1e6;

/** The clock begins on Thursday, 1 January 1970, 00:00, in the zone of the test. */
function world(upload: RatePlanText, download: RatePlanText = 'none', timeZone = 'UTC') {
  const clock = new ManualClock();
  const applied: { direction: string; rate: number | undefined; hour: number }[] = [];
  const trouble: { error: FarshoreError | undefined } = { error: undefined };
  const limits = new RateLimits(
    {
      ...{ clock, log: silentLog, timeZone },
      apply: (direction, rate) => {
        if (trouble.error !== undefined) return Promise.reject(trouble.error);
        applied.push({ direction, rate, hour: clock.now() / HOUR });
        return Promise.resolve();
      },
    },
    { upload: parsePlanFor('upload', upload, 'up'), download: parsePlanFor('download', download, 'down') },
  );
  const pass = async (hours: number): Promise<void> => {
    for (let minute = 0; minute < hours * 60; minute += 1) {
      clock.advance(60_000);
      for (let turn = 0; turn < 3; turn += 1) await Promise.resolve();
    }
  };
  return { limits, applied, trouble, pass };
}

describe('the limits of the line', () => {
  it('follow their schedules, and say nothing while nothing changes', async () => {
    const { limits, applied, pass } = world(
      { default: 'none', schedule: { 'Mon-Fri 08:00-18:00': '8Mbit/s', 'Sat 22:00-02:00': 'pause' } },
      { schedule: { 'Fri 12:00-13:00': '16Mbit/s' } },
    );
    expect(applied).toEqual([]);
    await pass(24 * 4);
    expect(applied).toEqual([
      { direction: 'upload', rate: MBYTE_S, hour: 8 },
      { direction: 'upload', rate: undefined, hour: 18 },
      { direction: 'upload', rate: MBYTE_S, hour: 32 },
      { direction: 'download', rate: 2 * MBYTE_S, hour: 36 },
      { direction: 'download', rate: undefined, hour: 37 },
      { direction: 'upload', rate: undefined, hour: 42 },
      { direction: 'upload', rate: 0, hour: 70 },
      { direction: 'upload', rate: undefined, hour: 74 },
    ]);
    limits.close();
    await pass(24);
    expect(applied).toHaveLength(8);
  });

  it('go by the clock on the wall of the machine', async () => {
    const { applied, pass, limits } = world({ schedule: { 'Thu 08:00-18:00': '8Mbit/s' } }, 'none', 'Asia/Kolkata');
    await pass(24);
    // 08:00 there is half past two in the morning here.
    expect(applied).toEqual([
      { direction: 'upload', rate: MBYTE_S, hour: 2.5 },
      { direction: 'upload', rate: undefined, hour: 12.5 },
    ]);
    limits.close();
  });

  it('are what an administrator sets, with a schedule or without, until that is taken back', async () => {
    const { limits, applied, pass } = world({ default: '8Mbit/s', schedule: { '08:00-18:00': '16Mbit/s' } });
    await limits.set('upload', parsePlanFor('upload', 'pause', 'up'));
    expect(limits.report('upload')).toMatchObject({ limit: 0, by: 'set', schedule: {} });
    await pass(9);
    expect(applied).toEqual([{ direction: 'upload', rate: 0, hour: 0 }]);
    await limits.set(
      'upload',
      parsePlanFor('upload', { default: 'none', schedule: { '10:00-11:00': '8Mbit/s' } }, 'up'),
    );
    await pass(1);
    expect(limits.report('upload')).toEqual({
      ...{ limit: 8e6, span: '10:00-11:00', default: 'none', schedule: { '10:00-11:00': '8Mbit/s' }, by: 'set' },
    });
    await limits.set('upload', undefined);
    expect(limits.report('upload')).toMatchObject({ limit: 16e6, span: '08:00-18:00', by: 'configuration' });
    expect(applied.slice(1)).toEqual([
      { direction: 'upload', rate: undefined, hour: 9 },
      { direction: 'upload', rate: MBYTE_S, hour: 10 },
      { direction: 'upload', rate: 2 * MBYTE_S, hour: 10 },
    ]);
    limits.close();
  });

  it('stay what they were when they cannot be changed, and the schedule is tried again', async () => {
    const { limits, applied, pass, trouble } = world({ schedule: { '00:05-18:00': '8Mbit/s' } });
    trouble.error = new FarshoreError('retry', 'the replication worker does not answer');
    await expect(limits.set('upload', parsePlanFor('upload', 'pause', 'up'))).rejects.toMatchObject({ kind: 'retry' });
    expect(limits.report('upload')).toMatchObject({ limit: undefined, by: 'configuration' });
    await pass(0.25);
    expect(applied).toEqual([]);
    trouble.error = undefined;
    await pass(1);
    expect(applied).toMatchObject([{ direction: 'upload', rate: MBYTE_S }]);
    limits.close();
  });

  it('refuse a pause of downloads, which would hold initiators for ever', () => {
    expect(() => parsePlanFor('download', 'pause', 'the download limit')).toThrow(
      'the download limit cannot be "pause"',
    );
  });
});
