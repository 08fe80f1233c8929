import { randomBytes } from 'node:crypto';
import { PutItemCommand } from '@aws-sdk/client-dynamodb';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { createAwsClients } from '../gateway/cloud/aws-clients.ts';
import { BUCKET, TABLE } from '../test/support/local-cloud.ts';
import type { CloudPorts } from '../test/support/gateway-process.ts';
import { LatencyHistogram } from './histogram.ts';

export interface BareFigures {
  readonly operations: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** What a put of so many bytes costs with the AWS SDK and nothing else, `depth` at a time: what no synchronous write can go below. */
export async function barePuts(
  { s3Port, dynamodbPort }: CloudPorts,
  service: 's3' | 'dynamodb',
  { bytes, depth, durationMs }: { readonly bytes: number; readonly depth: number; readonly durationMs: number },
): Promise<BareFigures> {
  const clients = createAwsClients({
    region: 'us-east-1',
    s3Endpoint: `http://127.0.0.1:${s3Port}`,
    dynamodbEndpoint: `http://127.0.0.1:${dynamodbPort}`,
  });
  const body = randomBytes(bytes);
  const run = randomBytes(8).toString('hex');
  let next = 0;
  const put = async (): Promise<void> => {
    next += 1;
    const name = `bare-${run}-${next}`;
    if (service === 's3') await clients.s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: name, Body: body }));
    else {
      const item = { pk: { S: `bare#${run}` }, sk: { S: name }, inline: { B: body } };
      const condition = 'attribute_not_exists(pk)';
      await clients.dynamo.send(new PutItemCommand({ TableName: TABLE, Item: item, ConditionExpression: condition }));
    }
  };
  try {
    // The first ones make connections, and fetch credentials.
    await Promise.all(Array.from({ length: depth }, put));
    const histogram = new LatencyHistogram();
    const from = performance.now();
    const lane = async (): Promise<void> => {
      for (let now = performance.now(); now - from < durationMs; now = performance.now()) {
        await put();
        histogram.record(performance.now() - now);
      }
    };
    await Promise.all(Array.from({ length: depth }, lane));
    const seconds = (performance.now() - from) / 1000;
    const operations = histogram.count();
    return {
      operations,
      perSecond: operations / seconds,
      p50Ms: histogram.quantileMs(0.5),
      p99Ms: histogram.quantileMs(0.99),
    };
  } finally {
    clients.close();
  }
}
