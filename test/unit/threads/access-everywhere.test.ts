import { describe, expect, it } from 'vitest';
import { AccessBook } from '../../../gateway/access/access-book.ts';
import { AccessControl } from '../../../gateway/access/access-control.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { EMPTY_DOCUMENT } from '../../../gateway/access/document.ts';
import { requireOneThread, sharesTarget } from '../../../gateway/access/one-thread.ts';
import { addInitiator, mapVolume, setUnitState, unmapVolume } from '../../../gateway/access/operations.ts';
import { adoptVolume } from '../../../gateway/access/part.ts';
import { SecretBox } from '../../../gateway/access/secret-box.ts';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { MIB } from '../../../gateway/base/units.ts';
import type { OpenPortal } from '../../../gateway/iscsi/target-registry.ts';
import { AccessEverywhere, type AccessPeer } from '../../../gateway/threads/access-everywhere.ts';
import { AccessMirror } from '../../../gateway/threads/access-mirror.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';
import { RamDevice } from '../../support/ram-device.ts';

const HOST = 'iqn.2026-11.com.example:host1';
const GRANT = { since: 1, by: 'cli:root' };
const CALLER = { name: HOST, address: '10.0.0.9' };
const volume = (name: string) => ({ volume: `id-${name}`, name, target: `iqn.2026-11.dev.farshore:${name}` });
const A = volume('a');
const B = volume('b');
const PORTALS: readonly (readonly OpenPortal[])[] = [
  [{ host: '10.0.0.1', port: 3260, advertise: undefined }],
  [{ host: '10.0.0.1', port: 3261, advertise: undefined }],
];

/** The main thread and an I/O thread, which are one here: what is told arrives at once, what is asked is done. */
async function twoThreads() {
  const disk = new MemoryDisk();
  const tools = { clock: new PromptClock(), random: systemRandom, log: silentLog };
  const audit = await AuditLog.open({ disk, ...tools });
  const secrets = await SecretBox.open(disk, 'access.key', systemRandom);
  const book = await AccessBook.open({ disk, audit, epochOf: () => 1 });
  const main = new AccessControl({ book, secrets, audit, ...tools });
  const mirror = new AccessMirror(EMPTY_DOCUMENT, (id, state) => book.saveUnitState(id, state));
  const other = new AccessControl({ book: mirror, secrets, audit, ...tools });
  const documents: string[] = [];
  const expected = new Map<string, () => void>();
  const peer: AccessPeer = {
    number: 1,
    document: (document) => {
      documents.push('whole');
      mirror.follow(structuredClone(document));
    },
    unitState: (id, state) => {
      documents.push(`${id}: ${state}`);
      mirror.followUnitState(id, state);
    },
    keys: () => undefined,
    expect: (id, on) => {
      if (on) expected.set(id, other.expect(id));
      else expected.get(id)?.();
    },
    elsewhere: (told, thread) => {
      other.offerElsewhere(told, thread);
    },
    servedAt: (thread, portals) => {
      other.servedAt(thread, portals);
    },
    offer: (_handle, told) => {
      other.offer(told, new RamDevice({ bytes: MIB }));
      return Promise.resolve();
    },
    withdraw: (id) => other.withdraw(id),
    enforced: () => other.enforced(),
    sessions: (id) => Promise.resolve(other.sessions(id)),
  };
  const everywhere = new AccessEverywhere(main, [peer]);
  everywhere.follow(book, secrets);
  const change = (work: (document: typeof book.document) => typeof book.document): Promise<void> =>
    book.change((document) => ({ document: work(document), result: undefined, audit: undefined }));
  await change((document) =>
    [A, B].reduce((known, each) => adoptVolume(known, each, undefined).document, addInitiator(document, HOST, GRANT)),
  );
  PORTALS.forEach((portals, thread) => {
    everywhere.servedAt(thread, portals);
  });
  const map = (name: string, target?: string): Promise<void> =>
    change(
      (document) =>
        mapVolume(
          document,
          { volume: name, initiator: HOST, target, lun: undefined, readOnly: false, addresses: [] },
          GRANT,
        ).document,
    );
  return { main, other, everywhere, change, map, documents, mirror };
}

/** At a portal of the network, how each thread answers a login: `here`, where to, or why not. */
function answers({ main, other }: { main: AccessControl; other: AccessControl }, target: string): unknown[] {
  return [main, other].map((control) => {
    const answer = control.authorize(target, CALLER, '10.0.0.1');
    if (answer.kind !== 'allowed') return answer.kind;
    const { portals } = answer.target;
    return portals === undefined ? `here, ${answer.target.luns(CALLER).size} LUNs` : portals.map(({ port }) => port);
  });
}

describe('access control of two threads', () => {
  it('lets in where the volume is, redirects from everywhere else, and forbids at both at once', async () => {
    const w = await twoThreads();
    await w.map('a');
    await w.map('b');
    const opened = w.everywhere.expect(B.volume);
    expect(answers(w, B.target)).toEqual(['unavailable', 'unavailable']);
    await w.everywhere.offer(A, { device: new RamDevice({ bytes: MIB }) });
    await w.everywhere.offer(B, { thread: 1, handle: 16 });
    opened();
    expect(answers(w, A.target)).toEqual(['here, 1 LUNs', [3260]]);
    expect(answers(w, B.target)).toEqual([[3261], 'here, 1 LUNs']);
    expect([...w.main.discover(CALLER, '10.0.0.1')].map(({ name }) => name)).toEqual([A.target, B.target]);
    await w.change((document) => unmapVolume(document, { volume: 'b', initiator: HOST, target: undefined }).document);
    await w.everywhere.enforced();
    expect(answers(w, B.target)).toEqual(['not-found', 'not-found']);
    await w.everywhere.withdraw(A.volume);
    expect(answers(w, A.target)).toEqual(['not-found', 'not-found']);
  });

  it('tells of what a logical unit keeps without the whole document, durable before the unit goes on', async () => {
    const w = await twoThreads();
    w.documents.length = 0;
    await w.mirror.saveUnitState(B.volume, '{"format":1}');
    expect(w.documents).toEqual([`${B.volume}: {"format":1}`]);
    expect(w.mirror.document.volumes.find(({ name }) => name === 'b')?.unitState).toBe('{"format":1}');
    await w.change((document) => setUnitState(document, B.volume, ''));
    expect(w.mirror.document.volumes.find(({ name }) => name === 'b')?.unitState).toBeUndefined();
  });

  it('serves a target from one thread alone, also where its maps were brought back from two, and says what to do', async () => {
    const w = await twoThreads();
    await w.map('a');
    await w.map('b', A.target);
    await w.everywhere.offer(A, { device: new RamDevice({ bytes: MIB }) });
    await w.everywhere.offer(B, { thread: 1, handle: 16 });
    expect(answers(w, A.target)).toEqual(['here, 1 LUNs', [3260]]);
    for (const control of [w.main, w.other])
      expect(control.problems()).toEqual([expect.stringContaining('farshore volume move b --thread K')]);
  });

  it('refuses the map that would join two threads, and knows which volumes go together', async () => {
    const w = await twoThreads();
    await w.map('a');
    const { document } = w.mirror;
    const threadOf = (id: string): number => (id === B.volume ? 1 : 0);
    expect(() => {
      requireOneThread(document, 'b', A.target, threadOf);
    }).toThrow(/volume move b --thread 0/);
    requireOneThread(document, 'b', B.target, threadOf);
    requireOneThread(document, 'b', A.target, () => 3);
    expect(sharesTarget(document, B.volume)).toEqual([]);
    await w.map('b', A.target);
    expect(sharesTarget(w.mirror.document, B.volume)).toEqual(['a']);
  });
});
