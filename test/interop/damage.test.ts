import {
  closeSync,
  copyFileSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chunkGeometry, DEFAULT_CHUNK_SLOTS } from '../../gateway/cache/layout.ts';
import { ScsiError, SENSE_KEY } from '../../gateway/initiator/scsi-error.ts';
import { SECTOR, stamped, stampsIn } from '../crash/stamp.ts';
import { connectStamped } from '../crash/stamped-disk.ts';
import { SITE_IQN, startSite, type Site } from '../support/gateway-process.ts';
import { eventually } from '../support/processes.ts';

const MIB = 1024 * 1024;
const BLOCK = 4096;
const BLOCK_SECTORS = BLOCK / SECTOR;
const SECTORS = (2 * MIB) / SECTOR;
const HEADER_COPIES = [0, 2048] as const;
const POOL_STATE_COPIES = [0, 512 * 1024] as const;
/** In the first of its chunk a volume's content lies. */
const SEARCHED_BYTES = 4 * MIB;
/** What a chunk takes. */
const CHUNK_BLOCKS = chunkGeometry(DEFAULT_CHUNK_SLOTS).dataSlots;
const LIMIT_MS = 300_000;
const SPOILT_BLOCKS = [3, 250, 511] as const;

/** A byte that is not what it was. */
function flip(path: string, position: number): void {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, position);
  writeSync(file, Buffer.of(byte.readUInt8(0) ^ 0xff), 0, 1, position);
  closeSync(file);
}

function swap(one: string, other: string): void {
  renameSync(one, `${one}.x`);
  renameSync(other, one);
  renameSync(`${one}.x`, other);
}

type Outcome = 'as it was' | 'from S3' | 'medium error' | 'stopped' | 'last version';

/** A volume whose newest content lies in a chunk that only fillers share with it, and what is done to that chunk. */
interface Case {
  readonly name: string;
  readonly what: string;
  /** In no version yet. */
  readonly isDirty: boolean;
  readonly spoil: (chunk: string) => void;
  readonly outcome: Outcome;
}

const noSpoil = (): void => undefined;
const bothHeaders = (chunk: string): void => {
  for (const at of HEADER_COPIES) flip(chunk, at + 16);
};
const gone = (path: string): void => {
  rmSync(path);
};
const short = (chunk: string): void => {
  truncateSync(chunk, 17 * MIB);
};
const CASES: readonly Case[] = [
  { name: 'ch', what: 'both copies of its header', isDirty: false, spoil: bothHeaders, outcome: 'from S3' },
  { name: 'cg', what: 'the whole file, which is gone', isDirty: false, spoil: gone, outcome: 'from S3' },
  { name: 'cs', what: 'its length', isDirty: false, spoil: short, outcome: 'from S3' },
  { name: 'cx', what: 'its name, swapped with that of another', isDirty: false, spoil: noSpoil, outcome: 'from S3' },
  { name: 'cb', what: 'bytes in the middle', isDirty: false, spoil: noSpoil, outcome: 'from S3' },
  { name: 'dh', what: 'both copies of its header', isDirty: true, spoil: bothHeaders, outcome: 'stopped' },
  { name: 'dg', what: 'the whole file, which is gone', isDirty: true, spoil: gone, outcome: 'stopped' },
  { name: 'ds', what: 'its length', isDirty: true, spoil: short, outcome: 'stopped' },
  { name: 'dx', what: 'its name, swapped with that of another', isDirty: true, spoil: noSpoil, outcome: 'stopped' },
  { name: 'db', what: 'bytes in the middle', isDirty: true, spoil: noSpoil, outcome: 'medium error' },
  {
    name: 'd1',
    what: 'one copy of its header, and one of pool.state',
    isDirty: true,
    spoil: (chunk) => {
      flip(chunk, HEADER_COPIES[0] + 16);
    },
    outcome: 'as it was',
  },
];
/** These have a state file that is damaged, or gone. */
const [STATE_SPOILT, STATE_GONE] = ['js', 'jg'] as const;

describe('files of a gateway that are damaged before it starts', () => {
  let site: Site;
  /** The write whose stamp every sector of the volume has to show. */
  const holds = new Map<string, number>();
  let stamps = 0;
  let startLog = '';

  const cache = (): string => join(site.gateway.stateDirectory, 'cache');
  const kept = (name: string): string => join(site.directory, `kept-${name}`);
  const connect = (name: string) =>
    connectStamped({ target: `${SITE_IQN}:${name}`, host: site.gateway.host, port: site.gateway.port });
  const show = (name: string) => site.gateway.call('volume-show', { name });
  const stateFileOf = new Map<string, string>();

  async function create(name: string, bytes: number): Promise<void> {
    await site.gateway.call('volume-create', { name, bytes, sectorSize: 512, replication: 'async' });
    stateFileOf.set(name, join(site.gateway.stateDirectory, 'volumes', `${(await show(name)).id}.json`));
  }

  async function write(name: string): Promise<void> {
    stamps += 1;
    const initiator = await connect(name);
    await initiator.write(0, stamped(0, SECTORS, stamps));
    await initiator.flush();
    await initiator.close();
    holds.set(name, stamps);
  }

  /** So that the next write is the first in another chunk: so many volumes were written to this one. */
  async function fillChunk(volumes: number): Promise<void> {
    const initiator = await connect('filler');
    await initiator.write(0, Buffer.alloc(CHUNK_BLOCKS * BLOCK - volumes * SECTORS * SECTOR, 0x11));
    await initiator.close();
  }

  /** The file that has the volume's first block as it was written last. */
  function chunkOf(name: string): string {
    const wanted = stamped(0, BLOCK_SECTORS, holds.get(name) ?? 0);
    for (const each of readdirSync(cache())) {
      const path = join(cache(), each);
      if (each.endsWith('.chunk') && positionIn(path, wanted) >= 0) return path;
    }
    throw new Error(`no chunk has volume ${name}`);
  }

  /** Everything it was, each block. */
  async function expectContent(name: string): Promise<void> {
    const initiator = await connect(name);
    expect(new Set(stampsIn(0, await initiator.read(0, SECTORS)))).toEqual(new Set([holds.get(name)]));
    await initiator.close();
  }

  /** A start that must fail; answers what the gateway says. */
  async function refusedStart(): Promise<string> {
    const refused = site.gateway.launch();
    await eventually(
      () => (refused.isRunning() ? undefined : true),
      LIMIT_MS,
      () => 'the gateway started after all',
    );
    expect(refused.exitCode()).not.toBe(0);
    return refused.log();
  }

  beforeAll(async () => {
    site = await startSite({ cacheSize: '2G', ramSize: '16M', rpoSeconds: 1 });
    const dirty = [...CASES.filter(({ isDirty }) => isDirty).map(({ name }) => name), STATE_SPOILT, STATE_GONE];
    const clean = CASES.filter(({ isDirty }) => !isDirty).map(({ name }) => name);
    await create('filler', CHUNK_BLOCKS * BLOCK);
    for (const name of ['whole', ...clean, ...dirty]) await create(name, SECTORS * SECTOR);
    for (const name of ['whole', ...dirty]) await write(name);
    await fillChunk(1 + dirty.length);
    for (const name of clean) {
      await write(name);
      await fillChunk(1);
    }
    for (const name of ['whole', ...clean, ...dirty]) await site.gateway.call('flush', { name });
    const committed = new Map(holds);
    await site.gateway.call('limit', { set: { direction: 'upload', plan: 'pause' } });
    for (const name of dirty) {
      await write(name);
      await fillChunk(1);
    }
    await site.gateway.end('SIGTERM');
    const chunks = new Map([...clean, ...dirty].map((name) => [name, chunkOf(name)]));
    const chunk = (name: string): string => chunks.get(name) ?? '';
    for (const name of ['cb', 'db']) {
      for (const block of SPOILT_BLOCKS) {
        const data = stamped(block * BLOCK_SECTORS, BLOCK_SECTORS, holds.get(name) ?? 0);
        flip(chunk(name), positionIn(chunk(name), data) + 2000);
      }
    }
    for (const { name, spoil } of CASES) spoil(chunk(name));
    swap(chunk('cx'), chunk('dx'));
    flip(join(cache(), 'pool.state'), POOL_STATE_COPIES[1] + 30);
    const spoilt = stateFileOf.get(STATE_SPOILT) ?? '';
    copyFileSync(spoilt, kept(STATE_SPOILT));
    flip(spoilt, 20);
    rmSync(stateFileOf.get(STATE_GONE) ?? '');
    for (const { name, outcome } of CASES) if (outcome === 'stopped') lastVersion.set(name, committed.get(name) ?? 0);
    lastVersion.set(STATE_GONE, committed.get(STATE_GONE) ?? 0);
    await site.gateway.start();
    startLog = site.gateway.log();
  }, LIMIT_MS);
  const lastVersion = new Map<string, number>();
  afterAll(async () => {
    await site.close();
  });

  it('others are served as ever, and the log names what was set aside', async () => {
    await expectContent('whole');
    // Two headers, two lengths, two in the wrong place.
    expect(startLog.match(/a chunk of the cache log has a damaged header and is set aside/g)).toHaveLength(6);
    expect(readdirSync(cache()).filter((each) => each.endsWith('.bad'))).toHaveLength(6);
  });

  it.each(CASES.filter(({ outcome }) => outcome === 'from S3' || outcome === 'as it was'))(
    'a chunk, dirty: $isDirty, $what: nothing is missed ($outcome)',
    async ({ name }) => {
      expect((await show(name)).state).toBe('serving');
      await expectContent(name);
      expect((await show(name)).reason).toBeUndefined();
    },
  );

  it.each(CASES.filter(({ outcome }) => outcome === 'stopped'))(
    'a chunk with what is in no version, $what: the volume is not served with a part of it; a takeover goes on from the last version',
    async ({ name }) => {
      const { state, reason } = await show(name);
      expect(state).toBe('stopped');
      expect(reason).toMatch(/the cache log has lost acked writes .* restore the volume with --takeover/);
      await site.gateway.call('restore', { name });
      holds.set(name, lastVersion.get(name) ?? 0);
      await expectContent(name);
    },
    LIMIT_MS,
  );

  it('bytes in the middle of what is in no version: MEDIUM ERROR for those blocks alone, until they are written again', async () => {
    const reader = await connect('db');
    for (let block = 0; block < SECTORS / BLOCK_SECTORS; block += 1) {
      const sector = block * BLOCK_SECTORS;
      const outcome = await reader.read(sector, BLOCK_SECTORS).catch((error: unknown) => error);
      if (SPOILT_BLOCKS.some((spoilt) => spoilt === block)) {
        expect(outcome).toBeInstanceOf(ScsiError);
        expect(outcome).toMatchObject({ sense: { key: SENSE_KEY.mediumError, asc: 0x11 } });
      } else {
        expect(new Set(stampsIn(sector, outcome as Buffer))).toEqual(new Set([holds.get('db')]));
      }
    }
    expect((await show('db')).reason).toMatch(/block (3|250|511)\b/);
    for (const block of SPOILT_BLOCKS)
      await reader.write(block * BLOCK_SECTORS, stamped(block * BLOCK_SECTORS, BLOCK_SECTORS, holds.get('db') ?? 0));
    await reader.close();
    await expectContent('db');
    expect((await show('db')).reason).toBeUndefined();
  });

  it('a state file that is gone: the last version is served, the log says so, and what is in none is kept in a salvage file', async () => {
    expect(startLog).toMatch(/the state file of the volume is damaged or gone.* kept in a salvage file/);
    holds.set(STATE_GONE, lastVersion.get(STATE_GONE) ?? 0);
    await expectContent(STATE_GONE);
    const salvaged = readdirSync(site.gateway.stateDirectory, { recursive: true, encoding: 'utf8' });
    expect(salvaged.filter((each) => each.includes('salvage'))).not.toEqual([]);
  });

  it(
    'a state file that is damaged: the volume waits for it, and is as it was when it is put back; without pool.state or gateway.json nothing starts at all',
    async () => {
      const { state, reason } = await show(STATE_SPOILT);
      expect(state).toBe('stopped');
      expect(reason).toMatch(/volumes\/.*\.json in the state directory is damaged .*put it back .*--takeover/);
      await site.gateway.end('SIGTERM');
      copyFileSync(kept(STATE_SPOILT), stateFileOf.get(STATE_SPOILT) ?? '');
      const spoilt = async (path: string, spoil: (path: string) => void): Promise<string> => {
        copyFileSync(path, kept('other'));
        spoil(path);
        const told = await refusedStart();
        copyFileSync(kept('other'), path);
        return told;
      };
      const pool = join(cache(), 'pool.state');
      const bothCopies = (): void => {
        for (const at of POOL_STATE_COPIES) flip(pool, at + 30);
      };
      expect(await spoilt(pool, bothCopies)).toMatch(/pool\.state .* is damaged in both of its copies; .*--takeover/);
      expect(await spoilt(pool, gone)).toMatch(/chunks but no pool\.state; put it back/);
      const spoilText = (path: string): void => {
        flip(path, 20);
      };
      expect(await spoilt(join(site.gateway.stateDirectory, 'gateway.json'), spoilText)).toMatch(
        /gateway\.json in the state directory cannot be understood/,
      );
      await site.gateway.start();
      await expectContent(STATE_SPOILT);
      for (const name of holds.keys()) await expectContent(name);
    },
    LIMIT_MS,
  );
});

/** Where the bytes begin among the first of a file; -1: nowhere. */
function positionIn(path: string, wanted: Buffer): number {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(SEARCHED_BYTES);
    return bytes.subarray(0, readSync(file, bytes, 0, SEARCHED_BYTES, 0)).indexOf(wanted);
  } finally {
    closeSync(file);
  }
}
