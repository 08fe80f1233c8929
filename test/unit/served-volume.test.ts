import { NO_FAR_SHORE } from '../support/no-far-shore.ts';
import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { ServedVolume, type TargetDirectory } from '../../gateway/served-volume.ts';
import type { VolumeItem } from '../../gateway/cloud/version-log.ts';
import type { VolumeControl } from '../../gateway/volume-control.ts';
import { PromptClock } from '../support/prompt-clock.ts';

const targets: TargetDirectory = {
  adopt: () => Promise.resolve(),
  expect: () => () => undefined,
  offer: () => undefined,
  withdraw: () => Promise.resolve(),
  sessions: () => Promise.resolve(0),
  notReady: () => undefined,
  isSettled: () => Promise.resolve(true),
  access: () => ({ mode: 'unknown', maps: 0, inTable: false, problem: undefined }),
};

describe('a volume that is being opened', () => {
  it('is given up at once when the gateway stops, however long the cloud keeps silent', async () => {
    const served = new ServedVolume(
      {
        clock: new PromptClock(),
        log: silentLog,
        targets,
        gateway: 'g',
        ...NO_FAR_SHORE,
        openVolume: (_, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => {
              reject(new FarshoreError('stopped', 'given up'));
            });
          }),
      },
      { name: 'v', lineage: 'l', volume: 'l' },
      {},
    );
    // The table may know better than what is kept here, and would have its way: a change would be answered and lost.
    expect(() => {
      served.requireOwned();
    }).toThrow(expect.objectContaining({ kind: 'retry' }));
    await served.close();
    expect((await served.firstAttempt)?.kind).toBe('stopped');
    expect((await served.report()).state).toBe('stopped');
  });
});

describe('a volume that is closed', () => {
  const open = (
    isSettled: TargetDirectory['isSettled'],
    withdraw: TargetDirectory['withdraw'] = () => Promise.resolve(),
    closing: () => void = () => undefined,
  ): ServedVolume =>
    new ServedVolume(
      {
        clock: new PromptClock(),
        log: silentLog,
        targets: { ...targets, isSettled, withdraw },
        gateway: 'g',
        ...NO_FAR_SHORE,
        openVolume: () =>
          Promise.resolve({
            // No more than a close needs of them.
            item: { targetName: 't' } as VolumeItem,
            epoch: 1,
            state: 'serving',
            close: () => {
              closing();
              return Promise.resolve(true);
            },
          } as VolumeControl),
      },
      { name: 'v', lineage: 'l', volume: 'l' },
      {},
    );

  it('is closed when the table has its access control, and takes no change in that time', async () => {
    const order: string[] = [];
    let there: () => void = () => undefined;
    const served = open((_ref, withinMs) => {
      order.push(`asked, for ${withinMs} ms at most`);
      return new Promise((resolve) => {
        there = () => {
          resolve(true);
        };
      });
    });
    await served.firstAttempt;
    served.requireOwned();
    const closed = served.close().then(() => order.push('closed'));
    while (order.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(() => {
      served.requireOwned();
    }).toThrow(/is not open/);
    expect(order).toEqual(['asked, for 5000 ms at most']);
    there();
    await closed;
    expect(order).toHaveLength(2);
  });

  it('ends what initiators have in it that waits for the cloud, and would never be over otherwise', async () => {
    let ended: () => void = () => undefined;
    const withdrawn = new Promise<void>((resolve) => (ended = resolve));
    const served = open(
      () => Promise.resolve(true),
      () => withdrawn,
      () => {
        ended();
      },
    );
    await served.firstAttempt;
    await served.close();
    expect((await served.report()).state).toBe('stopped');
  });

  it('is closed also when the table does not get it in time', async () => {
    const served = open(() => Promise.resolve(false));
    await served.firstAttempt;
    await served.close();
    expect((await served.report()).state).toBe('stopped');
  });
});

describe('a volume whose thread is closed while its report is asked for', () => {
  // What nobody waits for any more must not end the process in the midst of a stop.
  it('has none, and leaves no rejection behind that nobody hears of', async () => {
    const closed = new FarshoreError('stopped', 'I/O thread 1 was closed');
    const unheard: unknown[] = [];
    const note = (reason: unknown): void => void unheard.push(reason);
    process.on('unhandledRejection', note);
    const served = new ServedVolume(
      {
        clock: new PromptClock(),
        log: silentLog,
        targets: { ...targets, sessions: () => Promise.resolve().then(() => Promise.reject(closed)) },
        gateway: 'g',
        ...NO_FAR_SHORE,
        openVolume: () =>
          Promise.resolve({
            // No more than a report needs of them.
            item: { targetName: 't' } as VolumeItem,
            status: () => Promise.reject(closed),
          } as unknown as VolumeControl),
      },
      { name: 'v', lineage: 'l', volume: 'l' },
      {},
    );
    await served.firstAttempt;
    await expect(served.report()).rejects.toBe(closed);
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', note);
    expect(unheard).toEqual([]);
  });
});

describe('a volume that another gateway has taken over', () => {
  it('refuses what would be changed of it here, and says where it is in force', async () => {
    const failing = (kind: 'fenced' | 'stopped'): ServedVolume =>
      new ServedVolume(
        {
          clock: new PromptClock(),
          log: silentLog,
          targets,
          gateway: 'g',
          ...NO_FAR_SHORE,
          openVolume: () => Promise.reject(new FarshoreError(kind, 'no')),
        },
        { name: 'v', lineage: 'l', volume: 'l' },
        {},
      );
    const [taken, broken] = [failing('fenced'), failing('stopped')];
    await Promise.all([taken.firstAttempt, broken.firstAttempt]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(() => {
      taken.requireOwned();
    }).toThrow(/changed there; .*farshore volume forget v/);
    expect(() => {
      broken.requireOwned();
    }).not.toThrow();
  });
});

describe('a volume that another gateway has taken over', () => {
  it('says that what is shown of its access control may be old, whatever the table had of it', async () => {
    const served = new ServedVolume(
      {
        clock: new PromptClock(),
        log: silentLog,
        targets: { ...targets, access: () => ({ mode: 'mapped', maps: 2, inTable: true, problem: undefined }) },
        gateway: 'g',
        ...NO_FAR_SHORE,
        openVolume: () => Promise.reject(new FarshoreError('fenced', 'volume v was taken over by another gateway')),
      },
      { name: 'v', lineage: 'l', volume: 'l' },
      {},
    );
    await served.firstAttempt;
    expect(served.isElsewhere()).toBe(true);
    expect((await served.report()).access).toEqual({
      mode: 'mapped',
      maps: 2,
      inTable: false,
      problem: expect.stringContaining('may be old') as string,
    });
  });
});
