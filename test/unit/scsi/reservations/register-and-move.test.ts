import { describe, expect, test } from 'vitest';
import { WE, WEAR, WERO, threeRegistrants } from './registrants.ts';
import { CHECK, CONFLICT, GOOD, ISID, nameOf, transportId } from './reservation-bench.ts';

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
