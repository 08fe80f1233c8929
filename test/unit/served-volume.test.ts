import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { ServedVolume, type TargetDirectory } from '../../gateway/served-volume.ts';
import { PromptClock } from '../support/prompt-clock.ts';

const targets: TargetDirectory = {
  adopt: () => Promise.resolve(),
  expect: () => () => undefined,
  offer: () => undefined,
  withdraw: () => Promise.resolve(),
  sessions: () => 0,
  notReady: () => undefined,
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
    await served.close();
    expect((await served.firstAttempt)?.kind).toBe('stopped');
    expect((await served.report()).state).toBe('stopped');
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
