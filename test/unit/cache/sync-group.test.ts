import { describe, expect, it } from 'vitest';
import type { DiskFile } from '../../../gateway/base/disk.ts';
import { MIB } from '../../../gateway/base/units.ts';
import { BlockIndex } from '../../../gateway/cache/block-index.ts';
import { Chunk } from '../../../gateway/cache/chunk.ts';
import { LeafSlab } from '../../../gateway/cache/leaf-slab.ts';
import { SyncGroup } from '../../../gateway/cache/sync-group.ts';
import { VolumeLog } from '../../../gateway/cache/volume-log.ts';

/** A chunk whose syncs end when the test says so. */
function slowChunk(): { chunk: Chunk; syncs: (() => void)[] } {
  const syncs: (() => void)[] = [];
  const file: DiskFile = {
    size: () => Promise.resolve(0),
    read: () => Promise.resolve(),
    write: () => Promise.resolve(),
    close: () => Promise.resolve(),
    sync: () =>
      new Promise((resolve) => {
        syncs.push(resolve);
      }),
  };
  return { chunk: new Chunk(0, file, 1), syncs };
}

function volumeLog(): VolumeLog {
  const ignore = (): void => undefined;
  const index = new BlockIndex(new LeafSlab(1024 * 1024));
  return new VolumeLog({ number: 1, index, through: 0, committedThrough: 0, onPressure: ignore, onStopped: ignore });
}

/** Lets everything run that waits for nothing outside. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

describe('the shared sync of the cache log', () => {
  it('never reports as durable what a sync still under way has taken over from it', async () => {
    const { chunk, syncs } = slowChunk();
    const log = volumeLog();
    const failed = (error: Error): void => {
      throw error;
    };
    const group = new SyncGroup({ chunks: () => [chunk], volumes: () => [log], synced: () => undefined, failed });
    const append = (): void => {
      log.appendedThrough = log.nextSeq();
      chunk.unsynced = true;
    };
    append();
    // Whoever waited for the first round asks again in the very turn in which it ends, as the sealer does.
    const pump = group.sync().then(() => group.sync());
    append();
    let isFlushed = false;
    const flush = group.sync().then(() => {
      isFlushed = true;
    });
    syncs[0]?.();
    await settle();
    expect(syncs).toHaveLength(2);
    expect({ isFlushed, syncedThrough: log.syncedThrough }).toEqual({ isFlushed: false, syncedThrough: 1 });
    syncs[1]?.();
    await Promise.all([flush, pump]);
    expect(log.syncedThrough).toBe(2);
  });

  it('begins by itself when much was written, one round at a time, and counts anew from there', async () => {
    const { chunk, syncs } = slowChunk();
    const log = volumeLog();
    const group = new SyncGroup({
      chunks: () => [chunk],
      volumes: () => [log],
      synced: () => undefined,
      failed: () => undefined,
    });
    const write = (bytes: number): void => {
      log.appendedThrough = log.nextSeq();
      chunk.unsynced = true;
      group.noteWritten(bytes);
    };
    write(64 * MIB - 1);
    await settle();
    expect(syncs).toHaveLength(0);
    write(1);
    write(64 * MIB);
    await settle();
    expect(syncs).toHaveLength(1);
    syncs[0]?.();
    await settle();
    expect(log.syncedThrough).toBe(2);
    write(1);
    await settle();
    expect(syncs).toHaveLength(2);
    syncs[1]?.();
    await settle();
    expect(log.syncedThrough).toBe(4);
    write(4096);
    await settle();
    expect(syncs).toHaveLength(2);
  });
});
