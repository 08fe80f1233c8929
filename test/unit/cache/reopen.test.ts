import { describe, expect, it } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import { BLOCK_SIZE, MIB } from '../../../gateway/base/units.ts';
import { CacheLog } from '../../../gateway/cache/cache-log.ts';
import { KIND_WRITE } from '../../../gateway/cache/descriptor.ts';
import { LogOp } from '../../../gateway/cache/log-op.ts';
import type { VolumeLog } from '../../../gateway/cache/volume-log.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimDisk } from '../../sim/sim-disk.ts';
import { SimRandom } from '../../sim/sim-random.ts';

const CHUNK_SLOTS = 384;
const nothing = (): void => undefined;
const sink = { dirtyWrite: nothing, dirtyUnmap: nothing, damagedBlock: nothing };

/** Two chunks of records leave just as many as are kept ready: whoever takes one more sets a reclaim going. */
function smallPool(): { clock: SimClock; disk: SimDisk; open: () => Promise<CacheLog> } {
  const random = new SimRandom('reopen');
  const clock = new SimClock(random.split('clock'));
  const disk = new SimDisk('disk', clock, random.split('disk'));
  const settings = {
    sizeBytes: 4 * CHUNK_SLOTS * BLOCK_SIZE,
    ramBytes: 0,
    indexBytes: 4 * MIB,
    chunkSlots: CHUNK_SLOTS,
    maxWaitMs: 20_000,
  };
  const open = (): Promise<CacheLog> => {
    const life = { alive: true, name: 'gateway' };
    const deps = { disk: disk.mount(life), clock: clock.forLife(life, 0), random, log: silentLog };
    return CacheLog.open(deps, settings);
  };
  return { clock, disk, open };
}

/** Appends one operation of `slots` blocks; resolves when it is in the log. */
async function append(cache: CacheLog, log: VolumeLog, slots: number): Promise<void> {
  const logged = new Promise<void>((resolve, reject) => {
    const owner = {
      opLogged: () => {
        resolve();
      },
      opFailed: (_: LogOp, error: Error) => {
        reject(error);
      },
    };
    const end = { writeEnded: () => undefined };
    const data = [Buffer.alloc(slots * BLOCK_SIZE, 7)];
    const common = { log, owner, kind: KIND_WRITE, block: 0, slots, data, arrivedAt: 0, arrivedMs: 0, end } as const;
    void Promise.resolve(cache.reserve(slots, log)).then(() => {
      cache.append(new LogOp({ ...common, seq: log.nextSeq(), isHeld: false, ranges: undefined }));
    });
  });
  await logged;
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await Promise.resolve();
}

describe('opening a volume of a cache log that was there before', () => {
  it('keeps what is not committed when a committed chunk is reclaimed in the middle of it', async () => {
    const { clock, disk, open } = smallPool();
    const cache = await clock.settle(open());
    const number = await clock.settle(cache.register('vol'));
    const request = {
      number,
      firstSeq: 1,
      lastSeq: 0,
      committedThrough: 0,
      sink,
      onPressure: nothing,
      onStopped: nothing,
    };
    const { log } = await clock.settle(cache.attach(request));
    // One chunk full, and beyond it records made before any sync was known to have succeeded.
    const full = [190, 190].map((slots) => append(cache, log, slots));
    await clock.settle(Promise.all(full));
    const synced = cache.sync(log);
    const beyond = [20, 20, 20].map((slots) => append(cache, log, slots));
    await clock.settle(Promise.all([synced, ...beyond]));
    await clock.run({ untilMs: clock.monotonicMs() + 5000 });
    expect(log.appendedThrough).toBe(5);
    cache.noteCommitted(log, 2);
    await clock.settle(cache.detach(log));
    disk.crash('process');

    const again = await clock.settle(open());
    const other = await clock.settle(again.register('other'));
    const { log: writing } = await clock.settle(again.attach({ ...request, number: other }));
    await clock.run({ untilMs: clock.monotonicMs() + 5000 });
    const before = again.status().reclaimedChunks;
    const tail = await clock.settle(
      (async () => {
        const first = again.readTail(number, 0, () => Promise.resolve());
        const appended = append(again, writing, 20);
        await turns(20);
        const second = again.readTail(number, 0, () => Promise.resolve());
        await first;
        await turns(20);
        const found = await again.recover(number, 1);
        await Promise.all([second, appended]);
        return found;
      })(),
    );
    expect(again.status().reclaimedChunks).toBeGreaterThan(before);
    expect(tail).toMatchObject({ lastSeq: 5, discarded: 0 });
  });
});
