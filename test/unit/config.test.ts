import { describe, expect, it } from 'vitest';
import { limitAt } from '../../gateway/base/rate-plan.ts';
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
      limitPlans: { upload: { otherwise: undefined, spans: [] }, download: { otherwise: undefined, spans: [] } },
      rpoSeconds: 5,
      remoteLossSeconds: 10,
      scrub: {
        enabled: true,
        localBytesPerSecond: 20 * 1024 ** 2,
        remoteBytesPerSecond: 5 * 1024 ** 2,
        intervalMs: 7 * 24 * 3_600_000,
      },
      limits: {},
      logLevel: 'info',
      threads: 1,
    });
    expect(Object.isFrozen(settings)).toBe(true);
  });

  it('takes how fast and how often to scrub, and not to', () => {
    const text = `${good}scrub: { enabled: false, localRate: 1M, remoteRate: 64K, interval: 12h }\n`;
    expect(parseSettings(text, 'gateway.yaml').scrub).toEqual({
      enabled: false,
      localBytesPerSecond: 1024 ** 2,
      remoteBytesPerSecond: 64 * 1024,
      intervalMs: 12 * 3_600_000,
    });
  });

  it('means AWS when no endpoints are named', () => {
    const aws = good.replace(/ {2}s3Endpoint.*\n {2}dynamodbEndpoint.*\n/, '');
    expect(parseSettings(aws, 'x').cloud).toMatchObject({ s3Endpoint: undefined, dynamodbEndpoint: undefined });
  });

  it('takes portals with what initiators are told instead of them, an iSNS server, a key file and limits', () => {
    const text = good
      .replace(
        /portals: .*\n/,
        'portals: ["[::1]:3260", { address: "10.1.1.5:3260", advertise: "203.0.113.9" }, { address: "0.0.0.0:3261", advertise: ["[2001:db8::9]:3300", "198.51.100.7:3301"] }]\n',
      )
      .concat(
        'isns: { server: "isns.example.com" }\naccess: { keyFile: /secure/farshore.key }\nlimits: { maxConnections: 99, maxLoginsPerAddress: 9 }\n',
      );
    expect(parseSettings(text, 'gateway.yaml')).toMatchObject({
      portals: [
        { host: '::1', port: 3260 },
        { host: '10.1.1.5', port: 3260, advertise: [{ host: '203.0.113.9', port: 3260 }] },
        {
          host: '0.0.0.0',
          port: 3261,
          advertise: [
            { host: '2001:db8::9', port: 3300 },
            { host: '198.51.100.7', port: 3301 },
          ],
        },
      ],
      isns: { host: 'isns.example.com', port: 3205 },
      accessKeyFile: '/secure/farshore.key',
      limits: { maxConnections: 99, maxLogins: undefined, maxLoginsPerAddress: 9 },
    });
  });

  it('has limits for both directions, over the week', () => {
    const text = good.replace(
      'replication:',
      '  uploadLimit: { default: none, schedule: { "Mon-Fri 08:00-18:00": 20Mbit/s } }\n  downloadLimit: 5Mbit/s\nreplication:',
    );
    const { upload, download } = parseSettings(text, 'gateway.yaml').limitPlans;
    expect(limitAt(upload, 600).limit).toBe(20e6);
    expect(limitAt(upload, 0).limit).toBeUndefined();
    expect(download).toEqual({ otherwise: 5e6, spans: [] });
    expect(parseSettings(good, 'gateway.yaml').limitPlans.upload).toEqual({ otherwise: undefined, spans: [] });
  });

  it('has a proxy, or none on purpose, and the absolute path of certificates', () => {
    const cloud = (line: string) =>
      parseSettings(good.replace('replication:', `${line}\nreplication:`), 'gateway.yaml').cloud;
    expect(cloud('  proxy: http://proxy:3128')).toMatchObject({ proxy: 'http://proxy:3128', caFile: undefined });
    expect(cloud('  proxy: none').proxy).toBe('none');
    expect(cloud('  caFile: /etc/ssl/company.pem').caFile).toBe('/etc/ssl/company.pem');
  });

  it('gives one thread or several, whose ports and shares of the cache there must be', () => {
    expect(parseSettings(good, 'gateway.yaml').threads).toBe(1);
    const apart = good.replace('3261', '3270');
    expect(parseSettings(`${apart}threads: 4\n`, 'gateway.yaml').threads).toBe(4);
    expect(refusal(`${apart}threads: 17\n`)).toContain('threads must be at most 16');
    expect(refusal(`${apart.replace('20G', '512M')}threads: 4\n`)).toContain('256M for each of 4 threads');
    expect(refusal(`${apart.replace('ram: 256M', 'ram: 32M')}threads: 4\n`)).toContain('16M for each of 4 threads');
    expect(refusal(`${good.replace('[::1]:3261', '127.0.0.1:3263')}threads: 4\n`)).toContain(
      'ports 3260 to 3263 of 127.0.0.1, one for each of 4 threads, which 127.0.0.1:3263 lies among',
    );
    expect(refusal(`${apart.replace('127.0.0.1:3260', '127.0.0.1:65534')}threads: 4\n`)).toContain('none above 65535');
  });

  it.each([
    ['an unknown key', good + 'colour: red\n', 'gateway.yaml: unknown key colour'],
    ['an unknown nested key', good.replace('ram: 256M', 'rom: 256M'), 'unknown key cache.rom'],
    ['a missing key', good.replace(/iqn: .*\n/, ''), 'gateway.yaml: iqn is missing'],
    [
      'an upload limit without a unit',
      good.replace('replication:', '  uploadLimit: 200M\nreplication:'),
      'cloud.uploadLimit "200M" is not a rate; write it like 200Mbit/s',
    ],
    [
      'a proxy that is none, without showing its password',
      good.replace('replication:', '  proxy: socks5://me:secret@proxy:1080\nreplication:'),
      'gateway.yaml: cloud.proxy is not the URL of an HTTP proxy; write it like http://proxy.example:3128',
    ],
    [
      'an overlapping schedule',
      good.replace(
        'replication:',
        '  uploadLimit: { schedule: { "Mon-Fri 08:00-18:00": none, "Fri 17:00-19:00": 1Mbit/s } }\nreplication:',
      ),
      'gateway.yaml: cloud.uploadLimit.schedule: "Mon-Fri 08:00-18:00" and "Fri 17:00-19:00" overlap on Fri 17:00',
    ],
    [
      'a limit that is no limit',
      good.replace('replication:', '  downloadLimit: [1]\nreplication:'),
      'cloud.downloadLimit must be like 200Mbit/s, or { default: none, schedule: { "Mon-Fri 08:00-18:00": 20Mbit/s } }',
    ],
    [
      'a pause of downloads',
      good.replace('replication:', '  downloadLimit: pause\nreplication:'),
      'cloud.downloadLimit cannot be "pause"',
    ],
    ['a scrub too slow', `${good}scrub: { remoteRate: 1K }\n`, 'scrub.remoteRate must be at least 64K'],
    ['a scrub too often', `${good}scrub: { interval: 1min }\n`, 'scrub.interval must be at least 1 h'],
    ['no length of time', `${good}scrub: { interval: often }\n`, 'write it like 30min, 12h or 7d'],
    ['a wrong type', good.replace('rpoSeconds: 5', 'rpoSeconds: soon'), 'replication.rpoSeconds must be a number'],
    ['a bad size', good.replace('20G', '20 bananas'), 'cache.size "20 bananas" is not a size'],
    ['a tiny cache', good.replace('20G', '1M'), 'cache.size must be at least 256M'],
    ['a bad portal', good.replace('127.0.0.1:3260', 'office'), 'portal "office" is not ADDRESS:PORT'],
    [
      'a bad advertised address',
      good.replace('"127.0.0.1:3260"', '{ address: "127.0.0.1:3260", advertise: x }'),
      '"x" is not ADDRESS:PORT',
    ],
    [
      'an advertised address with a zone',
      good.replace('"127.0.0.1:3260"', '{ address: "[fe80::1%eth0]:3260", advertise: "[fe80::1%eth0]:3260" }'),
      'without a zone',
    ],
    [
      'an advertised port that is none',
      good.replace('"127.0.0.1:3260"', '{ address: "127.0.0.1:0", advertise: "10.0.0.1" }'),
      'cannot be advertised',
    ],
    [
      'a portal of another form',
      good.replace('"127.0.0.1:3260"', '{ host: a }'),
      'portals.0 must be like 127.0.0.1:3260',
    ],
    ['a bad iSNS server', `${good}isns: { server: "a b" }\n`, 'isns.server "a b" is not HOST'],
    ['a bad limit', `${good}limits: { maxConnections: 0 }\n`, 'limits.maxConnections must be at least 1'],
    ['a bad name', good.replace('iqn.2026-11', 'iqn.26'), 'is not an iSCSI qualified name'],
    ['one endpoint alone', good.replace(/ {2}dynamodbEndpoint.*\n/, ''), 'go together'],
    ['a bad endpoint', good.replace('http://127.0.0.1:9000', 'localhost'), 'cloud.s3Endpoint "localhost" is not a URL'],
    ['no YAML at all', 'a: [', 'gateway.yaml is not valid YAML'],
    ['an empty file', '', 'stateDir is missing'],
  ])('refuses %s with one sentence', (_what, text, sentence) => {
    expect(refusal(text)).toContain(sentence);
  });
});
