import { expect, it } from 'vitest';
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

class State implements UnitStateStore {
  document: string | undefined;
  load(): string | undefined {
    return this.document;
  }
  save(document: string): Promise<void> {
    this.document = document;
    return Promise.resolve();
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
