import { NO_FAR_SHORE } from '../support/no-far-shore.ts';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../gateway/base/clock.ts';
import type { Disk } from '../../gateway/base/disk.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { BLOCK_SIZE, MIB } from '../../gateway/base/units.ts';
import { CacheLog } from '../../gateway/cache/cache-log.ts';
import { openLogReader } from '../../gateway/cache/log-reader.ts';
import { Catalogue } from '../../gateway/catalogue.ts';
import { ServedVolume, type TargetDirectory } from '../../gateway/served-volume.ts';
import type { VolumeTargets } from '../../gateway/target-directory.ts';
import type { IoThread } from '../../gateway/threads/io-thread.ts';
import { IoThreads } from '../../gateway/threads/io-threads.ts';
import { moveVolume } from '../../gateway/threads/move-volume.ts';
import { directControl } from '../../gateway/volume-control.ts';
import { forgetVolume, surrenderVolume } from '../../gateway/volume/open-volume.ts';
import { Volume } from '../../gateway/volume/volume.ts';
import { MemoryRemote, MemoryShore } from '../support/memory-remote.ts';
import { REF } from '../support/volume-bench.ts';
import { SimClock, type Life } from './sim-clock.ts';
import { SimDisk } from './sim-disk.ts';
import { SimRandom } from './sim-random.ts';

const THREADS = [0, 1];
const BLOCKS = 256;
const SLOTS = 384;
const CACHE = {
  sizeBytes: 5 * SLOTS * BLOCK_SIZE,
  ramBytes: 16 * BLOCK_SIZE,
  indexBytes: 4 * MIB,
  chunkSlots: SLOTS,
  maxWaitMs: 20_000,
};

/**
 * A gateway with two threads in the order of one clock: the real catalogue, cache logs, volume, and the real protocol of a move between them; the cloud in
 * memory. Both directories lie on a disk of their own, and a crash takes both.
 */
class World {
  readonly random = new SimRandom(1);
  readonly clock = new SimClock(this.random.split('clock'));
  readonly disks = THREADS.map(
    (number) => new SimDisk(`disk ${number}`, this.clock, this.random.split(`disk ${number}`)),
  );
  readonly shore = new MemoryShore(BLOCKS * BLOCK_SIZE);
  /** What a block may have: what was acked last, and synced, and what is being written. */
  readonly may = new Map<number, readonly number[]>();
  starts = 0;

  async write(volume: Volume, block: number, fill: number): Promise<void> {
    this.may.set(block, [...(this.may.get(block) ?? [0]), fill]);
    await volume.write(block, [Buffer.alloc(BLOCK_SIZE, fill)], { fua: true });
    this.may.set(block, [fill]);
  }

  crash(process: Process, kind: 'process' | 'power'): void {
    process.life.alive = false;
    for (const disk of this.disks) disk.crash(kind);
  }

  /** So many events, or until the work is over; true when it was. */
  async events(count: number, work: Promise<unknown>): Promise<boolean> {
    const state = { left: count, isOver: false };
    const over = (): void => {
      state.isOver = true;
    };
    work.then(over, over);
    await this.clock.run({
      when: () => {
        state.left -= 1;
        return state.isOver || state.left < 0;
      },
    });
    return state.isOver;
  }
}

interface Part {
  readonly disk: Disk;
  readonly cache: CacheLog;
}

/** One run of the gateway. */
class Process {
  readonly life: Life & { alive: boolean };
  readonly #world: World;
  readonly #clock: Clock;
  /** Where the volume is open now. */
  readonly open = new Map<number, Volume>();
  /** Written by an initiator at the last moment it can. */
  lastWrite: ((volume: Volume) => Promise<void>) | undefined;

  constructor(world: World) {
    this.#world = world;
    world.starts += 1;
    this.life = { alive: true, name: `start ${world.starts}` };
    this.#clock = world.clock.forLife(this.life, 0);
  }

  /** As Gateway.start does: what is left of moves goes, then the volume is opened where the catalogue has it. */
  async start(): Promise<{
    readonly served: ServedVolume;
    readonly move: (to: number) => Promise<ServedVolume>;
    readonly kept: () => Promise<readonly number[]>;
  }> {
    const { disks, random, starts } = this.#world;
    const clock = this.#clock;
    const tools = { clock, random: random.split(`start ${starts}`), log: silentLog };
    const parts: Part[] = [];
    for (const disk of disks.map((each) => each.mount(this.life)))
      parts.push({ disk, cache: await CacheLog.open({ disk, ...tools }, CACHE) });
    const [main] = parts;
    if (main === undefined) throw new Error('there is a main thread');
    const catalogue = await Catalogue.open(main.disk, tools.random);
    if (catalogue.volumes.length === 0) await catalogue.put({ name: 'vol', ...REF });
    const threads = parts.map((part, number) => this.#thread(number, part, tools));
    const io = new IoThreads(threads as [IoThread, ...IoThread[]], THREADS.length, catalogue);
    await io.clearLeftovers(() => undefined);
    const targets = this.#targets();
    const serve = (entry: (typeof catalogue.volumes)[number]): ServedVolume => {
      const { openVolume } = io.of(entry);
      return new ServedVolume(
        { clock, log: silentLog, openVolume, targets, gateway: catalogue.gateway, ...NO_FAR_SHORE },
        entry,
        {},
      );
    };
    const [entry] = catalogue.volumes;
    if (entry === undefined) throw new Error('the catalogue has the volume');
    const served = serve(entry);
    expect(await served.firstAttempt).toBeUndefined();
    return {
      served,
      move: (to) =>
        moveVolume(
          { clock, log: silentLog, catalogue, targets, io, sharesTarget: () => [], reopen: serve },
          served,
          to,
        ),
      kept: async () => {
        const kept = await Promise.all(threads.map((thread) => thread.keeps([REF.volume])));
        return THREADS.filter((number) => (kept[number] ?? []).length > 0);
      },
    };
  }

  #thread(
    number: number,
    { disk, cache }: Part,
    tools: { clock: Clock; random: SimRandom; log: typeof silentLog },
  ): IoThread {
    const { shore } = this.#world;
    return {
      number,
      keeps: (volumes: readonly string[]) =>
        Promise.resolve(volumes.filter((volume) => cache.numbersOf(volume).length > 0)),
      forgetVolume: (ref: typeof REF) => forgetVolume(disk, cache, ref),
      surrenderVolume: (ref: typeof REF) => surrenderVolume({ disk, cache, log: silentLog }, ref),
      openVolume: async () => {
        const remote = new MemoryRemote(shore, openLogReader(disk), tools.clock, () => 2);
        const settings = { rpoMs: 1000, hydrate: false };
        const volume = await Volume.open({ disk, cache, remote, ...tools, settings }, { ref: REF, gateway: 'gw' });
        // Never in two threads at once, whatever has happened before.
        expect([...this.open.keys()]).toEqual([]);
        this.open.set(number, volume);
        const control = directControl(volume, remote);
        return {
          ...control,
          state: 'serving',
          close: async () => {
            const isAllCommitted = await control.close();
            this.open.delete(number);
            return isAllCommitted;
          },
        };
      },
    } as unknown as IoThread; // what a start and a move ask of a thread
  }

  #targets(): TargetDirectory & VolumeTargets {
    return {
      adopt: () => Promise.resolve(),
      expect: () => () => undefined,
      offer: () => Promise.resolve(),
      withdraw: async () => {
        const [volume] = this.open.values();
        const { lastWrite } = this;
        this.lastWrite = undefined;
        if (volume !== undefined) await lastWrite?.(volume);
      },
      sessions: () => Promise.resolve(0),
      notReady: () => undefined,
      isSettled: () => Promise.resolve(true),
      settled: () => Promise.resolve(),
      whileUnchanged: <T>(work: () => Promise<T>): Promise<T> => work(),
      access: () => ({ mode: 'unknown', maps: 0, inTable: false, problem: undefined }),
    } as unknown as TargetDirectory & VolumeTargets; // see above
  }
}

/** Everything acked is there, in one thread, and no other has anything of it. */
async function check(world: World): Promise<number> {
  const process = new Process(world);
  const { kept } = await world.clock.settle(process.start());
  const [[number, volume] = []] = process.open;
  if (number === undefined || volume === undefined) throw new Error('the volume is not served');
  expect(process.open.size).toBe(1);
  expect(await world.clock.settle(kept())).toEqual([number]);
  for (const [block, fills] of world.may) {
    const data = Buffer.concat(await world.clock.settle(Promise.resolve(volume.read(block, 1))));
    expect(fills).toContain(data[0]);
    expect(data.equals(Buffer.alloc(BLOCK_SIZE, data[0]))).toBe(true);
  }
  world.crash(process, 'process');
  return number;
}

/** A move that is cut off after so many events; whether it was over by then. */
async function cutOff(
  kind: 'process' | 'power',
  after: number,
): Promise<{ readonly isOver: boolean; readonly at: number }> {
  const world = new World();
  const process = new Process(world);
  const { move } = await world.clock.settle(process.start());
  const [volume] = process.open.values();
  if (volume === undefined) throw new Error('the volume is not served');
  for (const block of [3, 4, 5, 200]) await world.clock.settle(world.write(volume, block, block));
  process.lastWrite = (last) => world.write(last, 4, 77);
  const isOver = await world.events(
    after,
    move(1).then((served) => served.firstAttempt),
  );
  world.crash(process, kind);
  // The next start is cut off as well, somewhere else each time; the one after it has to do.
  const second = new Process(world);
  const starting = second.start();
  starting.catch(() => undefined);
  await world.events((after * 7) % 90, starting);
  world.crash(second, kind);
  return { isOver, at: await check(world) };
}

describe('a move of a volume to another thread', () => {
  it.each(['process', 'power'] as const)(
    'that is cut off anywhere (%s), and the next start too, leaves the volume in one thread with everything acked',
    async (kind) => {
      const places: number[] = [];
      for (let after = 0; ; after += 1) {
        const { isOver, at } = await cutOff(kind, after);
        places.push(at);
        if (isOver) break;
      }
      // There is one moment, and no way back from it.
      expect(places[0]).toBe(0);
      expect(places.at(-1)).toBe(1);
      expect(places).toEqual(places.toSorted());
      expect(places.length).toBeGreaterThan(40);
    },
    300_000,
  );
});
