import { describe, expect, test } from 'vitest';
import { EA, EAAR, EARO, REGISTRATION_GONE, RELEASED, WE, WEAR, WERO, threeRegistrants } from './registrants.ts';
import { CHECK, CONFLICT, GOOD } from './reservation-bench.ts';

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
