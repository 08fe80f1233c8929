import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SENSE_KEY } from '../../gateway/initiator/scsi-error.ts';
import { connectStamped } from '../crash/stamped-disk.ts';
import { startSite, type Site } from '../support/gateway-process.ts';

const BLOCK = 4096;
const BLOCKS = 512;
const VOLUME_BYTES = 8 * 1024 * 1024;
const LIMIT_MS = 180_000;

let site: Site;

beforeAll(async () => {
  // The smallest RAM tier: what is on the disk is read from there after a restart.
  site = await startSite({ cacheSize: '256M', ramSize: '16M', rpoSeconds: 1 });
}, LIMIT_MS);
afterAll(async () => {
  await site.close();
});

/** Content that no other block has, and that zstd does not make small. */
function content(block: number): Buffer {
  const data = Buffer.alloc(BLOCK);
  let state = (block + 1) * 2654435761;
  for (let at = 0; at < BLOCK; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data.writeUInt32LE(state, at);
  }
  return data;
}

/** Flips a byte wherever the block's content lies in the files below; answers how many places there were. */
function spoil(directory: string, block: number): number {
  const wanted = content(block).subarray(0, 64);
  let places = 0;
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const path = join(directory, name);
    if (!statSync(path).isFile()) continue;
    const bytes = readFileSync(path);
    for (let at = bytes.indexOf(wanted); at >= 0; at = bytes.indexOf(wanted, at + 1)) {
      const fd = openSync(path, 'r+');
      const byte = Buffer.alloc(1);
      readSync(fd, byte, 0, 1, at + 32);
      writeSync(fd, Buffer.of(byte.readUInt8(0) ^ 0xff), 0, 1, at + 32);
      closeSync(fd);
      places += 1;
    }
  }
  return places;
}

async function writtenVolume(name: string): Promise<{ target: string; host: string; port: number }> {
  const { gateway } = site;
  const target = gateway.createVolume(name, String(VOLUME_BYTES), 4096);
  const endpoint = { target, host: gateway.host, port: gateway.port };
  const initiator = await connectStamped(endpoint);
  await initiator.write(0, Buffer.concat(Array.from({ length: BLOCKS }, (_, block) => content(block))));
  await initiator.close();
  await gateway.call('flush', { name });
  return endpoint;
}

describe('a scrub of a gateway that nobody reads from', () => {
  it(
    'finds bytes that were flipped in the cache, and fetches them again',
    async () => {
      const endpoint = await writtenVolume('local');
      const cache = join(site.gateway.stateDirectory, 'cache');
      for (const block of [3, 4, 400]) expect(spoil(cache, block)).toBeGreaterThan(0);
      expect(site.gateway.cli('scrub', 'local', '--local', '--now')).toMatch(
        /local: ended .*; 512 blocks checked, 3 damaged, 3 repaired, 0 not repairable/,
      );
      const report = await site.gateway.call('volume-show', { name: 'local' });
      expect(report.scrub?.local).toMatchObject({ found: 3, repaired: 3, unrepairable: 0, ranges: [] });
      expect(site.gateway.cli('scrub', 'local', '--now')).toMatch(/512 blocks checked, 0 damaged/);
      expect(site.gateway.cli('status')).toContain(
        'scrub     cache 4.00 MiB checked, 3 damaged, 3 repaired, 0 not repairable; S3',
      );
      const metrics = site.gateway.cli('metrics');
      expect(metrics).toContain('\nfarshore_scrub_repaired_blocks_total{volume="local",side="local"} 3\n');
      expect(metrics).toMatch(/\nfarshore_scrub_last_complete_timestamp_seconds\{volume="local",side="remote"\} \d+/);
      // From the disk, not from memory.
      await site.gateway.end();
      await site.gateway.start();
      const reader = await connectStamped(endpoint);
      for (const block of [3, 4, 400]) expect((await reader.read(block, 1)).equals(content(block))).toBe(true);
      await reader.close();
    },
    LIMIT_MS,
  );

  it(
    'finds bytes that were flipped in S3, and writes what the cache has of them as a new version',
    async () => {
      await writtenVolume('remote');
      const before = (await site.gateway.call('volume-show', { name: 'remote' })).committedN;
      expect(spoil(join(site.directory, 'cloud'), 77)).toBeGreaterThan(0);
      expect(site.gateway.cli('scrub', 'remote', '--remote', '--now')).toMatch(/remote: ended .*, 0 not repairable/);
      const { scrub } = await site.gateway.call('volume-show', { name: 'remote' });
      expect(scrub?.remote?.found).toBeGreaterThan(0);
      expect(scrub?.remote?.repaired).toBe(scrub?.remote?.found);
      await site.gateway.call('flush', { name: 'remote' });
      expect((await site.gateway.call('volume-show', { name: 'remote' })).committedN).toBeGreaterThan(before);
      expect(site.gateway.cli('scrub', 'remote', '--remote', '--now')).toMatch(/512 blocks checked, 0 damaged/);
    },
    LIMIT_MS,
  );
});

describe('damage to what is in no version yet', () => {
  it(
    'gives MEDIUM ERROR for that block alone, never wrong bytes, and status says which',
    async () => {
      const { gateway } = site;
      const target = gateway.createVolume('dirty', String(VOLUME_BYTES), 4096);
      const endpoint = { target, host: gateway.host, port: gateway.port };
      await site.cloud.end();
      const writer = await connectStamped(endpoint);
      await writer.write(0, Buffer.concat(Array.from({ length: BLOCKS }, (_, block) => content(block + 5000))));
      await writer.flush();
      // Its record says that the others are on stable storage: what is bad there after a crash is damage, and no torn end.
      await writer.write(BLOCKS, content(6000));
      await gateway.end();
      expect(spoil(join(gateway.stateDirectory, 'cache'), 5009)).toBeGreaterThan(0);
      await site.cloud.start();
      await gateway.start();
      const reader = await connectStamped(endpoint);
      await expect(reader.read(9, 1)).rejects.toMatchObject({
        name: 'ScsiError',
        sense: { key: SENSE_KEY.mediumError, asc: 0x11 },
      });
      expect((await reader.read(8, 1)).equals(content(5008))).toBe(true);
      const { reason } = await gateway.call('volume-show', { name: 'dirty' });
      expect(reason).toContain('block 9');
      await reader.write(9, content(1));
      expect((await reader.read(9, 1)).equals(content(1))).toBe(true);
      await reader.close();
      expect((await gateway.call('volume-show', { name: 'dirty' })).reason).toBeUndefined();
    },
    LIMIT_MS,
  );
});
