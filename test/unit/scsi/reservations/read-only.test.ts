import { describe, expect, test } from 'vitest';
import { MAX_REGISTRATIONS_OF_INITIATOR } from '../../../../gateway/scsi/reservations/registry.ts';
import type { UnitNexus } from '../../../../gateway/scsi/logical-unit.ts';
import { EA, EAAR, PREEMPTED, REGISTRATION_GONE, RELEASED, WE, WEAR, WERO } from './registrants.ts';
import { CHECK, CONFLICT, GOOD, ISID, ReservationBench, nameOf, transportId } from './reservation-bench.ts';
import type { OutFields } from './reservation-bench.ts';

/** R is an initiator that is mapped read-only: whatever it does must take nothing from those that may write. */

const READ = '28 00 00 00 00 00 00 00 01 00';
const WRITE = '2a 00 00 00 00 00 00 00 01 00';
const SECTOR = Buffer.alloc(512);
const WRITE_PROTECTED = { status: CHECK, sense: { key: 7, asc: 0x27, ascq: 0x00 } };
const NO_ROOM = { status: CHECK, sense: { key: 5, asc: 0x55, ascq: 0x04 } };

function withReader(unit = new ReservationBench()): ReservationBench {
  unit.nexus('R').setReadOnly(true);
  return unit;
}

/** REGISTER through another port of R. */
async function registerPort(unit: ReservationBench, n: number, fields: OutFields): Promise<{ status: number }> {
  const isid = `80${n.toString(16).padStart(10, '0')}`;
  const port: UnitNexus = unit.bench.join(unit.bench.device, { name: nameOf('R'), isid });
  port.setReadOnly(true);
  const list = Buffer.alloc(24);
  list.writeBigUInt64BE(fields.newKey ?? 0n, 8);
  return unit.bench.run('5f 00 00 00 00 00 00 00 18 00', list, port);
}

describe('an initiator that may only read', () => {
  test('may register, and read what a registrants only reservation keeps others from', async () => {
    const unit = withReader();
    await unit.out('A', 'register', { newKey: 1n });
    await unit.out('A', 'reserve', { key: 1n, type: 6 });
    expect((await unit.run('R', READ)).status).toBe(CONFLICT);
    expect((await unit.out('R', 'register', { newKey: 9n })).status).toBe(GOOD);
    expect((await unit.run('R', READ)).status).toBe(GOOD);
    expect((await unit.out('R', 'register', { key: 9n })).status).toBe(GOOD);
    expect(await unit.reservation()).toEqual({ key: 1n, type: 6 });
  });

  test('may not take the places of the others by registering through ever more ports', async () => {
    const unit = withReader();
    for (let n = 0; n < MAX_REGISTRATIONS_OF_INITIATOR; n += 1)
      expect((await registerPort(unit, n, { newKey: 9n })).status).toBe(GOOD);
    expect(await registerPort(unit, 1000, { newKey: 9n })).toMatchObject(NO_ROOM);
    expect((await unit.keys()).keys).toHaveLength(MAX_REGISTRATIONS_OF_INITIATOR);
    expect((await unit.out('A', 'register', { newKey: 1n })).status).toBe(GOOD);
  });

  test('may not register others', async () => {
    const unit = withReader();
    const others = [transportId('iqn.2026-11.example:n', ISID)];
    expect(await unit.out('R', 'register', { newKey: 9n, others })).toMatchObject(WRITE_PROTECTED);
    expect((await unit.keys()).keys).toEqual([]);
    expect((await unit.out('R', 'register', { newKey: 9n, others: [] })).status).toBe(GOOD);
  });

  test.each([WEAR, EAAR])('may not release what every registrant holds (type %i)', async (type) => {
    const unit = withReader();
    await unit.out('A', 'register', { newKey: 1n });
    await unit.out('A', 'reserve', { key: 1n, type });
    await unit.out('R', 'register', { newKey: 9n });
    expect(await unit.out('R', 'release', { key: 9n, type })).toMatchObject(WRITE_PROTECTED);
    expect(await unit.out('R', 'release', { key: 8n, type })).toMatchObject({ status: CONFLICT });
    expect(await unit.reservation()).toMatchObject({ type });
    expect((await unit.run('B', WRITE, SECTOR)).status).toBe(CONFLICT);
    expect(unit.attentions('A')).toEqual([]);
    // Not by leaving either; and alone it keeps nobody's.
    expect((await unit.out('R', 'register', { key: 9n })).status).toBe(GOOD);
    expect(await unit.reservation()).toMatchObject({ type });
    await unit.out('R', 'register', { newKey: 9n });
    await unit.out('A', 'register', { key: 1n });
    expect((await unit.out('R', 'release', { key: 9n, type })).status).toBe(GOOD);
    expect(await unit.reservation()).toBeUndefined();
  });

  test('may give up what it holds itself, from the time when it could write', async () => {
    const unit = new ReservationBench();
    await unit.out('A', 'register', { newKey: 1n });
    await unit.out('R', 'register', { newKey: 9n });
    await unit.out('R', 'reserve', { key: 9n, type: WE });
    withReader(unit);
    expect((await unit.out('R', 'release', { key: 9n, type: WE })).status).toBe(GOOD);
    expect(await unit.reservation()).toBeUndefined();
    unit.nexus('R').setReadOnly(false);
    await unit.out('R', 'reserve', { key: 9n, type: WERO });
    withReader(unit);
    expect((await unit.out('R', 'register', { key: 9n })).status).toBe(GOOD);
    expect(await unit.reservation()).toBeUndefined();
    expect(unit.attentions('A')).toEqual([RELEASED]);
  });

  test.each(['clear', 'preempt', 'preempt-and-abort'] as const)(
    'may not %s, also when it became read-only while the command waited for its turn',
    async (action) => {
      let kept: (() => void)[] | undefined;
      const unit = new ReservationBench({
        load: () => undefined,
        save: () =>
          new Promise((resolve) => {
            if (kept === undefined) resolve();
            else kept.push(resolve);
          }),
      });
      await unit.out('A', 'register', { newKey: 1n, persists: true });
      await unit.out('R', 'register', { newKey: 9n, persists: true });
      await unit.out('A', 'reserve', { key: 1n, type: EA });
      kept = [];
      const registering = unit.out('B', 'register', { newKey: 2n, persists: true });
      const fields = { key: 9n, newKey: 1n, type: EA };
      const acting = unit.out('R', action, fields);
      withReader(unit);
      while (kept.length === 0) await Promise.resolve();
      const [done] = kept;
      kept = undefined;
      done?.();
      await registering;
      expect(await acting).toMatchObject(WRITE_PROTECTED);
      expect(await unit.out('R', action, fields)).toMatchObject(WRITE_PROTECTED);
      expect(await unit.reservation()).toEqual({ key: 1n, type: EA });
      for (const told of [PREEMPTED, RELEASED, REGISTRATION_GONE]) expect(unit.attentions('A')).not.toContain(told);
    },
  );

  test('may not move a reservation that it holds to somebody else', async () => {
    const unit = new ReservationBench();
    await unit.out('R', 'register', { newKey: 9n });
    await unit.out('R', 'reserve', { key: 9n, type: WE });
    withReader(unit);
    expect(await unit.move('R', transportId(nameOf('A'), ISID), { key: 9n, newKey: 1n })).toMatchObject(
      WRITE_PROTECTED,
    );
  });
});

describe('the APTPL bit of an initiator that may only read', () => {
  function kept(): { unit: ReservationBench; registrations: () => number | undefined } {
    let text: string | undefined;
    const unit = new ReservationBench({
      load: () => text,
      save: (document) => {
        text = document;
        return Promise.resolve();
      },
    });
    const registrations = (): number | undefined => {
      const { reservations } = JSON.parse(text ?? '{}') as { reservations?: { registrations: unknown[] } };
      return reservations?.registrations.length;
    };
    return { unit: withReader(unit), registrations };
  }

  test.each(['register', 'register-and-ignore'] as const)(
    '%s ends the persistence of nobody else, nor does leaving',
    async (action) => {
      const { unit, registrations } = kept();
      await unit.out('A', 'register', { newKey: 1n, persists: true });
      await unit.out('A', 'reserve', { key: 1n, type: WE });
      expect((await unit.out('R', action, { newKey: 9n, persists: false })).status).toBe(GOOD);
      expect(registrations()).toBe(2);
      expect((await unit.out('R', action, { key: 9n, persists: false })).status).toBe(GOOD);
      expect(registrations()).toBe(1);
    },
  );

  test('does not begin it either: it would cost the others a durable write a change', async () => {
    const { unit, registrations } = kept();
    await unit.out('A', 'register', { newKey: 1n, persists: false });
    expect((await unit.out('R', 'register', { newKey: 9n, persists: true })).status).toBe(GOOD);
    expect(registrations()).toBeUndefined();
  });

  test('counts while nobody else is registered', async () => {
    const { unit, registrations } = kept();
    await unit.out('R', 'register', { newKey: 9n, persists: true });
    expect(registrations()).toBe(1);
    await unit.out('R', 'register', { key: 9n, newKey: 8n, persists: false });
    expect(registrations()).toBeUndefined();
  });
});
