import { describe, expect, test } from 'vitest';
import { EA, WE, WERO, threeRegistrants } from './registrants.ts';
import { CHECK, CONFLICT, GOOD, ISID, ReservationBench, nameOf, transportId } from './reservation-bench.ts';

describe('SPEC_I_PT', () => {
  test('registers the named ports too, known or not, all with the same key', async () => {
    const unit = new ReservationBench();
    const others = [transportId(nameOf('B'), ISID), transportId('iqn.2026-11.example:absent', ISID)];
    expect((await unit.out('A', 'register', { newKey: 5n, others })).status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 1, keys: [5n, 5n, 5n] });
    expect((await unit.out('B', 'reserve', { key: 5n, type: WE })).status).toBe(GOOD);
  });

  test('a name without an ISID means the ports of that initiator that are logged in', async () => {
    const unit = new ReservationBench();
    unit.nexus('B');
    unit.bench.join(unit.bench.device, { name: nameOf('B'), isid: '00023d000009' });
    expect((await unit.out('A', 'register', { newKey: 5n, others: [transportId(nameOf('B'))] })).status).toBe(GOOD);
    expect((await unit.keys()).keys).toEqual([5n, 5n, 5n]);
    const nobody = await unit.out('C', 'register', { newKey: 5n, others: [transportId('iqn.2026-11.example:absent')] });
    expect(nobody).toMatchObject({ status: CHECK, sense: { key: 5, asc: 0x26, ascq: 0 } });
  });

  const refused = { status: CHECK, sense: { key: 5, asc: 0x26, ascq: 0 } };

  test('is refused as a whole when one of them is registered', async () => {
    const unit = await threeRegistrants();
    const others = [transportId(nameOf('E'), ISID), transportId(nameOf('B'), ISID)];
    expect(await unit.out('D', 'register', { newKey: 5n, others })).toMatchObject(refused);
    expect(await unit.keys()).toEqual({ generation: 3, keys: [1n, 2n, 3n] });
  });

  test('is refused for a nexus that is registered, and for every other service action', async () => {
    const unit = await threeRegistrants();
    const others = [transportId(nameOf('E'), ISID)];
    expect(await unit.out('A', 'register', { key: 1n, newKey: 5n, others })).toMatchObject(refused);
    expect(await unit.out('A', 'register', { key: 1n, others })).toMatchObject(refused);
    for (const action of [
      'register-and-ignore',
      'reserve',
      'release',
      'clear',
      'preempt',
      'preempt-and-abort',
    ] as const)
      expect(await unit.out('A', action, { key: 1n, newKey: 2n, type: WE, others })).toMatchObject(refused);
    expect(await unit.keys()).toEqual({ generation: 3, keys: [1n, 2n, 3n] });
  });

  test.each([
    ['cut off', transportId(nameOf('E'), ISID).subarray(0, 24)],
    ['of another protocol', Buffer.concat([Buffer.from([0x06]), transportId(nameOf('E'), ISID).subarray(1)])],
    ['of an unknown format', Buffer.concat([Buffer.from([0x85]), transportId(nameOf('E'), ISID).subarray(1)])],
    ['without a separator', Buffer.concat([Buffer.from([0x45]), transportId(nameOf('E')).subarray(1)])],
    ['with an ISID that is none', transportId(nameOf('E'), '00023d00000g')],
    ['with a name that is none', transportId('someone', ISID)],
    ['without an end', Buffer.concat([Buffer.from([0x45, 0, 0, 20]), Buffer.alloc(20, 0x61)])],
    ['that is not there', Buffer.alloc(0)],
  ])('a TransportID %s is refused', async (_, id) => {
    const unit = new ReservationBench();
    const outcome = await unit.out('A', 'register', { newKey: 5n, others: [id] });
    if (id.length > 0) expect(outcome).toMatchObject(refused);
    else expect(outcome.status).toBe(GOOD); // an empty list names nobody
    expect((await unit.keys()).keys.length).toBe(id.length > 0 ? 0 : 1);
  });
});

describe('ALL_TG_PT', () => {
  test('registers the initiator port through every target, those of later too', async () => {
    const unit = new ReservationBench();
    expect((await unit.out('A', 'register', { newKey: 1n, allPorts: true })).status).toBe(GOOD);
    await unit.out('B', 'register', { newKey: 2n });
    await unit.out('B', 'reserve', { key: 2n, type: WERO });
    expect((await unit.run('A2', '2a 00 00 00 00 00 00 00 01 00', Buffer.alloc(512))).status).toBe(GOOD);
    expect((await unit.out('A2', 'register', { key: 1n, newKey: 3n })).status).toBe(GOOD);
    expect((await unit.keys()).keys).toEqual([3n, 2n]);
    expect((await unit.out('A2', 'register', { key: 3n })).status).toBe(GOOD);
    expect((await unit.run('A', '2a 00 00 00 00 00 00 00 01 00', Buffer.alloc(512))).status).toBe(CONFLICT);
  });

  test('without it the other target knows nothing', async () => {
    const unit = new ReservationBench();
    await unit.out('A', 'register', { newKey: 1n });
    expect((await unit.out('A2', 'reserve', { key: 1n, type: WE })).status).toBe(CONFLICT);
    expect((await unit.out('A2', 'register', { newKey: 2n })).status).toBe(GOOD);
    expect((await unit.keys()).keys).toEqual([1n, 2n]);
  });

  test('conflicts with another key through another target, unless keys are ignored', async () => {
    const unit = new ReservationBench();
    await unit.out('A2', 'register', { newKey: 2n });
    expect((await unit.out('A', 'register', { newKey: 1n, allPorts: true })).status).toBe(CONFLICT);
    expect((await unit.out('A', 'register-and-ignore', { newKey: 1n, allPorts: true })).status).toBe(GOOD);
    expect((await unit.keys()).keys).toEqual([1n]);
  });

  test('does not make the other target a holder', async () => {
    const unit = new ReservationBench();
    await unit.out('A', 'register', { newKey: 1n, allPorts: true });
    await unit.out('A', 'reserve', { key: 1n, type: EA });
    expect((await unit.run('A2', '28 00 00 00 00 00 00 00 01 00')).status).toBe(CONFLICT);
    await unit.out('A2', 'release', { key: 1n, type: EA });
    expect(await unit.reservation()).toEqual({ key: 1n, type: EA });
    await unit.out('A2', 'register', { key: 1n });
    expect(await unit.reservation()).toBeUndefined();
  });
});
