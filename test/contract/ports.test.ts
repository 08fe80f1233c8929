import { createAwsClients } from '../../gateway/cloud/aws-clients.ts';
import { meteredObjectStore, meteredVersionLog, newMeter } from '../../gateway/cloud/metered.ts';
import { SimClock } from '../sim/sim-clock.ts';
import { SimCloud } from '../sim/sim-cloud.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { adaptersOn, startLocalCloud } from '../support/local-cloud.ts';
import { objectStoreContract } from './object-store.contract.ts';
import { versionLogContract } from './version-log.contract.ts';

/**
 * The same suites against every implementation. To run them against AWS or another service as well, name what may be written to:
 * FARSHORE_TEST_S3_BUCKET (and FARSHORE_TEST_S3_ENDPOINT), FARSHORE_TEST_DYNAMODB_TABLE (and FARSHORE_TEST_DYNAMODB_ENDPOINT),
 * FARSHORE_TEST_REGION; credentials come from the environment.
 */
const environment = process.env;
const nothing = (): Promise<void> => Promise.resolve();

objectStoreContract('the SDK on the embedded server', async () => {
  const local = await startLocalCloud();
  return { store: meteredObjectStore(local.store, newMeter()), close: () => local.close() };
});

objectStoreContract('the SDK on the embedded server, with signatures verified', () =>
  startLocalCloud({ accessKeyId: 'office1', secretAccessKey: 'a secret/with+signs' }),
);

versionLogContract('the SDK on the embedded server', async () => {
  const local = await startLocalCloud();
  return { log: meteredVersionLog(local.log, newMeter()), close: () => local.close() };
});

const simulated = () => new SimCloud(new SimClock(new SimRandom('contract')), new SimRandom('contract'));

objectStoreContract('the simulation', () =>
  Promise.resolve({ store: simulated().connectAtOnce().store, close: nothing }),
);

versionLogContract('the simulation', () => Promise.resolve({ log: simulated().connectAtOnce().log, close: nothing }));

const elsewhere = (bucket: string, table: string) => {
  const clients = createAwsClients({
    region: environment['FARSHORE_TEST_REGION'] ?? 'us-east-1',
    s3Endpoint: environment['FARSHORE_TEST_S3_ENDPOINT'],
    dynamodbEndpoint: environment['FARSHORE_TEST_DYNAMODB_ENDPOINT'],
  });
  const close = (): Promise<void> => {
    clients.close();
    return nothing();
  };
  return Promise.resolve({ ...adaptersOn(clients, bucket, table), close });
};

const { FARSHORE_TEST_S3_BUCKET: otherBucket, FARSHORE_TEST_DYNAMODB_TABLE: otherTable } = environment;
if (otherBucket !== undefined) objectStoreContract(`bucket ${otherBucket}`, () => elsewhere(otherBucket, ''));
if (otherTable !== undefined) versionLogContract(`table ${otherTable}`, () => elsewhere('', otherTable));
