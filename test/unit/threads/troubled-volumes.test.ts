import { NO_FAR_SHORE } from '../../support/no-far-shore.ts';
import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import type { CatalogueVolume } from '../../../gateway/catalogue.ts';
import type { VolumeItem } from '../../../gateway/cloud/version-log.ts';
import { ServedVolume, type TargetDirectory } from '../../../gateway/served-volume.ts';
import type { IoThread } from '../../../gateway/threads/io-thread.ts';
import { IoThreads } from '../../../gateway/threads/io-threads.ts';
import type { VolumeControl } from '../../../gateway/volume-control.ts';
import { PromptClock } from '../../support/prompt-clock.ts';

const ENTRY: CatalogueVolume = { name: 'v', lineage: 'l', volume: 'l' };
const MOVED: CatalogueVolume = { name: 'moved', lineage: 'm', volume: 'm', thread: 1 };

describe('leftovers of a move', () => {
  it('that cannot be given up now (disk full, a damaged state file) do not keep the other volumes from being served', async () => {
    const told: string[] = [];
    const thread = (number: number): IoThread =>
      ({
        number,
        keeps: (volumes: readonly string[]) => Promise.resolve(number === 0 ? volumes : []),
        surrenderVolume: () =>
          Promise.reject(new FarshoreError('busy', 'the disk is full: no room for the salvage file')),
      }) as unknown as IoThread;
    const io = new IoThreads([thread(0), thread(1)], 2, { volumes: [ENTRY, MOVED] });
    // Gateway.start awaits this before it serves anything.
    await io.clearLeftovers((entry) => told.push(entry.name));
    expect(told).toEqual([]);
  });
});

describe('a volume that could be opened, and not offered', () => {
  it('is closed before it is opened again: two of it would append to one log', async () => {
    let open = 0;
    let most = 0;
    let offers = 0;
    const targets: TargetDirectory = {
      adopt: () => Promise.resolve(),
      expect: () => () => undefined,
      offer: () => {
        offers += 1;
        return offers === 1
          ? Promise.reject(new FarshoreError('busy', '65536 calls to another thread are under way'))
          : Promise.resolve();
      },
      withdraw: () => Promise.resolve(),
      sessions: () => Promise.resolve(0),
      notReady: () => undefined,
      isSettled: () => Promise.resolve(true),
      access: () => ({ mode: 'unknown', maps: 0, inTable: false, problem: undefined }),
    };
    const served = new ServedVolume(
      {
        clock: new PromptClock(),
        log: silentLog,
        targets,
        gateway: 'g',
        ...NO_FAR_SHORE,
        openVolume: () => {
          open += 1;
          most = Math.max(most, open);
          return Promise.resolve({
            item: { targetName: 't' } as VolumeItem,
            epoch: 1,
            state: 'serving',
            close: () => {
              open -= 1;
              return Promise.resolve(true);
            },
          } as VolumeControl);
        },
      },
      ENTRY,
      {},
    );
    await served.firstAttempt;
    while (offers < 2) await new Promise((resolve) => setImmediate(resolve));
    await served.close();
    expect({ most, left: open }).toEqual({ most: 1, left: 0 });
  });
});
