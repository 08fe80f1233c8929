import { afterEach, beforeEach, expect, test } from 'vitest';
import { MIB } from '../../../gateway/base/units.ts';
import { Initiator } from '../../../gateway/initiator/initiator.ts';
import { IscsiWorld, TARGET } from '../../support/iscsi-world.ts';
import { RamDevice } from '../../support/ram-device.ts';

let world: IscsiWorld;
beforeEach(async () => {
  world = await IscsiWorld.start();
});
afterEach(() => world.stop());

test('several LUNs are used through one session, each with its own data and sector size', async () => {
  const other = new RamDevice({ bytes: 2 * MIB, sectorSize: 4096, name: 'other' });
  world.luns.set(255, other);
  const first = await Initiator.connect({ host: '127.0.0.1', port: world.port, target: TARGET });
  expect(await first.reportLuns()).toEqual([0, 255]);
  const second = await first.otherLun(255);
  expect(await second.readCapacity()).toMatchObject({ sectorSize: 4096, bytes: 2 * MIB });
  await first.write(0, Buffer.alloc(512, 1));
  await second.write(0, Buffer.alloc(4096, 2));
  expect((await first.read(0, 1)).every((byte) => byte === 1)).toBe(true);
  expect((await second.read(0, 1)).every((byte) => byte === 2)).toBe(true);
  expect(other.bytes[0]).toBe(2);
  expect(world.server.sessions()).toHaveLength(1);
  await expect(first.otherLun(7)).rejects.toThrow(/ILLEGAL REQUEST, additional sense 25h 00h/);
  await second.close();
});
