import { describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../../gateway/base/errors.ts';
import type { Reaches } from '../../../../gateway/scsi/reservations/withdrawal.ts';
import { EA, EAAR, REGISTRATION_GONE, RELEASED, WERO, threeRegistrants } from './registrants.ts';
import { CONFLICT, GOOD, ReservationBench, nameOf } from './reservation-bench.ts';

/** What becomes of the reservations of an initiator that no map lets to the unit any more. */

const READ = '28 00 00 00 00 00 00 00 01 00';

const all: Reaches = () => true;
const allBut =
  (who: string): Reaches =>
  (name) =>
    name !== nameOf(who);
/** Only through the second of the two targets. */
const onlyAtSecond =
  (who: string): Reaches =>
  (name, target) =>
    name !== nameOf(who) || (target?.endsWith('2') ?? true);

async function retain(unit: ReservationBench, reaches: Reaches): Promise<void> {
  await unit.nexus('Z').unit.reservations.retain(reaches);
}

describe('an initiator that reaches the unit no more', () => {
  test('loses its registration, and its reservation, which keeps nobody out any more', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: EA });
    unit.leave('A');
    expect((await unit.run('B', READ)).status).toBe(CONFLICT);
    await retain(unit, allBut('A'));
    expect((await unit.run('B', READ)).status).toBe(GOOD);
    expect(await unit.keys()).toEqual({ generation: 4, keys: [2n, 3n] });
    expect(await unit.reservation()).toBeUndefined();
  });

  test('is missed as if it had unregistered: those that its reservation spared are told', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WERO });
    await retain(unit, allBut('A'));
    expect(['A', 'B', 'C', 'D'].map((who) => unit.attentions(who))).toEqual([
      [REGISTRATION_GONE],
      [RELEASED],
      [RELEASED],
      [],
    ]);
  });

  test('leaves what every registrant holds to the others, until none is left', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: EAAR });
    await retain(unit, allBut('A'));
    expect(await unit.reservation()).toMatchObject({ type: EAAR });
    expect(unit.attentions('B')).toEqual([]);
    await retain(unit, () => false);
    expect(await unit.reservation()).toBeUndefined();
    expect((await unit.keys()).keys).toEqual([]);
  });

  test('through one target keeps what it has at the other', async () => {
    const unit = new ReservationBench();
    await unit.out('A', 'register', { newKey: 1n });
    await unit.out('A2', 'register', { newKey: 2n });
    await unit.out('A2', 'reserve', { key: 2n, type: EA });
    await retain(unit, onlyAtSecond('A'));
    expect((await unit.in('A2', 0)).subarray(8)).toHaveLength(8);
    expect(await unit.reservation('A2')).toEqual({ key: 2n, type: EA });
  });

  test('through one of the targets of an ALL_TG_PT registration keeps that, but not what it reserved through the lost one', async () => {
    const unit = new ReservationBench();
    await unit.out('A', 'register', { newKey: 1n, allPorts: true });
    await unit.out('A', 'reserve', { key: 1n, type: EA });
    await retain(unit, onlyAtSecond('A'));
    expect((await unit.keys()).keys).toEqual([1n]);
    expect(await unit.reservation()).toBeUndefined();
    await unit.out('A2', 'reserve', { key: 1n, type: EA });
    await retain(unit, onlyAtSecond('A'));
    expect(await unit.reservation()).toMatchObject({ type: EA });
    await retain(unit, allBut('A'));
    expect((await unit.keys()).keys).toEqual([]);
  });

  test('changes nothing and is told nothing when everybody registered still reaches it', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: WERO });
    await retain(unit, all);
    expect(await unit.keys()).toEqual({ generation: 3, keys: [1n, 2n, 3n] });
    expect(unit.attentions('B')).toEqual([]);
  });

  test('is gone durably, or not at all; and what is being made durable for it comes first', async () => {
    let text: string | undefined;
    let fails = false;
    let inSave: (() => void) | undefined;
    const unit = new ReservationBench({
      load: () => text,
      save: async (document) => {
        if (fails) throw new FarshoreError('stopped', 'the disk is full');
        if (inSave === undefined)
          await new Promise<void>((resolve) => {
            inSave = resolve;
          });
        text = document;
      },
    });
    const registering = unit.out('A', 'register', { newKey: 1n, persists: true });
    const retaining = retain(unit, allBut('A'));
    while (inSave === undefined) await Promise.resolve();
    inSave();
    expect((await registering).status).toBe(GOOD);
    await retaining;
    expect((await unit.keys()).keys).toEqual([]);
    expect((await new ReservationBench({ load: () => text, save: () => Promise.resolve() }).keys()).keys).toEqual([]);
    expect(unit.attentions('A')).toEqual([REGISTRATION_GONE]);
    await unit.out('A', 'register', { newKey: 1n, persists: true });
    fails = true;
    await expect(retain(unit, allBut('A'))).rejects.toMatchObject({ kind: 'stopped' });
    expect((await unit.keys()).keys).toEqual([1n]);
    fails = false;
    await retain(unit, allBut('A'));
    expect((await unit.keys()).keys).toEqual([]);
  });
});
