import { describe, expect, test } from 'vitest';
import { EA, RELEASED, WE, WEAR, WERO, threeRegistrants } from './registrants.ts';
import { CHECK, CONFLICT, GOOD, TYPES } from './reservation-bench.ts';

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
