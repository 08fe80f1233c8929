import { describe, expect, test } from 'vitest';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import { DEFAULT_REMOTE_LOSS_MS } from '../../../gateway/volume/replication-control.ts';
import { VolumeBench } from '../../support/volume-bench.ts';
import { watch, type Watched } from '../../support/watched.ts';

function write(bench: VolumeBench, block: number, fill: number, count = 1): Watched {
  return watch(bench.volume.write(block, [Buffer.alloc(count * BLOCK_SIZE, fill)], { fua: false }));
}

describe('a synchronous write that was answered as failed after a takeover', () => {
  test.each([{ stored: false }, { stored: true }])(
    'is not there when the volume comes back from a taker that wrote nothing (stored: $stored)',
    async ({ stored }) => {
      const bench = new VolumeBench({ replication: { mode: 'sync' }, ...(stored ? { stored } : {}) });
      await bench.start();
      await bench.write(1, 1);
      bench.shore.holdCommits = true;
      const lost = write(bench, 1, 2);
      await bench.pass(100);
      // Its takeover record is all that the history has of the taker.
      bench.shore.epoch++;
      bench.volume.onFenced('another gateway has it');
      await bench.pass(5_000);
      expect(lost.now).toBe('fenced');
      bench.crash('power');
      bench.shore.holdCommits = false;
      await bench.start({ takeover: true });
      expect(await bench.byteOf(1)).toBe(1);
      await bench.write(3, 3);
      await bench.flushRemote();
      expect(bench.shore.blocks.get(1)?.[0]).toBe(1);
      // What it is now it also is after the next start.
      bench.crash('process');
      await bench.start();
      expect([await bench.byteOf(1), await bench.byteOf(3)]).toEqual([1, 3]);
    },
  );
});

describe('a log that fails while writes are held', () => {
  test('leaves them unanswered, also where a volume would degrade: nobody knows what a start finds of them', async () => {
    const bench = new VolumeBench({ replication: { mode: 'sync', onRemoteLoss: 'degrade' } });
    await bench.start();
    await bench.write(1, 1);
    bench.shore.holdCommits = true;
    const held = write(bench, 1, 2);
    await bench.pass(100);
    bench.volume.onLogStopped(new Error('an append failed'));
    await bench.pass(3 * DEFAULT_REMOTE_LOSS_MS);
    expect(held.now).toBe('waits');
    expect(await bench.byteOf(1)).toBe(1);
  });
});

describe('a volume is closed while writes are held', () => {
  test('whatever waits for them here', async () => {
    const bench = new VolumeBench({ ramBlocks: 64, replication: { mode: 'sync' } });
    await bench.start();
    await bench.write(1, 1);
    await bench.flushRemote();
    bench.shore.unreadable.add(1);
    bench.shore.holdCommits = true;
    const held = write(bench, 2, 2);
    const scrubbed = watch(bench.volume.scrub(['remote'], true, () => undefined).then(() => undefined));
    await bench.pass(5_000);
    expect([held.now, scrubbed.now, bench.volume.status().replication.waiting]).toEqual(['waits', 'waits', 2]);
    const { volume } = bench;
    const closed = watch(volume.close());
    await bench.pass(10_000);
    expect(closed.now).toBe('done');
    expect(scrubbed.now).toBe('stopped');
  });

  test('and its image is not said to have them', async () => {
    const bench = new VolumeBench({ stored: true, replication: { mode: 'sync' } });
    await bench.start();
    await bench.write(1, 1);
    bench.shore.holdCommits = true;
    write(bench, 1, 2);
    await bench.pass(1_000);
    const { volume } = bench;
    await bench.settle(volume.close());
    bench.crash('process');
    bench.shore.holdCommits = false;
    await bench.start();
    const found = await bench.byteOf(1);
    await bench.flushRemote();
    await bench.pass(10_000);
    expect(bench.shore.blocks.get(1)?.[0]).toBe(found);
    expect(bench.image()[BLOCK_SIZE]).toBe(found);
  });
});

describe('a flush', () => {
  test('waits for what was acked behind a write that is held again', async () => {
    const bench = new VolumeBench({ replication: { mode: 'sync' } });
    await bench.start();
    bench.shore.holdCommits = true;
    const held = write(bench, 1, 1);
    // It has its place, and is not in the log yet.
    for (let turns = 0; turns < 20; turns++) await Promise.resolve();
    bench.volume.setReplication({ mode: 'async', onRemoteLoss: 'block' });
    const acked = write(bench, 2, 2);
    bench.volume.setReplication({ mode: 'sync', onRemoteLoss: 'block' });
    await bench.pass(500);
    expect([held.now, acked.now]).toEqual(['waits', 'done']);
    const flushed = watch(bench.volume.flush());
    await bench.pass(100);
    expect(flushed.now).toBe('waits');
    bench.shore.holdCommits = false;
    await bench.pass(500);
    expect([held.now, flushed.now]).toEqual(['done', 'done']);
    expect([1, 2].map((block) => bench.shore.blocks.get(block)?.[0])).toEqual([1, 2]);
  });
});
