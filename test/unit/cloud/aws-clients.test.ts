import { afterEach, describe, expect, it } from 'vitest';
import { LOCAL_KEY_PAIR, createAwsClients } from '../../../gateway/cloud/aws-clients.ts';
import type { AwsClients, CloudSettings } from '../../../gateway/cloud/aws-clients.ts';
import { decodeCrc32, encodeCrc32 } from '../../../gateway/cloud/crc32-header.ts';

let open: AwsClients[] = [];
afterEach(() => {
  for (const clients of open) clients.close();
  open = [];
});

function clientsOf(settings: Partial<CloudSettings>, environment: Record<string, string> = {}): AwsClients {
  const clients = createAwsClients({ region: 'eu-central-1', ...settings }, environment);
  open.push(clients);
  return clients;
}
const LOCAL = { s3Endpoint: 'http://127.0.0.1:9000', dynamodbEndpoint: 'http://localhost:8000' };

describe('the clients', () => {
  it('need no credentials where both endpoints are on this machine', async () => {
    const { s3, dynamo } = clientsOf(LOCAL);
    expect((await s3.config.credentials()).accessKeyId).toBe(LOCAL_KEY_PAIR.accessKeyId);
    expect((await dynamo.config.credentials()).accessKeyId).toBe(LOCAL_KEY_PAIR.accessKeyId);
  });

  it('prefer the key pair they are given', async () => {
    const credentials = { accessKeyId: 'AKID', secretAccessKey: 'secret', sessionToken: 'token' };
    const { s3 } = clientsOf({ ...LOCAL, credentials });
    expect(await s3.config.credentials()).toMatchObject(credentials);
  });

  it('never send the local key pair elsewhere', () => {
    const { s3 } = clientsOf({ s3Endpoint: 'https://s3.example', dynamodbEndpoint: 'http://127.0.0.1:8000' });
    expect(s3.config.credentials).not.toBe(LOCAL_KEY_PAIR);
  });

  it('use path style with an endpoint of its own and virtual hosts on AWS, and make one attempt per call', async () => {
    expect(clientsOf(LOCAL).s3.config.forcePathStyle).toBe(true);
    const aws = clientsOf({});
    expect(aws.s3.config.forcePathStyle).toBe(false);
    expect(await aws.s3.config.maxAttempts()).toBe(1);
    expect(await aws.dynamo.config.maxAttempts()).toBe(1);
    expect(aws.s3Place).toBe('S3 in eu-central-1');
  });

  it('refuse an endpoint that is no URL', () => {
    expect(() => clientsOf({ ...LOCAL, s3Endpoint: 'localhost:9000' })).toThrow(/is not a URL such as/);
  });
});

describe('the CRC-32 header', () => {
  it('is base64 of four bytes, highest first', () => {
    expect(encodeCrc32(0xcbf43926)).toBe('y/Q5Jg==');
    for (const value of [0, 1, 0xffffffff, 0xcbf43926]) expect(decodeCrc32(encodeCrc32(value))).toBe(value);
  });

  it('is unknown where there is another checksum, or none', () => {
    for (const header of [undefined, '', 'AAAAAA==-3', 'AAAA', 'not base64'])
      expect(decodeCrc32(header)).toBeUndefined();
  });
});
