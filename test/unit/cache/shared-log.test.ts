import { describe, expect, test } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import { BLOCK_SIZE, MIB } from '../../../gateway/base/units.ts';
import { CacheLog } from '../../../gateway/cache/cache-log.ts';
import { openLogReader } from '../../../gateway/cache/log-reader.ts';
import { forgetVolume } from '../../../gateway/volume/open-volume.ts';
import { Volume } from '../../../gateway/volume/volume.ts';
import { MemoryRemote, MemoryShore } from '../../support/memory-remote.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimDisk } from '../../sim/sim-disk.ts';
import { SimRandom } from '../../sim/sim-random.ts';

const SLOTS = 384;

/** Several volumes over one log. */
class Gateway {
  readonly random = new SimRandom('shared');
  readonly clock = new SimClock(this.random.split('clock'));
  readonly disk = new SimDisk('disk', this.clock, this.random.split('disk'));
  readonly shores = new Map<string, MemoryShore>();
  readonly volumes = new Map<string, Volume>();
  life = { alive: true, name: 'gateway' };
  cache!: CacheLog;

  async start(chunks = 6): Promise<void> {
    this.life = { alive: true, name: 'gateway' };
    const settings = {
      sizeBytes: chunks * SLOTS * BLOCK_SIZE,
      ramBytes: 0,
      indexBytes: 4 * MIB,
      chunkSlots: SLOTS,
      maxWaitMs: 3000,
    };
    this.cache = await this.clock.settle(CacheLog.open({ ...this.#ports(), log: silentLog }, settings));
  }

  async open(name: string): Promise<Volume> {
    const shore = this.shores.get(name) ?? new MemoryShore(4096 * BLOCK_SIZE);
    this.shores.set(name, shore);
    const { disk, clock, random } = this.#ports();
    const remote = new MemoryRemote(shore, openLogReader(disk), clock);
    const deps = {
      disk,
      clock,
      random,
      log: silentLog,
      cache: this.cache,
      remote,
      settings: { rpoMs: 1000, hydrate: false },
    };
    const volume = await this.clock.settle(Volume.open(deps, { ref: { lineage: name, volume: name }, gateway: 'gw' }));
    this.volumes.set(name, volume);
    return volume;
  }

  async write(name: string, block: number, fill: number, count = 1): Promise<void> {
    const volume = this.volumes.get(name);
    if (volume === undefined) throw new Error(`${name} is not open`);
    await this.clock.settle(
      Promise.resolve(volume.write(block, [Buffer.alloc(count * BLOCK_SIZE, fill)], { fua: false })),
    );
  }

  async byteOf(name: string, block: number): Promise<number> {
    const pieces = await this.clock.settle(Promise.resolve(this.volumes.get(name)?.read(block, 1) ?? []));
    return Buffer.concat(pieces)[0] ?? -1;
  }

  hold(name: string, hold: boolean): void {
    const shore = this.shores.get(name);
    if (shore !== undefined) shore.holdCommits = hold;
  }

  crash(kind: 'process' | 'power'): void {
    this.life.alive = false;
    this.disk.crash(kind);
    this.volumes.clear();
  }

  #ports(): { disk: ReturnType<SimDisk['mount']>; clock: ReturnType<SimClock['forLife']>; random: SimRandom } {
    return { disk: this.disk.mount(this.life), clock: this.clock.forLife(this.life, 0), random: this.random };
  }
}

describe('volumes that share a log', () => {
  test('keep apart what they write, also over a crash', async () => {
    const gateway = new Gateway();
    await gateway.start();
    await gateway.open('a');
    await gateway.open('b');
    for (let block = 0; block < 50; block++) {
      await gateway.write('a', block, 1);
      await gateway.write('b', block, 2);
    }
    gateway.crash('process');
    await gateway.start();
    await gateway.open('b');
    await gateway.open('a');
    for (let block = 0; block < 50; block += 7) {
      expect([await gateway.byteOf('a', block), await gateway.byteOf('b', block)]).toEqual([1, 2]);
    }
  });

  test('one that is not replicated fills the log, and holds the other one up only until then', async () => {
    const gateway = new Gateway();
    await gateway.start();
    await gateway.open('a');
    await gateway.open('b');
    gateway.hold('a', true);
    const outcomes: string[] = [];
    for (let at = 0; at < 40 && outcomes.at(-1) !== 'refused'; at++) {
      outcomes.push(
        await gateway.write('a', at * 100, 1, 100).then(
          () => 'taken',
          () => 'refused',
        ),
      );
    }
    expect(outcomes.at(-1)).toBe('refused');
    await expect(gateway.write('b', 0, 2, 100)).rejects.toMatchObject({ kind: 'busy' });
    gateway.hold('a', false);
    await gateway.write('b', 0, 2);
    expect(await gateway.byteOf('b', 0)).toBe(2);
  });

  test('one that was not opened yet keeps its uncommitted blocks while another one reclaims', async () => {
    const gateway = new Gateway();
    await gateway.start();
    await gateway.open('a');
    await gateway.open('b');
    gateway.hold('a', true);
    for (let block = 0; block < 300; block++) await gateway.write('a', block, 1);
    gateway.crash('process');
    await gateway.start();
    await gateway.open('b');
    for (let round = 1; round <= 10; round++) await gateway.write('b', 0, round, 250);
    expect(gateway.cache.status().reclaimedChunks).toBeGreaterThan(3);
    await gateway.open('a');
    for (let block = 0; block < 300; block += 11) expect(await gateway.byteOf('a', block)).toBe(1);
  });

  test('one that is closed gives up its clean chunks, and its number when it is forgotten', async () => {
    const gateway = new Gateway();
    await gateway.start(5);
    const a = await gateway.open('a');
    await gateway.open('b');
    for (let round = 1; round <= 3; round++) await gateway.write('a', 0, round, 250);
    await gateway.clock.settle(a.flushRemote());
    await gateway.clock.settle(a.close());
    for (let round = 1; round <= 12; round++) await gateway.write('b', 0, round, 250);
    expect(await gateway.byteOf('b', 17)).toBe(12);
    expect(gateway.cache.numbersOf('a')).toHaveLength(1);
    await gateway.clock.settle(
      forgetVolume(gateway.disk.mount(gateway.life), gateway.cache, { lineage: 'a', volume: 'a' }),
    );
    expect(gateway.cache.numbersOf('a')).toEqual([]);
    await gateway.open('a');
    expect(await gateway.byteOf('a', 3)).toBe(3);
  });
});

describe('the reader of the log', () => {
  test('reads what it is asked in any order, and nothing that is not exactly that', async () => {
    const gateway = new Gateway();
    await gateway.start();
    await gateway.open('a');
    gateway.hold('a', true);
    for (let block = 0; block < 20; block++) await gateway.write('a', block, block + 1);
    const reader = openLogReader(gateway.disk.mount(gateway.life));
    const first = 4; // the first data slot of chunk 0, where the log began
    const order = [3, 0, 19, 7, 8, 9];
    const places = Float64Array.from(order, (block) => first + block);
    const blocks = Float64Array.from(order);
    const seqs = Float64Array.from(order, (block) => block + 1);
    const into = Buffer.alloc(order.length * BLOCK_SIZE);
    await gateway.clock.settle(reader.readBlocks(places, blocks, seqs, into));
    order.forEach((block, at) => {
      expect(into[at * BLOCK_SIZE + 99]).toBe(block + 1);
    });
    for (const [array, wrong] of [
      [blocks, 5],
      [seqs, 99],
      [places, 300],
    ] as const) {
      const kept = array[2] ?? 0;
      array[2] = wrong;
      expect(await gateway.clock.settle(reader.readBlocks(places, blocks, seqs, into))).toEqual([2]);
      array[2] = kept;
    }
    await gateway.clock.settle(reader.readBlocks(places, blocks, seqs, into));
    await gateway.clock.settle(reader.close());
    await expect(reader.readBlocks(places, blocks, seqs, into)).rejects.toMatchObject({ kind: 'stopped' });
  });
});
