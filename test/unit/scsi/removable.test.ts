import { describe, expect, it } from 'vitest';
import { SENSE } from '../../../gateway/scsi/sense.ts';
import { RamDevice } from '../../support/ram-device.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';

const EJECT = '1b 00 00 00 02 00';
const LOAD = '1b 00 00 00 03 00';
const STOP = '1b 00 00 00 00 00';
const PREVENT = '1e 00 00 00 01 00';
const ALLOW = '1e 00 00 00 00 00';
const READY = '00 00 00 00 00 00';
const INQUIRY = '12 00 00 00 24 00';

const OTHER = { name: 'iqn.2026-11.dev.farshore:other', isid: '800000000002' };

function removable(): { bench: ScsiBench; device: RamDevice } {
  const device = new RamDevice({ bytes: 1 << 20, sectorSize: 512, removable: true });
  return { bench: new ScsiBench(), device };
}

describe('a removable medium', () => {
  it('is one by RMB, and a fixed disk refuses to eject', async () => {
    const { bench, device } = removable();
    const nexus = bench.join(device);
    expect((await bench.run(INQUIRY, undefined, nexus, 36)).data[1]).toBe(0x80);
    expect((await bench.run(INQUIRY, undefined, bench.nexus, 36)).data[1]).toBe(0);
    expect((await bench.run(EJECT)).sense).toMatchObject(SENSE.invalidFieldInCdb);
  });

  it('is away after it was ejected, for everybody, and there again when it is loaded; a stop does not take it away', async () => {
    const { bench, device } = removable();
    const [nexus, other] = [bench.join(device), bench.join(device, OTHER)];
    expect((await bench.run(STOP, undefined, nexus)).status).toBe(0);
    expect((await bench.run(READY, undefined, nexus)).status).toBe(0);
    expect((await bench.run(EJECT, undefined, nexus)).status).toBe(0);
    for (const cdb of [READY, '25', '35', '28 00 00000000 00 0001 00']) {
      expect((await bench.run(cdb, undefined, other, 512)).sense).toMatchObject(SENSE.mediumNotPresent);
    }
    expect((await bench.run(LOAD, undefined, other)).status).toBe(0);
    expect((await bench.run(READY, undefined, nexus)).status).toBe(0);
  });

  it('stays where it is while anybody prevents its removal, until that one allows it, is lost, or a reset', async () => {
    const { bench, device } = removable();
    const [nexus, other] = [bench.join(device), bench.join(device, OTHER)];
    const refused = { sense: SENSE.mediumRemovalPrevented };
    expect((await bench.run(PREVENT, undefined, nexus)).status).toBe(0);
    expect(await bench.run(EJECT, undefined, other)).toMatchObject(refused);
    expect(await bench.run(EJECT, undefined, nexus)).toMatchObject(refused);
    await bench.run(ALLOW, undefined, other); // takes back nothing of the first
    expect(await bench.run(EJECT, undefined, other)).toMatchObject(refused);
    nexus.unit.leave(nexus);
    expect((await bench.run(EJECT, undefined, other)).status).toBe(0);
    await bench.run(PREVENT, undefined, other);
    expect(await bench.run(LOAD, undefined, other)).toMatchObject(refused);
    other.unit.media.reset();
    expect((await bench.run(LOAD, undefined, other)).status).toBe(0);
  });
});
