import { describe, expect, test } from 'vitest';
import { recordsOn, spoilDescriptor } from '../../support/log-surgery.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

function outcome(work: void | Promise<void>): Promise<string> {
  return Promise.resolve(work).then(
    () => 'done',
    (error: unknown) => (error instanceof Error && 'kind' in error ? String(error.kind) : String(error)),
  );
}

describe('back-pressure', () => {
  test('makes writes wait while the cache is full of dirty blocks, then tells them to come again', async () => {
    const bench = new VolumeBench({ chunks: 4, maxWaitMs: 5000 });
    await bench.start();
    bench.shore.holdCommits = true;
    const outcomes: string[] = [];
    for (let at = 0; at < 30 && outcomes.at(-1) !== 'busy'; at++) {
      const write = bench.volume.write(at * 100, [Buffer.alloc(100 * 4096, 1)], { fua: false });
      outcomes.push(await bench.settle(outcome(write)));
    }
    expect(outcomes.at(-1)).toBe('busy');
    expect(outcomes.slice(0, -1).every((each) => each === 'done')).toBe(true);
    expect(bench.volume.status().state).toBe('serving');
    // Everything drains once the cloud takes it.
    bench.shore.holdCommits = false;
    await bench.write(3000, 2, 100);
    await bench.flushRemote();
    expect(bench.volume.status().dirtyBlocks).toBe(0);
    expect(await bench.byteOf(3050)).toBe(2);
    expect(await bench.byteOf(50)).toBe(1);
  });

  test('lets waiting writes go on in order when commits make room', async () => {
    const bench = new VolumeBench({ chunks: 4, maxWaitMs: 60_000 });
    await bench.start();
    bench.shore.holdCommits = true;
    const order: number[] = [];
    const writes = Array.from({ length: 40 }, (_, at) =>
      Promise.resolve(bench.volume.write(at * 64, [Buffer.alloc(64 * 4096, at)], { fua: false })).then(() =>
        order.push(at),
      ),
    );
    await bench.pass(3000);
    expect(order.length).toBeLessThan(40);
    expect(bench.cache.status().waitingWrites).toBe(40 - order.length);
    bench.shore.holdCommits = false;
    await bench.settle(Promise.all(writes));
    expect(order).toEqual(Array.from({ length: 40 }, (_, at) => at));
  });

  test('has a volume that is closed refuse the writes that are held back, at once and without a trace', async () => {
    const bench = new VolumeBench({ chunks: 4, maxWaitMs: 60_000 });
    await bench.start();
    bench.shore.holdCommits = true;
    const outcomes = Array.from({ length: 40 }, (_, at) =>
      outcome(bench.volume.write(at * 64, [Buffer.alloc(64 * 4096, 1)], { fua: false })),
    );
    await bench.pass(3000);
    const { waitingWrites } = bench.cache.status();
    expect(waitingWrites).toBeGreaterThan(0);
    const { volume, cache } = bench;
    const from = bench.clock.monotonicMs();
    await bench.settle(volume.close());
    expect(bench.clock.monotonicMs() - from).toBeLessThan(1000);
    expect(cache.status().waitingWrites).toBe(0);
    const all = await bench.settle(Promise.all(outcomes));
    expect(all.filter((each) => each === 'done')).toHaveLength(40 - waitingWrites);
    expect(all.slice(-waitingWrites)).toEqual(Array.from({ length: waitingWrites }, () => 'stopped'));
    bench.shore.holdCommits = false;
    await bench.stop();
    await bench.start();
    expect(await bench.byteOf(3)).toBe(1);
    expect(await bench.byteOf(39 * 64)).toBe(0);
  });

  test('does not keep reads and flushes from being answered', async () => {
    const bench = new VolumeBench({ chunks: 4, maxWaitMs: 60_000 });
    await bench.start();
    bench.shore.holdCommits = true;
    const writes = Array.from({ length: 40 }, (_, at) =>
      outcome(bench.volume.write(at * 64, [Buffer.alloc(64 * 4096, at + 1)], { fua: false })),
    );
    await bench.pass(1000);
    await bench.flush();
    expect(await bench.byteOf(3)).toBe(1);
    bench.shore.holdCommits = false;
    expect(new Set(await bench.settle(Promise.all(writes)))).toEqual(new Set(['done']));
  });
});

describe('a failing disk', () => {
  test('a failed sync stops the volume, and a restart finds what was flushed before', async () => {
    const bench = new VolumeBench();
    await bench.start();
    bench.shore.holdCommits = true;
    await bench.write(1, 1);
    await bench.flush();
    await bench.write(2, 2);
    bench.disk.faults.syncError = 1;
    expect(await bench.settle(outcome(bench.volume.flush()))).toBe('stopped');
    bench.disk.faults.syncError = 0;
    // Nothing is tried again as if nothing had happened.
    expect(await bench.settle(outcome(bench.volume.flush()))).toBe('stopped');
    expect(await bench.settle(outcome(bench.volume.write(3, [Buffer.alloc(4096, 3)], { fua: false })))).toBe('stopped');
    expect(bench.volume.status()).toMatchObject({ state: 'stopped' });
    expect(bench.volume.status().reason).toMatch(/could not make it durable/);
    expect(bench.cache.state.kind).toBe('stopped');
    // What is certain can still be read.
    expect(await bench.byteOf(1)).toBe(1);
    bench.crash('power');
    await bench.start();
    expect(await bench.byteOf(1)).toBe(1);
    expect([0, 2]).toContain(await bench.byteOf(2));
  });

  test('a full disk while the pool grows is put up with: it works with the chunks there are, and says so', async () => {
    const bench = new VolumeBench({ chunks: 12 });
    await bench.start();
    await bench.pass(1000);
    bench.disk.faults.noSpace = 1;
    const before = bench.cache.status().allocatedBytes;
    // Only growing and reclaiming meet the full disk: the log itself is allocated.
    bench.disk.faults.noSpace = 0;
    await bench.write(0, 1, 200);
    bench.disk.faults.noSpace = 1;
    await bench.pass(50);
    bench.disk.faults.noSpace = 0;
    for (let round = 0; round < 8; round++) await bench.write(round * 200, round + 1, 200);
    await bench.flushRemote();
    expect(bench.cache.status().allocatedBytes).toBeGreaterThanOrEqual(before);
    for (let round = 0; round < 8; round++) expect(await bench.byteOf(round * 200 + 7)).toBe(round + 1);
  });

  test('a full disk under the log itself is waited for, and the write is answered when there is space again', async () => {
    const bench = new VolumeBench({ maxWaitMs: 20_000 });
    await bench.start();
    await bench.pass(1000);
    bench.disk.faults.noSpace = 1;
    const write = outcome(bench.volume.write(1, [Buffer.alloc(4096, 1)], { fua: false }));
    await bench.pass(5000);
    bench.disk.faults.noSpace = 0;
    expect(await bench.settle(write)).toBe('done');
    expect(await bench.byteOf(1)).toBe(1);
  });

  test('a disk that stays full stops the log in the end, and nothing acked is lost', async () => {
    const bench = new VolumeBench({ maxWaitMs: 5000 });
    await bench.start();
    await bench.write(1, 1);
    bench.shore.holdCommits = true;
    bench.disk.faults.noSpace = 1;
    expect(await bench.settle(outcome(bench.volume.write(1, [Buffer.alloc(4096, 2)], { fua: false })))).toBe('stopped');
    // Nobody reads what a restart might contradict.
    await expect(bench.byteOf(1)).rejects.toMatchObject({ kind: 'stopped' });
    bench.disk.faults.noSpace = 0;
    bench.crash('process');
    await bench.start();
    expect([1, 2]).toContain(await bench.byteOf(1));
  });

  test('a log that an append has stopped is made durable when it is closed, so that a power cut behind that takes nothing', async () => {
    const bench = new VolumeBench();
    await bench.start();
    bench.shore.holdCommits = true;
    await bench.write(1, 1);
    bench.disk.faults.writeError = 1;
    expect(await bench.settle(outcome(bench.volume.write(2, [Buffer.alloc(4096, 2)], { fua: false })))).toBe('stopped');
    bench.disk.faults.writeError = 0;
    await bench.stop();
    bench.crash('power', { fate: 'lost' });
    await bench.start();
    expect(await bench.byteOf(1)).toBe(1);
  });

  test('a log that a failed sync has stopped is not synced again when it is closed', async () => {
    const bench = new VolumeBench();
    await bench.start();
    bench.shore.holdCommits = true;
    await bench.write(1, 1);
    bench.disk.faults.syncError = 1;
    expect(await bench.settle(outcome(bench.volume.flush()))).toBe('stopped');
    bench.disk.faults.syncError = 0;
    let syncs = 0;
    bench.disk.setProbe({
      begun: ({ kind, path }) => {
        if (kind === 'sync' && path.endsWith('.chunk')) syncs++;
      },
    });
    await bench.stop();
    expect(syncs).toBe(0);
  });

  test('an unmap that failed with the log is not read as done, because a restart may find that it never was', async () => {
    const bench = new VolumeBench({ maxWaitMs: 5000, ramBlocks: 0 });
    await bench.start();
    await bench.write(1, 1, 4);
    await bench.flush();
    bench.disk.faults.noSpace = 1;
    expect(await bench.settle(outcome(bench.volume.unmap([{ lba: 2, sectors: 2 }])))).toBe('stopped');
    for (const block of [2, 3]) await expect(bench.byteOf(block)).rejects.toMatchObject({ kind: 'stopped' });
    expect([await bench.byteOf(1), await bench.byteOf(4)]).toEqual([1, 1]);
    bench.disk.faults.noSpace = 0;
    bench.crash('power');
    await bench.start();
    expect([0, 1]).toContain(await bench.byteOf(2));
    expect(await bench.byteOf(1)).toBe(1);
  });

  test('an unreadable clean block is fetched again; an unreadable dirty one is told as damage and not given up', async () => {
    const bench = new VolumeBench({ ramBlocks: 0 });
    await bench.start();
    await bench.write(1, 1);
    await bench.flushRemote();
    bench.shore.holdCommits = true;
    await bench.write(2, 2);
    bench.disk.faults.readError = 1;
    expect(await bench.byteOf(1)).toBe(1);
    await expect(bench.byteOf(2)).rejects.toMatchObject({ kind: 'damaged' });
    bench.disk.faults.readError = 0;
    expect(await bench.byteOf(2)).toBe(2);
  });
});

describe('a backlog of dirty blocks', () => {
  test('takes no more memory than it may, and everything is replicated in order all the same', async () => {
    const bench = new VolumeBench({ chunks: 8, ramBlocks: 0, heldBlocks: 40, rpoMs: 100 });
    await bench.start();
    bench.shore.holdCommits = true;
    const bytes = new Map<number, number>();
    const write = async (block: number, fill: number, count: number): Promise<void> => {
      await bench.write(block, fill, count);
      for (let at = 0; at < count; at++) bytes.set(block + at, fill);
    };
    for (let i = 0; i < 60; i++) {
      await write(i * 10, i + 1, 15);
      if (i % 9 === 4) {
        await bench.settle(Promise.resolve(bench.volume.unmap([{ lba: i * 10 - 3, sectors: 5 }])));
        for (let at = 0; at < 5; at++) bytes.set(i * 10 - 3 + at, 0);
      }
      expect(bench.volume.status().heldBlocks).toBeLessThanOrEqual(40 + 15);
    }
    // Not even a start, which finds all of it, holds more.
    bench.crash('process');
    await bench.start();
    expect(bench.volume.status().heldBlocks).toBeLessThanOrEqual(40 + 15);
    expect(bench.volume.status().dirtyBlocks).toBeGreaterThan(500);
    bench.shore.holdCommits = false;
    await write(3, 200, 1);
    await bench.flushRemote();
    expect(bench.volume.status()).toMatchObject({ dirtyBlocks: 0, lagSeconds: 0, heldBlocks: 0 });
    for (const [block, fill] of bytes) expect([block, bench.shore.blocks.get(block)?.[0] ?? 0]).toEqual([block, fill]);
    const { batches } = bench.shore;
    expect(batches.length).toBeGreaterThan(10);
    batches.forEach(({ firstSeq }, at) => {
      expect(firstSeq).toBe((batches[at - 1]?.throughSeq ?? 0) + 1);
    });
  });

  test('of which the log has lost a write is replicated up to there and no further', async () => {
    const bench = new VolumeBench({ chunks: 8, ramBlocks: 0, heldBlocks: 8, chunkSlots: 384 });
    await bench.start();
    bench.shore.holdCommits = true;
    for (let seq = 1; seq <= 40; seq++) await bench.write(seq, seq);
    const lost = recordsOn(bench.disk, 384).find(({ seq }) => seq === 30);
    if (lost === undefined) throw new Error('there is no write 30');
    spoilDescriptor(bench.disk, lost);
    bench.shore.holdCommits = false;
    await expect(bench.flushRemote()).rejects.toMatchObject({ kind: 'damaged' });
    expect(bench.volume.status()).toMatchObject({ state: 'serving' });
    expect(bench.volume.status().replicationProblem).toMatch(/lost write 30.*--takeover/);
    expect(bench.shore.batches.at(-1)?.throughSeq).toBe(29);
  });
});

describe('a volume that was taken over', () => {
  test('stops reading and writing when a commit says so', async () => {
    const bench = new VolumeBench();
    await bench.start();
    await bench.write(1, 1);
    bench.shore.epoch++;
    await expect(bench.flushRemote()).rejects.toMatchObject({ kind: 'fenced' });
    expect(bench.volume.status().state).toBe('fenced');
    await expect(bench.byteOf(1)).rejects.toMatchObject({ kind: 'fenced' });
    expect(await bench.settle(outcome(bench.volume.write(1, [Buffer.alloc(4096, 2)], { fua: false })))).toBe('fenced');
    expect(await bench.settle(outcome(bench.volume.flush()))).toBe('fenced');
  });

  test('stops when the lease says so', async () => {
    const bench = new VolumeBench();
    await bench.start();
    await bench.write(1, 1);
    bench.volume.onFenced('epoch 7 belongs to other');
    expect(bench.volume.status().reason).toMatch(/epoch 7 belongs to other/);
    await expect(bench.byteOf(1)).rejects.toMatchObject({ kind: 'fenced' });
  });
});

describe('the cloud away', () => {
  test('keeps the volume from opening until it is back, and loses nothing', async () => {
    const bench = new VolumeBench();
    await bench.start();
    bench.shore.holdCommits = true;
    await bench.write(1, 1);
    bench.crash('process');
    bench.shore.away = true;
    await expect(bench.start()).rejects.toMatchObject({ kind: 'retry' });
    bench.crash('process');
    bench.shore.away = false;
    await bench.start();
    expect(await bench.byteOf(1)).toBe(1);
  });

  test('fails reads of blocks that only the remote has, and the next attempt asks anew', async () => {
    const bench = new VolumeBench();
    bench.shore.blocks.set(9, Buffer.alloc(4096, 9));
    await bench.start();
    bench.shore.away = true;
    await expect(bench.byteOf(9)).rejects.toMatchObject({ kind: 'retry' });
    bench.shore.away = false;
    expect(await bench.byteOf(9)).toBe(9);
  });
});

describe('lag', () => {
  test('is the age and size of what no version has, and nothing when all is committed', async () => {
    const bench = new VolumeBench({ rpoMs: 4000 });
    await bench.start();
    expect(bench.volume.status()).toMatchObject({ lagSeconds: 0, lagBytes: 0 });
    bench.shore.holdCommits = true;
    await bench.write(1, 1, 3);
    await bench.pass(3000);
    await bench.write(2, 2, 3);
    await bench.pass(7000);
    const { lagSeconds, lagBytes } = bench.volume.status();
    expect(lagSeconds).toBeGreaterThan(9.9);
    expect(lagSeconds).toBeLessThan(10.5);
    expect(lagBytes).toBe(4 * 4096);
    bench.crash('process');
    await bench.start();
    expect(bench.volume.status().lagSeconds).toBeGreaterThan(9);
    expect(bench.volume.status().lagBytes).toBe(4 * 4096);
    bench.shore.holdCommits = false;
    await bench.flushRemote();
    expect(bench.volume.status()).toMatchObject({ lagSeconds: 0, lagBytes: 0 });
  });

  test('seals half the RPO target after the first write, and an idle volume does nothing at all', async () => {
    const bench = new VolumeBench({ rpoMs: 4000 });
    await bench.start();
    await bench.write(1, 1);
    await bench.pass(1900);
    expect(bench.shore.batches).toHaveLength(0);
    await bench.pass(200);
    expect(bench.shore.batches).toHaveLength(1);
    const { n } = bench.shore;
    expect(await bench.clock.run({ untilMs: bench.clock.monotonicMs() + 3_600_000 })).toBe('idle');
    expect(bench.shore.n).toBe(n);
  });
});
