import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MIB } from '../../../gateway/base/units.ts';
import { KIND, senseOf } from '../../support/iscsi-wire.ts';
import { IscsiWorld, gate } from '../../support/iscsi-world.ts';
import { RamDevice } from '../../support/ram-device.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

/** What becomes of a copy from LUN 0 to LUN 1 when access changes while it runs; LUN 2 is read-only from the start, LUN 3 has no part in it. */

const SECTORS = 8192;
const WRITE_PROTECTED = { key: 7, asc: 0x27, ascq: 0 };

let world: IscsiWorld;
let devices: RamDevice[];
beforeEach(async () => {
  devices = ['a', 'b', 'c', 'd'].map((name) => new RamDevice({ bytes: 8 * MIB, name }));
  for (const lun of [0, 2]) device(lun).bytes.fill(7);
  world = await IscsiWorld.start({ luns: new Map(devices.entries()) });
  world.readOnly = (lun) => lun === 2;
});
afterEach(async () => {
  await world.stop();
});

function device(lun: number): RamDevice {
  const found = devices[lun];
  if (found === undefined) throw new Error(`no LUN ${lun}`);
  return found;
}

/** EXTENDED COPY of a whole segment from the start of one device to the start of another. */
function copyOf(from: RamDevice, to: RamDevice): Parameters<RawInitiator['command']>[0] {
  const cscds = [from, to].map(({ identity }) => {
    const descriptor = Buffer.alloc(32);
    descriptor[0] = 0xe4;
    descriptor.set([1, 3, 0, 16], 4);
    identity.naa.copy(descriptor, 8);
    descriptor.writeUIntBE(512, 29, 3);
    return descriptor;
  });
  const segment = Buffer.alloc(28);
  segment.set([2, 0, 0, 24]);
  segment.writeUInt16BE(0, 4);
  segment.writeUInt16BE(1, 6);
  segment.writeUInt16BE(SECTORS, 10);
  const header = Buffer.alloc(16);
  header[0] = 1;
  header.writeUInt16BE(64, 2);
  header.writeUInt32BE(segment.length, 8);
  const list = Buffer.concat([header, ...cscds, segment]);
  const cdb = Buffer.alloc(16);
  cdb[0] = 0x83;
  cdb.writeUInt32BE(list.length, 10);
  return { cdb, write: true, expectedBytes: list.length, data: list };
}

/** A copy whose second piece is in the device until `release`. */
async function underWay(from = 0, to = 1): Promise<{ host: RawInitiator; itt: number; release: () => void }> {
  const host = await world.ready();
  for (const lun of [1, 2, 3]) await host.clear(lun);
  const [inside, held] = [gate(), gate()];
  let writes = 0;
  device(to).intercept = (operation) => {
    if (operation !== 'write') return undefined;
    writes += 1;
    if (writes < 2) return undefined;
    inside.open();
    return held.opened;
  };
  const itt = host.command(copyOf(device(from), device(to)));
  await inside.opened;
  return { host, itt, release: held.open };
}

describe('a copy under way', () => {
  test.each([
    ['nothing changed for its host, who sees a read-only LUN too', () => undefined],
    ['a LUN is gone that it does not use', () => (world.masked = (lun) => lun === 3)],
    ['a LUN became read-only that it does not use', () => (world.readOnly = (lun) => lun >= 2)],
    ['the LUN it only reads became read-only', () => (world.readOnly = (lun) => lun === 0 || lun === 2)],
    ['a LUN came', () => world.luns.set(9, new RamDevice({ bytes: MIB, name: 'new' }))],
  ])('goes on when %s', async (_, change) => {
    const { host, itt, release } = await underWay();
    change();
    const changed = world.server.accessChanged();
    release();
    await changed;
    const answer = await host.expect(KIND.scsiResponse);
    expect([answer.itt, answer.byte3]).toEqual([itt, 0]);
    expect(
      device(1)
        .bytes.subarray(0, SECTORS * 512)
        .every((byte) => byte === 7),
    ).toBe(true);
  });

  test('goes on when it reads a LUN that was read-only from the start', async () => {
    const { host, release } = await underWay(2, 1);
    const changed = world.server.accessChanged();
    release();
    await changed;
    expect((await host.expect(KIND.scsiResponse)).byte3).toBe(0);
  });

  test.each([
    ['it writes to became read-only', () => (world.readOnly = (lun) => lun === 1)],
    ['it writes to is gone', () => (world.masked = (lun) => lun === 1)],
    [
      'it writes to is behind another LUN, to be read only',
      () => {
        world.luns.delete(1);
        world.luns.set(2, device(1));
      },
    ],
    ['it reads is gone, though it was sent to another', () => (world.masked = (lun) => lun === 2)],
  ])('ends when the LUN %s, and no piece of it lands afterwards', async (_, change) => {
    const { host, itt, release } = await underWay(2, 1);
    change();
    let isOver = false;
    const changed = world.server.accessChanged().then(() => {
      isOver = true;
    });
    const answer = await host.expect(KIND.scsiResponse);
    expect([answer.itt, senseOf(answer)]).toEqual([itt, WRITE_PROTECTED]);
    expect(isOver).toBe(false); // a piece is in the device
    release();
    await changed;
    expect(device(1).bytes.at(SECTORS * 512 - 1)).toBe(0);
  });
});
