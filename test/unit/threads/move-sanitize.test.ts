import { expect, it } from 'vitest';
import { sleep } from '../../../gateway/base/clock.ts';
import type { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import type { CatalogueVolume } from '../../../gateway/catalogue.ts';
import type { ServedVolume } from '../../../gateway/served-volume.ts';
import { LogicalUnit } from '../../../gateway/scsi/logical-unit.ts';
import type { UnitStateStore } from '../../../gateway/scsi/unit-state.ts';
import type { VolumeTargets } from '../../../gateway/target-directory.ts';
import type { IoThread } from '../../../gateway/threads/io-thread.ts';
import { IoThreads } from '../../../gateway/threads/io-threads.ts';
import { moveVolume } from '../../../gateway/threads/move-volume.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const ENTRY: CatalogueVolume = { name: 'vol', lineage: 'lin', volume: 'vol' };

/** `delay`: what a save takes; the table has it as soon. */
class State implements UnitStateStore {
  document: string | undefined;
  delay: () => Promise<void> = () => Promise.resolve();
  load(): string | undefined {
    return this.document;
  }
  async save(document: string): Promise<void> {
    await this.delay();
    this.document = document;
  }
  mirrored(): Promise<void> {
    return Promise.resolve();
  }
}

it('a SANITIZE that ends while its volume is moved has left nothing of what was there', async () => {
  const here = new VolumeBench({ sectorSize: 512, volumeBlocks: 2048, chunks: 24, remoteMs: 2_000 });
  await here.start();
  await here.write(2000, 7);
  await here.flushRemote();
  await here.write(2010, 8);
  const volume = here.volume;
  const cache = here.cache;
  const state = new State();
  const unit = new LogicalUnit(volume, state, () => undefined, here.clock.forLife(here.life, 0));
  const steps: string[] = [];
  const flushed: unknown[] = [];
  const served = {
    entry: ENTRY,
    serving: () => ({
      status: () => Promise.resolve({ stored: undefined }),
      flushRemote: async () => {
        const t0 = here.clock.monotonicMs();
        const r = await volume.flushRemote();
        flushed.push([t0, here.clock.monotonicMs(), r.throughSeq]);
        return r;
      },
    }),
    // An initiator's last command, answered at once (IMMED): the unit goes on without any session.
    withdraw: async () => {
      await volume.write(2020 * 8, [Buffer.alloc(4096, 9)], { fua: false });
      const pattern = Buffer.from([1, 0, 0, 1, 0]);
      const result = await unit.sanitizer.sanitize(
        { kind: 'sanitize', action: 'overwrite', immediate: true, mayFail: false, parameterBytes: pattern.length },
        pattern,
        { state: 'active' },
      );
      steps.push(`withdrawn, sanitize answered ${result.status}`);
    },
    offer: () => Promise.resolve(),
    close: async () => {
      steps.push(unit.sanitizer.isIdle ? 'closed, sanitized' : 'closed while sanitizing');
      await volume.close();
      await cache.close();
      return volume.isAllCommitted;
    },
  } as unknown as ServedVolume;
  const thread = (number: number): IoThread =>
    ({ number, forgetVolume: () => Promise.resolve() }) as unknown as IoThread;
  const refused: unknown = await here.settle(
    moveVolume(
      {
        clock: here.clock.forLife(here.life, 0),
        log: silentLog,
        catalogue: { put: () => Promise.resolve() },
        targets: {
          settled: () => Promise.resolve(),
          whileUnchanged: <T>(work: () => Promise<T>): Promise<T> => work(),
          expect: () => () => undefined,
          notReady: () => (state.document?.includes('running') === true ? 'its LUN is being sanitized' : undefined),
        } as unknown as VolumeTargets,
        io: new IoThreads([thread(0), thread(1)], 2, { volumes: [ENTRY] }),
        sharesTarget: () => [],
        reopen: () => served,
      },
      served,
      1,
    ).then(
      () => undefined,
      (error: unknown) => error,
    ),
  );
  if (refused !== undefined) {
    // A mend may refuse the move instead.
    expect(refused).toMatchObject({ kind: 'in-use' });
    return;
  }
  // The other thread's directory and cache log, the same cloud.
  const there = new VolumeBench({ seed: 2, sectorSize: 512, volumeBlocks: 2048, chunks: 24 });
  Object.assign(there, { shore: here.shore });
  await there.start();
  const again = new LogicalUnit(there.volume, state, () => undefined, there.clock.forLife(there.life, 0));
  await there.pass(60_000);
  expect(again.sanitizer.isIdle).toBe(true);
  expect([steps, await there.byteOf(2000), await there.byteOf(2010), await there.byteOf(2020)]).toEqual([
    steps,
    0,
    0,
    0,
  ]);
});

/** Nobody waits for the command: its session is ended, while what it has begun with is being kept. */
it.each([1, 400, 900, 1_400, 1_900, 1_990, 2_100])(
  'a SANITIZE that was cut off before it was kept (for %i ms) is never undone by a move: the volume stays, or has nothing of what was there',
  async (saveMs) => {
    const here = new VolumeBench({ sectorSize: 512, volumeBlocks: 2048, chunks: 24, remoteMs: 2_000 });
    await here.start();
    await here.write(2000, 7);
    await here.flushRemote();
    await here.write(2010, 8);
    const { volume, cache } = here;
    const clock = here.clock.forLife(here.life, 0);
    const state = new State();
    state.delay = () => sleep(clock, saveMs);
    const unit = new LogicalUnit(volume, state, () => undefined, clock);
    const moves: number[] = [];
    const served = {
      entry: ENTRY,
      serving: () => ({
        status: () => Promise.resolve({ stored: undefined }),
        flushRemote: () => volume.flushRemote(),
      }),
      withdraw: async () => {
        await volume.write(2020 * 8, [Buffer.alloc(4096, 9)], { fua: false });
        void unit.sanitizer.sanitize(
          { kind: 'sanitize', action: 'block-erase', immediate: true, mayFail: false, parameterBytes: 0 },
          Buffer.alloc(0),
          { state: 'aborted' },
        );
      },
      offer: () => Promise.resolve(),
      close: async () => {
        await volume.close();
        await cache.close();
        return volume.isAllCommitted;
      },
    } as unknown as ServedVolume; // what a move needs of it
    const thread = (number: number): IoThread =>
      ({ number, forgetVolume: () => Promise.resolve() }) as unknown as IoThread;
    const refused: unknown = await here.settle(
      moveVolume(
        {
          clock,
          log: silentLog,
          catalogue: {
            put: ({ thread: at = 0 }) => {
              moves.push(at);
              return Promise.resolve();
            },
          },
          targets: {
            settled: () => Promise.resolve(),
            whileUnchanged: <T>(work: () => Promise<T>): Promise<T> => work(),
            expect: () => () => undefined,
            notReady: () => (state.document?.includes('"state"') === true ? 'its LUN is being sanitized' : undefined),
          } as unknown as VolumeTargets,
          io: new IoThreads([thread(0), thread(1)], 2, { volumes: [ENTRY] }),
          sharesTarget: () => [],
          reopen: () => served,
        },
        served,
        1,
      ).then(
        () => undefined,
        (error: unknown) => error,
      ),
    );
    if (refused !== undefined) {
      expect((refused as FarshoreError).kind).toMatch(/^(in-use|retry)$/);
      expect(moves).toEqual([]);
      return;
    }
    await here.pass(10_000); // a save that is still on its way
    const there = new VolumeBench({ seed: 2, sectorSize: 512, volumeBlocks: 2048, chunks: 24 });
    Object.assign(there, { shore: here.shore });
    await there.start();
    state.delay = () => Promise.resolve();
    const before = [await there.byteOf(2000), await there.byteOf(2010), await there.byteOf(2020)];
    const isKept = state.document?.includes('"state"') === true;
    const again = new LogicalUnit(there.volume, state, () => undefined, there.clock.forLife(there.life, 0));
    await there.pass(60_000);
    expect(again.sanitizer.isIdle).toBe(true);
    const after = [await there.byteOf(2000), await there.byteOf(2010), await there.byteOf(2020)];
    // Begun and kept: it is done here. Never kept: nobody was told that it was done, and nothing of the volume is missing.
    expect(after).toEqual(isKept ? [0, 0, 0] : before);
    expect([0, 7]).toContain(before[0]);
    if (!isKept && before[0] === 7) expect(before).toEqual([7, 8, 9]);
  },
);
