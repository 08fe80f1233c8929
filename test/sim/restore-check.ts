import { silentLog } from '../../gateway/base/log.ts';
import { BLOCK_SIZE, type ByteCount } from '../../gateway/base/units.ts';
import type { VolumeRef } from '../../gateway/cloud/version-log.ts';
import { rawCompression } from '../../gateway/format/compression.ts';
import { RemoteVolumeEngine } from '../../gateway/replication/remote-volume-engine.ts';
import { LOST_BLOCK, type LogOrigin } from '../../gateway/replication/remote-volume.ts';
import { SECTORS_PER_BLOCK, type VolumeShape } from './areas.ts';
import { LOST, Violation } from './history.ts';
import { SimCloud } from './sim-cloud.ts';
import type { SimClock } from './sim-clock.ts';
import { SECTOR } from './sim-file.ts';
import type { SimRandom } from './sim-random.ts';
import { describeSector, readStamp } from './stamp.ts';

/** A version as a gateway that never saw the volume restores it. */
export interface Restored {
  /** Id per sector of the areas. */
  readonly values: ReadonlyMap<number, number>;
  readonly lastData: LogOrigin | undefined;
  /** Size of the volume. */
  readonly bytes: ByteCount;
}

export interface RestoreTools {
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly cloud: SimCloud;
  readonly ref: VolumeRef;
  readonly shape: VolumeShape;
  readonly volumeTag: number;
  /** Disks have been damaged, so versions may say of blocks that they are lost. */
  readonly mayLose: boolean;
}

/**
 * Restores in a copy of the cloud, so that the world goes on as if nothing had happened, and in no time. Without `n` the newest
 * version; otherwise the volume is rolled back to n first. With `verify`, S3 is read back as `farshore verify` does.
 */
export async function restoreVersion(
  tools: RestoreTools,
  options: { readonly n?: number; readonly verify?: boolean } = {},
): Promise<Restored> {
  const { clock, random, ref, shape, volumeTag } = tools;
  const what = options.n === undefined ? 'the newest version' : `version ${options.n}`;
  const copy = new SimCloud(clock, random, tools.cloud);
  const { store, log } = copy.connectAtOnce();
  const life = { name: 'checker', alive: true };
  const engine = new RemoteVolumeEngine({
    store,
    versions: log,
    reader: { readBlocks: () => Promise.reject(new Error('a checker has no log')) },
    compression: rawCompression,
    clock: clock.forLife(life, 0),
    random,
    log: silentLog,
  });
  try {
    const { lastData, item } = await engine.open({
      ref,
      takeover: true,
      gateway: 'checker',
      lastEpoch: 0,
      logId: 'c'.repeat(32),
    });
    const bytes = options.n === undefined ? item.bytes : (await engine.rollBackTo(options.n)).volumeBytes;
    if (options.verify === true) {
      const report = await engine.verify();
      // A volume that has lost a block does not verify, and says why.
      const isExcused =
        tools.mayLose && report.problems.every((problem) => problem.includes('was lost on its gateway'));
      if (report.verdict !== 'pass' && !isExcused)
        throw new Violation(`verify says ${report.verdict}: ${report.problems.join('; ')}`);
      await checkMapped(engine, shape, bytes);
    }
    const values = new Map<number, number>();
    for (const { firstBlock, blocks } of shape.areas) {
      const { data, present } = await engine.read(firstBlock, blocks);
      let taken = 0;
      for (let index = 0; index < blocks; index++) {
        const block = firstBlock + index;
        if (present[index] === LOST_BLOCK) {
          if (!tools.mayLose) throw new Violation(`${what} has lost block ${block}, and no disk was damaged`);
          for (let at = 0; at < SECTORS_PER_BLOCK; at++) values.set(block * SECTORS_PER_BLOCK + at, LOST);
          continue;
        }
        const bytes = present[index] === 1 ? data.subarray(taken, (taken += BLOCK_SIZE)) : undefined;
        enterBlock(values, block, bytes, volumeTag, what);
      }
    }
    return { values, lastData, bytes };
  } catch (error) {
    if (error instanceof Violation) throw error;
    throw new Violation(`${what} cannot be restored: ${String(error)}`, { cause: error });
  } finally {
    await engine.close();
    life.alive = false;
  }
}

function enterBlock(
  values: Map<number, number>,
  block: number,
  bytes: Buffer | undefined,
  volumeTag: number,
  what: string,
): void {
  for (let at = 0; at < SECTORS_PER_BLOCK; at++) {
    const sector = block * SECTORS_PER_BLOCK + at;
    const content = bytes?.subarray(at * SECTOR, (at + 1) * SECTOR);
    const id = content === undefined ? 0 : readStamp(volumeTag, sector, content);
    if (id === undefined)
      throw new Violation(
        `${what} has ${content === undefined ? 'nothing' : describeSector(content)} in sector ${sector}`,
      );
    values.set(sector, id);
  }
}

/** Nothing outside of the areas was ever written, and nothing lies beyond the end. */
async function checkMapped(engine: RemoteVolumeEngine, { areas }: VolumeShape, bytes: ByteCount): Promise<void> {
  for (let from = 0; ;) {
    const next = await engine.nextMapped(from, 256);
    const last = next?.blocks.at(-1);
    if (next === undefined || last === undefined) return;
    for (const block of next.blocks) {
      if (block * BLOCK_SIZE >= bytes)
        throw new Violation(`block ${block} is mapped, beyond the ${bytes} bytes of the volume`);
      if (!areas.some(({ firstBlock, blocks }) => block >= firstBlock && block < firstBlock + blocks))
        throw new Violation(`block ${block} is mapped, which nobody wrote`);
    }
    from = last + 1;
  }
}
