import { describe, expect, test } from 'vitest';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import { DEFAULT_REMOTE_LOSS_MS, type Replication } from '../../../gateway/volume/replication-control.ts';
import { VolumeBench, type BenchOptions } from '../../support/volume-bench.ts';
import { watch, type Watched } from '../../support/watched.ts';

const LOSS_MS = DEFAULT_REMOTE_LOSS_MS;

function write(
  bench: VolumeBench,
  block: number,
  fill: number,
  options: { fua?: boolean; count?: number } = {},
): Watched {
  const { fua = false, count = 1 } = options;
  return watch(bench.volume.write(block, [Buffer.alloc(count * BLOCK_SIZE, fill)], { fua }));
}

const flush = (bench: VolumeBench): Watched => watch(bench.volume.flush());

async function start(replication: Partial<Replication>, options: BenchOptions = {}): Promise<VolumeBench> {
  const bench = new VolumeBench({ replication, ...options });
  await bench.start();
  return bench;
}

function shoreByte(bench: VolumeBench, block: number): number {
  return bench.shore.blocks.get(block)?.[0] ?? 0;
}

describe.each([{ stored: false }, { stored: true }])('sync (stored: $stored)', ({ stored }) => {
  const options = stored ? { stored } : {};

  test('acks a write when a version has it, and shows it to nobody before', async () => {
    const bench = await start({ mode: 'sync' }, options);
    await bench.write(5, 1);
    expect(shoreByte(bench, 5)).toBe(1);
    bench.shore.holdCommits = true;
    const second = write(bench, 5, 2);
    await bench.pass(500);
    expect(second.now).toBe('waits');
    expect(await bench.byteOf(5)).toBe(1);
    bench.shore.holdCommits = false;
    await bench.pass(500);
    expect(second.now).toBe('done');
    expect(shoreByte(bench, 5)).toBe(2);
    expect(await bench.byteOf(5)).toBe(2);
  });

  test('has what overlaps a held write wait for it, and ack in order', async () => {
    const bench = await start({ mode: 'sync' }, options);
    bench.shore.holdCommits = true;
    const first = write(bench, 5, 1, { count: 4 });
    const second = write(bench, 7, 2);
    const other = write(bench, 100, 3);
    await bench.pass(500);
    expect(bench.volume.status().replication.waiting).toBe(2);
    bench.shore.holdCommits = false;
    await bench.pass(1000);
    expect([first.now, second.now, other.now]).toEqual(['done', 'done', 'done']);
    expect(await bench.byteOf(7)).toBe(2);
    expect(shoreByte(bench, 7)).toBe(2);
    expect(shoreByte(bench, 8)).toBe(1);
  });

  test('holds an unmap as it holds a write', async () => {
    const bench = await start({ mode: 'sync' }, options);
    await bench.write(5, 1, 4);
    bench.shore.holdCommits = true;
    const unmap = watch(bench.volume.unmap([{ lba: 5, sectors: 2 }]));
    await bench.pass(500);
    expect(unmap.now).toBe('waits');
    expect(await bench.byteOf(5)).toBe(1);
    bench.shore.holdCommits = false;
    await bench.pass(500);
    expect(unmap.now).toBe('done');
    expect(await bench.byteOf(5)).toBe(0);
    expect(await bench.byteOf(7)).toBe(1);
    expect(bench.shore.blocks.has(5)).toBe(false);
  });

  test('keeps every acked write over the loss of the gateway, at any moment', async () => {
    const bench = await start({ mode: 'sync' }, options);
    const writes: Watched[] = [];
    for (let at = 1; at <= 40; at++) {
      writes.push(write(bench, at % 7, at));
      await bench.pass(at % 3);
      // The gateway could be lost here.
      for (const [index, { now }] of writes.entries())
        if (now === 'done') expect(shoreByte(bench, (index + 1) % 7)).toBeGreaterThanOrEqual(index + 1);
    }
    expect(writes.filter(({ now }) => now === 'done').length).toBeGreaterThan(5);
    expect(writes.filter(({ now }) => now === 'waits').length).toBeGreaterThan(0);
  });

  test('gives a held write one outcome, here and there, when the process dies', async () => {
    const bench = await start({ mode: 'sync' }, options);
    await bench.write(5, 1);
    bench.shore.holdCommits = true;
    write(bench, 5, 2);
    await bench.pass(500);
    bench.crash('process');
    bench.shore.holdCommits = false;
    await bench.start();
    const found = await bench.byteOf(5);
    await bench.flushRemote();
    expect(await bench.byteOf(5)).toBe(found);
    expect(shoreByte(bench, 5)).toBe(found);
  });

  test('survives a power cut with everything it acked, though the log may not have it', async () => {
    const bench = await start({ mode: 'sync' }, options);
    for (let at = 1; at <= 5; at++) await bench.write(at, at);
    bench.crash('power');
    await bench.start();
    for (let at = 1; at <= 5; at++) expect(await bench.byteOf(at)).toBe(at);
  });

  test('flushes at once when nothing is held, and acks writes that are parts of blocks', async () => {
    const bench = await start({ mode: 'sync' }, { ...options, sectorSize: 512 });
    const part = watch(bench.volume.write(3, [Buffer.alloc(512, 7)], { fua: true }));
    await bench.pass(500);
    expect(part.now).toBe('done');
    bench.shore.holdCommits = true;
    expect(flush(bench).now).toBe('waits');
    const after = flush(bench);
    await Promise.resolve();
    await Promise.resolve();
    expect(after.now).toBe('done');
    expect(bench.shore.blocks.get(0)?.subarray(3 * 512, 4 * 512)).toEqual(Buffer.alloc(512, 7));
  });
});

describe('the remote is lost', () => {
  test('block: a sync volume waits as long as it takes, and says so', async () => {
    const bench = await start({ mode: 'sync', onRemoteLoss: 'block' });
    bench.shore.holdCommits = true;
    const held = write(bench, 1, 1);
    await bench.pass(LOSS_MS - 1000);
    expect(bench.volume.status().replication.standing).toBe('in-force');
    await bench.pass(60_000);
    const late = write(bench, 2, 2);
    await bench.pass(100);
    expect(bench.volume.status().replication.standing).toBe('blocked');
    expect([held.now, late.now]).toEqual(['waits', 'waits']);
    bench.shore.holdCommits = false;
    await bench.pass(1000);
    expect([held.now, late.now]).toEqual(['done', 'done']);
    expect(bench.volume.status().replication).toMatchObject({ standing: 'in-force', waiting: 0 });
  });

  test('fail: a sync volume refuses what comes, leaves no trace of it, and holds what is on its way', async () => {
    const bench = await start({ mode: 'sync', onRemoteLoss: 'fail' });
    await bench.write(2, 1);
    bench.shore.holdCommits = true;
    const held = write(bench, 1, 1);
    await bench.pass(LOSS_MS + 100);
    const refused = write(bench, 2, 2);
    const unmap = watch(bench.volume.unmap([{ lba: 2, sectors: 1 }]));
    await bench.pass(100);
    expect([held.now, refused.now, unmap.now]).toEqual(['waits', 'unreplicated', 'unreplicated']);
    expect(bench.volume.status().replication.standing).toBe('failing');
    expect(await bench.byteOf(2)).toBe(1);
    bench.shore.holdCommits = false;
    await bench.pass(500);
    expect(held.now).toBe('done');
    await bench.write(3, 3);
    expect(bench.volume.status().replication.standing).toBe('in-force');
    bench.crash('process');
    await bench.start();
    expect(await bench.byteOf(2)).toBe(1);
    expect(shoreByte(bench, 2)).toBe(1);
  });

  test('degrade: a sync volume acks what the log has, and comes back when all of it is committed', async () => {
    const bench = await start({ mode: 'sync', onRemoteLoss: 'degrade' });
    bench.shore.holdCommits = true;
    const held = write(bench, 1, 1);
    await bench.pass(LOSS_MS + 100);
    expect(held.now).toBe('done');
    await bench.write(2, 2);
    await bench.flush();
    expect(bench.volume.status().replication.standing).toBe('degraded');
    expect(await bench.byteOf(1)).toBe(1);
    // What was acked so is safe from the loss of the power.
    bench.crash('power');
    await bench.start();
    expect(await bench.byteOf(2)).toBe(2);
    expect(bench.volume.status().replication.standing).toBe('catching-up');
    bench.shore.holdCommits = false;
    await bench.pass(1000);
    expect(bench.volume.status().replication.standing).toBe('in-force');
    expect(shoreByte(bench, 2)).toBe(2);
  });

  test('degrade: acks wait for versions again as soon as the far side keeps up, under a load that never ends', async () => {
    const bench = await start({ mode: 'sync', onRemoteLoss: 'degrade' });
    bench.shore.holdCommits = true;
    for (let at = 0; at < 40; at++) {
      write(bench, at, at);
      await bench.pass(500);
    }
    expect(bench.volume.status().replication.standing).toBe('degraded');
    bench.shore.holdCommits = false;
    for (let at = 0; at < 20; at++) {
      write(bench, at, at);
      await bench.pass(100);
    }
    expect(bench.volume.status().replication.standing).toBe('in-force');
    bench.shore.holdCommits = true;
    const held = write(bench, 1, 1);
    await bench.pass(500);
    expect(held.now).toBe('waits');
  });
});

describe('flush', () => {
  test('acks writes when the log has them, and flushes and FUA writes when a version does', async () => {
    const bench = await start({ mode: 'flush' });
    bench.shore.holdCommits = true;
    await bench.write(1, 1);
    expect(await bench.byteOf(1)).toBe(1);
    const flushed = flush(bench);
    const fua = write(bench, 2, 2, { fua: true });
    await bench.pass(500);
    expect([flushed.now, fua.now]).toEqual(['waits', 'waits']);
    bench.shore.holdCommits = false;
    await bench.pass(500);
    expect([flushed.now, fua.now]).toEqual(['done', 'done']);
    expect([shoreByte(bench, 1), shoreByte(bench, 2)]).toEqual([1, 2]);
  });

  test('a flush with nothing new since the last one asks nobody', async () => {
    const bench = await start({ mode: 'flush' });
    await bench.write(1, 1);
    await bench.flush();
    const { n } = bench.shore;
    bench.shore.holdCommits = true;
    await bench.flush();
    expect(bench.shore.n).toBe(n);
  });

  test.each(['fail', 'degrade', 'block'] as const)('%s: while the remote is lost', async (onRemoteLoss) => {
    const bench = await start({ mode: 'flush', onRemoteLoss });
    bench.shore.holdCommits = true;
    await bench.write(1, 1);
    const flushed = flush(bench);
    await bench.pass(LOSS_MS + 100);
    expect(flushed.now).toBe({ fail: 'unreplicated', degrade: 'done', block: 'waits' }[onRemoteLoss]);
    await bench.write(2, 2);
    const second = flush(bench);
    await bench.pass(100);
    expect(second.now).toBe({ fail: 'unreplicated', degrade: 'done', block: 'waits' }[onRemoteLoss]);
    bench.shore.holdCommits = false;
    await bench.pass(5000);
    expect(bench.volume.status().replication.standing).toBe('in-force');
    await bench.write(3, 3);
    await bench.flush();
    expect([1, 2, 3].map((block) => shoreByte(bench, block))).toEqual([1, 2, 3]);
  });
});

describe('another mode while the volume is served', () => {
  test('to sync: what was acked before has to be committed before anything is in force', async () => {
    const bench = await start({ mode: 'async' }, { rpoMs: 600_000 });
    await bench.write(1, 1);
    bench.shore.holdCommits = true;
    bench.volume.setReplication({ mode: 'sync', onRemoteLoss: 'block' });
    expect(bench.volume.status().replication.standing).toBe('catching-up');
    const held = write(bench, 2, 2);
    await bench.pass(100);
    expect(held.now).toBe('waits');
    bench.shore.holdCommits = false;
    await bench.pass(500);
    expect(held.now).toBe('done');
    expect(bench.volume.status().replication.standing).toBe('in-force');
    expect([shoreByte(bench, 1), shoreByte(bench, 2)]).toEqual([1, 2]);
  });

  test.each(['flush', 'async'] as const)('from sync to %s: what is held is acked', async (mode) => {
    const bench = await start({ mode: 'sync' });
    bench.shore.holdCommits = true;
    const held = write(bench, 1, 1);
    await bench.pass(100);
    bench.volume.setReplication({ mode, onRemoteLoss: 'block' });
    await bench.pass(1);
    expect(held.now).toBe('done');
    expect(await bench.byteOf(1)).toBe(1);
    const flushed = flush(bench);
    await bench.pass(100);
    expect(flushed.now).toBe(mode === 'async' ? 'done' : 'waits');
  });
});

describe('taken over while writes are held', () => {
  test('answers what is in the history as done and what cannot get there as failed, and only when that is known', async () => {
    const bench = await start({ mode: 'sync' }, { remoteMs: 20 });
    const committed = write(bench, 1, 1);
    // It is in a version; the answer is on its way when the taker comes.
    await bench.pass(21);
    bench.shore.holdCommits = true;
    const lost = write(bench, 2, 2);
    await bench.pass(5);
    bench.shore.epoch++;
    bench.shore.away = true;
    bench.volume.onFenced('another gateway has it');
    await bench.pass(30_000);
    expect(lost.now).toBe('waits');
    bench.shore.away = false;
    await bench.pass(5_000);
    expect([committed.now, lost.now]).toEqual(['done', 'fenced']);
    expect(shoreByte(bench, 1)).toBe(1);
    expect(shoreByte(bench, 2)).toBe(0);
  });
});

describe('what is fetched while a write of the block is held', () => {
  test('does not come back behind it after a crash', async () => {
    const bench = await start({ mode: 'sync' }, { ramBlocks: 0 });
    await bench.write(5, 1);
    // Another gateway's work: nothing of it is in this log.
    bench.shore.blocks.set(9, Buffer.alloc(BLOCK_SIZE, 4));
    bench.shore.holdCommits = true;
    const held = write(bench, 9, 5);
    await bench.pass(100);
    expect(await bench.byteOf(9)).toBe(4);
    bench.shore.holdCommits = false;
    await bench.pass(500);
    expect(held.now).toBe('done');
    expect(await bench.byteOf(9)).toBe(5);
    bench.crash('process');
    await bench.start();
    expect(await bench.byteOf(9)).toBe(5);
  });
});
