import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { createAwsClients } from '../../gateway/cloud/aws-clients.ts';
import { DynamoVersionLog } from '../../gateway/cloud/dynamo-version-log.ts';
import { S3ObjectStore } from '../../gateway/cloud/s3-object-store.ts';
import { loadCompression } from '../../gateway/format/compression.ts';
import type { MaintenanceDeps } from '../../gateway/maintenance/maintenance-deps.ts';
import { ENV_BUCKET, ENV_TABLE } from '../env.ts';
import { jsonLog } from './json-log.ts';

/** What maintenance works with inside a Lambda: clients from the function's role, bucket and table from its environment. */
export async function makeMaintenance(): Promise<MaintenanceDeps> {
  const tools = { clock: systemClock, random: systemRandom };
  const clients = createAwsClients({
    region: required('AWS_REGION'),
    s3Endpoint: process.env['AWS_ENDPOINT_URL_S3'],
    dynamodbEndpoint: process.env['AWS_ENDPOINT_URL_DYNAMODB'],
  });
  const bucket = required(ENV_BUCKET);
  const table = required(ENV_TABLE);
  return {
    ...tools,
    store: new S3ObjectStore({ ...tools, client: clients.s3, bucket, place: clients.s3Place }),
    versions: new DynamoVersionLog({ ...tools, client: clients.dynamo, table, place: clients.dynamoPlace }),
    compression: await loadCompression(),
    log: jsonLog(),
  };
}

function required(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '')
    throw new FarshoreError('input', `the environment variable ${name} is not set.`);
  return value;
}
