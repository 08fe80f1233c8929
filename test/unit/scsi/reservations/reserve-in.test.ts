import { describe, expect, test } from 'vitest';
import { WERO, threeRegistrants } from './registrants.ts';
import { CHECK, ISID, ReservationBench, nameOf, transportId } from './reservation-bench.ts';

describe('PERSISTENT RESERVE IN', () => {
  test('REPORT CAPABILITIES: everything but REPLACE LOST RESERVATION, and no persistence without a place for it', async () => {
    const unit = new ReservationBench();
    expect((await unit.in('A', 2)).toString('hex')).toBe('00081cc0ea010000');
    const refused = await unit.out('A', 'register', { newKey: 1n, persists: true });
    expect(refused).toMatchObject({ status: CHECK, sense: { key: 5, asc: 0x26, field: { inCdb: false, byte: 20 } } });
  });

  test('READ FULL STATUS tells each registration, its ports, and who holds what', async () => {
    const unit = new ReservationBench();
    await unit.out('A', 'register', { newKey: 1n });
    await unit.out('B', 'register', { newKey: 2n, allPorts: true });
    await unit.out('A', 'reserve', { key: 1n, type: WERO });
    const data = await unit.in('Z', 3);
    const id = transportId(nameOf('A'), ISID);
    expect(data.readUInt32BE(4)).toBe(data.length - 8);
    const first = data.subarray(8, 32 + id.length);
    expect(first.subarray(0, 24).toString('hex')).toBe(
      `0000000000000001000000000105000000000001${id.length.toString(16).padStart(8, '0')}`,
    );
    expect(first.subarray(24)).toEqual(id);
    const second = data.subarray(32 + id.length);
    expect(second.subarray(0, 20).toString('hex')).toBe(`0000000000000002000000000200000000000000`);
    expect(second.subarray(24)).toEqual(transportId(nameOf('B'), ISID));
  });

  test.each([0, 1, 8, 12, 16])(
    '%i bytes of allocation length cut the data, not the length it tells',
    async (length) => {
      const unit = await threeRegistrants();
      const { data } = await unit.run('A', Buffer.from([0x5e, 0, 0, 0, 0, 0, 0, 0, length, 0]));
      expect(data.length).toBe(length);
      if (length >= 8) expect(data.readUInt32BE(4)).toBe(24);
    },
  );

  test.each([4, 5, 0x1f])('service action %i is refused', async (action) => {
    const unit = new ReservationBench();
    const outcome = await unit.run('A', Buffer.from([0x5e, action, 0, 0, 0, 0, 0, 0, 255, 0]));
    expect(outcome).toMatchObject({ status: CHECK, sense: { key: 5, asc: 0x24, field: { byte: 1 } } });
  });
});
