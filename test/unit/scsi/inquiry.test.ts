import { describe, expect, test } from 'vitest';
import { ScsiBench } from '../../support/scsi-bench.ts';

describe('standard INQUIRY', () => {
  test('names a connected, thin-provisioned disk of SPC-4 and SBC-3', async () => {
    const { data, status } = await new ScsiBench().run('12 00 00 00 ff 00');
    expect(status).toBe(0);
    expect(data.length).toBe(96);
    expect(data.subarray(0, 8).toString('hex')).toBe('000006125b180002');
    expect(data.toString('latin1', 8, 36)).toBe('FARSHOREVirtual Disk    0001');
    expect(data.subarray(58, 66).toString('hex')).toBe('00a0046004c00960');
  });

  test.each([0, 1, 5, 36, 95, 96, 97, 255])('gives no more than the allocation length %i', async (length) => {
    const { data } = await new ScsiBench().run(Buffer.from([0x12, 0, 0, 0, length, 0]));
    expect(data.length).toBe(Math.min(length, 96));
  });

  test('refuses a page code without EVPD, and the obsolete CMDDT', async () => {
    const bench = new ScsiBench();
    expect((await bench.run('12 00 83 00 ff 00')).sense).toMatchObject({ key: 5, asc: 0x24, field: { byte: 2 } });
    expect((await bench.run('12 02 00 00 ff 00')).sense).toMatchObject({ key: 5, asc: 0x24, field: { byte: 1 } });
  });
});

describe('vital product data', () => {
  const page = async (code: number, bench = new ScsiBench()): Promise<Buffer> => {
    const { data, status } = await bench.run(Buffer.from([0x12, 1, code, 0x02, 0x00, 0]));
    expect(status).toBe(0);
    expect(data.readUInt8(1)).toBe(code);
    expect(data.readUInt16BE(2)).toBe(data.length - 4);
    return data.subarray(4);
  };

  test('00 lists every page, in ascending order, and every listed page is there', async () => {
    const codes = [...(await page(0x00))];
    expect(codes).toEqual([0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2]);
    for (const code of codes) await page(code);
  });

  test('a page that is not there is refused', async () => {
    expect((await new ScsiBench().run('12 01 c0 00 ff 00')).sense).toMatchObject({ key: 5, asc: 0x24 });
  });

  test('80 is the serial number of the volume', async () => {
    expect((await page(0x80)).toString('latin1')).toBe('ram-ram');
  });

  test('83 carries the NAA of the volume, and the names of port and target', async () => {
    const bench = new ScsiBench();
    const bytes = await page(0x83, bench);
    const designators: { codeSet: number; kind: number; value: Buffer }[] = [];
    for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt8(at + 3))
      designators.push({
        codeSet: bytes.readUInt8(at),
        kind: bytes.readUInt8(at + 1),
        value: bytes.subarray(at + 4, at + 4 + bytes.readUInt8(at + 3)),
      });
    expect(designators.map(({ codeSet, kind }) => [codeSet, kind])).toEqual([
      [0x01, 0x03],
      [0x02, 0x01],
      [0x51, 0x94],
      [0x51, 0x95],
      [0x53, 0x98],
      [0x53, 0xa8],
    ]);
    expect(designators[0]?.value.equals(bench.device.identity.naa)).toBe(true);
    expect(designators.slice(2, 4).map(({ value }) => value.toString('hex'))).toEqual(['00000001', '00000001']);
    expect(designators[1]?.value.toString('latin1')).toBe('FARSHOREVirtual Disk    ram-ram');
    const names = designators.slice(4).map(({ value }) => [value.toString().replace(/\0+$/, ''), value.length % 4]);
    expect(names).toEqual([
      ['iqn.2026-11.dev.farshore:t,t,0x0001', 0],
      ['iqn.2026-11.dev.farshore:t', 0],
    ]);
  });

  test('87 says that mode pages are shared by all initiators', async () => {
    expect((await page(0x87)).toString('hex')).toBe('3fff0000');
  });

  test('88 names the one port there is, as page 83 does', async () => {
    const body = await page(0x88);
    expect(body.subarray(0, 8).toString('hex')).toBe('0000000100000000');
    expect(body.readUInt16BE(10)).toBe(body.length - 12);
    const name = 'iqn.2026-11.dev.farshore:t,t,0x0001';
    expect(body.subarray(12, 16).toString('hex')).toBe('53980024');
    expect(body.toString('latin1', 16).replace(/\0+$/, '')).toBe(name);
  });

  test.each([
    [512, 8, 32_768, 2048],
    [4096, 1, 4096, 256],
  ] as const)(
    'B0 has length 3Ch and the limits in sectors of %i bytes',
    async (sectorSize, perBlock, longest, optimal) => {
      const body = await page(0xb0, new ScsiBench({ sectorSize }));
      expect(body.length).toBe(0x3c);
      expect([body.readUInt16BE(2), body.readUInt32BE(4), body.readUInt32BE(8)]).toEqual([perBlock, longest, optimal]);
      expect([body.readUInt32BE(16), body.readUInt32BE(20)]).toEqual([0xffff_ffff, 256]);
      expect([body.readUInt32BE(24), body.readUInt32BE(28)]).toEqual([perBlock, 0x8000_0000]);
      expect(body.readBigUInt64BE(32)).toBe(BigInt((16 * 1024 * 1024) / sectorSize));
    },
  );

  test('B1 says that nothing rotates, B2 that unmapped sectors read as zeros', async () => {
    expect((await page(0xb1)).readUInt16BE(0)).toBe(1);
    expect((await page(0xb2)).toString('hex')).toBe('0be40200');
  });
});
