import { describe, expect, it } from 'vitest';
import type { GatewayReport } from '../../../gateway/admin/gateway-api.ts';
import { catalogue, limits, status } from '../../../gateway/admin/show.ts';
import { GIB } from '../../../gateway/base/units.ts';

const NO_READS = { ram: 0, log: 0, missed: 0, hitRatio: undefined };

const CALM: GatewayReport['cache'] = {
  bytes: 20 * GIB,
  usedBytes: GIB,
  dirtyBytes: 0,
  indexBytes: 0,
  ramBytes: 0,
  counts: {
    ramHits: 0,
    fills: 0,
    moved: 0,
    evicted: 0,
    reclaimedChunks: 0,
    readAhead: { fetched: 0, used: 0, wasted: 0 },
  },
  dirtyShare: 0,
  secondsUntilFull: undefined,
  writeDelayMs: 0,
  waitingWrites: 0,
  busyWrites: 0,
  state: 'serving',
};

const LINE = {
  limit: undefined,
  span: undefined,
  default: 'none',
  schedule: {},
  by: 'configuration' as const,
  waiting: 0,
};

function pressureLine(cache: Partial<GatewayReport['cache']>): string | undefined {
  const meter = { getRequests: 0, putRequests: 0, tableRequests: 0, uploadedBytes: 0, downloadedBytes: 0 };
  const report = {
    gateway: 'g',
    version: '0',
    stateDir: '/s',
    portals: ['127.0.0.1:3260'],
    startedAt: 0,
    cache: { ...CALM, ...cache },
    cloud: { reachable: true, detail: 'fine', requests: meter, uploads: LINE, downloads: LINE },
    access: { problems: [] },
    isns: undefined,
    volumes: [],
    salvage: [],
    reads: { ...NO_READS, recent: { ...NO_READS, seconds: 0 } },
    process: {},
  };
  const lines = status(report as unknown as GatewayReport).split('\n'); // of the rest nothing is printed
  return lines.find((line) => line.startsWith('pressure'));
}

describe('the limits of the line', () => {
  it('are told with what makes them so, and what comes when that is over', () => {
    const upload = {
      ...LINE,
      limit: 20e6,
      span: 'Mon-Fri 08:00-18:00',
      schedule: { 'Mon-Fri 08:00-18:00': '20Mbit/s' },
    };
    expect(limits({ upload, download: { ...LINE, limit: 5e6, default: '5Mbit/s', by: 'set' } }).split('\n')).toEqual([
      'upload    20Mbit/s now, by Mon-Fri 08:00-18:00',
      '          Mon-Fri 08:00-18:00: 20Mbit/s',
      '          otherwise: none',
      'download  5Mbit/s now; set until the gateway starts again',
    ]);
    expect(limits({ upload: { ...LINE, limit: 0 }, download: LINE })).toContain('what is written stays here alone');
  });
});

describe('the line of the status about back-pressure', () => {
  it('is not there while little waits for the cloud and the cache does not fill', () => {
    expect(pressureLine({})).toBeUndefined();
    expect(pressureLine({ dirtyShare: 0.2, secondsUntilFull: 200_000 })).toBeUndefined();
  });

  it('tells the share, the time until it is full, and the delay of a write', () => {
    expect(pressureLine({ dirtyShare: 0.75, secondsUntilFull: 150, writeDelayMs: 125 })).toBe(
      'pressure  75 % of the cache waits for the cloud, full in 2 min 30 s if it goes on like this; writes are held back by 125 ms',
    );
  });

  it('tells that it is full, how many writes wait and how many were told BUSY', () => {
    const full = { dirtyShare: 1, secondsUntilFull: 0, writeDelayMs: 2000, waitingWrites: 32, busyWrites: 7 };
    expect(pressureLine(full)).toBe(
      'pressure  100 % of the cache waits for the cloud, it is full; writes are held back by 2.0 s; 32 wait now; 7 writes were told BUSY since the start',
    );
  });

  it('warns while nearly nothing is dirty when the cache would be full within the day', () => {
    expect(pressureLine({ dirtyShare: 0.1, secondsUntilFull: 3600 })).toBe(
      'pressure  10 % of the cache waits for the cloud, full in 1 h 0 min if it goes on like this',
    );
  });
});

describe('the list of volumes', () => {
  it('says where a stored volume is stored, and of one that is served elsewhere nothing', () => {
    const entry = {
      ...{ id: 'v', bytes: GIB, quotaBytes: undefined, owner: 'g', here: true },
      ...{ state: 'serving' as const, purgeAfter: undefined },
    };
    const lines = catalogue([
      { ...entry, name: 'plain', kind: 'stored', image: '/srv/plain.raw' },
      { ...entry, name: 'quick', kind: 'cached', image: undefined },
      { ...entry, name: 'other', kind: undefined, image: undefined, here: false, state: 'elsewhere' },
    ]).split('\n');
    expect(lines.map((line) => line.trim().split(/ {2,}/).at(-1))).toEqual([
      'kind',
      'stored in /srv/plain.raw',
      'cached',
      '-',
    ]);
  });
});
