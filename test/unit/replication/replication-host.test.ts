import { MessageChannel } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import type { Log } from '../../../gateway/base/log.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { portLog } from '../../../gateway/replication/port-log.ts';
import { BoundedTeller, newUnheard } from '../../../gateway/replication/told-bounded.ts';
import { ReplicationHost } from '../../../gateway/replication/replication-host.ts';
import type { LogReader } from '../../../gateway/replication/remote-volume.ts';
import type { ReplicationWorker, WorkerThread } from '../../../gateway/replication/worker-client.ts';
import { connectReplication } from '../../../gateway/replication/worker-client.ts';
import { blockOf, REF, RemoteWorld, volumeItem } from '../../support/remote-world.ts';

/** A worker's two ends in one thread, over a real channel; `crash` is the thread's death. */
function hosted(
  world: RemoteWorld,
  log: Log = silentLog,
  rates?: { readonly upload?: number; readonly download?: number },
): { worker: ReplicationWorker; host: ReplicationHost; crash: (error: Error) => void } {
  const { port1, port2 } = new MessageChannel();
  const reader: LogReader = {
    readBlocks: (places, blocks, _seqs, into) => {
      places.forEach((place, at) => blockOf(blocks[at] ?? 0, place).copy(into, at * 4096));
      return Promise.resolve([]);
    },
  };
  const { store, versions, compression, clock, random } = world;
  const settings = {
    gateway: 'gw',
    host: 'test',
    version: '0',
    shardCacheBytes: 1 << 20,
    frameCacheBytes: 1 << 20,
    ...(rates === undefined ? {} : { rates }),
  };
  const unheard = newUnheard();
  const host = new ReplicationHost(
    { store, versions, reader, compression, clock, random, log: portLog(new BoundedTeller(port2, unheard)) },
    settings,
    port2,
  );
  const onError: ((error: unknown) => void)[] = [];
  const thread: WorkerThread = {
    on: (event: 'error' | 'exit', listener: (argument: never) => void) => {
      if (event === 'error') onError.push(listener as (error: unknown) => void);
      return thread;
    },
    terminate: () => {
      host.close();
      port1.close();
      return Promise.resolve();
    },
  };
  const crash = (error: Error): void => {
    host.close();
    port2.close();
    for (const listener of onError) listener(error);
  };
  return { worker: connectReplication(port1, log, thread, unheard), host, crash };
}

function batch(index: number, block: number, value: number) {
  return {
    index,
    firstSeq: index,
    throughSeq: index,
    blocks: Float64Array.of(block),
    places: Float64Array.of(value),
    seqs: Float64Array.of(index),
    unmaps: new Float64Array(0),
    newestWriteAt: 1,
  };
}

const OPEN = { ref: REF, takeover: true, gateway: 'gw', lastEpoch: 0, logId: 'log' };

describe('replication behind a message port', () => {
  it('hosts volumes whose answers are what the engine gives, with buffers that are Buffers', async () => {
    const world = new RemoteWorld();
    const { worker } = hosted(world);
    const volume = worker.openVolume(() => undefined);
    const opened = await volume.open(OPEN);
    expect(Buffer.isBuffer(opened.item.naa)).toBe(true);
    expect(await Promise.all([volume.commit(batch(1, 5, 50)), volume.commit(batch(2, 6, 60))])).toMatchObject([
      { n: 2 },
      { n: 3 },
    ]);
    const { data, present } = await volume.read(4, 3);
    expect([...present]).toEqual([0, 1, 1]);
    expect(data.equals(Buffer.concat([blockOf(5, 50), blockOf(6, 60)]))).toBe(true);
    expect(await volume.mapped(5, 9)).toEqual({ mapped: true, count: 2 });
    expect(await volume.nextMapped(0, 9)).toEqual({ blocks: [5, 6] });
    expect(await volume.nextMapped(7, 9)).toBeUndefined();
    expect((await volume.status()).committedN).toBe(3);
    const [newest] = await worker.table.listVersions(REF.volume, 3, 1);
    expect(Buffer.isBuffer(newest?.chain) && newest.chain.length).toBe(32);
    expect((await worker.store.list('lineages/', 10)).objects.length).toBeGreaterThan(0);
    await worker.close();
  });

  it('serves volumes of several threads from the cache log of each, under one lease, and outlives one that ends', async () => {
    const world = new RemoteWorld();
    const { worker, host } = hosted(world);
    const { port1, port2 } = new MessageChannel();
    // The other thread's log has other content at the same places.
    host.serve(port2, {
      readBlocks: (places, blocks, _seqs, into) => {
        places.forEach((place, at) => blockOf(blocks[at] ?? 0, place + 1).copy(into, at * 4096));
        return Promise.resolve([]);
      },
    });
    const thread: WorkerThread = { on: () => thread, terminate: () => Promise.resolve() };
    const other = connectReplication(port1, silentLog, thread);
    const ref = { ...REF, volume: 'other' };
    await worker.table.createVolume({ ...volumeItem(1 << 20), ...ref, name: 'other' });
    const [here, there] = [worker.openVolume(() => undefined), other.openVolume(() => undefined)];
    await Promise.all([here.open(OPEN), there.open({ ...OPEN, ref })]);
    await Promise.all([here.commit(batch(1, 5, 50)), there.commit(batch(1, 5, 50))]);
    expect((await here.read(5, 1)).data.equals(blockOf(5, 50))).toBe(true);
    expect((await there.read(5, 1)).data.equals(blockOf(5, 51))).toBe(true);
    await other.close();
    expect((await here.commit(batch(2, 6, 60))).n).toBe(3);
    await worker.close();
    port1.close();
  });

  it('carries the kinds of failures across, and fences through the lease', async () => {
    const world = new RemoteWorld();
    const { worker } = hosted(world);
    const fenced: FarshoreError[] = [];
    const volume = worker.openVolume((error) => fenced.push(error));
    await expect(volume.read(0, 1)).rejects.toMatchObject({ kind: 'stopped' });
    await expect(volume.open({ ...OPEN, ref: { ...REF, volume: 'none' } })).rejects.toMatchObject({
      kind: 'not-found',
    });
    await volume.close();
    const again = worker.openVolume((error) => fenced.push(error));
    await again.open(OPEN);
    await world.gateway('taker').open();
    while (fenced.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(fenced).toHaveLength(1);
    expect(fenced[0]).toBeInstanceOf(FarshoreError);
    await expect(again.commit(batch(1, 1, 1))).rejects.toMatchObject({ kind: 'fenced' });
    await worker.close();
  });

  it('rejects everything under way with retry when the worker dies, says so, and stays dead', async () => {
    const world = new RemoteWorld();
    const { worker, crash } = hosted(world);
    const volume = worker.openVolume(() => undefined);
    await volume.open(OPEN);
    world.faults.before = (request) => (request.startsWith('put ') ? new Promise<void>(() => undefined) : undefined);
    const commit = volume.commit(batch(1, 1, 1));
    crash(new Error('out of memory'));
    await expect(commit).rejects.toMatchObject({ kind: 'retry' });
    await expect(volume.read(0, 1)).rejects.toMatchObject({ kind: 'retry' });
    expect((await worker.crashed).message).toContain('out of memory');
    await volume.close();
    world.faults.before = () => undefined;
    // A new worker takes over with a new epoch, also from itself.
    const next = hosted(world).worker;
    expect((await next.openVolume(() => undefined).open({ ...OPEN, takeover: false })).epoch).toBe(2);
    await next.close();
  });

  it('uploads nothing while that is paused, but takes volumes over and renews the lease; then all of it', async () => {
    const world = new RemoteWorld();
    const { worker } = hosted(world, silentLog, { upload: 0 });
    const volume = worker.openVolume(() => undefined);
    await volume.open(OPEN);
    const puts = (): number => world.requests.filter((request) => request.startsWith('put ')).length;
    const before = puts();
    const commits = Promise.all([volume.commit(batch(1, 5, 50)), volume.commit(batch(2, 6, 60))]);
    while ((await worker.waiting()).upload === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(puts()).toBe(before);
    expect((await volume.status()).committedN).toBe(1);
    await worker.limit('upload', undefined);
    expect(await commits).toMatchObject([{ n: 2 }, { n: 3 }]);
    expect(await worker.waiting()).toEqual({ upload: 0, download: 0 });
    await worker.close();
  });

  it('ends also while uploads are paused', async () => {
    const world = new RemoteWorld();
    const { worker } = hosted(world, silentLog, { upload: 0 });
    const volume = worker.openVolume(() => undefined);
    await volume.open(OPEN);
    const commit = volume.commit(batch(1, 5, 50));
    commit.catch(() => undefined);
    while ((await worker.waiting()).upload === 0) await new Promise((resolve) => setImmediate(resolve));
    await worker.close();
    await expect(commit).rejects.toMatchObject({ kind: 'stopped' });
  });

  it('rejects what is under way with stopped when it is closed', async () => {
    const world = new RemoteWorld();
    const { worker } = hosted(world);
    const volume = worker.openVolume(() => undefined);
    await volume.open(OPEN);
    world.faults.before = (request) => (request.startsWith('put ') ? new Promise<void>(() => undefined) : undefined);
    const commit = volume.commit(batch(1, 1, 1));
    commit.catch(() => undefined);
    await worker.close();
    await expect(commit).rejects.toMatchObject({ kind: 'stopped' });
    await expect(volume.status()).rejects.toMatchObject({ kind: 'stopped' });
  });

  it('writes the log of the worker into that of its owner', async () => {
    const world = new RemoteWorld();
    const lines: { fields: object; message: string }[] = [];
    const log: Log = { ...silentLog, warn: (fields, message) => lines.push({ fields, message }), child: () => log };
    const { worker } = hosted(world, log);
    world.faults.before = (request) => {
      if (request.startsWith('beat')) throw new FarshoreError('retry', 'no route');
    };
    while (lines.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(lines[0]).toMatchObject({ message: 'the lease could not be renewed', fields: { err: { kind: 'retry' } } });
    await worker.close();
  });
});
