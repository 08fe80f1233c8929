import { describe, expect, it } from 'vitest';
import { DiskImages } from '../support/disk-images.ts';
import { HEALTHY_CLOUD } from './sim-cloud.ts';
import { makePlan } from './plan.ts';
import { PATIENCE_MS } from './seed-range.ts';
import { startProcessWith } from './sim-process.ts';
import { SimRandom } from './sim-random.ts';
import { World } from './world.ts';

const SECTORS_PER_BLOCK = 8;
const SECTOR = 512;
/** Every so many events of a resize the process or the machine ends; at each in `npm run sim:boundaries`. */
const STRIDE = process.env['FARSHORE_BOUNDARIES'] === 'all' ? 1 : 5;
const MOST_EVENTS = 5000;
/** A block that stays, and how many a resize adds or cuts off. */
const KEPT = 3;
const CHANGE = 4;

interface Outcome {
  /** Before the crash. */
  readonly answered: boolean;
  readonly before: number;
  readonly asked: number;
  readonly after: number;
}

/** A volume is made larger or smaller, and `kind` ends it at the k-th event of that. Then it is opened again, and made as large as it can have been. */
async function resizeAndDie(way: 'larger' | 'smaller', kind: 'process' | 'power', k: number): Promise<Outcome> {
  const random = new SimRandom(7);
  const plan = { ...makePlan(random.split('plan')), cloud: HEALTHY_CLOUD, ramBlocks: 16, rpoSeconds: 1 };
  const world = new World(random, plan, startProcessWith(plan));
  const { clock } = world;
  const disk = world.makeDisk('disk', random.split('disk'));
  let life = { name: 'none', alive: false };
  const open = (): ReturnType<ReturnType<ReturnType<typeof startProcessWith>>> => {
    life = { name: 'gateway', alive: true };
    const mounted = disk.mount(life);
    const start = startProcessWith(plan)({
      ...{ disk: mounted, images: new DiskImages(mounted), prepareImage: undefined },
      clock: clock.forLife(life, 0),
      random: random.split(`process ${disk.crashes}`),
      cloud: world.cloud.connect(life, { ...HEALTHY_CLOUD }),
      gateway: 'gateway',
      ref: world.ref,
      takeover: false,
      onOpened: () => undefined,
    });
    return clock.settle(start());
  };
  const { device } = await open();
  const before = device.geometry().sectors;
  const last = before / SECTORS_PER_BLOCK - 1;
  const write = async (block: number, fill: number): Promise<void> =>
    clock.settle(device.write(block * SECTORS_PER_BLOCK, [Buffer.alloc(4096, fill)], { fua: true }));
  await write(KEPT, 5);
  await write(last, 6);
  await clock.settle(device.flushRemote());
  const change = CHANGE * SECTORS_PER_BLOCK;
  if (way === 'smaller') await clock.settle(device.unmap([{ lba: before - change, sectors: change }]));
  const asked = before + (way === 'larger' ? change : -change);
  const resizing = { answered: false };
  const isAnswered = (): boolean => resizing.answered;
  device.resize(asked * SECTOR).then(
    () => (resizing.answered = true),
    () => undefined,
  );
  let events = 0;
  await clock.run({ when: () => isAnswered() || events++ >= k });
  const answered = isAnswered();
  life.alive = false;
  disk.crash(kind);
  const { device: again } = await open();
  const after = again.geometry().sectors;
  const byteOf = async (block: number): Promise<number | undefined> =>
    Buffer.concat([...(await clock.settle(again.read(block * SECTORS_PER_BLOCK, SECTORS_PER_BLOCK)))])[0];
  const largest = Math.max(before, asked);
  if (after !== largest) await clock.settle(again.resize(largest * SECTOR));
  expect(await byteOf(KEPT)).toBe(5);
  // An unmap that was not flushed may be gone with the machine; cut off, it is not.
  const may = way === 'larger' ? [6] : kind === 'power' && after === before ? [0, 6] : [0];
  expect(may).toContain(await byteOf(last));
  if (way === 'larger') expect(await byteOf(last + CHANGE)).toBe(0);
  life.alive = false;
  return { answered, before, asked, after };
}

describe.each(['larger', 'smaller'] as const)('a volume that is made %s', (way) => {
  it.each(['process', 'power'] as const)(
    'has one of its two sizes, and nothing stale in it, wherever the %s ends; the new one from the answer on',
    { timeout: PATIENCE_MS },
    async (kind) => {
      const sizes = new Set<number>();
      for (let k = 0; k < MOST_EVENTS; k += STRIDE) {
        const { answered, before, asked, after } = await resizeAndDie(way, kind, k);
        expect(answered ? [asked] : [before, asked]).toContain(after);
        sizes.add(after);
        if (answered) break;
      }
      // The series has seen both.
      expect(sizes.size).toBe(2);
    },
  );
});
