import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import type { EmbeddedCloud } from '../../../gateway/embedded/embedded-cloud.ts';
import { startEmbeddedCloud } from '../../../gateway/embedded/embedded-cloud.ts';
import type { ReplicationWorker } from '../../../gateway/replication/worker-client.ts';
import { startReplicationWorker } from '../../../gateway/replication/worker-client.ts';
import { REF, volumeItem } from '../../support/remote-world.ts';

/** A batch that needs nothing from the cache log. */
function unmapBatch(index: number) {
  const none = new Float64Array(0);
  return {
    index,
    firstSeq: index,
    throughSeq: index,
    blocks: none,
    places: none,
    seqs: none,
    unmaps: Float64Array.of(10, 5),
    newestWriteAt: 1_800_000_000_000,
  };
}

describe('the replication worker thread, from its TypeScript sources', () => {
  let dir = '';
  let cloud: EmbeddedCloud;
  const workers: ReplicationWorker[] = [];

  const start = (gateway: string): ReplicationWorker => {
    const { s3Endpoint, dynamodbEndpoint } = cloud;
    const worker = startReplicationWorker(
      {
        gateway,
        host: 'test',
        version: '0',
        shardCacheBytes: 1 << 20,
        frameCacheBytes: 1 << 20,
        stateDir: dir,
        cloud: { region: 'us-east-1', s3Endpoint, dynamodbEndpoint, bucket: 'farshore', table: 'farshore' },
      },
      silentLog,
    );
    workers.push(worker);
    return worker;
  };

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'farshore-worker-'));
    cloud = await startEmbeddedCloud({
      dir: join(dir, 'cloud'),
      s3Port: 0,
      dynamodbPort: 0,
      bucket: 'farshore',
      table: 'farshore',
      log: silentLog,
    });
  });

  afterAll(async () => {
    await Promise.all(workers.map((worker) => worker.close()));
    await cloud.close();
    await rm(dir, { recursive: true });
  });

  it('opens, commits and reads; another gateway fences it; errors keep their kind', { timeout: 60_000 }, async () => {
    const first = start('one');
    expect(await first.table.createVolume(volumeItem(2 ** 30))).toBe('ok');
    const fenced: FarshoreError[] = [];
    const volume = first.openVolume((error) => fenced.push(error));
    const opened = await volume.open({ ref: REF, takeover: false, gateway: 'one', lastEpoch: 0, logId: 'log1' });
    expect(opened.epoch).toBe(1);
    expect(Buffer.isBuffer(opened.item.naa)).toBe(true);
    expect(await volume.commit(unmapBatch(1))).toMatchObject({ n: 2, throughSeq: 1 });
    const blocks = await volume.read(8, 4);
    expect(Buffer.isBuffer(blocks.data)).toBe(true);
    expect([...blocks.present]).toEqual([0, 0, 0, 0]);
    expect(await volume.fold()).toMatchObject({ n: 2 });
    expect(await volume.verify()).toMatchObject({ verdict: 'pass', n: 2 });
    expect((await volume.versions(10)).map(({ kind }) => kind)).toEqual(['write', 'takeover']);
    expect((await first.traffic()).s3Put).toBeGreaterThan(0);

    const second = start('two');
    const other = second.openVolume(() => undefined);
    const request = { ref: REF, gateway: 'two', lastEpoch: 0, logId: 'log2' };
    await expect(other.open({ ...request, takeover: false })).rejects.toMatchObject({ kind: 'fenced' });
    expect((await other.open({ ...request, takeover: true })).lastData).toEqual({
      epoch: 1,
      logId: 'log1',
      throughSeq: 1,
    });
    await expect(volume.commit(unmapBatch(2))).rejects.toMatchObject({ kind: 'fenced' });
    expect(fenced.map(({ kind }) => kind)).toEqual(['fenced']);
    await expect(volume.read(0, 1)).rejects.toMatchObject({ kind: 'fenced' });

    await first.close();
    await expect(first.table.listNames()).rejects.toMatchObject({ kind: 'stopped' });
  });
});
