import { NO_FAR_SHORE } from '../../support/no-far-shore.ts';
import { expect, it } from 'vitest';
import { AccessBook } from '../../../gateway/access/access-book.ts';
import { AccessControl } from '../../../gateway/access/access-control.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { addInitiator, mapVolume } from '../../../gateway/access/operations.ts';
import { adoptVolume } from '../../../gateway/access/part.ts';
import { SecretBox } from '../../../gateway/access/secret-box.ts';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { MIB } from '../../../gateway/base/units.ts';
import type { CatalogueVolume } from '../../../gateway/catalogue.ts';
import type { VolumeRef } from '../../../gateway/cloud/version-log.ts';
import { ServedVolume, type TargetDirectory } from '../../../gateway/served-volume.ts';
import type { VolumeTargets } from '../../../gateway/target-directory.ts';
import { AccessEverywhere } from '../../../gateway/threads/access-everywhere.ts';
import type { IoThread } from '../../../gateway/threads/io-thread.ts';
import { IoThreads } from '../../../gateway/threads/io-threads.ts';
import { moveVolume } from '../../../gateway/threads/move-volume.ts';
import type { VolumeControl, VolumePlace } from '../../../gateway/volume-control.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';
import { RamDevice } from '../../support/ram-device.ts';

const HOST = 'iqn.2026-11.com.example:host1';
const GRANT = { since: 1, by: 'cli:root' };
const CALLER = { name: HOST, address: '10.0.0.9' };
const A = { volume: 'id-a', name: 'a', target: 'iqn.2026-11.dev.farshore:a' };
const ENTRY: CatalogueVolume = { name: 'a', lineage: 'l', volume: 'id-a' };

it('initiators that come back while their volume is moved are told to try again, never that the target does not exist', async () => {
  const disk = new MemoryDisk();
  const clock = new PromptClock();
  const tools = { clock, random: systemRandom, log: silentLog };
  const audit = await AuditLog.open({ disk, ...tools });
  const secrets = await SecretBox.open(disk, 'access.key', systemRandom);
  const book = await AccessBook.open({ disk, audit, epochOf: () => 1 });
  const control = new AccessControl({ book, secrets, audit, ...tools });
  await book.change((document) => ({
    document: mapVolume(
      adoptVolume(addInitiator(document, HOST, GRANT), A, undefined).document,
      { volume: 'a', initiator: HOST, target: undefined, lun: undefined, readOnly: false, addresses: [] },
      GRANT,
    ).document,
    result: undefined,
    audit: undefined,
  }));
  const everywhere = new AccessEverywhere(control);
  const seen: string[] = [];
  const look = (when: string): void => {
    seen.push(`${when}: ${control.authorize(A.target, CALLER, '10.0.0.1').kind}`);
  };
  let flushes = 0;
  const targets = {
    adopt: () => Promise.resolve(),
    expect: ({ volume }: VolumeRef) => everywhere.expect(volume),
    offer: ({ place }: { readonly place: VolumePlace }) => everywhere.offer(A, place),
    withdraw: ({ volume }: VolumeRef) => everywhere.withdraw(volume),
    sessions: () => Promise.resolve(0),
    notReady: () => undefined,
    isSettled: () => Promise.resolve(true),
    settled: () => Promise.resolve(),
    whileUnchanged: <T>(work: () => Promise<T>): Promise<T> => work(),
    access: () => ({ mode: 'unknown', maps: 0, inTable: false, problem: undefined }),
  } as unknown as TargetDirectory & VolumeTargets;
  const opened = {
    item: { targetName: A.target, name: 'a', volume: 'id-a' },
    epoch: 1,
    state: 'serving',
    place: { device: new RamDevice({ bytes: MIB }) },
    status: () => Promise.resolve({ stored: undefined }),
    flushRemote: () => {
      flushes += 1;
      look(`flush ${flushes}`);
      return Promise.resolve({ n: 1 });
    },
    close: () => Promise.resolve(true),
  } as unknown as VolumeControl;
  const serve = (entry: CatalogueVolume): ServedVolume =>
    new ServedVolume(
      { clock, log: silentLog, targets, gateway: 'g', ...NO_FAR_SHORE, openVolume: () => Promise.resolve(opened) },
      entry,
      {},
    );
  const thread = (number: number): IoThread =>
    ({
      number,
      forgetVolume: () => {
        look(`forget on ${number}`);
        return Promise.resolve();
      },
    }) as unknown as IoThread;
  const served = serve(ENTRY);
  await served.firstAttempt;
  look('before');
  const moved = await moveVolume(
    {
      clock,
      log: silentLog,
      targets,
      catalogue: {
        put: () => {
          look('catalogue');
          return Promise.resolve();
        },
      },
      io: new IoThreads([thread(0), thread(1)], 2, { volumes: [ENTRY] }),
      sharesTarget: () => [],
      reopen: serve,
    },
    served,
    1,
  );
  look('reopening');
  await moved.firstAttempt;
  look('after');
  expect(seen).toEqual([
    'before: allowed',
    'flush 1: allowed',
    'flush 2: unavailable',
    'catalogue: unavailable',
    'forget on 0: unavailable',
    expect.stringMatching(/^reopening: (unavailable|allowed)$/),
    'after: allowed',
  ]);
});
