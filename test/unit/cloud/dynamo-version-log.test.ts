import { DeleteItemCommand, GetItemCommand, PutItemCommand, UpdateItemCommand } from '@aws-sdk/client-dynamodb';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemRandom } from '../../../gateway/base/clock.ts';
import type { Clock } from '../../../gateway/base/clock.ts';
import { createAwsClients } from '../../../gateway/cloud/aws-clients.ts';
import type { AwsClients } from '../../../gateway/cloud/aws-clients.ts';
import { MAX_ATTEMPTS } from '../../../gateway/cloud/cloud-call.ts';
import { DynamoVersionLog } from '../../../gateway/cloud/dynamo-version-log.ts';
import { TABLE, startLocalCloud } from '../../support/local-cloud.ts';
import type { LocalCloud } from '../../support/local-cloud.ts';
import {
  dynamoError,
  hangUp,
  hastyClock,
  json,
  neverAnswer,
  startScriptedServer,
} from '../../support/scripted-server.ts';
import type { ScriptedServer } from '../../support/scripted-server.ts';

const REF = { lineage: 'l', volume: 'v' };
const VERSION = { n: 7, epoch: 2, record: Buffer.from('r'), chain: Buffer.alloc(32), inline: Buffer.alloc(0) };

describe('on a service that misbehaves', () => {
  let server: ScriptedServer;
  let clients: AwsClients;
  beforeAll(async () => {
    server = await startScriptedServer();
  });
  afterEach(() => {
    clients.close();
  });
  afterAll(() => server.close());

  function log(clock: Clock = hastyClock()): DynamoVersionLog {
    const { endpoint } = server;
    clients = createAwsClients({ region: 'us-east-1', s3Endpoint: endpoint, dynamodbEndpoint: endpoint }, {});
    return new DynamoVersionLog({
      client: clients.dynamo,
      table: 'office',
      place: endpoint,
      clock,
      random: systemRandom,
    });
  }
  const put = () => log().putVersion('v', VERSION, 2);

  it.each(['ProvisionedThroughputExceededException', 'ThrottlingException', 'RequestLimitExceeded'])(
    'repeats a conditional write that was refused with %s',
    async (name) => {
      server.script(dynamoError(400, name), dynamoError(400, name), json({}));
      expect(await put()).toBe('ok');
      expect(server.received).toHaveLength(3);
    },
  );

  it.each([
    ['a lost response', hangUp],
    ['InternalServerError', dynamoError(500, 'InternalServerError')],
  ])('never repeats a conditional write after %s: it could take its own success for a conflict', async (_, failure) => {
    server.script(failure, dynamoError(400, 'ConditionalCheckFailedException'));
    await expect(put()).rejects.toMatchObject({ kind: 'retry' });
    expect(server.received).toHaveLength(1);
    server.script(failure, dynamoError(400, 'ConditionalCheckFailedException'));
    await expect(log().raiseEpoch(REF, 1, 2, 'g')).rejects.toMatchObject({ kind: 'retry' });
    expect(server.received).toHaveLength(1);
  });

  it('repeats a read after anything that passes, and then gives up', async () => {
    server.script(hangUp, dynamoError(500, 'InternalServerError'), dynamoError(400, 'ThrottlingException'), json({}));
    expect(await log().getVersion('v', 1)).toBeUndefined();
    server.script(hangUp);
    await expect(log().getVersion('v', 1)).rejects.toMatchObject({ kind: 'retry' });
    expect(server.received).toHaveLength(MAX_ATTEMPTS);
  });

  it('does not wait for ever', async () => {
    server.script(neverAnswer);
    await expect(log(hastyClock(true)).getVersion('v', 1)).rejects.toMatchObject({
      kind: 'retry',
      message: expect.stringContaining('no answer from') as string,
    });
  });

  it('asks for strongly consistent reads everywhere', async () => {
    server.script(json({}));
    await log().getVolume(REF);
    await log().getVersion('v', 1);
    await log().resolveName('n');
    server.script(json({}));
    await log().getVolume(REF);
    expect(JSON.parse(server.received[0]?.body.toString() ?? '{}')).toMatchObject({ ConsistentRead: true });
    for (const read of [() => log().listVersions('v', 1, 5), () => log().listNames()]) {
      server.script(json({ Items: [] }));
      await read();
      expect(JSON.parse(server.received[0]?.body.toString() ?? '{}')).toMatchObject({ ConsistentRead: true });
    }
  });

  it.each([
    [400, 'ResourceNotFoundException', /table office does not exist at http:.*cloud\.table/],
    [400, 'AccessDeniedException', /access to table office is denied/],
    [400, 'UnrecognizedClientException', /does not know the access key/],
    [400, 'ValidationException', /about ValidationException/],
  ])('turns %i %s into a sentence that says what to mend', async (status, name, sentence) => {
    server.script(dynamoError(status, name));
    await expect(put()).rejects.toMatchObject({ kind: 'input', message: expect.stringMatching(sentence) as string });
    expect(server.received).toHaveLength(1);
  });

  it('deletes what a batch left undone', async () => {
    const undone = { DeleteRequest: { Key: { pk: { S: 'log#v' }, sk: { S: '0000000000000002' } } } };
    server.script(json({ UnprocessedItems: { office: [undone] } }), json({}));
    await log().deleteVersions('v', [1, 2, 2]);
    expect(server.received).toHaveLength(2);
    const asked = server.received.map(({ body }) => {
      const { RequestItems } = JSON.parse(body.toString()) as { RequestItems: { office: unknown[] } };
      return RequestItems.office.length;
    });
    expect(asked).toEqual([2, 1]);
  });

  it('goes on over a page that is empty but not the last', async () => {
    const key = { pk: { S: 'log#v' }, sk: { S: '0000000000000001' } };
    server.script(json({ Items: [], LastEvaluatedKey: key }), json({ Items: [] }));
    expect(await log().listVersions('v', 1, 5)).toEqual([]);
    expect(server.received).toHaveLength(2);
    expect(JSON.parse(server.received[1]?.body.toString() ?? '{}')).toMatchObject({ ExclusiveStartKey: key });
  });

  it('lists names over all pages', async () => {
    const item = (name: string) => ({
      pk: { S: 'names' },
      sk: { S: name },
      format: { N: '1' },
      lineage: { S: 'l' },
      volume: { S: name },
    });
    server.script(
      json({ Items: [item('a')], LastEvaluatedKey: { pk: { S: 'names' }, sk: { S: 'a' } } }),
      json({ Items: [item('b')] }),
    );
    expect((await log().listNames()).map(({ name }) => name)).toEqual(['a', 'b']);
  });

  it('makes a heartbeat of one request', async () => {
    server.script(json({ Attributes: {} }));
    await log().beat({ gateway: 'g', at: 1, host: '', version: '', volumes: 0, dirtyBlocks: 0 });
    expect(server.received).toHaveLength(1);
  });
});

describe('on items that are not as they should be', () => {
  let local: LocalCloud;
  beforeAll(async () => {
    local = await startLocalCloud();
  });
  afterAll(() => local.close());

  const versionKey = { pk: { S: 'log#v' }, sk: { S: '0000000000000007' } };
  async function damageVersion(
    expression: string,
    attribute: string,
    values: Record<string, { N: string } | { S: string }>,
  ): Promise<void> {
    const log = local.log;
    await log.deleteVersions('v', [7]);
    await log.putVersion('v', VERSION, 2);
    await local.clients.dynamo.send(
      new UpdateItemCommand({
        TableName: TABLE,
        Key: versionKey,
        UpdateExpression: expression,
        ExpressionAttributeNames: { '#a': attribute },
        ...(Object.keys(values).length > 0 && { ExpressionAttributeValues: values }),
      }),
    );
  }

  it.each([
    ['an unknown format', 'SET #a = :x', 'format', { ':x': { N: '2' } }, /format 2; this Farshore knows 1/],
    ['a missing record', 'REMOVE #a', 'record', {}, /attribute record is missing/],
    ['a chain of another type', 'SET #a = :x', 'chain', { ':x': { S: 'x' } }, /attribute chain/],
    ['a negative epoch', 'SET #a = :x', 'epoch', { ':x': { N: '-1' } }, /attribute epoch/],
    ['a broken epoch', 'SET #a = :x', 'epoch', { ':x': { N: '1.5' } }, /attribute epoch/],
  ])('refuses a version with %s', async (_, expression, attribute, values, sentence) => {
    await damageVersion(expression, attribute, values);
    const damaged = { kind: 'damaged', message: expect.stringMatching(sentence) as string };
    await expect(local.log.getVersion('v', 7)).rejects.toMatchObject(damaged);
    await expect(local.log.listVersions('v', 1, 10)).rejects.toMatchObject(damaged);
  });

  it('refuses an item in the log that is no version', async () => {
    const Item = { pk: { S: 'log#w' }, sk: { S: 'x' } };
    await local.clients.dynamo.send(new PutItemCommand({ TableName: TABLE, Item }));
    await expect(local.log.listVersions('w', 1, 10)).rejects.toMatchObject({ kind: 'damaged' });
  });

  it('skips number ranges that are in the ledger although the counter is behind, as after a restore of the table', async () => {
    const ref = { lineage: 'restored', volume: 'v' };
    for (let range = 0; range < 3; range += 1) await local.log.allocateNumbers(ref, 1, 10);
    const Key = { pk: { S: 'lineage#restored' }, sk: { S: 'numbers' } };
    await local.clients.dynamo.send(new DeleteItemCommand({ TableName: TABLE, Key }));
    expect(await local.log.allocateNumbers(ref, 2, 10)).toEqual({ from: 31, to: 41 });
  });

  it('enters every range in the ledger, with volume and epoch', async () => {
    const { from, to } = await local.log.allocateNumbers({ lineage: 'ledger', volume: 'v' }, 9, 300);
    const Key = { pk: { S: 'lineage#ledger' }, sk: { S: 'range#000000001' } };
    const { Item } = await local.clients.dynamo.send(new GetItemCommand({ TableName: TABLE, Key }));
    expect(Item).toMatchObject({
      volume: { S: 'v' },
      epoch: { N: '9' },
      from: { N: String(from) },
      to: { N: String(to) },
    });
  });

  it('ends a lineage when its 36 bits are used up', async () => {
    const ref = { lineage: 'full', volume: 'v' };
    await local.log.allocateNumbers(ref, 1, 2 ** 36 - 1);
    await expect(local.log.allocateNumbers(ref, 1, 1)).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining('used up its segment numbers') as string,
    });
  });
});
