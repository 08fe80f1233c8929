import { describe, expect, it } from 'vitest';
import type { AuditEntry } from '../../../gateway/access/audit-entry.ts';
import { readAudit, SERIES } from '../../../gateway/access/audit-files.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import type { AccessEvent } from '../../../gateway/iscsi/target-registry.ts';
import { diskFull, MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';
import { ManualClock } from '../initiator/manual-clock.ts';

const open = (disk: MemoryDisk, fileBytes?: number, clock = new PromptClock()): Promise<AuditLog> =>
  AuditLog.open({ disk, clock, log: silentLog, ...(fileBytes === undefined ? {} : { fileBytes }) });

async function entriesOf(disk: MemoryDisk): Promise<AuditEntry[]> {
  const entries: AuditEntry[] = [];
  await readAudit(disk, (entry) => entries.push(entry));
  return entries;
}

const refusal = (name: string, target = 'iqn.2026-11.com.example:t', address = '10.0.0.9'): AccessEvent => ({
  kind: 'login-refused',
  initiator: { name, address },
  target,
  portal: '10.0.0.1',
  status: '0201',
  reason: 'wrong secret',
  count: 1,
});

const login = (tsih: number, address: string, target: string | undefined): AccessEvent => ({
  kind: 'login',
  initiator: { name: 'iqn.2026-11.com.example:host', address },
  target,
  portal: '10.0.0.1',
  tsih,
  discovery: target === undefined,
  proof: { kind: 'none' },
});
const PAYROLL = 'iqn.2026-11.com.example:payroll';

describe('the audit log', () => {
  it('has a change on stable storage before it says so', async () => {
    const disk = new MemoryDisk();
    const audit = await open(disk);
    const operations: string[] = [];
    disk.before = (operation, path) => operations.push(`${operation} ${path}`);
    await audit.change({ event: 'map', by: 'cli:root', volume: 'a' });
    expect(operations).toEqual(['write audit/audit.jsonl', 'sync audit/audit.jsonl']);
    expect(await entriesOf(disk)).toEqual([
      { seq: 1, at: expect.stringMatching(/^2026-/) as string, event: 'map', by: 'cli:root', volume: 'a' },
    ]);
  });

  it('goes on counting after a restart, and after a line that a power cut has torn', async () => {
    const disk = new MemoryDisk();
    await (await open(disk)).change({ event: 'a', by: 'x' });
    const whole = disk.files.get('audit/audit.jsonl') ?? Buffer.alloc(0);
    disk.files.set('audit/audit.jsonl', Buffer.concat([whole, Buffer.from('{"seq":2,"at":"20')]));
    await (await open(disk)).change({ event: 'b', by: 'x' });
    const entries: AuditEntry[] = [];
    expect(await readAudit(disk, (entry) => entries.push(entry))).toMatchObject({ unreadable: 1 });
    expect(entries.map(({ seq, event }) => [seq, event])).toEqual([
      [1, 'a'],
      [2, 'b'],
    ]);
  });

  it('refuses a change that it cannot record, says so in its status, and recovers when there is room', async () => {
    const disk = new MemoryDisk();
    const audit = await open(disk);
    disk.before = () => {
      throw diskFull();
    };
    await expect(audit.change({ event: 'map', by: 'x' })).rejects.toMatchObject({
      kind: 'busy',
      message: expect.stringContaining('nothing was changed') as string,
    });
    expect(audit.problem).toContain('full');
    disk.before = undefined;
    await audit.change({ event: 'unmap', by: 'x' });
    expect(audit.problem).toBeUndefined();
    expect((await entriesOf(disk)).map(({ seq, event }) => [seq, event])).toEqual([[1, 'unmap']]);
  });

  it('does not keep a gateway from starting on a full disk: only changes are refused', async () => {
    const disk = new MemoryDisk(new Map([['audit/audit.jsonl', Buffer.from('{"seq":7,"at":"2026-11-22T20:0')]]));
    disk.before = () => {
      throw diskFull();
    };
    const audit = await open(disk);
    expect(audit.problem).toContain('full');
    await expect(audit.change({ event: 'map', by: 'x' })).rejects.toMatchObject({ kind: 'busy' });
    disk.before = undefined;
    await audit.change({ event: 'map', by: 'x' });
    expect(await entriesOf(disk)).toMatchObject([{ seq: 1, event: 'map' }]);
  });

  it('trusts nothing of a file whose fsync has failed: what follows is in another one', async () => {
    const disk = new MemoryDisk();
    const audit = await open(disk);
    disk.before = (operation) => {
      if (operation === 'sync') throw diskFull();
    };
    await expect(audit.change({ event: 'map', by: 'x' })).rejects.toMatchObject({ kind: 'busy' });
    disk.before = undefined;
    await audit.change({ event: 'unmap', by: 'x' });
    expect(disk.text('audit/audit.jsonl')).toContain('"unmap"');
    expect(disk.text('audit/audit.jsonl')).not.toContain('"event":"map"');
  });

  it('begins a new file when one is full, keeps a bounded number of them, and loses no entry between two', async () => {
    const disk = new MemoryDisk();
    const audit = await open(disk, 400);
    for (let count = 0; count < 120; count++) await audit.change({ event: 'map', by: 'cli:root', count });
    const files = [...disk.files.keys()].filter((path) => path.startsWith('audit/audit.'));
    expect(files).toHaveLength(SERIES.changes.files);
    const seqs = (await entriesOf(disk)).map(({ seq }) => seq);
    expect(seqs.at(-1)).toBe(120);
    expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, index) => 120 - seqs.length + 1 + index));
  });

  it('survives a restart in the middle of a rotation', async () => {
    const disk = new MemoryDisk();
    const audit = await open(disk, 100);
    await audit.change({ event: 'a', by: 'x', text: 'y'.repeat(80) });
    // Killed after the renames, before the new file was there.
    disk.files.set('audit/audit.1.jsonl', disk.files.get('audit/audit.jsonl') ?? Buffer.alloc(0));
    disk.files.delete('audit/audit.jsonl');
    await (await open(disk, 100)).change({ event: 'b', by: 'x' });
    expect((await entriesOf(disk)).map(({ seq, event }) => [seq, event])).toEqual([
      [1, 'a'],
      [2, 'b'],
    ]);
  });

  it('bounds what a flood of refused logins writes, tells how many there were, and does not push a change out', async () => {
    const disk = new MemoryDisk();
    const clock = new ManualClock();
    const audit = await AuditLog.open({ disk, clock, log: silentLog });
    await audit.change({ event: 'map', by: 'cli:root' });
    for (let count = 0; count < 50_000; count++) audit.session(refusal(`iqn.2026-11.com.example:${count}`));
    await audit.close();
    const entries = await entriesOf(disk);
    const written = entries.filter((entry) => entry.event === 'login-refused').length;
    expect(written).toBeLessThanOrEqual(120);
    expect(entries[0]).toMatchObject({ event: 'map' });
    expect(entries.at(-1)).toMatchObject({ event: 'not-written', counts: { 'login-refused': 50_000 - written } });
  });

  it('keeps serving when events cannot be written, and counts those it lost', async () => {
    const disk = new MemoryDisk();
    const audit = await open(disk);
    disk.before = () => {
      throw diskFull();
    };
    audit.session(refusal('iqn.a'));
    audit.session(refusal('iqn.b'));
    await expect(audit.change({ event: 'map', by: 'x' })).rejects.toMatchObject({ kind: 'busy' });
    disk.before = undefined;
    await audit.close();
    expect(await entriesOf(disk)).toMatchObject([{ event: 'not-written', counts: { 'login-refused': 2 } }]);
  });

  it('cuts an entry that is far too long, and keeps who, where and what in it', async () => {
    const disk = new MemoryDisk();
    const initiator = 'iqn.2026-11.com.example:hidden';
    await (
      await open(disk)
    ).change({ event: 'map', by: 'x', initiator, lun: 3, text: 'é"\n'.repeat(80_000), list: [] });
    const [entry] = await entriesOf(disk);
    expect(entry).toMatchObject({ seq: 1, event: 'map', by: 'x', initiator, lun: 3, cut: true });
    expect(disk.text('audit/audit.jsonl').split('\n')).toHaveLength(2);
  });
});

describe('what strangers do', () => {
  it('displaces neither a change nor a login to a target, however long they do it and whatever names they use', async () => {
    const disk = new MemoryDisk();
    const clock = new ManualClock();
    const audit = await AuditLog.open({ disk, clock, log: silentLog, fileBytes: 4096 });
    await audit.change({ event: 'map', by: 'cli:root', volume: 'payroll' });
    audit.session(login(1, '10.0.0.66', PAYROLL), { volumes: ['payroll'] });
    for (let minute = 0; minute < 60; minute++) {
      for (let count = 0; count < 40; count++) {
        audit.session(refusal(`iqn.2026-11.com.example:${count}`, `${count}`.padStart(8000, 'x'), `10.0.1.${count}`));
        audit.session(login(count, `10.0.2.${count}`, undefined));
      }
      clock.advance(60_000);
    }
    await audit.close();
    const entries = await entriesOf(disk);
    expect(entries.slice(0, 2)).toMatchObject([
      { seq: 1, event: 'map', volume: 'payroll' },
      { seq: 2, event: 'login', target: PAYROLL },
    ]);
    // They have pushed out each other.
    expect(entries[2]?.seq).toBeGreaterThan(1000);
    expect([...disk.files.keys()].filter((path) => path.includes('refused'))).toHaveLength(SERIES.noise.files);
  });

  it('hides no login to a target in the same minute', async () => {
    const disk = new MemoryDisk();
    const audit = await AuditLog.open({ disk, clock: new ManualClock(), log: silentLog });
    for (let tsih = 0; tsih < 1200; tsih++) audit.session(login(tsih, '10.0.0.9', undefined));
    audit.session(login(7, '10.0.0.66', PAYROLL), { volumes: ['payroll'] });
    await audit.close();
    const entries = await entriesOf(disk);
    expect(entries).toContainEqual(expect.objectContaining({ event: 'login', address: '10.0.0.66' }));
    expect(entries.at(-1)).toMatchObject({ event: 'not-written', counts: { login: 1200 - 60 } });
  });

  it('hides nobody else: one address has a part of each allowance only, by entries and by bytes', async () => {
    const disk = new MemoryDisk();
    const audit = await AuditLog.open({ disk, clock: new ManualClock(), log: silentLog });
    for (let count = 0; count < 1000; count++) {
      audit.session(login(count, '10.0.0.9', PAYROLL), { volumes: Array.from({ length: 256 }, () => 'v'.repeat(63)) });
      audit.session(refusal(`iqn.2026-11.com.example:${count}`));
    }
    audit.session(login(1, '10.0.0.66', PAYROLL));
    audit.session(refusal('iqn.2026-11.com.example:thief', PAYROLL, '10.0.0.66'));
    await audit.close();
    const from = (await entriesOf(disk)).filter((entry) => entry['address'] === '10.0.0.66');
    expect(from.map((entry) => entry.event)).toEqual(['login', 'login-refused']);
    expect(disk.files.get('audit/logins.jsonl')?.length).toBeLessThan(2 * 1024 * 1024);
  });

  it('is entered by its name if it has one; what is none is written in visible characters, and cut', async () => {
    const disk = new MemoryDisk();
    const audit = await open(disk);
    audit.session(refusal('iqn.2026-11.com.example:a', 'x\nv  forged\u001b[31m\u202e'));
    audit.session(refusal('iqn.2026-11.com.example:b', '\u0001'.repeat(7900)));
    await audit.close();
    const [first, second] = await entriesOf(disk);
    expect(first).toMatchObject({ target: null, noTargetName: 'x\nv  forged\u001b[31m\u202e' });
    expect(disk.text('audit/refused.jsonl')).toContain(String.raw`x\nv  forged\u001b[31m\u202e`);
    expect(second).toMatchObject({ initiator: 'iqn.2026-11.com.example:b', target: null });
    expect(String(second?.['noTargetName']).length).toBeLessThanOrEqual(223);
  });
});

describe('a reading of the log', () => {
  it('says how far back each of its parts reaches, and tells all of them in the order of what happened', async () => {
    const disk = new MemoryDisk();
    const audit = await open(disk);
    audit.session(refusal('iqn.2026-11.com.example:a'));
    await audit.change({ event: 'map', by: 'x' });
    audit.session(login(1, '10.0.0.66', PAYROLL));
    await audit.close();
    const events: string[] = [];
    const { since } = await readAudit(disk, (entry) => events.push(entry.event));
    expect(events).toEqual(['login-refused', 'map', 'login']);
    expect(Object.values(since).every((at) => at?.startsWith('2026-'))).toBe(true);
  });
});
