import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import { silentLog } from '../../gateway/base/log.ts';
import type { Log } from '../../gateway/base/log.ts';
import { createAwsClients } from '../../gateway/cloud/aws-clients.ts';
import type { AwsClients, KeyPair } from '../../gateway/cloud/aws-clients.ts';
import { DynamoVersionLog } from '../../gateway/cloud/dynamo-version-log.ts';
import { S3ObjectStore } from '../../gateway/cloud/s3-object-store.ts';
import { startEmbeddedCloud } from '../../gateway/embedded/embedded-cloud.ts';
import type { EmbeddedCloud } from '../../gateway/embedded/embedded-cloud.ts';

export const BUCKET = 'farshore';
export const TABLE = 'farshore';

export interface LocalCloud {
  readonly dir: string;
  readonly cloud: EmbeddedCloud;
  readonly clients: AwsClients;
  readonly store: S3ObjectStore;
  readonly log: DynamoVersionLog;
  /** Stops it and removes the directory. */
  close(): Promise<void>;
}

/** An embedded cloud on free ports in a directory of its own, with the real adapters on it. */
export async function startLocalCloud(credentials?: KeyPair, log: Log = silentLog): Promise<LocalCloud> {
  const dir = await mkdtemp(join(tmpdir(), 'farshore-cloud-'));
  const cloud = await startEmbeddedCloud({
    dir,
    s3Port: 0,
    dynamodbPort: 0,
    bucket: BUCKET,
    table: TABLE,
    credentials,
    log,
  });
  const { s3Endpoint, dynamodbEndpoint } = cloud;
  const clients = createAwsClients({ region: 'us-east-1', s3Endpoint, dynamodbEndpoint, credentials }, {});
  return {
    dir,
    cloud,
    clients,
    ...adaptersOn(clients, BUCKET, TABLE),
    close: async () => {
      clients.close();
      await cloud.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export function adaptersOn(clients: AwsClients, bucket: string, table: string) {
  const tools = { clock: systemClock, random: systemRandom };
  return {
    store: new S3ObjectStore({ ...tools, client: clients.s3, bucket, place: clients.s3Place }),
    log: new DynamoVersionLog({ ...tools, client: clients.dynamo, table, place: clients.dynamoPlace }),
  };
}
