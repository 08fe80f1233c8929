import { expect, it } from 'vitest';
import { AccessAdmin } from '../../../gateway/access/access-admin.ts';
import { AccessBook } from '../../../gateway/access/access-book.ts';
import { AccessControl } from '../../../gateway/access/access-control.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { EMPTY_DOCUMENT, type AccessBody, type AccessDocument } from '../../../gateway/access/document.ts';
import { addInitiator, createTarget, mapVolume, setChap } from '../../../gateway/access/operations.ts';
import { adoptVolume, bodyOf } from '../../../gateway/access/part.ts';
import { SecretBox } from '../../../gateway/access/secret-box.ts';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { MIB } from '../../../gateway/base/units.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';
import { RamDevice } from '../../support/ram-device.ts';

const HOST = 'iqn.2026-11.com.example:host';
const IQN = 'iqn.2026-11.dev.farshore:office1';
const SHARED = `${IQN}:shared`;
const GRANT = { since: 1, by: 'test' };
const INITIATOR = { name: HOST, address: '10.1.1.9' };
const volume = (name: string) => ({ volume: `id-${name}`, name, target: `${IQN}:${name}` });

/** A gateway that serves w; v comes from another one, where the same initiator has another credential. */
async function world(target: string | undefined) {
  const disk = new MemoryDisk();
  const audit = await AuditLog.open({ disk, clock: new PromptClock(), log: silentLog });
  const secrets = await SecretBox.open(disk, 'access.key', systemRandom);
  const book = await AccessBook.open({ disk, audit, epochOf: () => 1 });
  const control = new AccessControl({ book, secrets, audit, log: silentLog, random: systemRandom });
  const withChap = async (document: AccessDocument, user: string): Promise<AccessDocument> => {
    const use = { role: 'initiator' as const, initiator: HOST, target: '*', user };
    const secret = await secrets.wrap(Buffer.from(`secret of ${user} 12345`), use);
    return setChap(document, HOST, undefined, { ...GRANT, user, secret });
  };
  const mapped = (name: string, lun: number): AccessDocument => {
    const known = addInitiator(createTarget(EMPTY_DOCUMENT, SHARED, GRANT), HOST, GRANT);
    const document = adoptVolume(known, volume(name), undefined).document;
    return mapVolume(document, { volume: name, initiator: HOST, target, lun, readOnly: false, addresses: [] }, GRANT)
      .document;
  };
  const change = (work: (document: AccessDocument) => Promise<AccessDocument> | AccessDocument): Promise<void> =>
    book.change(async (document) => ({ document: await work(document), result: undefined, audit: undefined }));
  const there = await withChap(mapped('v', 1), 'of-a');
  const [part] = there.volumes;
  if (part === undefined) throw new Error('no volume');
  const body: AccessBody = { ...bodyOf(there, part), stamp: { epoch: 5, revision: 9 } };
  await change(() => withChap(mapped('w', 0), 'of-b'));
  control.offer(volume('w'), new RamDevice({ bytes: MIB, name: 'w' }));
  await change((document) => adoptVolume(document, volume('v'), body).document);
  control.offer(volume('v'), new RamDevice({ bytes: MIB, name: 'v' }));
  const userAt = (at: string): string | undefined => {
    const answer = control.authorize(at, INITIATOR, '10.1.1.1');
    return answer.kind === 'allowed' ? answer.chap?.initiator.user : answer.kind;
  };
  const admin = new AccessAdmin({ book, secrets, control, audit, disk, clock: new PromptClock(), iqn: IQN });
  return { admin, control, userAt, settle: () => change((document) => withChap(document, 'one')) };
}

it('a volume that was taken over asks for what came with it, another one for what it asked for before', async () => {
  const { admin, control, userAt, settle } = await world(undefined);
  expect([userAt(`${IQN}:w`), userAt(`${IQN}:v`)]).toEqual(['of-b', 'of-a']);
  expect(control.demandsProof()).toBe(true);
  expect(control.problems()).toEqual([expect.stringContaining('farshore initiator chap')]);
  expect(admin.initiators()).toMatchObject([{ chap: [{ user: 'of-b' }, { user: 'of-a', volume: 'v' }] }]);
  await settle();
  expect(admin.initiators()[0]?.chap).toHaveLength(1);
  expect([userAt(`${IQN}:w`), userAt(`${IQN}:v`)]).toEqual(['one', 'one']);
  expect(control.problems()).toEqual([]);
});

it('where both are at one target it is not seen there until an administrator has settled it, and status says so', async () => {
  const { control, userAt, settle } = await world(SHARED);
  const seen = (): number[] => {
    const answer = control.authorize(SHARED, INITIATOR, '10.1.1.1');
    return answer.kind === 'allowed' ? [...answer.target.luns(INITIATOR).keys()] : [];
  };
  expect(userAt(SHARED)).toBe('of-b');
  expect(seen()).toEqual([0]);
  expect(control.problems()).toContainEqual(expect.stringMatching(/volumes w and v ask .* so v is not seen there/));
  // Only among open volumes: one that is not served stands in nobody's way.
  await control.withdraw('id-w');
  expect(userAt(SHARED)).toBe('of-a');
  expect(seen()).toEqual([1]);
  control.offer(volume('w'), new RamDevice({ bytes: MIB, name: 'w' }));
  await settle();
  expect(userAt(SHARED)).toBe('one');
  expect(seen()).toEqual([0, 1]);
});
