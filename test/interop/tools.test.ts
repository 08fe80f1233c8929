import { createHash, randomBytes } from 'node:crypto';
import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { discover } from '../../gateway/initiator/discovery.ts';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import { startSite } from '../support/gateway-process.ts';
import type { Site } from '../support/gateway-process.ts';
import { runTool } from '../support/processes.ts';
import { isInstalled, requireTools } from './required-tools.ts';

const MIB = 1024 * 1024;
const DISK_BYTES = 48 * MIB;

/** A disk image as they are: data, holes, and a tail that is no multiple of anything large. */
async function makeImage(file: string): Promise<void> {
  await writeFile(file, '');
  await truncate(file, DISK_BYTES);
  const image = await open(file, 'r+');
  const write = async (bytes: number, at: number): Promise<void> => {
    await image.write(randomBytes(bytes), 0, bytes, at);
  };
  await write(10 * MIB, 0);
  for (let piece = 0; piece < 40; piece += 1) await write(512 * (1 + (piece % 19)), 12 * MIB + piece * 65536 + 512);
  await write(9 * MIB + 512, DISK_BYTES - 9 * MIB - 512);
  await image.close();
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('the tools people have, against a gateway as it is shipped', () => {
  let site: Site;
  let portal: string;
  let image: string;
  let url512: string;
  let url4096: string;

  beforeAll(async () => {
    requireTools('qemu-img', 'qemu-io', 'iscsi-ls', 'iscsi-inq', 'iscsi-perf', 'iscsi-readcapacity16');
    site = await startSite();
    portal = `iscsi://127.0.0.1:${site.gateway.port}`;
    url512 = `${portal}/${site.gateway.createVolume('disk512', '48M')}/0`;
    url4096 = `${portal}/${site.gateway.createVolume('disk4096', '48M', 4096)}/0`;
    image = join(site.directory, 'image.raw');
    await makeImage(image);
  });

  afterAll(async () => {
    await site.close();
  });

  for (const sector of [512, 4096]) {
    it(`qemu-img copies an image to a disk of ${sector}-byte sectors and back, equal to the last byte`, async () => {
      const url = sector === 512 ? url512 : url4096;
      runTool('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', image, url]);
      expect(runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, url])).toContain('Images are identical');
      const back = join(site.directory, `back-${sector}.raw`);
      runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', url, back]);
      expect(digest(await readFile(back))).toBe(digest(await readFile(image)));
    });
  }

  it('our own initiator reads what qemu-img wrote', async () => {
    const target = url512.split('/')[3] ?? '';
    const disk = await Initiator.connect({ host: '127.0.0.1', port: site.gateway.port, target });
    const bytes = await disk.read(0, DISK_BYTES / 512);
    await disk.close();
    expect(digest(bytes)).toBe(digest(await readFile(image)));
  });

  it('qemu-io writes, discards, zeroes and flushes, and reads what it should', () => {
    const commands = ['write -P 0x5a 3M 1M', 'discard 3M 512k', 'write -z 3584k 64k', 'flush'];
    const checks = ['read -P 0 3M 576k', 'read -P 0x5a 3648k 448k'];
    const words = [...commands, ...checks].flatMap((command) => ['-c', command]);
    const output = runTool('qemu-io', ['-f', 'raw', '-d', 'unmap', ...words, url512]);
    expect(output).not.toMatch(/failed|error/i);
    runTool('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', image, url512]);
  });

  it('iscsi-ls and our discovery list both targets with their LUN', async () => {
    const listed = runTool('iscsi-ls', ['-s', portal]);
    expect(listed).toContain(`Portal:127.0.0.1:${site.gateway.port}`);
    expect(listed.match(/Lun:0 +Type:DIRECT_ACCESS \(Size:4[78]M\)/g)).toHaveLength(2);
    const endpoint = { host: '127.0.0.1', port: site.gateway.port, clock: systemClock, random: systemRandom };
    const found = await discover(endpoint);
    expect(found.map(({ name }) => name.split(':').at(-1)).sort()).toEqual(['disk4096', 'disk512']);
  });

  it('iscsi-inq shows a vendor, a product and a NAA designator', () => {
    const standard = runTool('iscsi-inq', [url512]);
    expect(standard).toMatch(/Peripheral Device Type:DIRECT_ACCESS/);
    expect(standard).toMatch(/Vendor:\S/);
    expect(standard).toMatch(/Product:\S/);
    const identification = runTool('iscsi-inq', ['-e', '1', '-c', '131', url512]);
    expect(identification).toMatch(/Designator Type:\(3\) NAA/);
    for (const page of ['0', '128', '176', '177', '178']) runTool('iscsi-inq', ['-e', '1', '-c', page, url512]);
  });

  it('iscsi-readcapacity16 sees size, sectors, 4 KiB physical blocks and thin provisioning', () => {
    const small = runTool('iscsi-readcapacity16', [url512]);
    expect(small).toContain(`Total size:${DISK_BYTES}`);
    expect(small).toContain('LOGICAL BLOCK LENGTH IN BYTES:512');
    expect(small).toContain('LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT:3');
    expect(small).toContain('LBPME:1 LBPRZ:1');
    expect(runTool('iscsi-readcapacity16', [url4096])).toContain('LOGICAL BLOCK LENGTH IN BYTES:4096');
  });

  it('iscsi-perf runs random reads without an error', () => {
    const output = runTool('iscsi-perf', ['-t', '2', '-r', '-m', '32', '-b', '8', url512]);
    expect(output).toMatch(/iops average [1-9]/);
    expect(output).toContain('finished.');
  });

  // Debian's libiscsi-bin 1.19 leaves it out; newer packages have it.
  it.skipIf(!isInstalled('iscsi-dd'))('iscsi-dd copies one disk onto another', () => {
    const copy = `${portal}/${site.gateway.createVolume('copy', '48M')}/0`;
    runTool('iscsi-dd', ['-s', url512, '-d', copy]);
    expect(runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, copy])).toContain('Images are identical');
  });

  it('the disk is the same after a clean stop and a new start, and after a kill', () => {
    return (async () => {
      await site.gateway.end('SIGTERM');
      await site.gateway.start();
      expect(runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, url512])).toContain('identical');
      await site.gateway.end('SIGKILL');
      await site.gateway.start();
      expect(runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, url4096])).toContain('identical');
      expect(runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, url512])).toContain('identical');
    })();
  });
});
