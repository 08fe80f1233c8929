import { describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../../gateway/base/errors.ts';
import type { UnitStateStore } from '../../../../gateway/scsi/unit-state.ts';
import { CHECK, CONFLICT, GOOD, ISID, ReservationBench, TYPES, nameOf } from './reservation-bench.ts';

/** What an administrator does when the hosts that reserved a unit are gone, or when nobody knows who did. */

const WRITE = '2a 00 00 00 00 00 00 00 01 00';
const SECTOR = Buffer.alloc(512);
const RESERVATIONS_PREEMPTED = '2a03';

function storeOf(document?: string): UnitStateStore & { document: string | undefined; fails: boolean } {
  return {
    document,
    fails: false,
    load() {
      return this.document;
    },
    save(text) {
      if (this.fails) return Promise.reject(new FarshoreError('stopped', 'The disk is full.'));
      this.document = text;
      return Promise.resolve();
    },
  };
}

function reservationsOf(unit: ReservationBench) {
  return unit.nexus('Z').unit.reservations;
}

describe('clearing reservations', () => {
  test('ends them all, durably, and tells those that were registered', async () => {
    const store = storeOf();
    const unit = new ReservationBench(store);
    for (const who of ['A', 'B']) await unit.out(who, 'register', { newKey: 7n, persists: true });
    await unit.out('A', 'reserve', { key: 7n, type: TYPES['write exclusive'] });
    expect((await unit.run('C', WRITE, SECTOR)).status).toBe(CONFLICT);
    expect(reservationsOf(unit).report()).toMatchObject({
      readable: true,
      persists: true,
      type: 'write exclusive',
      registrations: [
        { initiator: nameOf('A'), isid: ISID, key: '0x7', holds: true },
        { initiator: nameOf('B'), isid: ISID, key: '0x7', holds: false },
      ],
    });
    await reservationsOf(unit).clear();
    expect((await unit.run('C', WRITE, SECTOR)).status).toBe(GOOD);
    expect(['A', 'B', 'C'].map((who) => unit.attentions(who))).toEqual([
      [RESERVATIONS_PREEMPTED],
      [RESERVATIONS_PREEMPTED],
      [],
    ]);
    expect(await unit.keys()).toEqual({ generation: 3, keys: [] });
    expect(JSON.parse(store.document ?? '')).toEqual({ format: 1 });
  });

  test('ends a RESERVE too', async () => {
    const unit = new ReservationBench();
    await unit.run('A', '16 00 00 00 00 00');
    expect(reservationsOf(unit).report().reservedBy).toMatchObject({ initiator: nameOf('A') });
    await reservationsOf(unit).clear();
    expect((await unit.run('B', WRITE, SECTOR)).status).toBe(GOOD);
    expect([unit.attentions('A'), unit.attentions('B')]).toEqual([[RESERVATIONS_PREEMPTED], []]);
  });

  test('changes nothing when it cannot be made durable', async () => {
    const store = storeOf();
    const unit = new ReservationBench(store);
    await unit.out('A', 'register', { newKey: 7n, persists: true });
    await unit.out('A', 'reserve', { key: 7n, type: TYPES['write exclusive'] });
    store.fails = true;
    await expect(reservationsOf(unit).clear()).rejects.toMatchObject({ kind: 'stopped' });
    expect((await unit.run('C', WRITE, SECTOR)).status).toBe(CONFLICT);
    expect(unit.attentions('A')).toEqual([]);
  });
});

describe('what was kept and cannot be understood', () => {
  const SANITIZE = { method: 'block-erase', pattern: '', passes: 1, inverts: false, mayExit: true, state: 'failed' };
  const failed = { ...SANITIZE, pass: 0, lba: 0 };

  test.each([
    ['the document', 'not JSON', {}],
    ['the document of another format', '{"format":2,"reservations":{}}', {}],
    ['the reservations', '{"format":1,"reservations":{"registrations":5}}', {}],
    [
      'the reservations, not the SANITIZE',
      JSON.stringify({ format: 1, reservations: 5, sanitize: failed }),
      { sanitize: failed },
    ],
    ['the SANITIZE', '{"format":1,"sanitize":5,"later":6}', { later: 6 }],
  ])('is gone afterwards, and everybody is told: %s', async (_, document, left) => {
    const store = storeOf(document);
    const unit = new ReservationBench(store);
    expect((await unit.run('A', WRITE, SECTOR)).sense).toMatchObject({ key: 2, asc: 0x04, ascq: 0x03 });
    expect(reservationsOf(unit).report().readable).toBe(false);
    await reservationsOf(unit).clear();
    expect(unit.attentions('A')).toEqual([RESERVATIONS_PREEMPTED]);
    expect(JSON.parse(store.document ?? '')).toEqual({ format: 1, ...left });
    const { status } = await unit.run('A', WRITE, SECTOR);
    expect(status).toBe('sanitize' in left ? CHECK : GOOD); // an unfinished SANITIZE still bars the medium
    expect((await new ReservationBench(store).run('A', WRITE, SECTOR)).status).toBe(status);
  });

  test('stays when it cannot be removed durably', async () => {
    const store = storeOf('not JSON');
    const unit = new ReservationBench(store);
    store.fails = true;
    await expect(reservationsOf(unit).clear()).rejects.toMatchObject({ kind: 'stopped' });
    expect((await unit.run('A', WRITE, SECTOR)).sense).toMatchObject({ asc: 0x04, ascq: 0x03 });
    store.fails = false;
    await reservationsOf(unit).clear();
    expect(store.document).toBe('{"format":1}');
  });
});
