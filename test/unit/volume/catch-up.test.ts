import { expect, test } from 'vitest';
import type { Disk } from '../../../gateway/base/disk.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { MAX_SEGMENT_BLOCKS } from '../../../gateway/format/segment.ts';
import type { CopyBatch, RemoteVolume } from '../../../gateway/replication/remote-volume.ts';
import type { BlockState } from '../../../gateway/volume/block-state.ts';
import { CatchUp } from '../../../gateway/volume/stored/catch-up.ts';
import { Changes } from '../../../gateway/volume/stored/changes.ts';
import type { Image } from '../../../gateway/volume/stored/image.ts';
import { journalPath } from '../../../gateway/volume/stored/stored-state.ts';
import { diskFull, MemoryDisk } from '../../support/memory-disk.ts';
import { MemoryRemote, MemoryShore } from '../../support/memory-remote.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { SimRandom } from '../../sim/sim-random.ts';

const REF = { lineage: 'lin', volume: 'vol' };
const SEGMENTS = 9;
const BLOCKS = SEGMENTS * MAX_SEGMENT_BLOCKS;
const RECORD = { generation: 1, through: 0, isFull: false, since: 0 };
const IMAGE = { blocks: BLOCKS };

function load(disk: Disk): Promise<Changes> {
  return Changes.load(disk, REF, RECORD, IMAGE, 1);
}

/** Notes the segments in the order in which they were begun; `hangs` says which of them never arrive. */
async function slowRemote(clock: SimClock, begun: CopyBatch[], hangs: (at: number) => boolean): Promise<RemoteVolume> {
  const reader = { readBlocks: () => Promise.resolve([]) };
  const remote = new MemoryRemote(new MemoryShore(BLOCKS * 4096), reader, clock, () => 1);
  await clock.settle(remote.open({ ref: REF, gateway: 'gw', takeover: false, lastEpoch: 0, logId: 'log' }));
  const copy = remote.copy.bind(remote);
  remote.copy = (batch) => {
    begun.push(batch);
    return hangs(begun.length) ? new Promise(() => undefined) : copy(batch);
  };
  return remote;
}

// Copied, marked again after the disk was full for the journal, and taken once more: until it has arrived as it is now, a start has to copy it.
test('a block that is copied a second time counts as open until that copy is in the journal', async () => {
  const clock = new SimClock(new SimRandom(1));
  const disk = new MemoryDisk();
  const changes = await Changes.begin(disk, REF, RECORD, IMAGE, 1);
  changes.mark(0, BLOCKS);
  await changes.save();
  let records = 0;
  disk.before = (operation, path) => {
    if (operation === 'write' && path === journalPath(REF, 1) && ++records === 2) throw diskFull();
  };
  const begun: CopyBatch[] = [];
  let hanging = 0;
  const remote = await slowRemote(clock, begun, (at) => at === hanging);
  const image = {
    read: (_block: number, into: Buffer) => {
      into.fill(1);
      return Promise.resolve();
    },
  };
  const catchUp = new CatchUp({
    ...{ remote, clock, diary: silentLog, lost: new Set<number>() },
    // What is asked of them before everything is copied.
    state: { cache: { stoppedBy: undefined } } as unknown as BlockState,
    image: image as unknown as Image,
    idle: () => Promise.resolve(),
    committedThrough: () => 0,
    changes: () => changes,
    markAll: () => Promise.reject(new Error('not yet')),
    caughtUp: () => Promise.reject(new Error('not yet')),
    failed: (error) => {
      throw error;
    },
  });
  catchUp.kick();
  await clock.run({ when: () => catchUp.problem !== undefined });
  changes.mark(0, 1);
  await changes.save();
  // The first of the second pass stays under way, and what the others have copied is noted meanwhile.
  hanging = begun.length + 1;
  await clock.run({ when: () => begun.length === hanging + 4 });
  expect(begun[hanging - 1]?.blocks[0]).toBe(0);
  const next = await load(disk.copy());
  expect(next.take(0, 1)).toEqual({ block: 0, count: 1 });
});
