import { describe, expect, test } from 'vitest';
import { EAAR, EARO, PREEMPTED, RELEASED, WE, WEAR, WERO, threeRegistrants } from './registrants.ts';
import { CONFLICT, GOOD, TYPES } from './reservation-bench.ts';

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
