import { join } from 'node:path';
import {
  CreateTableCommand,
  DescribeTableCommand,
  ResourceInUseException,
  ResourceNotFoundException,
} from '@aws-sdk/client-dynamodb';
import type { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { sleep, systemClock, systemRandom } from '../base/clock.ts';
import type { Clock, Random } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { lockForThisProcess } from '../base/process-lock.ts';
import { LOCAL_KEY_PAIR, createAwsClients } from '../cloud/aws-clients.ts';
import type { KeyPair } from '../cloud/aws-clients.ts';
import { TABLE_SCHEMA } from '../cloud/table-schema.ts';
import { startDynamoDbServer } from './dynamodb-server.ts';
import type { DynamoDbServer } from './dynamodb-server.ts';
import { S3Error } from './s3-server/s3-error.ts';
import { startS3Server } from './s3-server/server.ts';
import type { S3Server } from './s3-server/server.ts';

export interface EmbeddedCloudOptions {
  /** Everything lies in it; created when missing. */
  readonly dir: string;
  /** 0: any free one. */
  readonly s3Port: number;
  readonly dynamodbPort: number;
  /** Created when missing. */
  readonly bucket: string;
  readonly table: string;
  /** The S3 server then verifies signatures; without it any key pair is accepted. */
  readonly credentials?: KeyPair | undefined;
  readonly log: Log;
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface EmbeddedCloud {
  readonly s3Endpoint: string;
  readonly dynamodbEndpoint: string;
  /** Requests answered so far, by operation. */
  s3Requests(): Readonly<Record<string, number>>;
  dynamodbRequests(): Readonly<Record<string, number>>;
  /** Answers what is under way, then stops. Idempotent. */
  close(): Promise<void>;
}

const REGION = 'us-east-1';

/**
 * Local S3- and DynamoDB-compatible servers on loopback, with bucket and table. One instance per directory.
 * Rejects with `in-use` (directory or port), `input` (directory not writable, bad bucket name).
 */
export async function startEmbeddedCloud(options: EmbeddedCloudOptions): Promise<EmbeddedCloud> {
  const { dir, log, clock = systemClock, random = systemRandom } = options;
  const lock = lockForThisProcess(join(dir, 'lock'), `the embedded cloud's directory ${dir}`);
  let s3: S3Server | undefined;
  let dynamo: DynamoDbServer | undefined;
  const stop = async (): Promise<void> => {
    try {
      await Promise.all([s3?.close(), dynamo?.close()]);
    } finally {
      lock.release();
    }
  };
  try {
    s3 = await startS3Server({
      dir: join(dir, 's3'),
      port: options.s3Port,
      keyPair: options.credentials,
      clock,
      random,
      log: log.child({ part: 's3' }),
    });
    dynamo = await startDynamoDbServer({
      dir: join(dir, 'dynamodb'),
      port: options.dynamodbPort,
      log: log.child({ part: 'dynamodb' }),
    });
    await makeBucket(s3, options.bucket);
    await makeTable(dynamo.endpoint, options.table, clock);
  } catch (error) {
    await stop();
    throw error;
  }
  const [s3Server, dynamoServer] = [s3, dynamo];
  let stopping: Promise<void> | undefined;
  return {
    s3Endpoint: s3Server.endpoint,
    dynamodbEndpoint: dynamoServer.endpoint,
    s3Requests: () => s3Server.requests(),
    dynamodbRequests: () => dynamoServer.requests(),
    close: () => (stopping ??= stop()),
  };
}

async function makeBucket({ files }: S3Server, bucket: string): Promise<void> {
  try {
    await files.createBucket(bucket);
  } catch (error) {
    if (!(error instanceof S3Error)) throw error;
    if (error.code === 'BucketAlreadyOwnedByYou') return;
    throw new FarshoreError('input', `the bucket name ${bucket} is not valid: 3 to 63 of a-z, 0-9, '.' and '-'.`, {
      cause: error,
    });
  }
}

async function makeTable(endpoint: string, table: string, clock: Clock): Promise<void> {
  if (!/^[a-zA-Z0-9_.-]{3,255}$/.test(table))
    throw new FarshoreError(
      'input',
      `the table name ${table} is not valid: 3 to 255 letters, digits, '.', '_' and '-'.`,
    );
  const clients = createAwsClients({
    region: REGION,
    s3Endpoint: endpoint,
    dynamodbEndpoint: endpoint,
    credentials: LOCAL_KEY_PAIR,
  });
  try {
    await createTable(clients.dynamo, table, clock);
  } finally {
    clients.close();
  }
}

/** How often the server is asked whether a table it has just made is ready; it takes a turn of its event loop and one write. */
const READY_POLLS = 500;
const READY_POLL_MS = 10;

/** Resolves when the table can be used: the server answers CreateTable before that. */
async function createTable(client: DynamoDBClient, table: string, clock: Clock): Promise<void> {
  const { partitionKey, sortKey } = TABLE_SCHEMA;
  if ((await tableStatus(client, table)) === undefined) {
    try {
      await client.send(
        new CreateTableCommand({
          TableName: table,
          AttributeDefinitions: [
            { AttributeName: partitionKey, AttributeType: 'S' },
            { AttributeName: sortKey, AttributeType: 'S' },
          ],
          KeySchema: [
            { AttributeName: partitionKey, KeyType: 'HASH' },
            { AttributeName: sortKey, KeyType: 'RANGE' },
          ],
          BillingMode: 'PAY_PER_REQUEST',
        }),
      );
    } catch (error) {
      if (!(error instanceof ResourceInUseException)) throw error;
    }
  }
  for (let poll = 0; (await tableStatus(client, table)) !== 'ACTIVE'; poll += 1) {
    if (poll === READY_POLLS)
      throw new FarshoreError('retry', `the DynamoDB server did not finish making the table ${table}; start it again.`);
    await sleep(clock, READY_POLL_MS);
  }
}

/** undefined: there is no such table. */
async function tableStatus(client: DynamoDBClient, table: string): Promise<string | undefined> {
  try {
    return (await client.send(new DescribeTableCommand({ TableName: table }))).Table?.TableStatus;
  } catch (error) {
    if (error instanceof ResourceNotFoundException) return undefined;
    throw error;
  }
}
