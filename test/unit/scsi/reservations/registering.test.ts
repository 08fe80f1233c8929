import { describe, expect, test } from 'vitest';
import { MAX_REGISTRATIONS } from '../../../../gateway/scsi/reservations/registry.ts';
import { EA, threeRegistrants } from './registrants.ts';
import { CHECK, CONFLICT, GOOD, ISID, ReservationBench, nameOf, transportId } from './reservation-bench.ts';
import type { Action } from './reservation-bench.ts';

describe('registering', () => {
  test('a key is registered, changed and removed by whoever knows it', async () => {
    const unit = new ReservationBench();
    expect((await unit.out('A', 'register', { newKey: 7n })).status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 1, keys: [7n] });
    expect((await unit.out('A', 'register', { newKey: 8n })).status).toBe(CONFLICT);
    expect((await unit.out('A', 'register', { key: 9n, newKey: 8n })).status).toBe(CONFLICT);
    expect((await unit.out('A', 'register', { key: 7n, newKey: 8n })).status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 2, keys: [8n] });
    expect((await unit.out('A', 'register', { key: 8n })).status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 3, keys: [] });
  });

  test('an initiator that is not registered must give no key; without a new one nothing happens', async () => {
    const unit = new ReservationBench();
    expect((await unit.out('A', 'register', { key: 1n, newKey: 2n })).status).toBe(CONFLICT);
    expect((await unit.out('A', 'register')).status).toBe(GOOD);
    expect((await unit.out('A', 'register-and-ignore')).status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 0, keys: [] });
  });

  test('REGISTER AND IGNORE EXISTING KEY asks for no key', async () => {
    const unit = new ReservationBench();
    await unit.out('A', 'register-and-ignore', { key: 99n, newKey: 1n });
    await unit.out('A', 'register-and-ignore', { key: 98n, newKey: 2n });
    expect((await unit.keys()).keys).toEqual([2n]);
    await unit.out('A', 'register-and-ignore', { key: 97n });
    expect(await unit.keys()).toEqual({ generation: 3, keys: [] });
  });

  test('a registration is that of the initiator port: it outlives sessions and resets, another ISID has none', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: EA });
    unit.leave('A');
    unit.nexus('B').unit.reset();
    unit.attentions('B');
    expect(await unit.reservation()).toEqual({ key: 1n, type: EA });
    expect((await unit.run('B', '28 00 00 00 00 00 00 00 01 00')).status).toBe(CONFLICT);
    expect((await unit.run('A', '28 00 00 00 00 00 00 00 01 00')).status).toBe(GOOD);
    const otherPort = unit.bench.join(unit.bench.device, { name: nameOf('A'), isid: '00023d000002' });
    expect((await unit.bench.run('28 00 00 00 00 00 00 00 01 00', undefined, otherPort)).status).toBe(CONFLICT);
  });

  test('two initiators may have the same key', async () => {
    const unit = new ReservationBench();
    await unit.out('A', 'register', { newKey: 1n });
    await unit.out('B', 'register', { newKey: 1n });
    expect((await unit.keys()).keys).toEqual([1n, 1n]);
  });

  test('registrations are bounded, and one too many changes nothing', async () => {
    const unit = new ReservationBench();
    const ids = Array.from({ length: MAX_REGISTRATIONS }, (_, n) => transportId(`iqn.2026-11.example:n${n}`, ISID));
    const refusal = { status: CHECK, sense: { key: 5, asc: 0x55, ascq: 0x04 } };
    expect(await unit.out('A', 'register', { newKey: 1n, others: ids })).toMatchObject(refusal);
    expect(await unit.keys()).toEqual({ generation: 0, keys: [] });
    expect((await unit.out('A', 'register', { newKey: 1n, others: ids.slice(1) })).status).toBe(GOOD);
    expect((await unit.keys()).keys.length).toBe(MAX_REGISTRATIONS);
    expect(await unit.out('B', 'register', { newKey: 1n })).toMatchObject(refusal);
    expect(await unit.out('B', 'register-and-ignore', { newKey: 1n })).toMatchObject(refusal);
    expect((await unit.out('A', 'register', { key: 1n, newKey: 2n })).status).toBe(GOOD);
  });

  test.each(['reserve', 'release', 'clear', 'preempt', 'preempt-and-abort'] as const)(
    '%s needs a registration and its key',
    async (action: Action) => {
      const unit = await threeRegistrants();
      expect((await unit.out('D', action, { newKey: 1n, type: EA })).status).toBe(CONFLICT);
      expect((await unit.out('A', action, { key: 2n, newKey: 2n, type: EA })).status).toBe(CONFLICT);
      expect(await unit.keys()).toEqual({ generation: 3, keys: [1n, 2n, 3n] });
      expect(await unit.reservation()).toBeUndefined();
    },
  );
});

describe('parameter list length', () => {
  const tooShort = { status: CHECK, sense: { key: 5, asc: 0x1a, ascq: 0 } };

  test.each([0, 1, 23, 25, 65_535, 65_536])('%i bytes are refused where 24 are due', async (length) => {
    const unit = new ReservationBench();
    const cdb = Buffer.from([0x5f, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    cdb.writeUInt32BE(length, 5);
    expect(await unit.run('A', cdb, Buffer.alloc(length))).toMatchObject(tooShort);
  });

  test('a list that did not come whole is refused', async () => {
    const unit = new ReservationBench();
    const cdb = Buffer.from([0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0]);
    expect(await unit.run('A', cdb, Buffer.alloc(23))).toMatchObject(tooShort);
  });
});

test('who may only read may register and unregister, but takes nothing from the others', async () => {
  const unit = await threeRegistrants();
  unit.nexus('R').setReadOnly(true);
  expect((await unit.out('R', 'register', { newKey: 5n })).status).toBe(GOOD);
  const refusal = { status: CHECK, sense: { key: 7, asc: 0x27, ascq: 0 } };
  for (const action of ['reserve', 'clear', 'preempt', 'preempt-and-abort'] as const)
    expect(await unit.out('R', action, { key: 5n, newKey: 1n, type: EA })).toMatchObject(refusal);
  expect(await unit.run('R', '16 00 00 00 00 00')).toMatchObject(refusal);
  expect((await unit.out('R', 'register', { key: 5n })).status).toBe(GOOD);
  expect((await unit.keys()).keys).toEqual([1n, 2n, 3n]);
});
