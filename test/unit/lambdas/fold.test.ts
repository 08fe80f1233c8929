import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { systemClock, systemRandom } from '../../../gateway/base/clock.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { createAwsClients } from '../../../gateway/cloud/aws-clients.ts';
import type { AwsClients } from '../../../gateway/cloud/aws-clients.ts';
import { DynamoVersionLog } from '../../../gateway/cloud/dynamo-version-log.ts';
import { S3ObjectStore } from '../../../gateway/cloud/s3-object-store.ts';
import type { EmbeddedCloud } from '../../../gateway/embedded/embedded-cloud.ts';
import { startEmbeddedCloud } from '../../../gateway/embedded/embedded-cloud.ts';
import { loadCompression } from '../../../gateway/format/compression.ts';
import { RemoteVolumeEngine } from '../../../gateway/replication/remote-volume-engine.ts';
import { handler } from '../../../lambdas/fold.ts';
import { REF, TestGateway, volumeItem } from '../../support/remote-world.ts';

describe('the fold handler', () => {
  let dir = '';
  let cloud: EmbeddedCloud;
  let clients: AwsClients;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'farshore-fold-'));
    const place = { bucket: 'bucket', table: 'table' };
    cloud = await startEmbeddedCloud({ dir, s3Port: 0, dynamodbPort: 0, ...place, log: silentLog });
    const { s3Endpoint, dynamodbEndpoint } = cloud;
    clients = createAwsClients({ region: 'us-east-1', s3Endpoint, dynamodbEndpoint });
    vi.stubEnv('FARSHORE_BUCKET', place.bucket);
    vi.stubEnv('FARSHORE_TABLE', place.table);
    vi.stubEnv('AWS_REGION', 'us-east-1');
    vi.stubEnv('AWS_ENDPOINT_URL_S3', s3Endpoint);
    vi.stubEnv('AWS_ENDPOINT_URL_DYNAMODB', dynamodbEndpoint);
    // One line of log on stdout is expected, not shown.
    vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  });

  afterAll(async () => {
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
    clients.close();
    await cloud.close();
    await rm(dir, { recursive: true });
  });

  it(
    'folds the log of the volume that the event names, beside the gateway that writes it',
    { timeout: 60_000 },
    async () => {
      const tools = { clock: systemClock, random: systemRandom };
      const store = new S3ObjectStore({ ...tools, client: clients.s3, bucket: 'bucket', place: clients.s3Place });
      const versions = new DynamoVersionLog({
        ...tools,
        client: clients.dynamo,
        table: 'table',
        place: clients.dynamoPlace,
      });
      await versions.createVolume(volumeItem(2 ** 30));
      const gateway = new TestGateway(
        (reader) =>
          new RemoteVolumeEngine({ ...tools, store, versions, reader, compression: rawOrZstd, log: silentLog }),
        'gw',
      );
      await gateway.open();
      await gateway.commit({
        writes: [
          [1, 1],
          [2, 2],
          [70_000, 3],
        ],
        unmaps: [[100, 50]],
      });
      expect(await handler({ ...REF })).toEqual({
        skipped: false,
        n: 2,
        versionsFolded: 2,
        shardsRewritten: 0,
        runs: 1,
      });
      expect((await versions.getVolume(REF))?.checkpoint?.n).toBe(2);
      await gateway.commit({ writes: [[2, 9]] });
      expect(await handler({ ...REF })).toMatchObject({ n: 3, versionsFolded: 1 });
      expect(await gateway.values(0, 4)).toEqual([0, 1, 9, 0]);
      expect(await gateway.engine.verify()).toMatchObject({ verdict: 'pass', n: 3 });
      await gateway.engine.close();
    },
  );

  it('refuses an event that names no volume', async () => {
    await expect(handler({ volume: '../x' })).rejects.toMatchObject({ kind: 'input' });
  });
});

const rawOrZstd = await loadCompression();
