import { describe, expect, test } from 'vitest';
import { gate } from '../../../support/iscsi-world.ts';
import { CHECK, CONFLICT, GOOD, ReservationBench, TYPES } from './reservation-bench.ts';

const RESERVE = '16 00 00 00 00 00';
const RELEASE = '17 00 00 00 00 00';
const READ = '28 00 00 00 00 00 00 00 01 00';
const MODE_SENSE = '1a 00 3f 00 ff 00';

describe('RESERVE and RELEASE', () => {
  test.each([
    ['(6)', RESERVE, RELEASE],
    ['(10)', '56 00 00 00 00 00 00 00 00 00', '57 00 00 00 00 00 00 00 00 00'],
  ])('%s keep the others out until released; releasing what one has not is no error', async (_, reserve, release) => {
    const unit = new ReservationBench();
    expect((await unit.run('A', reserve)).status).toBe(GOOD);
    expect((await unit.run('A', reserve)).status).toBe(GOOD);
    expect((await unit.run('B', reserve)).status).toBe(CONFLICT);
    expect((await unit.run('B', release)).status).toBe(GOOD);
    expect((await unit.run('B', READ)).status).toBe(CONFLICT);
    expect((await unit.run('B', MODE_SENSE)).status).toBe(CONFLICT);
    expect((await unit.run('A', MODE_SENSE)).status).toBe(GOOD);
    expect((await unit.run('A', release)).status).toBe(GOOD);
    expect((await unit.run('B', reserve)).status).toBe(GOOD);
  });

  test.each([
    ['12 00 00 00 ff 00', GOOD],
    ['03 00 00 00 ff 00', GOOD],
    ['4d 00 40 00 00 00 00 00 ff 00', GOOD],
    ['25 00 00 00 00 00 00 00 00 00', GOOD],
    ['1e 00 00 00 00 00', GOOD],
    ['1b 00 00 00 01 00', GOOD],
    ['a3 0a 00 00 00 00 00 00 00 ff 00 00', GOOD],
    ['00 00 00 00 00 00', CONFLICT],
    ['1e 00 00 00 01 00', CONFLICT],
    ['1b 00 00 00 00 00', CONFLICT],
    ['35 00 00 00 00 00 00 00 00 00', CONFLICT],
    ['9e 12 00 00 00 00 00 00 00 00 00 00 00 ff 00 00', CONFLICT],
  ])('what passes: %s is answered with status %i', async (cdb, status) => {
    const unit = new ReservationBench();
    await unit.run('A', RESERVE);
    expect((await unit.run('B', cdb)).status).toBe(status);
  });

  test('a third party or an extent is refused', async () => {
    const unit = new ReservationBench();
    for (const cdb of ['16 10 00 00 00 00', '16 01 00 00 00 00', '56 02 00 00 00 00 00 00 00 00'])
      expect((await unit.run('A', cdb)).sense).toMatchObject({ key: 5, asc: 0x24, field: { byte: 1 } });
  });

  test('end with the nexus, and with a reset', async () => {
    const unit = new ReservationBench();
    await unit.run('A', RESERVE);
    unit.leave('B');
    expect((await unit.run('C', READ)).status).toBe(CONFLICT);
    unit.leave('A');
    expect((await unit.run('C', READ)).status).toBe(GOOD);
    await unit.run('A', RESERVE);
    unit.nexus('C').unit.reset();
    unit.attentions('C');
    expect((await unit.run('C', READ)).status).toBe(GOOD);
  });
});

describe('one that waits for its turn behind a change that is being made durable', () => {
  async function waiting(cdb: string, who: string): Promise<Waiting> {
    const kept = gate();
    let isSlow = false;
    let text: string | undefined;
    const unit = new ReservationBench({
      load: () => text,
      save: async (document) => {
        if (isSlow) await kept.opened;
        text = document;
      },
    });
    expect((await unit.out('A', 'register', { newKey: 1n, persists: true })).status).toBe(GOOD);
    isSlow = true;
    const clearing = unit.out('A', 'clear', { key: 1n });
    const life = { state: 'executing' };
    const running = unit.bench.run(cdb, undefined, unit.nexus(who), 0, life);
    const ended = async (): Promise<number> => {
      kept.open();
      expect((await clearing).status).toBe(GOOD);
      return (await running).status;
    };
    return { unit, life, ended };
  }

  interface Waiting {
    readonly unit: ReservationBench;
    readonly life: { state: string };
    readonly ended: () => Promise<number>;
  }

  test('takes effect when its turn comes', async () => {
    const { unit, ended } = await waiting(RESERVE, 'B');
    expect(await ended()).toBe(GOOD);
    expect((await unit.run('C', READ)).status).toBe(CONFLICT);
  });

  test('reserves nothing when it was aborted: nobody would know of it, and nobody release it', async () => {
    const { unit, life, ended } = await waiting(RESERVE, 'B');
    life.state = 'aborted';
    await ended();
    expect((await unit.run('C', READ)).status).toBe(GOOD);
  });

  test('reserves nothing for a nexus that is lost, and a new one of the same name has nothing either', async () => {
    const { unit, ended } = await waiting(RESERVE, 'B');
    unit.leave('B');
    unit.nexus('B');
    await ended();
    expect((await unit.run('C', READ)).status).toBe(GOOD);
  });

  test('reserves nothing for one that has come to be allowed to read only', async () => {
    const { unit, ended } = await waiting(RESERVE, 'B');
    unit.nexus('B').setReadOnly(true);
    expect(await ended()).toBe(CHECK);
    expect((await unit.run('C', READ)).status).toBe(GOOD);
  });

  test('releases nothing of what the same initiator reserves later', async () => {
    const { unit, life, ended } = await waiting(RELEASE, 'B');
    life.state = 'aborted';
    unit.leave('B');
    const reserving = unit.run('B', RESERVE);
    await ended();
    expect((await reserving).status).toBe(GOOD);
    expect((await unit.run('C', READ)).status).toBe(CONFLICT);
  });

  test('changes no persistent reservation for a nexus that is lost', async () => {
    const { unit, ended } = await waiting(RESERVE, 'C');
    const registering = unit.out('B', 'register', { newKey: 2n });
    unit.leave('B');
    unit.leave('C');
    await ended();
    await registering;
    expect((await unit.keys()).keys).toEqual([]);
  });
});

describe('together with persistent reservations', () => {
  test('a RESERVE keeps persistent ones out, for its own holder too', async () => {
    const unit = new ReservationBench();
    await unit.run('A', RESERVE);
    for (const who of ['A', 'B']) {
      expect((await unit.out(who, 'register', { newKey: 1n })).status).toBe(CONFLICT);
      expect((await unit.run(who, '5e 00 00 00 00 00 00 00 ff 00')).status).toBe(CONFLICT);
    }
    await unit.run('A', RELEASE);
    expect((await unit.keys()).keys).toEqual([]);
  });

  test('a registration keeps RESERVE and RELEASE out', async () => {
    const unit = new ReservationBench();
    await unit.out('A', 'register', { newKey: 1n });
    for (const who of ['A', 'B'])
      for (const cdb of [RESERVE, RELEASE]) expect((await unit.run(who, cdb)).status).toBe(CONFLICT);
  });

  test.each(Object.entries(TYPES))(
    'under %s they succeed without effect for whom it spares (SPC-4 5.13.3)',
    async (_, type) => {
      const unit = new ReservationBench();
      await unit.out('A', 'register', { newKey: 1n });
      await unit.out('B', 'register', { newKey: 2n });
      await unit.out('A', 'reserve', { key: 1n, type });
      const spared = type >= TYPES['write exclusive, registrants only'];
      for (const cdb of [RESERVE, RELEASE]) {
        expect((await unit.run('A', cdb)).status).toBe(GOOD);
        expect((await unit.run('B', cdb)).status).toBe(spared ? GOOD : CONFLICT);
        expect((await unit.run('C', cdb)).status).toBe(CONFLICT);
      }
      expect(await unit.reservation()).toMatchObject({ type });
      expect((await unit.run('A', READ)).status).toBe(GOOD);
    },
  );
});
