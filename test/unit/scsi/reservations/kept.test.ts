import { describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../../gateway/base/errors.ts';
import { UnitDocument } from '../../../../gateway/scsi/unit-document.ts';
import type { UnitStateStore } from '../../../../gateway/scsi/unit-state.ts';
import { CHECK, CONFLICT, GOOD, ISID, ReservationBench, TYPES, nameOf, transportId } from './reservation-bench.ts';
import type { Outcome } from '../../../support/scsi-bench.ts';

/** A store whose saves wait for the test, or fail, with or without having written. */
class TestStore implements UnitStateStore {
  document: string | undefined;
  saves = 0;
  /** What becomes of each save: `write` by default. */
  plan: ('write' | 'fail' | 'write-and-fail')[] = [];
  /** While set, saves wait for `proceed`. */
  holding = false;
  #held: (() => void)[] = [];

  constructor(document?: string) {
    this.document = document;
  }

  load(): string | undefined {
    return this.document;
  }

  async save(document: string): Promise<void> {
    this.saves += 1;
    if (this.holding) await new Promise<void>((resolve) => this.#held.push(resolve));
    const fate = this.plan.shift() ?? 'write';
    if (fate !== 'fail') this.document = document;
    if (fate !== 'write') throw new FarshoreError('stopped', 'The disk is full.');
  }

  proceed(): void {
    this.holding = false;
    for (const resolve of this.#held.splice(0)) resolve();
  }
}

/** A and B registered with keys 1 and 2, which are to outlive a power loss. */
async function twoKeptRegistrants(store: TestStore): Promise<ReservationBench> {
  const unit = new ReservationBench(store);
  for (const [who, newKey] of [
    ['A', 1n],
    ['B', 2n],
  ] as const)
    expect((await unit.out(who, 'register', { newKey, persists: true })).status).toBe(GOOD);
  return unit;
}

/** Everything that persists: READ FULL STATUS without the generation. */
async function fullStatus(unit: ReservationBench): Promise<string> {
  return (await unit.in('Z', 3)).toString('hex', 4);
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

const WERO = TYPES['write exclusive, registrants only'];

describe('without APTPL', () => {
  test('nothing is saved, and a power loss ends it all', async () => {
    const store = new TestStore();
    const unit = new ReservationBench(store);
    await unit.out('A', 'register', { newKey: 1n });
    await unit.out('A', 'reserve', { key: 1n, type: WERO });
    expect(store.saves).toBe(0);
    const restarted = new ReservationBench(store);
    expect(await restarted.keys()).toEqual({ generation: 0, keys: [] });
    expect(await restarted.reservation()).toBeUndefined();
  });
});

describe('with APTPL', () => {
  test('registrations and the reservation are there after a restart, on other hardware too; the generation is 0', async () => {
    const store = new TestStore();
    const unit = new ReservationBench(store);
    await unit.out('A', 'register', { newKey: 0xffff_ffff_ffff_fffen, persists: true });
    await unit.out('B', 'register', { newKey: 2n, persists: true, allPorts: true });
    await unit.out('A', 'reserve', { key: 0xffff_ffff_ffff_fffen, type: WERO });
    expect((await unit.in('A', 2)).toString('hex')).toBe('00081dc1ea010000'); // PTPL_C, PTPL_A
    const elsewhere = new ReservationBench(new TestStore(store.document));
    expect(await fullStatus(elsewhere)).toBe(await fullStatus(unit));
    expect(await elsewhere.keys()).toEqual({ generation: 0, keys: [0xffff_ffff_ffff_fffen, 2n] });
    expect((await elsewhere.in('A', 2)).readUInt8(3) & 1).toBe(1);
    expect((await elsewhere.run('C', '2a 00 00 00 00 00 00 00 01 00', Buffer.alloc(512))).status).toBe(CONFLICT);
    expect((await elsewhere.run('A', '2a 00 00 00 00 00 00 00 01 00', Buffer.alloc(512))).status).toBe(GOOD);
  });

  test('what ends is gone after a restart', async () => {
    const store = new TestStore();
    const unit = new ReservationBench(store);
    await unit.out('A', 'register', { newKey: 1n, persists: true });
    await unit.out('A', 'reserve', { key: 1n, type: WERO });
    await unit.out('A', 'release', { key: 1n, type: WERO });
    expect(await new ReservationBench(store).reservation()).toBeUndefined();
    await unit.out('A', 'clear', { key: 1n });
    expect((await new ReservationBench(store).keys()).keys).toEqual([]);
  });

  test('the last APTPL bit counts: a registration without it ends persistence for all', async () => {
    const store = new TestStore();
    const unit = new ReservationBench(store);
    await unit.out('A', 'register', { newKey: 1n, persists: true });
    await unit.out('B', 'register', { newKey: 2n });
    expect((await unit.keys()).keys).toEqual([1n, 2n]);
    expect((await new ReservationBench(store).keys()).keys).toEqual([]);
    await unit.out('B', 'register', { key: 2n, newKey: 2n, persists: true });
    expect((await new ReservationBench(store).keys()).keys).toEqual([1n, 2n]);
  });

  test('a command is answered, and takes effect, when it is durable and not before', async () => {
    const store = new TestStore();
    const unit = new ReservationBench(store);
    store.holding = true;
    let outcome: Outcome | undefined;
    const command = unit.out('A', 'register', { newKey: 1n, persists: true }).then((result) => {
      outcome = result;
    });
    await settled();
    expect(store.saves).toBe(1);
    expect(outcome).toBeUndefined();
    expect(await unit.keys()).toEqual({ generation: 0, keys: [] });
    store.proceed();
    await command;
    expect(outcome?.status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 1, keys: [1n] });
  });

  test('the longest names there can be are still kept within the document, or refused', async () => {
    const store = new TestStore();
    const unit = new ReservationBench(store);
    const others = Array.from({ length: 127 }, (_, n) =>
      transportId(`iqn.2026-11.example:${String(n).padStart(203, 'x')}`, ISID),
    );
    const outcome = await unit.out('A', 'register', { newKey: 1n, persists: true, others });
    expect(outcome.status).toBe(GOOD);
    expect(Buffer.byteLength(store.document ?? '')).toBeLessThan(60_100);
    const port = { targetName: `iqn.2026-11.dev.farshore:${'t'.repeat(198)}`, portalGroupTag: 1 };
    const elsewhere = unit.bench.join(unit.bench.device, { name: nameOf('B'), isid: ISID }, port);
    const list = Buffer.concat([Buffer.alloc(28), ...others]);
    list.writeBigUInt64BE(2n, 8);
    list[20] = 0x09;
    list.writeUInt32BE(list.length - 28, 24);
    const cdb = Buffer.from('5f000000000000000000', 'hex');
    cdb.writeUInt32BE(list.length, 5);
    await unit.out('A', 'clear', { key: 1n });
    elsewhere.takeAttention();
    const refused = await unit.bench.run(cdb, list, elsewhere);
    expect(refused).toMatchObject({ status: CHECK, sense: { key: 5, asc: 0x55, ascq: 0x04 } });
    expect((await unit.keys()).keys).toEqual([]);
  });

  test('two commands that race take turns: the second decides on what the first has made durable', async () => {
    const store = new TestStore();
    const unit = await twoKeptRegistrants(store);
    store.holding = true;
    const both = Promise.all([
      unit.out('A', 'reserve', { key: 1n, type: 1 }),
      unit.out('B', 'reserve', { key: 2n, type: 3 }),
      unit.out('A', 'register', { key: 1n, newKey: 5n, persists: true }),
    ]);
    await settled();
    expect(store.saves).toBe(3);
    store.proceed();
    expect((await both).map(({ status }) => status)).toEqual([GOOD, CONFLICT, GOOD]);
    expect(await unit.reservation()).toEqual({ key: 5n, type: 1 });
  });

  test('when the first of two fails the second has its chance', async () => {
    const store = new TestStore();
    const unit = await twoKeptRegistrants(store);
    store.holding = true;
    store.plan = ['fail'];
    const both = Promise.all([
      unit.out('A', 'reserve', { key: 1n, type: 1 }),
      unit.out('B', 'reserve', { key: 2n, type: 3 }),
    ]);
    await settled();
    store.proceed();
    expect((await both).map(({ status }) => status)).toEqual([CHECK, GOOD]);
    expect(await unit.reservation()).toEqual({ key: 2n, type: 3 });
  });

  test('RESERVE waits for a registration that is being made durable, and then gives way to it', async () => {
    const store = new TestStore();
    const unit = new ReservationBench(store);
    store.holding = true;
    const register = unit.out('A', 'register', { newKey: 1n, persists: true });
    const reserve = unit.run('B', '16 00 00 00 00 00');
    await settled();
    store.proceed();
    expect([(await register).status, (await reserve).status]).toEqual([GOOD, CONFLICT]);
  });
});

describe('a save that fails', () => {
  test.each(['fail', 'write-and-fail'] as const)(
    '(%s) is a CHECK CONDITION and changes nothing, before and after a power loss',
    async (fate) => {
      const store = new TestStore();
      const unit = new ReservationBench(store);
      await unit.out('A', 'register', { newKey: 1n, persists: true });
      await unit.out('B', 'register', { newKey: 2n, persists: true });
      await unit.out('A', 'reserve', { key: 1n, type: WERO });
      const before = await fullStatus(unit);
      const { generation } = await unit.keys();
      store.plan = [fate];
      const outcome = await unit.out('B', 'preempt-and-abort', { key: 2n, newKey: 1n, type: 3 });
      expect(outcome).toMatchObject({ status: CHECK, sense: { key: 4 } });
      expect(await fullStatus(unit)).toBe(before);
      expect((await unit.keys()).generation).toBe(generation);
      expect(unit.attentions('A')).toEqual([]);
      // The store may have written what it could not confirm, so the former document was put back.
      expect(await fullStatus(new ReservationBench(store))).toBe(before);
    },
  );

  test('and leaves the store in doubt is made good by the next command, even one that changes nothing', async () => {
    const store = new TestStore();
    const unit = new ReservationBench(store);
    await unit.out('A', 'register', { newKey: 1n, persists: true });
    store.plan = ['write-and-fail', 'fail'];
    expect((await unit.out('A', 'register', { key: 1n, newKey: 9n, persists: true })).status).toBe(CHECK);
    expect((await new ReservationBench(store).keys()).keys).toEqual([9n]);
    expect((await unit.keys()).keys).toEqual([1n]);
    expect((await unit.out('A', 'release', { key: 1n, type: 1 })).status).toBe(GOOD);
    expect((await new ReservationBench(store).keys()).keys).toEqual([1n]);
  });
});

test('power lost at every save: what was answered is there, and what was not is there whole or not at all', async () => {
  const script: ((unit: ReservationBench) => Promise<Outcome>)[] = [
    (unit) => unit.out('A', 'register', { newKey: 1n, persists: true }),
    (unit) => unit.out('B', 'register', { newKey: 2n, persists: true, others: [transportId(nameOf('E'), ISID)] }),
    (unit) => unit.out('C', 'register', { newKey: 3n, persists: true, allPorts: true }),
    (unit) => unit.out('A', 'reserve', { key: 1n, type: 5 }),
    (unit) => unit.out('A', 'register', { key: 1n, newKey: 4n, persists: true }),
    (unit) => unit.out('B', 'preempt', { key: 2n, newKey: 4n, type: 7 }),
    (unit) => unit.out('C', 'preempt-and-abort', { key: 3n, newKey: 2n, type: 1 }),
    (unit) => unit.out('A', 'register-and-ignore', { newKey: 5n, persists: true }),
    (unit) => unit.out('C', 'release', { key: 3n, type: 7 }),
    (unit) => unit.out('C', 'reserve', { key: 3n, type: 3 }),
    (unit) => unit.move('C', transportId(nameOf('A'), ISID), { key: 3n, newKey: 6n, unregister: true, persists: true }),
    (unit) => unit.out('A', 'register', { key: 6n, persists: true }),
    (unit) => unit.out('D', 'register', { newKey: 7n, persists: true }),
    (unit) => unit.out('D', 'clear', { key: 7n }),
    (unit) => unit.out('D', 'register', { newKey: 8n }),
  ];
  const take = (unit: ReservationBench, step: (typeof script)[number] | undefined): Promise<Outcome> | undefined => {
    for (const who of ['A', 'B', 'C', 'D']) unit.attentions(who);
    return step?.(unit);
  };
  /** What persists after each step when nothing fails; the last step ends persistence. */
  const states: string[] = [await fullStatus(new ReservationBench(new TestStore()))];
  {
    const store = new TestStore();
    const unit = new ReservationBench(store);
    for (const step of script) {
      expect((await take(unit, step))?.status).toBe(GOOD);
      states.push(await fullStatus(new ReservationBench(store)));
    }
    expect(store.saves).toBe(script.length);
    expect(new Set(states).size).toBeGreaterThan(script.length / 2);
  }
  for (let crashAt = 0; crashAt < script.length; crashAt += 1) {
    for (const written of [false, true]) {
      const store = new TestStore();
      const unit = new ReservationBench(store);
      for (const step of script.slice(0, crashAt)) await take(unit, step);
      expect(await fullStatus(new ReservationBench(store))).toBe(states[crashAt]);
      store.holding = true; // the power goes while this save is under way: it is never answered
      void take(unit, script[crashAt]);
      await settled();
      const before = store.document;
      if (written) store.proceed();
      await settled();
      const restarted = new ReservationBench(new TestStore(written ? store.document : before));
      expect(await fullStatus(restarted)).toBe(states[written ? crashAt + 1 : crashAt]);
    }
  }
});

describe('a document that makes no sense', () => {
  const registration = { name: nameOf('A'), isid: ISID, target: null, key: '0000000000000001' };
  const holder = { name: nameOf('A'), isid: ISID, target: 't' };

  const DOCUMENTS: readonly (readonly [string, string])[] = [
    ['no JSON', '{'],
    ['no object', '[]'],
    ['null', 'null'],
    ['another format', '{"format":2}'],
    ['no format', '{}'],
    ...(
      [
        ['no registrations', {}],
        ['a registration without a key', { registrations: [{ ...registration, key: undefined }], reservation: null }],
        ['a key of zero', { registrations: [{ ...registration, key: '0000000000000000' }], reservation: null }],
        ['an ISID that is none', { registrations: [{ ...registration, isid: '1' }], reservation: null }],
        ['one port twice', { registrations: [registration, { ...registration, target: 't' }], reservation: null }],
        ['a type that is none', { registrations: [registration], reservation: { type: 2, holder } }],
        ['a holder that is not registered', { registrations: [], reservation: { type: 1, holder } }],
        ['no holder where one is due', { registrations: [registration], reservation: { type: 1, holder: null } }],
        ['a holder where all are', { registrations: [registration], reservation: { type: 7, holder } }],
        ['no word on the reservation', { registrations: [registration] }],
      ] as const
    ).map(([what, reservations]) => [what, JSON.stringify({ format: 1, reservations })] as const),
  ];

  test.each(DOCUMENTS)('(%s) bars everybody from the medium: nobody knows who had reserved it', async (_, document) => {
    const unit = new ReservationBench(new TestStore(document));
    const refusal = { status: CHECK, sense: { key: 2, asc: 0x04, ascq: 0x03 } };
    for (const cdb of ['00 00 00 00 00 00', '28 00 00 00 00 00 00 00 01 00', '5e 00 00 00 00 00 00 00 ff 00'])
      expect(await unit.run('A', cdb)).toMatchObject(refusal);
    expect(await unit.out('A', 'register-and-ignore', { newKey: 1n })).toMatchObject(refusal);
    expect((await unit.run('A', '12 00 00 00 ff 00')).status).toBe(GOOD);
  });
});

test('sections of others, known or not, stay in the document', async () => {
  const store = new TestStore('{"format":1,"sanitize":{"left":3},"later":true}');
  const unit = new ReservationBench(store);
  await unit.out('A', 'register', { newKey: 1n, persists: true });
  expect(JSON.parse(store.document ?? '')).toMatchObject({ format: 1, sanitize: { left: 3 }, later: true });
  const document = new UnitDocument(store);
  await Promise.all([document.save('sanitize', undefined), document.save('reservations', undefined)]);
  expect(JSON.parse(store.document ?? '')).toEqual({ format: 1, later: true });
});
