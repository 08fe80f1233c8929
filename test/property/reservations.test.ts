import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ReservationBench, nameOf } from '../unit/scsi/reservations/reservation-bench.ts';
import type { Action } from '../unit/scsi/reservations/reservation-bench.ts';

/** PERSISTENT RESERVE OUT by several initiators, small enough that keys and types meet often. */
interface Step {
  readonly who: string;
  readonly action: Action;
  readonly key: number;
  readonly newKey: number;
  readonly type: number;
}

const WHO = ['A', 'B', 'C', 'D'];
const GOOD = 0;
const CHECK = 2;
const CONFLICT = 0x18;

/**
 * The rules once more, told by initiator instead of by registration, and with sets of tells instead of nexuses: what
 * SPC-4 5.13 says, for one target port, without what TransportIDs can do.
 */
class Model {
  keys = new Map<string, number>();
  type = 0;
  holder = '';
  generation = 0;
  told = new Map<string, Set<string>>(WHO.map((who) => [who, new Set()]));

  get ofAll(): boolean {
    return this.type >= 7;
  }

  holds(who: string): boolean {
    return this.type !== 0 && this.keys.has(who) && (this.ofAll || this.holder === who);
  }

  tell(by: string, whom: Iterable<string>, what: string): void {
    for (const who of whom) if (who !== by) this.told.get(who)?.add(what);
  }

  remove(who: string): void {
    this.keys.delete(who);
    if (this.type !== 0 && (this.ofAll ? this.keys.size === 0 : this.holder === who)) this.type = 0;
  }

  run({ who, action, key, newKey, type }: Step): number {
    const own = this.keys.get(who) ?? 0;
    if (action !== 'register-and-ignore' && (own !== key || (own === 0 && action !== 'register'))) return CONFLICT;
    switch (action) {
      case 'register':
      case 'register-and-ignore': {
        if (newKey !== 0) this.keys.set(who, newKey);
        else if (own === 0) return GOOD;
        else {
          const was = this.type;
          this.remove(who);
          if (was >= 5 && this.type === 0) this.tell(who, this.keys.keys(), '2a04');
        }
        this.generation += 1;
        return GOOD;
      }
      case 'reserve':
        if (![1, 3, 5, 6, 7, 8].includes(type)) return CHECK;
        if (this.type !== 0) return this.holds(who) && this.type === type ? GOOD : CONFLICT;
        this.type = type;
        this.holder = who;
        return GOOD;
      case 'release':
        if (!this.holds(who)) return GOOD;
        if (this.type !== type) return CHECK;
        if (type >= 5) this.tell(who, this.keys.keys(), '2a04');
        this.type = 0;
        return GOOD;
      case 'clear':
        this.tell(who, this.keys.keys(), '2a03');
        this.keys.clear();
        this.type = 0;
        this.generation += 1;
        return GOOD;
      default:
        return this.preempt(who, newKey, type);
    }
  }

  private preempt(who: string, victimKey: number, type: number): number {
    const everybody = this.type !== 0 && this.ofAll && victimKey === 0;
    if (victimKey === 0 && !everybody) return CHECK;
    const victims = [...this.keys].filter(([, key]) => everybody || key === victimKey).map(([name]) => name);
    if (victims.length === 0) return CONFLICT;
    const seizes = everybody || (this.type !== 0 && !this.ofAll && victims.includes(this.holder));
    if (seizes) {
      if (![1, 3, 5, 6, 7, 8].includes(type)) return CHECK;
      const changes = type !== this.type;
      for (const victim of victims) if (victim !== who) this.keys.delete(victim);
      this.tell(who, victims, '2a05');
      if (changes) this.tell(who, this.keys.keys(), '2a04');
      this.type = type;
      this.holder = who;
    } else {
      for (const victim of victims) this.remove(victim);
      this.tell(who, victims, '2a05');
    }
    this.generation += 1;
    return GOOD;
  }

  /** RESERVATION CONFLICT for a read, and for a write. */
  barred(who: string): [read: boolean, write: boolean] {
    if (this.type === 0 || this.holds(who)) return [false, false];
    if (this.type >= 5 && this.keys.has(who)) return [false, false];
    return [[3, 6, 8].includes(this.type), true];
  }
}

const step: fc.Arbitrary<Step> = fc.record({
  who: fc.constantFrom(...WHO),
  action: fc.constantFrom<Action>(
    'register',
    'register-and-ignore',
    'register-and-ignore',
    'reserve',
    'reserve',
    'release',
    'clear',
    'preempt',
    'preempt-and-abort',
  ),
  key: fc.integer({ min: 0, max: 3 }),
  newKey: fc.integer({ min: 0, max: 3 }),
  type: fc.constantFrom(0, 1, 3, 5, 6, 7, 8),
});

/** The key the initiator has, most of the time: conflicts alone are dull. */
function aimed(model: Model, wanted: Step, honest: boolean): Step {
  return honest ? { ...wanted, key: model.keys.get(wanted.who) ?? 0 } : wanted;
}

describe('persistent reservations of several initiators', () => {
  test('do what a simple telling of the rules does, tell whom it tells, and bar whom it bars', async () => {
    let most = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(step, fc.integer({ min: 0, max: 9 })), { minLength: 20, maxLength: 60, size: 'max' }),
        async (steps) => {
          const unit = new ReservationBench();
          for (const who of WHO) unit.nexus(who);
          const model = new Model();
          for (const [wanted, chance] of steps) {
            const taken = aimed(model, wanted, chance > 0);
            const { who, action, type } = taken;
            for (const each of WHO) model.told.get(each)?.clear();
            const expected = model.run(taken);
            const outcome = await unit.out(who, action, { key: BigInt(taken.key), newKey: BigInt(taken.newKey), type });
            expect(outcome.status, JSON.stringify(taken)).toBe(expected);
            for (const each of WHO)
              expect(new Set(unit.attentions(each)), `${each} after ${JSON.stringify(taken)}`).toEqual(
                model.told.get(each),
              );
            const { keys, generation } = await unit.keys();
            expect(generation).toBe(model.generation);
            expect([...keys].sort()).toEqual([...model.keys.values()].map(BigInt).sort());
            const reservation = await unit.reservation();
            expect(reservation?.type ?? 0).toBe(model.type);
            if (reservation !== undefined)
              expect(reservation.key).toBe(model.ofAll ? 0n : BigInt(model.keys.get(model.holder) ?? -1));
            for (const each of [...WHO, 'Z']) {
              const read = await unit.run(each, '28 00 00 00 00 00 00 00 01 00');
              const write = await unit.run(each, '2a 00 00 00 00 00 00 00 01 00', Buffer.alloc(512));
              expect([read.status === CONFLICT, write.status === CONFLICT], nameOf(each)).toEqual(model.barred(each));
            }
            most = Math.max(most, model.keys.size);
          }
        },
      ),
      { numRuns: 100 },
    );
    expect(most).toBeGreaterThan(2);
  });
});
