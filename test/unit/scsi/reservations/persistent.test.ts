import { describe, expect, test } from 'vitest';
import type { UnitNexus } from '../../../../gateway/scsi/logical-unit.ts';
import { MAX_REGISTRATIONS } from '../../../../gateway/scsi/reservations/registry.ts';
import { RamDevice } from '../../../support/ram-device.ts';
import { CHECK, CONFLICT, GOOD, ISID, ReservationBench, TYPES, nameOf, transportId } from './reservation-bench.ts';
import type { Action } from './reservation-bench.ts';

const PREEMPTED = '2a03';
const RELEASED = '2a04';
const REGISTRATION_GONE = '2a05';

const [WE, EA] = [TYPES['write exclusive'], TYPES['exclusive access']];
const [WERO, EARO] = [TYPES['write exclusive, registrants only'], TYPES['exclusive access, registrants only']];
const [WEAR, EAAR] = [TYPES['write exclusive, all registrants'], TYPES['exclusive access, all registrants']];

/** A, B and C registered with keys 1, 2 and 3. */
async function threeRegistrants(): Promise<ReservationBench> {
  const unit = new ReservationBench();
  for (const [who, newKey] of [
    ['A', 1n],
    ['B', 2n],
    ['C', 3n],
  ] as const)
    expect((await unit.out(who, 'register', { newKey })).status).toBe(GOOD);
  return unit;
}

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

describe('reserving', () => {
  test.each(Object.entries(TYPES))('%s', async (_, type) => {
    const unit = await threeRegistrants();
    expect((await unit.out('A', 'reserve', { key: 1n, type })).status).toBe(GOOD);
    const ofAll = type >= WEAR;
    expect(await unit.reservation()).toEqual({ key: ofAll ? 0n : 1n, type });
    expect((await unit.out('A', 'reserve', { key: 1n, type })).status).toBe(GOOD);
    expect((await unit.out('A', 'reserve', { key: 1n, type: type === WE ? EA : WE })).status).toBe(CONFLICT);
    expect((await unit.out('B', 'reserve', { key: 2n, type })).status).toBe(ofAll ? GOOD : CONFLICT);
    expect((await unit.keys()).generation).toBe(3);
    for (const who of ['A', 'B', 'C']) expect(unit.attentions(who)).toEqual([]);
  });

  test.each([0, 2, 4, 9, 15])('type %i is refused', async (type) => {
    const unit = await threeRegistrants();
    const outcome = await unit.out('A', 'reserve', { key: 1n, type });
    expect(outcome).toMatchObject({ status: CHECK, sense: { key: 5, asc: 0x24, field: { inCdb: true, byte: 2 } } });
  });

  test('another scope than the logical unit is refused', async () => {
    const unit = await threeRegistrants();
    const outcome = await unit.out('A', 'reserve', { key: 1n, type: WE, scope: 2 });
    expect(outcome).toMatchObject({ status: CHECK, sense: { key: 5, asc: 0x24 } });
  });
});

describe('releasing', () => {
  test.each(Object.entries(TYPES))('%s: who else is told', async (_, type) => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type });
    unit.nexus('D');
    expect((await unit.out('A', 'release', { key: 1n, type })).status).toBe(GOOD);
    expect(await unit.reservation()).toBeUndefined();
    const told = type >= WERO ? [RELEASED] : [];
    expect([unit.attentions('A'), unit.attentions('B'), unit.attentions('C')]).toEqual([[], told, told]);
    expect(unit.attentions('D')).toEqual([]);
    expect(await unit.keys()).toEqual({ generation: 3, keys: [1n, 2n, 3n] });
  });

  test('by a registrant that is no holder does nothing', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WERO });
    expect((await unit.out('B', 'release', { key: 2n, type: WERO })).status).toBe(GOOD);
    expect(await unit.reservation()).toEqual({ key: 1n, type: WERO });
    expect((await unit.out('C', 'release', { key: 3n, type: EA })).status).toBe(GOOD);
  });

  test('of another type than there is is refused', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WERO });
    const refusal = { status: CHECK, sense: { key: 5, asc: 0x26, ascq: 0x04 } };
    expect(await unit.out('A', 'release', { key: 1n, type: WE })).toMatchObject(refusal);
    expect(await unit.out('A', 'release', { key: 1n, type: WERO, scope: 1 })).toMatchObject(refusal);
    expect(await unit.reservation()).toEqual({ key: 1n, type: WERO });
  });

  test('a unit attention that is pending is told once, however often its cause comes', async () => {
    const unit = await threeRegistrants();
    for (let round = 0; round < 3; round += 1) {
      await unit.out('A', 'reserve', { key: 1n, type: WERO });
      await unit.out('A', 'release', { key: 1n, type: WERO });
    }
    expect((await unit.run('B', '00 00 00 00 00 00')).sense).toMatchObject({ key: 6, asc: 0x2a, ascq: 0x04 });
    expect((await unit.run('B', '00 00 00 00 00 00')).status).toBe(GOOD);
  });
});

describe('unregistering', () => {
  test.each(Object.entries(TYPES))('the holder of %s', async (_, type) => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type });
    expect((await unit.out('A', 'register', { key: 1n })).status).toBe(GOOD);
    const ofAll = type >= WEAR;
    expect(await unit.reservation()).toEqual(ofAll ? { key: 0n, type } : undefined);
    const told = type === WERO || type === EARO ? [RELEASED] : [];
    expect([unit.attentions('A'), unit.attentions('B'), unit.attentions('C')]).toEqual([[], told, told]);
    if (!ofAll) return;
    await unit.out('B', 'register', { key: 2n });
    expect(await unit.reservation()).toEqual({ key: 0n, type });
    await unit.out('C', 'register-and-ignore');
    expect(await unit.reservation()).toBeUndefined();
  });

  test('an all registrants reservation still bars those who are not registered', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: EAAR });
    await unit.out('A', 'register', { key: 1n });
    expect((await unit.run('A', '28 00 00 00 00 00 00 00 01 00')).status).toBe(CONFLICT);
    expect((await unit.run('B', '28 00 00 00 00 00 00 00 01 00')).status).toBe(GOOD);
  });
});

describe('clearing', () => {
  test('removes all, and tells every other registrant', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WE });
    unit.nexus('D');
    expect((await unit.out('B', 'clear', { key: 2n })).status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 4, keys: [] });
    expect(await unit.reservation()).toBeUndefined();
    expect([unit.attentions('A'), unit.attentions('B'), unit.attentions('C')]).toEqual([[PREEMPTED], [], [PREEMPTED]]);
    expect(unit.attentions('D')).toEqual([]);
  });
});

describe('preempting', () => {
  test('the holder by its key: its registration goes, the reservation is taken over', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WERO });
    expect((await unit.out('B', 'preempt', { key: 2n, newKey: 1n, type: WERO })).status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 4, keys: [2n, 3n] });
    expect(await unit.reservation()).toEqual({ key: 2n, type: WERO });
    expect([unit.attentions('A'), unit.attentions('B'), unit.attentions('C')]).toEqual([[REGISTRATION_GONE], [], []]);
  });

  test('into another type: those that stay are told that the old one was released', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WE });
    await unit.out('B', 'preempt', { key: 2n, newKey: 1n, type: EA });
    expect(await unit.reservation()).toEqual({ key: 2n, type: EA });
    expect([unit.attentions('A'), unit.attentions('B'), unit.attentions('C')]).toEqual([
      [REGISTRATION_GONE],
      [],
      [RELEASED],
    ]);
  });

  test('another registrant: it alone goes, type and scope do not matter', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WE });
    expect((await unit.out('B', 'preempt', { key: 2n, newKey: 3n, type: 0, scope: 7 })).status).toBe(GOOD);
    expect((await unit.keys()).keys).toEqual([1n, 2n]);
    expect(await unit.reservation()).toEqual({ key: 1n, type: WE });
    expect([unit.attentions('A'), unit.attentions('B'), unit.attentions('C')]).toEqual([[], [], [REGISTRATION_GONE]]);
  });

  test('all with that key go', async () => {
    const unit = await threeRegistrants();
    await unit.out('D', 'register', { newKey: 3n });
    await unit.out('A', 'preempt', { key: 1n, newKey: 3n });
    expect((await unit.keys()).keys).toEqual([1n, 2n]);
    expect([unit.attentions('C'), unit.attentions('D')]).toEqual([[REGISTRATION_GONE], [REGISTRATION_GONE]]);
  });

  test('a key that nobody has is a conflict', async () => {
    const unit = await threeRegistrants();
    expect((await unit.out('A', 'preempt', { key: 1n, newKey: 9n, type: WE })).status).toBe(CONFLICT);
    expect((await unit.keys()).generation).toBe(3);
  });

  test('no key at all is an error, unless all registrants hold the reservation', async () => {
    const unit = await threeRegistrants();
    const refusal = { status: CHECK, sense: { key: 5, asc: 0x26, ascq: 0 } };
    expect(await unit.out('A', 'preempt', { key: 1n, type: WE })).toMatchObject(refusal);
    await unit.out('A', 'reserve', { key: 1n, type: EARO });
    expect(await unit.out('B', 'preempt', { key: 2n, type: WE })).toMatchObject(refusal);
  });

  test.each([WEAR, EAAR])('all registrants (type %i) with no key: everybody else goes', async (type) => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type });
    expect((await unit.out('B', 'preempt', { key: 2n, type: WERO })).status).toBe(GOOD);
    expect((await unit.keys()).keys).toEqual([2n]);
    expect(await unit.reservation()).toEqual({ key: 2n, type: WERO });
    expect([unit.attentions('A'), unit.attentions('B'), unit.attentions('C')]).toEqual([
      [REGISTRATION_GONE],
      [],
      [REGISTRATION_GONE],
    ]);
  });

  test('all registrants with a key: the reservation stays as long as anybody is registered', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WEAR });
    await unit.out('B', 'preempt', { key: 2n, newKey: 1n, type: EA });
    expect(await unit.reservation()).toEqual({ key: 0n, type: WEAR });
    await unit.out('B', 'preempt', { key: 2n, newKey: 3n, type: EA });
    await unit.out('B', 'preempt', { key: 2n, newKey: 2n, type: EA });
    expect((await unit.keys()).keys).toEqual([]);
    expect(await unit.reservation()).toBeUndefined();
    expect(unit.attentions('B')).toEqual([]);
  });

  test('the holder may preempt itself, into another type, and stays registered', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WE });
    expect((await unit.out('A', 'preempt', { key: 1n, newKey: 1n, type: WERO })).status).toBe(GOOD);
    expect((await unit.keys()).keys).toEqual([1n, 2n, 3n]);
    expect(await unit.reservation()).toEqual({ key: 1n, type: WERO });
    expect([unit.attentions('A'), unit.attentions('B')]).toEqual([[], [RELEASED]]);
  });

  test('a registrant that preempts its own key, and holds nothing, is removed and not told', async () => {
    const unit = await threeRegistrants();
    await unit.out('B', 'register', { key: 2n, newKey: 1n });
    expect((await unit.out('A', 'preempt', { key: 1n, newKey: 1n })).status).toBe(GOOD);
    expect((await unit.keys()).keys).toEqual([3n]);
    expect([unit.attentions('A'), unit.attentions('B')]).toEqual([[], [REGISTRATION_GONE]]);
  });

  test('a type that is none is refused when it would count, and nothing happens', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WE });
    const outcome = await unit.out('B', 'preempt', { key: 2n, newKey: 1n, type: 2 });
    expect(outcome).toMatchObject({ status: CHECK, sense: { key: 5, asc: 0x24 } });
    expect(await unit.keys()).toEqual({ generation: 3, keys: [1n, 2n, 3n] });
  });
});

describe('PREEMPT AND ABORT', () => {
  const READ = { kind: 'read', lba: 0, sectors: 1, fua: false } as const;

  test('ends the commands of the preempted nexuses but not itself, and is answered when they are over', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: EA });
    let over: () => void = () => undefined;
    const preempted: string[] = [];
    let except: unknown;
    unit.bench.abortTasks = (concerns, own) => {
      const of = (who: string): UnitNexus => unit.nexus(who);
      preempted.push(...['A', 'B', 'C', 'A2'].filter((who) => concerns(of(who), READ)));
      const elsewhere = unit.bench.join(new RamDevice({ bytes: 4096 }), { name: nameOf('A'), isid: ISID });
      if (concerns(elsewhere, READ)) preempted.push('read elsewhere by A');
      if (concerns(elsewhere, { kind: 'extended-copy', parameterBytes: 0 })) preempted.push('copy by A');
      except = own;
      return new Promise((resolve) => {
        over = resolve;
      });
    };
    let answered = false;
    const command = unit.out('B', 'preempt-and-abort', { key: 2n, newKey: 1n, type: EA }).then((outcome) => {
      answered = true;
      return outcome;
    });
    await Promise.resolve();
    expect(preempted).toEqual(['A', 'copy by A']);
    expect(except).toMatchObject({ kind: 'persistent-reserve-out', action: 'preempt-and-abort' });
    // The new reservation holds already, and other reservation commands go on meanwhile.
    expect(await unit.reservation()).toEqual({ key: 2n, type: EA });
    expect((await unit.out('C', 'register', { key: 3n, newKey: 4n })).status).toBe(GOOD);
    expect(answered).toBe(false);
    over();
    expect((await command).status).toBe(GOOD);
  });

  test('lets the medium of a preempted nexus be removed again', async () => {
    const unit = await threeRegistrants();
    const { preventing } = unit.nexus('A').unit.media;
    for (const who of ['A', 'C']) preventing.add(unit.nexus(who));
    await unit.out('B', 'preempt-and-abort', { key: 2n, newKey: 1n });
    expect([...preventing]).toEqual([unit.nexus('C')]);
  });

  test('aborts for everybody, itself too, when all registrants are preempted; for nobody when there is a conflict', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: EAAR });
    const preempted: string[][] = [];
    unit.bench.abortTasks = (concerns) => {
      preempted.push(['A', 'B', 'C', 'D'].filter((who) => concerns(unit.nexus(who), READ)));
    };
    expect((await unit.out('B', 'preempt-and-abort', { key: 2n, newKey: 9n, type: EA })).status).toBe(CONFLICT);
    expect((await unit.out('B', 'preempt-and-abort', { key: 2n, type: EA })).status).toBe(GOOD);
    expect(preempted).toEqual([['A', 'B', 'C']]);
  });

  test('a command that was aborted before its turn changes nothing', async () => {
    const unit = await threeRegistrants();
    const list = Buffer.alloc(24);
    list.writeBigUInt64BE(1n, 0);
    const cdb = Buffer.from('5f030000000000001800', 'hex'); // CLEAR
    await unit.bench.run(cdb, list, unit.nexus('A'), list.length, { state: 'aborted' });
    expect((await unit.keys()).keys).toEqual([1n, 2n, 3n]);
  });
});

describe('REGISTER AND MOVE', () => {
  test('gives the reservation to another port, which it registers', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WE });
    const to = transportId(nameOf('D'), ISID);
    expect((await unit.move('A', to, { key: 1n, newKey: 4n })).status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 4, keys: [1n, 2n, 3n, 4n] });
    expect(await unit.reservation()).toEqual({ key: 4n, type: WE });
    expect((await unit.run('D', '2a 00 00 00 00 00 00 00 01 00', Buffer.alloc(512))).status).toBe(GOOD);
    expect((await unit.run('A', '2a 00 00 00 00 00 00 00 01 00', Buffer.alloc(512))).status).toBe(CONFLICT);
  });

  test('with UNREG leaves its own registration, without a unit attention for anybody', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WERO });
    await unit.move('A', transportId(nameOf('B'), ISID), { key: 1n, newKey: 9n, unregister: true });
    expect((await unit.keys()).keys).toEqual([3n, 9n]);
    expect(await unit.reservation()).toEqual({ key: 9n, type: WERO });
    for (const who of ['A', 'B', 'C']) expect(unit.attentions(who)).toEqual([]);
  });

  test('is refused where it makes no sense', async () => {
    const unit = await threeRegistrants();
    const to = transportId(nameOf('D'), ISID);
    const bad = { status: CHECK, sense: { key: 5, asc: 0x26, ascq: 0 } };
    expect(await unit.move('A', to, { key: 1n, newKey: 4n })).toMatchObject({ status: CHECK, sense: { asc: 0x24 } });
    await unit.out('A', 'reserve', { key: 1n, type: WE });
    expect((await unit.move('B', to, { key: 2n, newKey: 4n })).status).toBe(CONFLICT);
    expect((await unit.move('D', to, { key: 0n, newKey: 4n })).status).toBe(CONFLICT);
    expect((await unit.move('A', to, { key: 2n, newKey: 4n })).status).toBe(CONFLICT);
    expect(await unit.move('A', to, { key: 1n })).toMatchObject(bad);
    expect(await unit.move('A', to, { key: 1n, newKey: 4n, port: 2 })).toMatchObject(bad);
    expect(await unit.move('A', transportId(nameOf('A'), ISID), { key: 1n, newKey: 4n })).toMatchObject(bad);
    expect(await unit.move('A', transportId(nameOf('D')), { key: 1n, newKey: 4n })).toMatchObject(bad);
    expect(await unit.move('A', to.subarray(0, 20), { key: 1n, newKey: 4n })).toMatchObject(bad);
    await unit.out('A', 'release', { key: 1n, type: WE });
    await unit.out('A', 'reserve', { key: 1n, type: WEAR });
    expect((await unit.move('A', to, { key: 1n, newKey: 4n })).status).toBe(CONFLICT);
    expect((await unit.keys()).keys).toEqual([1n, 2n, 3n]);
  });
});

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
