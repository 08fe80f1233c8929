import { describe, expect, test } from 'vitest';
import type { UnitNexus } from '../../../../gateway/scsi/logical-unit.ts';
import { RamDevice } from '../../../support/ram-device.ts';
import { EA, EAAR, threeRegistrants } from './registrants.ts';
import { CONFLICT, GOOD, ISID, nameOf } from './reservation-bench.ts';

describe('PREEMPT AND ABORT', () => {
  const READ = { kind: 'read', lba: 0, sectors: 1, fua: false } as const;

  test('ends the commands of the preempted nexuses but not itself, and is answered when they are over', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: EA });
    let over: () => void = () => undefined;
    const preempted: string[] = [];
    let except: unknown;
    unit.bench.abortTasks = (concerns, own) => {
      const of = (who: string): UnitNexus => unit.nexus(who);
      preempted.push(...['A', 'B', 'C', 'A2'].filter((who) => concerns(of(who), READ)));
      const elsewhere = unit.bench.join(new RamDevice({ bytes: 4096 }), { name: nameOf('A'), isid: ISID });
      if (concerns(elsewhere, READ)) preempted.push('read elsewhere by A');
      if (concerns(elsewhere, { kind: 'extended-copy', parameterBytes: 0 })) preempted.push('copy by A');
      except = own;
      return new Promise((resolve) => {
        over = resolve;
      });
    };
    let answered = false;
    const command = unit.out('B', 'preempt-and-abort', { key: 2n, newKey: 1n, type: EA }).then((outcome) => {
      answered = true;
      return outcome;
    });
    await Promise.resolve();
    expect(preempted).toEqual(['A', 'copy by A']);
    expect(except).toMatchObject({ kind: 'persistent-reserve-out', action: 'preempt-and-abort' });
    // The new reservation holds already, and other reservation commands go on meanwhile.
    expect(await unit.reservation()).toEqual({ key: 2n, type: EA });
    expect((await unit.out('C', 'register', { key: 3n, newKey: 4n })).status).toBe(GOOD);
    expect(answered).toBe(false);
    over();
    expect((await command).status).toBe(GOOD);
  });

  test('lets the medium of a preempted nexus be removed again', async () => {
    const unit = await threeRegistrants();
    const { preventing } = unit.nexus('A').unit.media;
    for (const who of ['A', 'C']) preventing.add(unit.nexus(who));
    await unit.out('B', 'preempt-and-abort', { key: 2n, newKey: 1n });
    expect([...preventing]).toEqual([unit.nexus('C')]);
  });

  test('aborts for everybody, itself too, when all registrants are preempted; for nobody when there is a conflict', async () => {
    const unit = await threeRegistrants();
    await unit.out('A', 'reserve', { key: 1n, type: EAAR });
    const preempted: string[][] = [];
    unit.bench.abortTasks = (concerns) => {
      preempted.push(['A', 'B', 'C', 'D'].filter((who) => concerns(unit.nexus(who), READ)));
    };
    expect((await unit.out('B', 'preempt-and-abort', { key: 2n, newKey: 9n, type: EA })).status).toBe(CONFLICT);
    expect((await unit.out('B', 'preempt-and-abort', { key: 2n, type: EA })).status).toBe(GOOD);
    expect(preempted).toEqual([['A', 'B', 'C']]);
  });

  test('a command that was aborted before its turn changes nothing', async () => {
    const unit = await threeRegistrants();
    const list = Buffer.alloc(24);
    list.writeBigUInt64BE(1n, 0);
    const cdb = Buffer.from('5f030000000000001800', 'hex'); // CLEAR
    await unit.bench.run(cdb, list, unit.nexus('A'), list.length, { state: 'aborted' });
    expect((await unit.keys()).keys).toEqual([1n, 2n, 3n]);
  });
});
