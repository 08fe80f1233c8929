import { describe, expect, test } from 'vitest';
import type { SpaceLimit } from '../../../gateway/base/block-device.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { GIB, MIB, TIB } from '../../../gateway/base/units.ts';
import { thresholdExponent } from '../../../gateway/scsi/thresholds.ts';
import { RamDevice } from '../../support/ram-device.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';

/** A device with a quota that can be changed, of a unit of 4 MiB. */
function withQuota(space: SpaceLimit | undefined) {
  const now = { space, lowSpace: { notices: 0, changes: 0 } };
  const device = Object.assign(new RamDevice({ bytes: 4 * MIB, name: 'thin' }), {
    space: () => now.space,
    lowSpace: now.lowSpace,
  });
  const bench = new ScsiBench();
  const nexus = bench.join(device);
  return { bench, nexus, now, run: (cdb: string, data?: Buffer) => bench.run(cdb, data, nexus) };
}

const HALF_FULL: SpaceLimit = { bytes: 10 * GIB, lowBytes: 8 * GIB, mappedBytes: 5 * GIB + 1 };
const MODE_PAGE = '1a 08 1c 02 ff 00';
const LOG_PAGE = '4d 00 4c 00 00 00 00 00 ff 00';

describe('thresholds of logical block provisioning', () => {
  test('are counted in sets of 1 MiB, so that 64 TiB have fewer than 2^32 of them', async () => {
    const bench = new ScsiBench();
    expect((await bench.run('12 01 b2 00 ff 00')).data.toString('hex')).toBe('00b200040be40200');
    expect(thresholdExponent(new ScsiBench({ sectorSize: 4096 }).device)).toBe(8);
    expect((64 * TIB) / 512 / 2 ** 11).toBeLessThan(2 ** 32);
  });

  test('a quota is a soft threshold on what is used, armed increasing, which nobody can change', async () => {
    const { run } = withQuota(HALF_FULL);
    const { data } = await run(MODE_PAGE);
    expect(data.subarray(4).toString('hex')).toBe(`5c020014${'00'.repeat(12)}8102000000002000`);
    expect((await run('1a 08 5c 02 ff 00')).data.subarray(4).toString('hex')).toBe(`5c020014${'00'.repeat(20)}`);
    const whole = data.subarray(4);
    const list = (page: Buffer): Buffer => Buffer.concat([Buffer.alloc(4), page]);
    const select = `15 10 00 00 ${(4 + whole.length).toString(16).padStart(2, '0')} 00`;
    expect((await run(select, list(whole))).status).toBe(0);
    const other = Buffer.from(whole);
    other[23] = 1;
    expect((await run(select, list(other))).sense).toMatchObject({ key: 5, asc: 0x26, field: { byte: 27 } });
  });

  test('without a quota there is none that is enabled', async () => {
    const { run } = withQuota(undefined);
    expect((await run(MODE_PAGE)).data.subarray(20).toString('hex')).toBe('0102000000000000');
  });

  test('the page comes with its page, and with all pages, when subpages are asked for, and last', async () => {
    const { run } = withQuota(HALF_FULL);
    const plain = (await run('1a 08 1c 00 ff 00')).data.subarray(4);
    const page = (await run(MODE_PAGE)).data.subarray(4);
    expect((await run('1a 08 1c ff ff 00')).data.subarray(4).equals(Buffer.concat([plain, page]))).toBe(true);
    const all = (await run('1a 08 3f 00 ff 00')).data.subarray(4);
    expect((await run('1a 08 3f ff ff 00')).data.subarray(4).equals(Buffer.concat([all, page]))).toBe(true);
    expect((await run('1a 08 3f 02 ff 00')).sense).toMatchObject({ key: 5, asc: 0x24 });
    expect((await run('1a 08 08 02 ff 00')).sense).toMatchObject({ key: 5, asc: 0x24 });
  });

  test('the log page says what is left and what is used of the quota', async () => {
    const { run, now } = withQuota(HALF_FULL);
    const available = '000123080000' + '13ff' + '01000000';
    const used = '000223080000' + '1401' + '01000000';
    expect((await run(LOG_PAGE)).data.toString('hex')).toBe(`8c000018${available}${used}`);
    const second = await run('4d 00 4c 00 00 00 02 00 ff 00');
    expect(second.data.toString('hex')).toBe(`8c00000c${used}`);
    now.space = { ...HALF_FULL, mappedBytes: 11 * GIB };
    expect((await run(LOG_PAGE)).data.readUInt32BE(8)).toBe(0);
    now.space = { ...HALF_FULL, mappedBytes: undefined };
    expect((await run(LOG_PAGE)).data.toString('hex')).toBe('8c000000');
  });

  test('without a quota there is room for all of the unit, shared with others', async () => {
    const { run } = withQuota(undefined);
    expect((await run(LOG_PAGE)).data.toString('hex')).toBe('8c00000c00012308' + '0000000402000000');
    const { data } = await run('4d 00 40 00 00 00 00 00 ff 00');
    expect([...data.subarray(4)]).toEqual([0x00, 0x02, 0x03, 0x0c, 0x19]);
  });

  test('a write that has no room in the quota ends in SPACE ALLOCATION FAILED WRITE PROTECT', async () => {
    const bench = new ScsiBench();
    bench.device.intercept = (operation) => {
      if (operation === 'write') throw new FarshoreError('full', 'the quota is used up');
    };
    const { sense } = await bench.run('2a 00 00000000 00 0001 00', Buffer.alloc(512, 1));
    expect(sense).toMatchObject({ key: 7, asc: 0x27, ascq: 0x07 });
  });

  test('another quota is another threshold, which everybody is told; a quota that runs low besides is told after it', async () => {
    const { run, now } = withQuota(HALF_FULL);
    now.lowSpace.notices += 1;
    now.lowSpace.changes += 1;
    expect((await run('28 00 00000000 00 0001 00')).sense).toMatchObject({ key: 6, asc: 0x2a, ascq: 1 });
    expect((await run('28 00 00000000 00 0001 00')).status).toBe(0);
    now.lowSpace.notices += 2;
    now.lowSpace.changes += 1;
    expect((await run('28 00 00000000 00 0001 00')).sense).toMatchObject({ key: 6, asc: 0x2a, ascq: 1 });
    expect((await run('28 00 00000000 00 0001 00')).sense).toMatchObject({ key: 6, asc: 0x38, ascq: 7 });
    now.lowSpace.notices += 1;
    expect((await run('28 00 00000000 00 0001 00')).sense).toMatchObject({ key: 6, asc: 0x38, ascq: 7 });
  });
});
