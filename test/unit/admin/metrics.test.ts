import { describe, expect, it } from 'vitest';
import type { GatewayReport, ReadsReport, VolumeReport } from '../../../gateway/admin/gateway-api.ts';
import { metricsText } from '../../../gateway/admin/metrics.ts';
import { status, volume } from '../../../gateway/admin/show.ts';
import { newPass } from '../../../gateway/volume/scrub-pass.ts';

const READS: ReadsReport = {
  ...{ ram: 60, log: 30, missed: 10, hitRatio: 0.9 },
  recent: { ram: 5, log: 5, missed: 10, hitRatio: 0.5, seconds: 600 },
};
const NOTHING = { checked: 0, found: 0, repaired: 0, unrepairable: 0 };

const USED = {
  ...{ writtenBytes: 4 * 1024 ** 2, sentBytes: 1024 ** 2, fetchedBytes: 512 * 1024 },
  requests: { s3Put: 7, s3Get: 3, s3Other: 2, dynamoWrite: 9, dynamoRead: 1 },
};

const OFFICE: VolumeReport = {
  ...{
    name: 'office',
    id: 'v1',
    bytes: 1024 ** 3,
    sectorSize: 4096,
    replication: 'async',
    acks: undefined,
    target: 'iqn.x:office',
  },
  ...{
    state: 'serving',
    reason: undefined,
    epoch: 3,
    committedN: 17,
    committedAt: 5000,
    lagSeconds: 1.5,
    lagBytes: 8192,
  },
  ...{ hydration: undefined, stored: undefined, quota: undefined, sessions: 2, reads: READS, thread: 0 },
  standing: { state: 'lagging', rpoSeconds: 1, targetMissed: true, drainSeconds: 2.5 },
  usage: {
    ...USED,
    ...{ coalescing: 4, storedBytes: 5 * 1024 ** 3 },
    day: { ...USED, coalescing: 4, seconds: 86_400 },
    monthlyCost: { total: 1.25, requests: 1, transfer: 0.125, storage: 0.125 },
  },
  scrub: {
    local: { ...newPass(900_000), completedBefore: 600_000, checked: 512, position: 512 },
    ...{ remote: null, running: 'local', total: 262_144, bytesPerSecond: 1024 ** 2 },
    sinceOpen: { local: { checked: 1024, found: 3, repaired: 2, unrepairable: 1 }, remote: NOTHING },
  },
  access: { mode: 'open', maps: 0, inTable: true, problem: undefined },
};
/** Not open: of its data nothing is known. */
const CLOSED: VolumeReport = {
  ...OFFICE,
  ...{ name: 'closed', state: 'opening', reason: 'the cloud is away', bytes: 0, scrub: undefined, reads: undefined },
  ...{ standing: undefined, usage: undefined },
};

const UNLIMITED: GatewayReport['cloud']['uploads'] = {
  ...{ limit: undefined, span: undefined, default: 'none', schedule: {}, by: 'configuration', waiting: 0 },
};

const REPORT: GatewayReport = {
  ...{ gateway: 'a "b"\\c', version: '1.2.3', stateDir: '/s', portals: ['127.0.0.1:3260'], startedAt: 2500 },
  cache: {
    ...{ bytes: 1000, usedBytes: 500, dirtyBytes: 100, indexBytes: 1, ramBytes: 1, dirtyShare: 0.25, writeDelayMs: 3 },
    ...{ secondsUntilFull: undefined, waitingWrites: 4, busyWrites: 6, state: 'serving' },
    counts: {
      ...{ ramHits: 60, fills: 256, moved: 2, evicted: 512, reclaimedChunks: 4 },
      readAhead: { fetched: 256, used: 200, wasted: 16 },
    },
  },
  cloud: {
    ...{ reachable: undefined, detail: 'not asked yet', uploads: UNLIMITED, downloads: UNLIMITED },
    requests: {} as GatewayReport['cloud']['requests'], // nobody here looks at them
    circuits: {
      s3: { state: 'open', since: 1_700_000_000_000, reason: 'it is "away"', openings: 1, failures: 7 },
      dynamodb: { state: 'closed', since: 1_600_000_000_000, reason: undefined, openings: 0, failures: 2 },
    },
  },
  ...{ access: { problems: [] }, isns: undefined, salvage: [], volumes: [OFFICE, CLOSED], reads: READS },
  process: {} as GatewayReport['process'], // the same
};

/** The text format of Prometheus, a line at a time. */
const LINE =
  /^(# HELP [a-z_]+ [^\n]+|# TYPE [a-z_]+ (counter|gauge)|[a-z_]+(\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\})? -?\d+(\.\d+)?(e[+-]?\d+)?)$/;

describe('metrics of a status', () => {
  const text = metricsText(REPORT);
  const lines = text.trimEnd().split('\n');

  it('are in the text format of Prometheus, each family once, counters named as such', () => {
    expect(lines.filter((line) => !LINE.test(line))).toEqual([]);
    const types = lines.filter((line) => line.startsWith('# TYPE ')).map((line) => line.split(' '));
    expect(new Set(types.map(([, , name]) => name)).size).toBe(types.length);
    for (const [, , name = '', kind] of types)
      expect([name, kind === 'counter']).toEqual([name, name.endsWith('_total')]);
  });

  it('say what the scrubs have found, of open volumes alone', () => {
    expect(lines.filter((line) => line.startsWith('farshore_scrub_'))).toEqual([
      'farshore_scrub_checked_blocks_total{volume="office",side="local"} 1024',
      'farshore_scrub_checked_blocks_total{volume="office",side="remote"} 0',
      'farshore_scrub_found_blocks_total{volume="office",side="local"} 3',
      'farshore_scrub_found_blocks_total{volume="office",side="remote"} 0',
      'farshore_scrub_repaired_blocks_total{volume="office",side="local"} 2',
      'farshore_scrub_repaired_blocks_total{volume="office",side="remote"} 0',
      'farshore_scrub_unrepairable_blocks_total{volume="office",side="local"} 1',
      'farshore_scrub_unrepairable_blocks_total{volume="office",side="remote"} 0',
      'farshore_scrub_unrepairable_blocks{volume="office",side="local"} 0',
      'farshore_scrub_last_complete_timestamp_seconds{volume="office",side="local"} 600',
      'farshore_scrub_running{volume="office",side="local"} 1',
      'farshore_scrub_running{volume="office",side="remote"} 0',
      'farshore_scrub_bytes_per_second{volume="office",side="local"} 1048576',
      'farshore_scrub_bytes_per_second{volume="office",side="remote"} 0',
    ]);
  });

  it('say which service is asked by probes alone, since when', () => {
    expect(lines.filter((line) => line.startsWith('farshore_cloud_'))).toEqual([
      'farshore_cloud_circuit_open{service="s3"} 1',
      'farshore_cloud_circuit_open{service="dynamodb"} 0',
      'farshore_cloud_circuit_since_seconds{service="s3"} 1700000000',
      'farshore_cloud_circuit_since_seconds{service="dynamodb"} 1600000000',
      'farshore_cloud_circuit_openings_total{service="s3"} 1',
      'farshore_cloud_circuit_openings_total{service="dynamodb"} 0',
      'farshore_cloud_failed_attempts_total{service="s3"} 7',
      'farshore_cloud_failed_attempts_total{service="dynamodb"} 2',
    ]);
  });

  it('are an alarm when the target is missed', () => {
    expect(OFFICE.reason).toBeUndefined();
    expect(lines).toContain('farshore_volume_alarm{volume="office"} 1');
    expect(lines).toContain('farshore_volume_serving{volume="office"} 1');
  });

  it('say how replication stands, what was saved and what it costs, of open volumes alone', () => {
    const told = lines.filter((line) => /^farshore_(volume_(repl|target|drain|sent|coal|cloud|month)|line)/.test(line));
    expect(told).toEqual([
      'farshore_line_waiting_transfers{direction="upload"} 0',
      'farshore_line_waiting_transfers{direction="download"} 0',
      ...['synced', 'lagging', 'catching-up', 'degraded', 'blocked', 'fenced'].map(
        (state) =>
          `farshore_volume_replication_state{volume="office",mode="async",state="${state}"} ${Number(state === 'lagging')}`,
      ),
      'farshore_volume_target_seconds{volume="office"} 1',
      'farshore_volume_target_missed{volume="office"} 1',
      'farshore_volume_drain_seconds{volume="office"} 2.5',
      'farshore_volume_sent_bytes_total{volume="office"} 1048576',
      'farshore_volume_coalescing_ratio{volume="office"} 4',
      ...['s3Put"} 7', 's3Get"} 3', 's3Other"} 2', 'dynamoWrite"} 9', 'dynamoRead"} 1'].map(
        (kind) => `farshore_volume_cloud_requests_total{volume="office",kind="${kind}`,
      ),
      'farshore_volume_monthly_cost_dollars{volume="office"} 1.25',
    ]);
  });

  it('escape what stands in labels, and leave out what is not known', () => {
    expect(lines).toContain('farshore_info{gateway="a \\"b\\"\\\\c",version="1.2.3"} 1');
    expect(text).not.toContain('cloud_reachable');
    expect(lines).toContain('farshore_volume_read_blocks_total{volume="office",source="missed"} 10');
    expect(lines.filter((line) => line.includes('"closed"'))).toEqual([
      'farshore_volume_serving{volume="closed"} 0',
      'farshore_volume_alarm{volume="closed"} 1',
    ]);
  });
});

describe('status for people', () => {
  it('has the hit ratio, fills, evictions, read-ahead and scrubs', () => {
    const told = status(REPORT);
    expect(told).toContain(
      'reads     50.0 % from the cache in the last 10 min; 90.0 % in all (RAM 240 KiB, disk 120 KiB, fetched 40.0 KiB)',
    );
    expect(told).toContain(
      'fills     1.00 MiB filled in, 8.00 KiB moved on, 2.00 MiB evicted; read-ahead 1.00 MiB, 800 KiB used, 64.0 KiB unused',
    );
    expect(told).toContain(
      'scrub     cache 4.00 MiB checked, 3 damaged, 2 repaired, 1 not repairable; S3 0 checked, 0 damaged, 0 repaired, 0 not repairable; office: local runs at 1.00 MiB/s',
    );
    expect(told).toMatch(/^office .* 50\.0 % /m);
  });

  it('says of a service that is away since when, and why', () => {
    const told = status(REPORT).split('\n');
    expect(told.filter((line) => line.startsWith('circuit'))).toEqual([
      'circuit   S3 open: nothing has succeeded since 2023-11-14 22:13:20 UTC; it is "away"',
    ]);
  });

  it('has how replication stands, what coalescing saves, and what a month costs', () => {
    const told = status(REPORT);
    expect(told).toMatch(/^office +1\.00 GiB +serving +async, lagging +8\.00 KiB, 1\.5 s, drained in 2\.5 s /m);
    expect(told).toMatch(/^office .* 4\.00:1 +\$1\.25 /m);
    expect(told).toContain('office: the target of 1.0 s is missed: the oldest write that no version has is 1.5 s old');
    const shown = volume(OFFICE).split('\n');
    expect(shown).toContain('standing     lagging; target 1.0 s, missed');
    expect(shown).toContain(
      'traffic      4.00 MiB written, 1.00 MiB sent (4.00:1), 512 KiB fetched in the last 24 h 0 min (7 PUT, 3 GET, 2 other S3 requests, 9 table writes, 1 table reads); 4.00 MiB written, 1.00 MiB sent (4.00:1), 512 KiB fetched since it was opened',
    );
    expect(shown).toContain('in S3        5.00 GiB, history included');
    expect(shown).toContain(
      'cost         about $1.25 a month if it goes on like this: requests $1.00, transfer $0.13, storage $0.13 (list prices of us-east-1, 2026-11)',
    );
    const standing = { state: 'lagging', rpoSeconds: 1, targetMissed: true, drainSeconds: undefined } as const;
    expect(volume({ ...OFFICE, standing })).toContain('8.00 KiB, 1.5 s, nothing is committed');
  });
});
