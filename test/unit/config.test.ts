import { describe, expect, it } from 'vitest';
import { parseSettings } from '../../gateway/config.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';

const good = `
stateDir: /var/lib/farshore
portals: ["127.0.0.1:3260", "[::1]:3261"]
iqn: iqn.2026-11.dev.farshore:office1
cache: { size: 20G, ram: 256M }
cloud:
  region: us-east-1
  bucket: farshore
  table: farshore
  s3Endpoint: http://127.0.0.1:9000
  dynamodbEndpoint: http://127.0.0.1:8000
replication: { rpoSeconds: 5 }
`;

function refusal(text: string): string {
  try {
    parseSettings(text, 'gateway.yaml');
  } catch (error) {
    if (error instanceof FarshoreError && error.kind === 'input') return error.message;
    throw error;
  }
  throw new Error('was accepted');
}

describe('the configuration', () => {
  it('is parsed into frozen settings with sizes in bytes', () => {
    const settings = parseSettings(good, 'gateway.yaml');
    expect(settings).toEqual({
      stateDir: '/var/lib/farshore',
      portals: [
        { host: '127.0.0.1', port: 3260 },
        { host: '::1', port: 3261 },
      ],
      iqn: 'iqn.2026-11.dev.farshore:office1',
      cacheBytes: 20 * 1024 ** 3,
      ramBytes: 256 * 1024 ** 2,
      cloud: {
        region: 'us-east-1',
        bucket: 'farshore',
        table: 'farshore',
        s3Endpoint: 'http://127.0.0.1:9000',
        dynamodbEndpoint: 'http://127.0.0.1:8000',
      },
      rpoSeconds: 5,
      logLevel: 'info',
    });
    expect(Object.isFrozen(settings)).toBe(true);
  });

  it('means AWS when no endpoints are named', () => {
    const aws = good.replace(/ {2}s3Endpoint.*\n {2}dynamodbEndpoint.*\n/, '');
    expect(parseSettings(aws, 'x').cloud).toMatchObject({ s3Endpoint: undefined, dynamodbEndpoint: undefined });
  });

  it.each([
    ['an unknown key', good + 'colour: red\n', 'gateway.yaml: unknown key colour'],
    ['an unknown nested key', good.replace('ram: 256M', 'rom: 256M'), 'unknown key cache.rom'],
    ['a missing key', good.replace(/iqn: .*\n/, ''), 'gateway.yaml: iqn is missing'],
    ['a wrong type', good.replace('rpoSeconds: 5', 'rpoSeconds: soon'), 'replication.rpoSeconds must be a number'],
    ['a bad size', good.replace('20G', '20 bananas'), 'cache.size "20 bananas" is not a size'],
    ['a tiny cache', good.replace('20G', '1M'), 'cache.size must be at least 256M'],
    ['a bad portal', good.replace('127.0.0.1:3260', 'office'), 'portal "office" is not ADDRESS:PORT'],
    ['a bad name', good.replace('iqn.2026-11', 'iqn.26'), 'is not an iSCSI qualified name'],
    ['one endpoint alone', good.replace(/ {2}dynamodbEndpoint.*\n/, ''), 'go together'],
    ['a bad endpoint', good.replace('http://127.0.0.1:9000', 'localhost'), 'cloud.s3Endpoint "localhost" is not a URL'],
    ['no YAML at all', 'a: [', 'gateway.yaml is not valid YAML'],
    ['an empty file', '', 'stateDir is missing'],
  ])('refuses %s with one sentence', (_what, text, sentence) => {
    expect(refusal(text)).toContain(sentence);
  });
});
