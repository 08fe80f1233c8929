import { describe, expect, it } from 'vitest';
import { AccessBook } from '../../../gateway/access/access-book.ts';
import { AccessSync } from '../../../gateway/access/access-sync.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { addInitiator, mapVolume, setChap, setUnitState } from '../../../gateway/access/operations.ts';
import { decodeBody } from '../../../gateway/access/part.ts';
import { chapFor } from '../../../gateway/access/resolve.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { type AccessItem, MAX_ACCESS_BYTES, type VolumeRef } from '../../../gateway/cloud/version-log.ts';
import { MemoryTable } from '../../sim/memory-table.ts';
import { SimRandom } from '../../sim/sim-random.ts';
import { diskFull, MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';

const REF: VolumeRef = { lineage: 'l', volume: 'v' };
const VOLUME = { volume: 'v', name: 'data', target: 'iqn.2026-11.dev.farshore:office1:data' };
const FOREVER = new AbortController().signal;
const host = (index: number): string => `iqn.2026-11.com.example:host${index}`;

/** What one request to the table meets: told before it takes effect, or after. */
interface Faults {
  before?: (request: string) => void;
  after?: (request: string) => void;
  /** Collects puts that land later, instead of now. */
  stray?: (() => void)[] | undefined;
}

const lost = (): never => {
  throw new FarshoreError('retry', 'no answer');
};

/** A gateway's access control on a state directory and a table. */
async function gateway(disk: MemoryDisk, table: MemoryTable, faults: Faults = {}) {
  const clock = new PromptClock();
  const audit = await AuditLog.open({ disk, clock, log: silentLog });
  const sync = new AccessSync({
    clock,
    random: new SimRandom(7),
    log: silentLog,
    table: {
      getAccess: async (ref) => {
        faults.before?.('get');
        return table.getAccess(ref);
      },
      putAccess: async (ref: VolumeRef, item: AccessItem) => {
        faults.before?.('put');
        if (faults.stray !== undefined) {
          faults.stray.push(() => table.putAccess(ref, item));
          return lost();
        }
        const outcome = table.putAccess(ref, item);
        faults.after?.('put');
        return outcome;
      },
    },
  });
  const book = await AccessBook.open({ disk, audit, epochOf: (volume) => sync.epochOf(volume) });
  sync.follow(book);
  const grant = { since: 1, by: 'test' };
  return {
    sync,
    book,
    audit,
    adopt: (epoch: number) => sync.adopt(REF, VOLUME, epoch, FOREVER),
    map: (index: number): Promise<void> =>
      book.change((document) => {
        const known = document.initiators.some((each) => each.name === host(index));
        const before = known ? document : addInitiator(document, host(index), grant);
        const request = {
          volume: 'data',
          initiator: host(index),
          target: undefined,
          lun: undefined,
          readOnly: false,
          addresses: [],
        };
        return {
          document: mapVolume(before, request, grant).document,
          result: undefined,
          audit: { event: 'map', by: 'test' },
        };
      }),
    unitState: (state: string): Promise<void> =>
      book.change((document) => ({
        document: setUnitState(document, 'v', state),
        result: undefined,
        audit: undefined,
      })),
    /** The later it is made, the earlier the clock says it was. */
    chap: (index: number, user: string): Promise<void> =>
      book.change((document) => ({
        document: setChap(document, host(index), undefined, {
          since: 1000 - document.volumes.reduce((sum, part) => sum + part.stamp.revision, 0),
          by: 'test',
          user,
          secret: { key: '0123456789abcdef', nonce: user, data: user },
        }),
        result: undefined,
        audit: { event: 'chap-set', by: 'test' },
      })),
    users: () => book.document.volumes.map((part) => chapFor(book.document, host(1), VOLUME.target, part)?.chap.user),
    settled: () => sync.settled('v'),
    hosts: (): string[] => book.document.volumes.flatMap((part) => part.maps.map((map) => map.initiator)),
  };
}

function hostsIn(table: MemoryTable): string[] {
  const item = table.getAccess(REF);
  return item === undefined ? [] : decodeBody(item.body, 'data').maps.map((map) => map.initiator);
}

describe('access control in the table', () => {
  it('is mirrored when the table has it, not before, and where that can never be any more it says so', async () => {
    const faults: Faults = {};
    const table = new MemoryTable();
    const office = await gateway(new MemoryDisk(), table, faults);
    await expect(office.sync.mirrored('v')).rejects.toMatchObject({ kind: 'stopped' }); // not open here
    await office.adopt(3);
    await office.sync.mirrored('v');
    let failures = 5;
    faults.before = (request) => (request === 'put' && failures-- > 0 ? lost() : undefined);
    await office.unitState('{"format":1}');
    await office.sync.mirrored('v');
    expect(failures).toBeLessThan(0);
    expect(decodeBody(table.getAccess(REF)?.body ?? Buffer.alloc(0), 'data').unitState).toBe('{"format":1}');

    faults.before = lost;
    await office.unitState('{"format":2}');
    const never = office.sync.mirrored('v');
    office.sync.forget('v');
    await expect(never).rejects.toMatchObject({ kind: 'stopped' });
  });

  it('stands there when the table has it, waiting until then, and elsewhere when another gateway has the volume', async () => {
    const table = new MemoryTable();
    const faults: Faults = {};
    const office = await gateway(new MemoryDisk(), table, faults);
    expect(await office.sync.standing('v', 10)).toBe('not-open');
    await office.adopt(1);
    expect(await office.sync.standing('v', 10)).toBe('there');
    faults.before = lost;
    await office.map(1);
    expect(await office.sync.standing('v', 60_000)).toBe('waiting');
    expect(hostsIn(table)).toEqual([]);
    // Asking again is a reason to try again: the pause may have grown longer than anybody waits.
    delete faults.before;
    expect(await office.sync.standing('v', 5)).toBe('there');
    expect(hostsIn(table)).toEqual([host(1)]);

    const spare = await gateway(new MemoryDisk(), table);
    await spare.adopt(2);
    await spare.settled();
    await office.map(2);
    expect(await office.sync.standing('v', 60_000)).toBe('elsewhere');
    office.sync.close();
    spare.sync.close();
  });

  it('is not mirrored by a gateway that has lost the volume, nor by an opening that another one has followed', async () => {
    const table = new MemoryTable();
    const faults: Faults = { before: (request) => (request === 'put' ? lost() : undefined) };
    const office = await gateway(new MemoryDisk(), table, faults);
    await office.adopt(1);
    const first = office.sync.mirrored('v');
    await office.adopt(2);
    await expect(first).rejects.toMatchObject({ kind: 'stopped' });
    const second = office.sync.mirrored('v');
    const spare = await gateway(new MemoryDisk(), table);
    await spare.adopt(3);
    await spare.settled();
    delete faults.before;
    await expect(second).rejects.toMatchObject({ kind: 'fenced' });
  });

  it('what a logical unit kept here and the table never saw is void once another gateway has held the volume', async () => {
    const table = new MemoryTable();
    const disk = new MemoryDisk();
    const faults: Faults = {};
    const office = await gateway(disk, table, faults);
    await office.adopt(1);
    await office.settled();
    faults.before = lost;
    await office.unitState('{"format":1,"sanitize":"of before"}');
    office.sync.close();
    const alone = await gateway(disk.copy(), new MemoryTable());
    await alone.adopt(2);
    expect(alone.book.document.volumes[0]?.unitState).toContain('of before'); // nobody else had it

    const spare = await gateway(new MemoryDisk(), table);
    await spare.adopt(2);
    await spare.settled();
    spare.sync.close();
    const back = await gateway(disk.copy(), table);
    await back.adopt(3);
    expect(back.book.document.volumes[0]?.unitState).toBeUndefined();
  });

  it('what a logical unit kept where the volume was before does not come after it is in use here', async () => {
    const table = new MemoryTable();
    const office = await gateway(new MemoryDisk(), table);
    await office.adopt(1);
    await office.settled();
    const held: Faults = { before: (request) => (request === 'put' ? lost() : undefined) };
    const spare = await gateway(new MemoryDisk(), table, held);
    await spare.adopt(2); // has read, but cannot write yet
    await office.unitState('{"format":1,"sanitize":"of before"}');
    await office.settled();
    delete held.before;
    await spare.settled();
    expect(spare.book.document.volumes[0]?.unitState).toBeUndefined();
    const next = await gateway(new MemoryDisk(), table);
    await next.adopt(3);
    expect(next.book.document.volumes[0]?.unitState).toBeUndefined();
  });

  it('a rolled back volume is not sanitized by what was under way; its reservations stay', async () => {
    const table = new MemoryTable();
    const disk = new MemoryDisk();
    const office = await gateway(disk, table);
    await office.adopt(1);
    await office.unitState('{"format":1,"reservations":[1],"sanitize":"of before"}');
    await office.settled();
    for (const place of [disk.copy(), new MemoryDisk()]) {
      const spare = await gateway(place, table);
      await spare.sync.adopt(REF, VOLUME, 2, FOREVER, { isRolledBack: true });
      expect(spare.book.document.volumes[0]?.unitState).toBe('{"format":1,"reservations":[1]}');
      spare.sync.close();
    }
  });

  it('is written at the first open, under the epoch of the open, and follows every change', async () => {
    const table = new MemoryTable();
    const office = await gateway(new MemoryDisk(), table);
    await office.adopt(3);
    await office.settled();
    expect(table.getAccess(REF)).toMatchObject({ epoch: 3, revision: 1 });
    await office.map(1);
    await office.map(2);
    await office.settled();
    expect(hostsIn(table)).toEqual([host(1), host(2)]);
    expect(office.sync.status('v')).toEqual({ inTable: true, problem: undefined });
  });

  it('comes to a new gateway with the volume, reservations included, and is its own from then on', async () => {
    const table = new MemoryTable();
    const office = await gateway(new MemoryDisk(), table);
    await office.adopt(1);
    await office.map(1);
    await office.unitState('{"aptpl":true}');
    await office.settled();

    const spare = await gateway(new MemoryDisk(), table);
    await spare.adopt(2);
    expect(spare.hosts()).toEqual([host(1)]);
    expect(spare.book.document.volumes[0]?.unitState).toBe('{"aptpl":true}');
    await spare.settled();
    expect(table.getAccess(REF)?.epoch).toBe(2);
  });

  it('cannot be changed any more by a gateway that lost the volume, and that one is told', async () => {
    const table = new MemoryTable();
    const office = await gateway(new MemoryDisk(), table);
    await office.adopt(1);
    await office.settled();
    const spare = await gateway(new MemoryDisk(), table);
    await spare.adopt(2);
    await spare.settled();
    await office.map(1);
    await office.settled();
    expect(hostsIn(table)).toEqual([]);
    expect(office.sync.status('v').problem).toContain('taken over by another gateway');
  });

  it('a change that lands between the taker reading and writing is not lost: the taker has it', async () => {
    const table = new MemoryTable();
    const office = await gateway(new MemoryDisk(), table);
    await office.adopt(1);
    await office.settled();
    const held: Faults = { before: (request) => (request === 'put' ? lost() : undefined) };
    const spare = await gateway(new MemoryDisk(), table, held);
    await spare.adopt(2); // has read, but cannot write yet
    await office.map(1);
    await office.settled();
    delete held.before;
    await spare.settled();
    expect(spare.hosts()).toEqual([host(1)]);
    expect(hostsIn(table)).toEqual([host(1)]);
    expect(table.getAccess(REF)?.epoch).toBe(2);
  });

  it('a put whose answer is lost is found by reading back, not repeated as another', async () => {
    const table = new MemoryTable();
    let losses = 1;
    const office = await gateway(new MemoryDisk(), table, {
      after: () => (losses-- > 0 ? lost() : undefined),
    });
    await office.adopt(1);
    await office.settled();
    expect(table.getAccess(REF)).toMatchObject({ epoch: 1, revision: 1 });
    expect(office.sync.status('v').inTable).toBe(true);
  });

  it('an old put that lands late never takes the place of a newer one', async () => {
    const table = new MemoryTable();
    const faults: Faults = {};
    const office = await gateway(new MemoryDisk(), table, faults);
    await office.adopt(1);
    await office.settled();
    const stray: (() => void)[] = [];
    faults.stray = stray;
    faults.before = (request) => {
      // It gives up waiting, and makes another change before it tries again.
      if (request === 'get') faults.stray = undefined;
    };
    await office.map(1);
    await office.map(2);
    await office.settled();
    for (const land of stray) land();
    expect(stray.length).toBeGreaterThan(0);
    expect(hostsIn(table)).toEqual([host(1), host(2)]);

    // And where it lands first, the newer one follows it.
    const late: (() => void)[] = [];
    faults.stray = late;
    faults.before = (request) => {
      if (request !== 'get') return;
      faults.stray = undefined;
      for (const land of late.splice(0)) land();
    };
    await office.map(3);
    await office.settled();
    expect(hostsIn(table)).toEqual([host(1), host(2), host(3)]);
  });

  it('killed between the local save and the table: the next start writes what was answered', async () => {
    const table = new MemoryTable();
    const disk = new MemoryDisk();
    const faults: Faults = {};
    const office = await gateway(disk, table, faults);
    await office.adopt(1);
    await office.settled();
    faults.before = lost;
    await office.map(1); // answered: it is on the local disk
    const after = disk.copy(); // SIGKILL
    office.sync.close();
    expect(hostsIn(table)).toEqual([]);

    const again = await gateway(after, table);
    await again.adopt(2);
    await again.settled();
    expect(again.hosts()).toEqual([host(1)]);
    expect(hostsIn(table)).toEqual([host(1)]);
  });

  it('killed between the table and its answer: the next start finds what it wrote', async () => {
    const table = new MemoryTable();
    const disk = new MemoryDisk();
    const office = await gateway(disk, table);
    await office.adopt(1);
    await office.map(1);
    await office.settled();
    const again = await gateway(disk.copy(), table);
    await again.adopt(2);
    await again.settled();
    expect(again.hosts()).toEqual([host(1)]);
    expect(table.getAccess(REF)?.epoch).toBe(2);
  });

  it('a state directory that was rolled back does not bring back who was let in then', async () => {
    const table = new MemoryTable();
    const disk = new MemoryDisk();
    const office = await gateway(disk, table);
    await office.adopt(1);
    await office.map(1);
    await office.settled();
    const old = disk.copy();
    await office.map(2);
    await office.settled();
    office.sync.close();

    const rolledBack = await gateway(old, table);
    await rolledBack.adopt(2);
    await rolledBack.settled();
    expect(rolledBack.hosts()).toEqual([host(1), host(2)]);
    expect(hostsIn(table)).toEqual([host(1), host(2)]);
    expect(old.text('audit/audit.jsonl')).toContain('access-imported');
  });

  it.each(['taken back by the gateway that had it before', 'rolled back with its state directory'])(
    'a credential that was cleared is not accepted again when the volume is %s',
    async (how) => {
      const table = new MemoryTable();
      const disk = new MemoryDisk();
      const office = await gateway(disk, table);
      await office.adopt(1);
      await office.map(1);
      await office.chap(1, 'stolen');
      await office.settled();
      const old = disk.copy();
      let latest = office;
      if (how.startsWith('taken')) {
        latest = await gateway(new MemoryDisk(), table);
        await latest.adopt(2);
      }
      await latest.chap(1, 'new');
      await latest.settled();
      office.sync.close();
      latest.sync.close();

      const again = await gateway(old, table);
      await again.adopt(3);
      await again.settled();
      expect(again.users()).toEqual(['new']);
      const item = table.getAccess(REF);
      expect(decodeBody(item?.body ?? Buffer.alloc(0), 'data').initiators.map((each) => each.chap?.user)).toEqual([
        'new',
      ]);
      // No map has changed, and yet the auditor learns of it.
      expect(old.text('audit/audit.jsonl')).toMatch(/"access-imported".*"credentials":\[\{"initiator":"[^"]*host1"/);
    },
  );

  it('what was changed here and not yet written survives a takeover by a gateway that changed nothing', async () => {
    const table = new MemoryTable();
    const disk = new MemoryDisk();
    const faults: Faults = {};
    const office = await gateway(disk, table, faults);
    await office.adopt(1);
    await office.settled();
    faults.before = lost;
    await office.map(1);
    office.sync.close();
    const spare = await gateway(new MemoryDisk(), table);
    await spare.adopt(2);
    await spare.settled();
    spare.sync.close();

    const back = await gateway(disk.copy(), table);
    await back.adopt(3);
    await back.settled();
    expect(hostsIn(table)).toEqual([host(1)]);
  });

  it('is written once the table lets it be, also when that was refused for a while', async () => {
    const table = new MemoryTable();
    const faults: Faults = {};
    const office = await gateway(new MemoryDisk(), table, faults);
    await office.adopt(1);
    await office.settled();
    let refusals = 0;
    const told: (string | undefined)[] = [];
    faults.before = (request) => {
      if (request !== 'put') return;
      told.push(office.sync.status('v').problem);
      if (++refusals <= 3) throw new FarshoreError('input', 'access to the table is denied');
    };
    await office.map(1);
    await office.settled();
    expect(told[3]).toMatch(/denied/);
    expect(hostsIn(table)).toEqual([host(1)]);
    expect(office.sync.status('v')).toEqual({ inTable: true, problem: undefined });
  });

  it('refuses a volume that another gateway has taken since', async () => {
    const table = new MemoryTable();
    const spare = await gateway(new MemoryDisk(), table);
    await spare.adopt(5);
    await spare.settled();
    const office = await gateway(new MemoryDisk(), table);
    await expect(office.adopt(4)).rejects.toMatchObject({ kind: 'fenced' });
  });

  it('waits for the table before anybody may see the volume, and gives up when it is told to', async () => {
    const table = new MemoryTable();
    let failures = 5;
    const office = await gateway(new MemoryDisk(), table, {
      before: (request) => (request === 'get' && failures-- > 0 ? lost() : undefined),
    });
    await office.adopt(1);
    expect(failures).toBeLessThan(0);
    const stopped = new AbortController();
    const other = await gateway(new MemoryDisk(), table, { before: lost });
    const adopting = other.sync.adopt(REF, VOLUME, 2, stopped.signal);
    stopped.abort();
    await expect(adopting).rejects.toMatchObject({ kind: 'stopped' });
  });

  it('lets nobody in by what it cannot read, leaves that alone, and says how to go on', async () => {
    const table = new MemoryTable();
    const unreadable = Buffer.from('{"format":2}');
    table.putAccess(REF, { epoch: 1, revision: 1, body: unreadable });
    const office = await gateway(new MemoryDisk(), table);
    await office.adopt(2);
    await office.settled();
    expect(office.book.document.volumes[0]).toMatchObject({ mode: 'mapped', maps: [] });
    expect(office.sync.status('v').problem).toContain('farshore map data');
    expect(table.getAccess(REF)?.body).toEqual(unreadable);
    await office.map(1);
    await office.settled();
    expect(hostsIn(table)).toEqual([host(1)]);
    expect(office.sync.status('v')).toEqual({ inTable: true, problem: undefined });
  });
});

describe('the access document of a gateway', () => {
  it('changes nothing that cannot be saved, and the audit log says that it failed', async () => {
    const disk = new MemoryDisk();
    const office = await gateway(disk, new MemoryTable());
    await office.adopt(1);
    disk.before = (_, path) => {
      if (path.startsWith('access.json')) throw diskFull();
    };
    await expect(office.map(1)).rejects.toMatchObject({ kind: 'busy' });
    expect(office.hosts()).toEqual([]);
    disk.before = undefined;
    await office.audit.close();
    expect(disk.text('audit/audit.jsonl')).toContain('"change-failed"');
    const again = await gateway(disk.copy(), new MemoryTable());
    expect(again.hosts()).toEqual([]);
  });

  it('makes no change that the audit log has no room for', async () => {
    const disk = new MemoryDisk();
    const office = await gateway(disk, new MemoryTable());
    await office.adopt(1);
    disk.before = (_, path) => {
      if (path.startsWith('audit/')) throw diskFull();
    };
    await expect(office.map(1)).rejects.toMatchObject({
      kind: 'busy',
      message: expect.stringContaining('nothing was changed') as string,
    });
    expect(office.hosts()).toEqual([]);
    expect(disk.text('access.json')).not.toContain(host(1));
  });

  it('is there before the cloud is: a start needs the mirror alone', async () => {
    const disk = new MemoryDisk();
    const office = await gateway(disk, new MemoryTable());
    await office.adopt(1);
    await office.map(1);
    const offline = await gateway(disk.copy(), new MemoryTable(), { before: lost });
    expect(offline.hosts()).toEqual([host(1)]);
    await offline.map(2);
    expect(offline.hosts()).toEqual([host(1), host(2)]);
  });

  it('refuses what would not fit the table, before it is begun', async () => {
    const office = await gateway(new MemoryDisk(), new MemoryTable());
    await office.adopt(1);
    await expect(office.unitState('x'.repeat(65 * 1024))).rejects.toMatchObject({ kind: 'busy' });
    const grant = { since: 1, by: 'y'.repeat(100) };
    const addresses = Array.from({ length: 16 }, (_, index) => `fd00:1111:2222:3333:4444:5555:6666:${index}`);
    const filling = office.book.change((document) => {
      let next = document;
      for (let index = 0; index < 400; index++) {
        const initiator = `${host(index)}.${'x'.repeat(150)}`;
        next = addInitiator(next, initiator, grant);
        next = mapVolume(
          next,
          { volume: 'data', initiator, target: undefined, lun: 0, readOnly: false, addresses },
          grant,
        ).document;
      }
      return { document: next, result: undefined, audit: undefined };
    });
    await expect(filling).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining(String(MAX_ACCESS_BYTES)) as string,
    });
    expect(office.hosts()).toEqual([]);
  });

  it.each(['{', '{"format":2}', ''])('refuses a damaged file (%j) and says how to go on', async (text) => {
    const disk = new MemoryDisk(new Map([['access.json', Buffer.from(text)]]));
    await expect(gateway(disk, new MemoryTable())).rejects.toMatchObject({
      kind: 'damaged',
      message: expect.stringContaining('comes back from the table') as string,
    });
  });
});
