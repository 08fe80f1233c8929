import { describe, expect, it } from 'vitest';
import { AccessBook } from '../../../gateway/access/access-book.ts';
import type { AuditEntry } from '../../../gateway/access/audit-entry.ts';
import { readAudit } from '../../../gateway/access/audit-files.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { addInitiator } from '../../../gateway/access/operations.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { diskFull, MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';

/** A gateway's book, as one process after the other has it. */
async function start(disk: MemoryDisk) {
  const audit = await AuditLog.open({ disk, clock: new PromptClock(), log: silentLog });
  const book = await AccessBook.open({ disk, audit, epochOf: () => 1 });
  const add = (name: string): Promise<void> =>
    book.change((document) => ({
      document: addInitiator(document, name, { since: 1, by: 'cli:root' }),
      result: undefined,
      audit: { event: 'initiator-add', by: 'cli:root', initiator: name },
    }));
  return { audit, book, add };
}

async function told(disk: MemoryDisk): Promise<AuditEntry[]> {
  const entries: AuditEntry[] = [];
  await readAudit(disk, (entry) => entries.push(entry));
  return entries;
}

/** The disk as it was when a change was in the log and not made yet. */
async function killedBefore(work: (add: (name: string) => Promise<void>) => Promise<void>): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const { add } = await start(disk);
  let killed: MemoryDisk | undefined;
  await work(async (name) => {
    await add(name);
  });
  disk.before = (_operation, path) => {
    if (path.startsWith('access.json')) killed ??= disk.copy();
  };
  await add('iqn.2026-11.com.example:never');
  if (killed === undefined) throw new Error('nothing was written');
  return killed;
}

const taken = (entries: readonly AuditEntry[]) => entries.filter((entry) => entry.event === 'change-failed');

describe('a change the gateway did not live to make', () => {
  it('is taken back in the log at the next start, once', async () => {
    const disk = await killedBefore((add) => add('iqn.2026-11.com.example:made'));
    const { audit, book } = await start(disk);
    await audit.close();
    expect(book.document.initiators.map((each) => each.name)).toEqual(['iqn.2026-11.com.example:made']);
    expect(taken(await told(disk))).toMatchObject([
      { by: 'gateway', change: 'initiator-add', entry: 2, reason: 'the gateway ended before it was made' },
    ]);
    await (await start(disk)).audit.close();
    expect(taken(await told(disk))).toHaveLength(1);
  });

  it('is taken back when it was the first of all', async () => {
    const disk = await killedBefore(async () => undefined);
    await (await start(disk)).audit.close();
    expect(taken(await told(disk))).toMatchObject([{ entry: 1 }]);
  });

  it('is not mixed up with one that was made', async () => {
    const disk = new MemoryDisk();
    const { add, audit } = await start(disk);
    await add('iqn.2026-11.com.example:made');
    await audit.change({ event: 'session-kill', by: 'cli:root' });
    await (await start(disk.copy())).audit.close();
    const copy = disk.copy();
    await (await start(copy)).audit.close();
    expect(taken(await told(copy))).toEqual([]);
  });

  it('says nothing of changes when the document was moved aside', async () => {
    const disk = new MemoryDisk();
    const { add } = await start(disk);
    await add('iqn.2026-11.com.example:one');
    await add('iqn.2026-11.com.example:two');
    disk.files.delete('access.json');
    await (await start(disk)).audit.close();
    expect(taken(await told(disk))).toEqual([]);
  });

  it('is told as what it is when the document is older than several changes', async () => {
    const disk = new MemoryDisk();
    const { add } = await start(disk);
    await add('iqn.2026-11.com.example:one');
    const old = disk.files.get('access.json') ?? Buffer.alloc(0);
    await add('iqn.2026-11.com.example:two');
    await add('iqn.2026-11.com.example:three');
    disk.files.set('access.json', old);
    for (let count = 0; count < 2; count++) await (await start(disk)).audit.close();
    expect((await told(disk)).slice(3)).toMatchObject([
      { event: 'change-failed', entry: 3 },
      { event: 'access-rolled-back', entries: [2], count: 1 },
    ]);
  });
});

describe('a change that was said to have failed', () => {
  it('is confirmed at the next start when it is in force: only the answer of the disk had failed', async () => {
    const disk = new MemoryDisk();
    const { add, audit } = await start(disk);
    const syncDirectory = disk.syncDirectory.bind(disk);
    disk.syncDirectory = () => Promise.reject(diskFull());
    await expect(add('iqn.2026-11.com.example:made')).rejects.toMatchObject({ kind: 'busy' });
    disk.syncDirectory = syncDirectory;
    await audit.close();
    const { audit: next, book } = await start(disk);
    await next.close();
    expect(book.document.initiators).toHaveLength(1);
    expect((await told(disk)).map((entry) => entry.event)).toEqual(['initiator-add', 'change-failed', 'change-made']);
  });

  it('names the change when only the log itself could not be made durable', async () => {
    const disk = new MemoryDisk();
    const { add, audit } = await start(disk);
    disk.before = (operation, path) => {
      if (operation === 'sync' && path.startsWith('audit/')) throw diskFull();
    };
    await expect(add('iqn.2026-11.com.example:none')).rejects.toMatchObject({ kind: 'busy' });
    disk.before = undefined;
    await audit.close();
    expect(await told(disk)).toMatchObject([
      { seq: 1, event: 'initiator-add' },
      { event: 'change-failed', entry: 1 },
    ]);
  });
});
