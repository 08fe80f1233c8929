import { parentPort, workerData } from 'node:worker_threads';
import { systemClock, systemRandom } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import { NodeDisk } from '../base/node-disk.ts';
import { collectAtRest } from '../base/rest-collection.ts';
import { standBack } from '../base/thread-priority.ts';
import { openLogReader } from '../cache/log-reader.ts';
import { createAwsClients } from '../cloud/aws-clients.ts';
import { Circuit } from '../cloud/circuit.ts';
import { DynamoVersionLog } from '../cloud/dynamo-version-log.ts';
import { S3ObjectStore } from '../cloud/s3-object-store.ts';
import { loadCompression } from '../format/compression.ts';
import { portLog } from './port-log.ts';
import { ReplicationHost } from './replication-host.ts';
import { BoundedTeller } from './told-bounded.ts';
import { watchMain } from './watch-main.ts';
import type { WorkerSettings } from './worker-settings.ts';

/** Entry of the replication worker thread: the only place of this half where real clients and files are made. */
invariant(parentPort !== null, 'the replication worker runs in a thread of its own');
const port = parentPort;
const settings = workerData as WorkerSettings; // as startReplicationWorker passes it
// What initiators wait for is the other threads' work.
if (settings.standsBack !== false) standBack();
const clients = createAwsClients(settings.cloud);
const tools = { clock: systemClock, random: systemRandom };
const circuits = {
  s3: new Circuit(tools.clock, tools.random),
  dynamodb: new Circuit(tools.clock, tools.random),
};
const host = new ReplicationHost(
  {
    ...tools,
    circuits: () => ({ s3: circuits.s3.report, dynamodb: circuits.dynamodb.report }),
    store: new S3ObjectStore({
      ...tools,
      circuit: circuits.s3,
      client: clients.s3,
      bucket: settings.cloud.bucket,
      place: clients.s3Place,
    }),
    versions: new DynamoVersionLog({
      ...tools,
      circuit: circuits.dynamodb,
      client: clients.dynamo,
      table: settings.cloud.table,
      place: clients.dynamoPlace,
    }),
    reader: openLogReader(new NodeDisk(settings.stateDir)),
    compression: await loadCompression(),
    log: portLog(new BoundedTeller(port, settings.unheard)),
  },
  settings,
  port,
);
// The thread ends when nothing is left to wait for.
port.once('close', collectAtRest(systemClock));
// In the turn in which the host began to listen, so that no answer is missed.
if (settings.watchMain === true) watchMain(port);
for (const link of settings.links ?? []) host.serve(link.port, openLogReader(new NodeDisk(link.stateDir)));
