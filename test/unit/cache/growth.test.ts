import { describe, expect, it } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import { BLOCK_SIZE, MIB } from '../../../gateway/base/units.ts';
import { CacheLog } from '../../../gateway/cache/cache-log.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimRandom } from '../../sim/sim-random.ts';

const SLOTS = 384;
const CHUNK_BYTES = SLOTS * BLOCK_SIZE;
/** So many that as many as the disk takes are made ahead of demand. */
const MOST_CHUNKS = 128;

/** A disk of a size. */
class SizedDisk extends MemoryDisk {
  bytes: number;

  constructor(bytes: number) {
    super();
    this.bytes = bytes;
  }

  async freeBytes(): Promise<number> {
    let used = 0;
    for (const { length } of this.files.values()) used += length;
    return this.bytes - used;
  }
}

async function openPool(disk: SizedDisk): Promise<{ cache: CacheLog; clock: SimClock }> {
  const random = new SimRandom('growth');
  const clock = new SimClock(random.split('clock'));
  const settings = {
    sizeBytes: MOST_CHUNKS * CHUNK_BYTES,
    ramBytes: 0,
    indexBytes: 4 * MIB,
    chunkSlots: SLOTS,
    maxWaitMs: 3000,
  };
  const life = { alive: true, name: 'gateway' };
  const deps = { disk, clock: clock.forLife(life, 0), random, log: silentLog };
  return { cache: await clock.settle(CacheLog.open(deps, settings)), clock };
}

describe('the cache, as it grows on a disk that is not only its own', () => {
  it('leaves 64 MiB to the other files of the state directory, and says so', async () => {
    const disk = new SizedDisk(64 * MIB + 6.5 * CHUNK_BYTES);
    const { cache, clock } = await openPool(disk);
    await clock.run();
    // The state of the pool takes 1 MiB.
    expect(cache.status().allocatedBytes).toBe(5 * CHUNK_BYTES);
    expect(await disk.freeBytes()).toBeGreaterThanOrEqual(64 * MIB);
    expect(cache.status().problem).toMatch(
      /^the cache stays at 5 of 128 chunks: 6\d\.\d MiB are left on the disk of the state directory, .*make room on it, or set cache\.size/,
    );
  });

  it('takes what it cannot do without, whatever is left', async () => {
    const { cache, clock } = await openPool(new SizedDisk(20 * MIB));
    await clock.run();
    expect(cache.status().allocatedBytes).toBe(4 * CHUNK_BYTES);
  });
});
