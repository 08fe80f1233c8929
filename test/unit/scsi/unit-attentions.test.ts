import { describe, expect, test } from 'vitest';
import { MIB } from '../../../gateway/base/units.ts';
import type { UnitNexus } from '../../../gateway/scsi/logical-unit.ts';
import { SENSE } from '../../../gateway/scsi/sense.ts';
import { RamDevice } from '../../support/ram-device.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';

const PORT = { targetName: 'iqn.2026-11.dev.farshore:t', portalGroupTag: 1 };
const initiator = (n: number): { name: string; isid: string } => ({
  name: 'iqn.2026-11.example:a',
  isid: n.toString(16).padStart(12, '0'),
});

/** All that is pending, taken. */
function taken(nexus: UnitNexus): string[] {
  const told: string[] = [];
  for (let sense = nexus.takeAttention(); sense !== undefined; sense = nexus.takeAttention())
    told.push(`${sense.asc.toString(16)}/${sense.ascq.toString(16)}`);
  return told;
}

describe('unit attentions of a nexus', () => {
  test('resets come first, and of those only the gravest is told', () => {
    const { unit } = new ScsiBench().nexus;
    const nexus = unit.join(PORT, initiator(1));
    nexus.raise(SENSE.capacityChanged);
    nexus.raise(SENSE.nexusLoss);
    nexus.raise(SENSE.busDeviceReset);
    expect(taken(nexus)).toEqual(['29/0', '2a/9']);
    nexus.raise(SENSE.lunsChanged);
    nexus.raise(SENSE.nexusLoss);
    nexus.raise(SENSE.busDeviceReset);
    nexus.raise(SENSE.nexusLoss);
    expect(taken(nexus)).toEqual(['29/3', '3f/e']);
  });

  test('each is told once, the older first', () => {
    const bench = new ScsiBench();
    for (const sense of [SENSE.lunsChanged, SENSE.reservationsReleased, SENSE.lunsChanged, SENSE.inquiryChanged])
      bench.nexus.raise(sense);
    expect(taken(bench.nexus)).toEqual(['3f/e', '2a/4', '3f/3']);
    expect(taken(bench.nexus)).toEqual([]);
  });

  test('INQUIRY and REPORT LUNS pass them by; REPORT LUNS makes up for changed LUNs, REQUEST SENSE tells the first', async () => {
    const bench = new ScsiBench();
    bench.nexus.raise(SENSE.inquiryChanged);
    bench.nexus.raise(SENSE.lunsChanged);
    expect((await bench.run('12 00 00 00 ff 00')).status).toBe(0);
    expect((await bench.run('a0 00 00 00 00 00 00 00 00 ff 00 00')).status).toBe(0);
    const { status, data } = await bench.run('03 00 00 00 ff 00');
    expect([status, data.readUInt8(2), data.readUInt8(12), data.readUInt8(13)]).toEqual([0, 6, 0x3f, 3]);
    expect((await bench.run('00 00 00 00 00 00')).status).toBe(0);
  });

  test('space that runs low is told to every nexus there is, each time it begins to, and before the command does anything', async () => {
    const bench = new ScsiBench();
    const lowSpace = { notices: 3 };
    const device = Object.assign(new RamDevice({ bytes: MIB }), { lowSpace });
    const [one, other] = [bench.join(device), bench.join(device, initiator(2))];
    const ready = async (nexus: UnitNexus): Promise<unknown> =>
      (await bench.run('00 00 00 00 00 00', undefined, nexus)).sense;
    expect(await ready(one)).toBeUndefined();
    for (let round = 0; round < 2; round += 1) {
      lowSpace.notices += 1;
      for (const nexus of [one, other]) {
        expect(await ready(nexus)).toMatchObject({ key: 6, asc: 0x38, ascq: 7 });
        expect(await ready(nexus)).toBeUndefined();
      }
    }
    // A plain read has a short way of its own, and is told as well.
    lowSpace.notices += 1;
    expect((await bench.run('28 00 00 00 00 00 00 00 01 00', undefined, one, 512)).sense).toMatchObject({ asc: 0x38 });
  });

  test('a REQUEST SENSE that takes no data is told nothing, and clears nothing', async () => {
    const bench = new ScsiBench();
    bench.nexus.raise(SENSE.capacityChanged);
    const { status, data } = await bench.run('03 00 00 00 00 00');
    expect([status, data.length]).toEqual([0, 0]);
    expect((await bench.run('00 00 00 00 00 00')).sense).toMatchObject({ key: 6, asc: 0x2a, ascq: 9 });
  });

  test('a nexus that was lost is told of that, when it has heard of the power on', () => {
    const { unit } = new ScsiBench().nexus;
    const first = unit.join(PORT, initiator(1));
    unit.leave(first);
    const second = unit.join(PORT, initiator(1));
    expect(taken(second)).toEqual(['29/0']);
    unit.leave(second);
    unit.leave(second);
    expect(taken(unit.join(PORT, initiator(1)))).toEqual(['29/7']);
    expect(taken(unit.join(PORT, initiator(2)))).toEqual(['29/0']);
    expect(taken(unit.join({ ...PORT, targetName: 'iqn.2026-11.dev.farshore:u' }, initiator(1)))).toEqual(['29/0']);
  });

  test('more lost nexuses than are remembered are told of a power on', () => {
    const { unit } = new ScsiBench().nexus;
    for (let n = 0; n < 300; n += 1) {
      const nexus = unit.join(PORT, initiator(n));
      taken(nexus);
      unit.leave(nexus);
    }
    expect(taken(unit.join(PORT, initiator(0)))).toEqual(['29/0']);
    expect(taken(unit.join(PORT, initiator(299)))).toEqual(['29/7']);
  });
});

describe('asymmetric logical unit access', () => {
  test('REPORT TARGET PORT GROUPS: one group with one port, active and optimized', async () => {
    const bench = new ScsiBench();
    const short = await bench.run('a3 0a 00 00 00 00 00 00 00 ff 00 00');
    expect(short.data.toString('hex')).toBe('0000000c' + '0001000100000001' + '00000001');
    const extended = await bench.run('a3 2a 00 00 00 00 00 00 00 ff 00 00');
    expect(extended.data.toString('hex')).toBe('00000010' + '10000000' + '0001000100000001' + '00000001');
    expect((await bench.run('a3 0a 00 00 00 00 00 00 00 04 00 00')).data.toString('hex')).toBe('0000000c');
    expect((await bench.run('a3 4a 00 00 00 00 00 00 00 ff 00 00')).sense).toMatchObject({ asc: 0x24 });
  });

  test('access is implicit: INQUIRY says so, and SET TARGET PORT GROUPS is no command', async () => {
    const bench = new ScsiBench();
    expect((await bench.run('12 00 00 00 ff 00')).data.readUInt8(5) & 0x30).toBe(0x10);
    expect((await bench.run('a4 0a 00 00 00 00 00 00 00 04 00 00')).sense).toMatchObject({ key: 5, asc: 0x20 });
  });
});
