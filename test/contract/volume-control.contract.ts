import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { BLOCK_SIZE } from '../../gateway/base/units.ts';
import type { OpenVolume } from '../../gateway/served-volume.ts';
import type { VolumeControl } from '../../gateway/volume-control.ts';
import { directControl } from '../../gateway/volume-control.ts';
import type { VolumeStatus } from '../../gateway/volume/volume-status.ts';
import { REF, VolumeBench } from '../support/volume-bench.ts';

/** An open volume on simulated disk and clock, and the control of it under test. */
export interface ControlledVolume {
  readonly bench: VolumeBench;
  readonly control: VolumeControl;
  /** What the control's owner was told of its state. */
  readonly told: readonly VolumeStatus['state'][];
  readonly fence: (reason: string) => void;
}

/** Opens the volume through `through`, which is given how its own thread opens it. */
export async function controlled(
  through: (openHere: OpenVolume) => OpenVolume,
  remote: Partial<VolumeControl['remote']> = {},
): Promise<ControlledVolume> {
  const bench = new VolumeBench({ volumeBlocks: 1000 });
  const refuse = (): Promise<never> => Promise.reject(new FarshoreError('retry', 'the cloud is away'));
  let changed: ((state: VolumeStatus['state']) => void) | undefined;
  const openHere: OpenVolume = async (_ref, { onState }) => {
    changed = onState;
    const volume = await bench.start();
    return directControl(volume, { versions: refuse, fold: refuse, verify: refuse, status: refuse, ...remote });
  };
  const told: VolumeStatus['state'][] = [];
  const control = await through(openHere)(REF, {
    takeover: false,
    rollBackTo: undefined,
    signal: new AbortController().signal,
    onState: (state) => told.push(state),
  });
  const fence = (reason: string): void => {
    bench.volume.onFenced(reason);
    changed?.('fenced');
  };
  return { bench, control, told, fence };
}

/** What holds of a VolumeControl wherever its volume lives. `turn` lets what was sent arrive. */
export function volumeControlContract(
  name: string,
  through: (openHere: OpenVolume) => OpenVolume,
  turn: () => Promise<void>,
): void {
  /** Time passes for the volume, and messages arrive, until the work is over. */
  const settled = async <T>(bench: VolumeBench, work: Promise<T>): Promise<T> => {
    const state = { isOver: false };
    const over = (): void => {
      state.isOver = true;
    };
    work.then(over, over);
    while (!state.isOver) {
      await bench.pass(50);
      await turn();
    }
    return work;
  };

  describe(`control of a volume, ${name}`, () => {
    it('tells what the volume is and how it stands, with buffers that are Buffers', async () => {
      const { bench, control } = await controlled(through);
      expect(Buffer.isBuffer(control.item.naa)).toBe(true);
      expect(control.item.naa.equals(bench.volume.identity.naa)).toBe(true);
      expect(control.state).toBe('serving');
      await bench.write(3, 1);
      const status = await settled(bench, control.status());
      const passing = expect.any(Number) as number;
      const { lagSeconds: _passes, replication, ...rest } = bench.volume.status();
      expect(status).toEqual({
        ...rest,
        ...{ lagSeconds: passing, replication: { ...replication, seconds: passing }, bytes: 1000 * BLOCK_SIZE },
      });
      expect(control.epoch).toBe(status.epoch);
      expect(status.lagBytes).toBe(BLOCK_SIZE);
    });

    it('flushes what was acked into a version, and changes the size', async () => {
      const { bench, control } = await controlled(through);
      await bench.write(7, 9);
      const { n } = await settled(bench, control.flushRemote());
      expect(n).toBe(bench.volume.status().committedN);
      expect(bench.shore.blocks.get(7)?.[0]).toBe(9);
      await settled(bench, control.resize(2000 * BLOCK_SIZE));
      expect((await settled(bench, control.status())).bytes).toBe(2000 * BLOCK_SIZE);
    });

    it('is not all in a version when it is closed after a write or an unmap that nobody has flushed', async () => {
      const written = await controlled(through);
      await written.bench.write(7, 9);
      await settled(written.bench, written.control.flushRemote());
      await written.bench.write(8, 9);
      expect(await settled(written.bench, written.control.close())).toBe(false);
      const unmapped = await controlled(through);
      await unmapped.bench.write(7, 9);
      await settled(unmapped.bench, unmapped.control.flushRemote());
      await unmapped.bench.settle(Promise.resolve(unmapped.bench.volume.unmap([{ lba: 7, sectors: 1 }])));
      expect(await settled(unmapped.bench, unmapped.control.close())).toBe(false);
    });

    it('does not become smaller than what is in it without force, and rejects with its kind of error', async () => {
      const { bench, control } = await controlled(through);
      await bench.write(900, 9);
      await expect(settled(bench, control.resize(500 * BLOCK_SIZE))).rejects.toMatchObject({ kind: 'input' });
      expect((await settled(bench, control.status())).bytes).toBe(1000 * BLOCK_SIZE);
    });

    it('is opened as it is asked for: taken over, and rolled back to a version', async () => {
      const asked: unknown[] = [];
      const refuse: OpenVolume = (ref, { takeover, rollBackTo }) => {
        asked.push({ ref, takeover, rollBackTo });
        return Promise.reject(new FarshoreError('damaged', 'no such version'));
      };
      for (const how of [
        { takeover: true, rollBackTo: 7 },
        { takeover: false, rollBackTo: undefined },
      ]) {
        const opening = through(refuse)(REF, { ...how, signal: new AbortController().signal });
        await expect(opening).rejects.toMatchObject({ kind: 'damaged', message: 'no such version' });
        expect(asked.pop()).toEqual({ ref: REF, ...how });
      }
    });

    it('changes the quota, and tells it', async () => {
      const { bench, control } = await controlled(through);
      await bench.write(3, 1);
      await settled(bench, control.setQuota(512 * BLOCK_SIZE));
      await bench.pass(100);
      const { quota } = await settled(bench, control.status());
      expect(quota).toMatchObject({ bytes: 512 * BLOCK_SIZE, mappedBytes: BLOCK_SIZE });
      await settled(bench, control.setQuota(undefined));
      expect((await settled(bench, control.status())).quota).toBeUndefined();
    });

    it('scrubs and tells how far it is', async () => {
      const { bench, control } = await controlled(through);
      await bench.write(7, 9, 20);
      await bench.flushRemote();
      const sides: string[] = [];
      const report = await settled(
        bench,
        control.scrub(['local'], true, (side, { total }) => {
          sides.push(`${side} of ${total}`);
        }),
      );
      expect(report.local).toMatchObject({ unrepairable: 0 });
      expect(new Set(sides)).toEqual(new Set(['local of 1000']));
    });

    it('asks the remote half, and rejects with its kind of error', async () => {
      const verdict = { verdict: 'pass', n: 4, objects: 1, blocks: 2, bytes: 3, problems: [] } as const;
      const { bench, control } = await controlled(through, {
        verify: () => Promise.resolve(verdict),
        versions: (limit) => Promise.reject(new FarshoreError('damaged', `not ${limit}`)),
      });
      expect(await settled(bench, control.remote.verify())).toEqual(verdict);
      await expect(settled(bench, control.remote.versions(5))).rejects.toMatchObject({
        kind: 'damaged',
        message: 'not 5',
      });
      await expect(settled(bench, control.remote.status())).rejects.toMatchObject({ kind: 'retry' });
    });

    it('knows without asking that the volume was taken over, and then refuses as the volume does', async () => {
      const { bench, control, told, fence } = await controlled(through);
      fence('by another');
      await turn();
      expect([control.state, told]).toEqual(['fenced', ['fenced']]);
      await expect(settled(bench, control.flushRemote())).rejects.toMatchObject({ kind: 'fenced' });
    });

    it('closes the volume, says whether all of it is in a version, and closing it again is no mistake', async () => {
      const { bench, control } = await controlled(through);
      await bench.write(7, 9);
      await settled(bench, control.flushRemote());
      expect(await settled(bench, control.close())).toBe(true);
      expect(bench.volume.status().state).toBe('stopped');
      expect(control.state).toBe('stopped');
      await settled(bench, control.close());
    });
  });
}
