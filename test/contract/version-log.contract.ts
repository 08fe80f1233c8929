import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type {
  CheckpointPointer,
  VersionItem,
  VersionLog,
  VolumeItem,
  VolumeRef,
} from '../../gateway/cloud/version-log.ts';

export interface OpenedVersionLog {
  readonly log: VersionLog;
  close(): Promise<void>;
}

/** What every VersionLog must do. It uses fresh lineages, volumes, names and gateways, and removes names and volumes it made. */
export function versionLogContract(name: string, open: () => Promise<OpenedVersionLog>): void {
  describe(`version log: ${name}`, () => {
    let opened: OpenedVersionLog;
    let log: VersionLog;
    let ref: VolumeRef;
    const cleanUp: (() => Promise<unknown>)[] = [];

    beforeAll(async () => {
      opened = await open();
      log = opened.log;
    });
    beforeEach(() => {
      ref = freshRef();
    });
    afterAll(async () => {
      for (const undo of cleanUp) await undo();
      await opened.close();
    });

    function freshRef(): VolumeRef {
      return { lineage: fresh('l'), volume: fresh('v') };
    }

    async function create(changes: Partial<VolumeItem> = {}): Promise<VolumeItem> {
      const item = volumeItem(ref, changes);
      expect(await log.createVolume(item)).toBe('ok');
      const made = ref;
      cleanUp.push(async () => {
        const left = await log.getVolume(made);
        if (left === undefined) return;
        await log.changeVolume(made, left.epoch, { deletedAt: 1 });
        await log.removeVolume(made, left.epoch);
      });
      return item;
    }

    async function putMany(ns: readonly number[], epoch = 1): Promise<void> {
      for (const n of ns) expect(await log.putVersion(ref.volume, versionItem(n, epoch), epoch)).toBe('ok');
      const { volume } = ref;
      cleanUp.push(async () => {
        for (let at = 0; at < ns.length; at += 25) await log.deleteVersions(volume, ns.slice(at, at + 25));
      });
    }

    describe('volumes', () => {
      it('keeps every attribute', async () => {
        const item = await create({
          owner: 'gateway-1',
          epoch: 7,
          floor: 3,
          checkpoint: pointer(5, { epoch: 2 ** 20 + 1 }),
          maintenanceEpoch: 4,
          deletedAt: 123,
          sectorSize: 512,
          replication: 'sync',
          bytes: 64 * 2 ** 40,
          physicalSize: 512,
          removable: true,
        });
        expect(await log.getVolume(ref)).toEqual(item);
      });

      it('keeps what is absent absent', async () => {
        const item = await create();
        expect(await log.getVolume(ref)).toEqual(item);
      });

      it('knows nothing of a volume that was never made', async () => {
        expect(await log.getVolume(ref)).toBeUndefined();
      });

      it('creates a volume once', async () => {
        const item = await create();
        expect(await log.createVolume({ ...item, name: 'other' })).toBe('conflict');
        expect(await log.getVolume(ref)).toEqual(item);
      });

      it('raises the epoch from what it is, and from nothing else', async () => {
        await create();
        expect(await log.raiseEpoch(ref, 0, 1, 'a')).toBe('ok');
        expect(await log.raiseEpoch(ref, 0, 2, 'b')).toBe('conflict');
        expect(await log.getVolume(ref)).toMatchObject({ epoch: 1, owner: 'a' });
        expect(await log.raiseEpoch(ref, 1, 2 ** 20 + 1, 'b')).toBe('ok');
        expect(await log.getVolume(ref)).toMatchObject({ epoch: 2 ** 20 + 1, owner: 'b' });
      });

      it('has a handover until somebody raises the epoch, or takes it back', async () => {
        const item = await create({ epoch: 1, owner: 'a' });
        const handover = { to: 'b', state: 'offered' as const };
        expect(await log.changeVolume(ref, 2, { handover })).toBe('conflict');
        for (const state of ['offered', 'accepted', 'released'] as const) {
          expect(await log.changeVolume(ref, 1, { handover: { to: 'b', state } })).toBe('ok');
          expect(await log.getVolume(ref)).toEqual({ ...item, handover: { to: 'b', state } });
        }
        expect(await log.changeVolume(ref, 1, { handover: null })).toBe('ok');
        expect(await log.getVolume(ref)).toEqual(item);
        await log.changeVolume(ref, 1, { handover });
        expect(await log.raiseEpoch(ref, 1, 2, 'b')).toBe('ok');
        expect(await log.getVolume(ref)).toEqual({ ...item, epoch: 2, owner: 'b' });
      });

      it('lets exactly one of many simultaneous takers raise the epoch', async () => {
        await create();
        const takers = Array.from({ length: 10 }, (_, index) => `taker-${index}`);
        const outcomes = await Promise.all(takers.map((taker) => log.raiseEpoch(ref, 0, 1, taker)));
        expect(outcomes.filter((outcome) => outcome === 'ok')).toHaveLength(1);
        expect((await log.getVolume(ref))?.owner).toBe(takers[outcomes.indexOf('ok')]);
      });

      it('conflicts on a volume that is not there, and does not make one', async () => {
        expect(await log.raiseEpoch(ref, 0, 1, 'a')).toBe('conflict');
        expect(await log.changeVolume(ref, 0, { bytes: 4096 })).toBe('conflict');
        expect(await log.raiseMaintenanceEpoch(ref, 0)).toBe('conflict');
        expect(await log.publishCheckpoint(ref, pointer(1))).toBe('conflict');
        expect(await log.raiseFloor(ref, 1, 0)).toBe('conflict');
        expect(await log.removeVolume(ref, 0)).toBe('conflict');
        expect(await log.getVolume(ref)).toBeUndefined();
      });

      it('changes what it is told to and leaves the rest', async () => {
        const item = await create({ epoch: 3 });
        expect(await log.changeVolume(ref, 2, { bytes: 8192 })).toBe('conflict');
        expect(await log.changeVolume(ref, 3, { bytes: 8192, replication: 'flush', retainedFrom: 9 })).toBe('ok');
        expect(await log.getVolume(ref)).toEqual({ ...item, bytes: 8192, replication: 'flush', retainedFrom: 9 });
        expect(await log.changeVolume(ref, 3, { deletedAt: 55 })).toBe('ok');
        expect((await log.getVolume(ref))?.deletedAt).toBe(55);
        expect(await log.changeVolume(ref, 3, { deletedAt: null })).toBe('ok');
        expect(await log.changeVolume(ref, 3, { quotaBytes: 2 ** 40, deletedAt: 56 })).toBe('ok');
        expect(await log.getVolume(ref)).toMatchObject({ quotaBytes: 2 ** 40, deletedAt: 56 });
        expect(await log.changeVolume(ref, 3, { quotaBytes: null, deletedAt: null })).toBe('ok');
        expect(await log.changeVolume(ref, 3, {})).toBe('ok');
        expect(await log.getVolume(ref)).toEqual({ ...item, bytes: 8192, replication: 'flush', retainedFrom: 9 });
      });

      it('removes only a volume that is marked deleted, under its present epoch', async () => {
        await create({ epoch: 3 });
        expect(await log.removeVolume(ref, 3)).toBe('conflict');
        await log.changeVolume(ref, 3, { deletedAt: 5 });
        expect(await log.removeVolume(ref, 2)).toBe('conflict');
        expect(await log.removeVolume(ref, 3)).toBe('ok');
        expect(await log.getVolume(ref)).toBeUndefined();
        expect(await log.removeVolume(ref, 3)).toBe('conflict');
      });
    });

    describe('maintenance', () => {
      it('raises the maintenance epoch by one, for one of those who try', async () => {
        await create();
        const outcomes = await Promise.all([1, 2, 3].map(() => log.raiseMaintenanceEpoch(ref, 0)));
        expect(outcomes.filter((outcome) => outcome === 'ok')).toHaveLength(1);
        expect((await log.getVolume(ref))?.maintenanceEpoch).toBe(1);
      });

      it('publishes a checkpoint only under its own maintenance epoch', async () => {
        await create({ maintenanceEpoch: 2 });
        expect(await log.publishCheckpoint(ref, pointer(5, { maintenanceEpoch: 1 }))).toBe('conflict');
        expect(await log.publishCheckpoint(ref, pointer(5, { maintenanceEpoch: 3 }))).toBe('conflict');
        expect(await log.publishCheckpoint(ref, pointer(5, { maintenanceEpoch: 2 }))).toBe('ok');
        expect((await log.getVolume(ref))?.checkpoint).toEqual(pointer(5, { maintenanceEpoch: 2 }));
      });

      it('moves a checkpoint only forward', async () => {
        await create();
        expect(await log.publishCheckpoint(ref, pointer(5))).toBe('ok');
        expect(await log.publishCheckpoint(ref, pointer(5, { sequence: 9 }))).toBe('conflict');
        expect(await log.publishCheckpoint(ref, pointer(4))).toBe('conflict');
        expect(await log.publishCheckpoint(ref, pointer(10))).toBe('ok');
        expect((await log.getVolume(ref))?.checkpoint?.n).toBe(10);
      });

      it('raises the floor only upward, to at most the checkpoint, under the present maintenance epoch', async () => {
        await create();
        expect(await log.raiseFloor(ref, 1, 0)).toBe('conflict');
        await log.publishCheckpoint(ref, pointer(100));
        expect(await log.raiseFloor(ref, 101, 0)).toBe('conflict');
        expect(await log.raiseFloor(ref, 20, 1)).toBe('conflict');
        expect(await log.raiseFloor(ref, 20, 0)).toBe('ok');
        expect(await log.raiseFloor(ref, 20, 0)).toBe('conflict');
        expect(await log.raiseFloor(ref, 9, 0)).toBe('conflict');
        expect(await log.raiseFloor(ref, 100, 0)).toBe('ok');
        expect((await log.getVolume(ref))?.floor).toBe(100);
      });
    });

    describe('the access of a volume', () => {
      const item = (revision: number, epoch: number, body = `revision ${revision} of epoch ${epoch}`) => ({
        revision,
        epoch,
        body: Buffer.from(body),
      });

      beforeEach(() => {
        const made = ref;
        cleanUp.push(() => log.removeAccess(made, 2 ** 40));
      });

      it('keeps every byte of the newest revision', async () => {
        expect(await log.getAccess(ref)).toBeUndefined();
        const first = { revision: 1, epoch: 3, body: randomBytes(200_000) };
        expect(await log.putAccess(ref, first)).toBe('ok');
        expect(await log.getAccess(ref)).toEqual(first);
        expect(await log.putAccess(ref, item(2, 3))).toBe('ok');
        expect(await log.getAccess(ref)).toEqual(item(2, 3));
      });

      it('takes each revision once, and only after the one before', async () => {
        expect(await log.putAccess(ref, item(2, 1))).toBe('conflict');
        expect(await log.putAccess(ref, item(1, 1))).toBe('ok');
        expect(await log.putAccess(ref, item(1, 1, 'another'))).toBe('conflict');
        expect(await log.putAccess(ref, item(3, 1))).toBe('conflict');
        expect(await log.putAccess(ref, item(2, 1))).toBe('ok');
        expect(await log.putAccess(ref, item(2, 1, 'late'))).toBe('conflict');
        expect(await log.getAccess(ref)).toEqual(item(2, 1));
      });

      it('takes nothing of an older epoch once a taker has written', async () => {
        expect(await log.putAccess(ref, item(1, 1))).toBe('ok');
        expect(await log.putAccess(ref, item(2, 5))).toBe('ok');
        expect(await log.putAccess(ref, item(3, 4))).toBe('conflict');
        expect(await log.removeAccess(ref, 4)).toBe('conflict');
        expect(await log.getAccess(ref)).toEqual(item(2, 5));
      });

      it('lets exactly one of many simultaneous writers of a revision win', async () => {
        const tries = Array.from({ length: 8 }, (_, index) => log.putAccess(ref, item(1, 1, `writer ${index}`)));
        expect((await Promise.all(tries)).filter((outcome) => outcome === 'ok')).toHaveLength(1);
      });

      it('is removed, present or not, and begins again at revision 1', async () => {
        expect(await log.removeAccess(ref, 1)).toBe('ok');
        expect(await log.putAccess(ref, item(1, 1))).toBe('ok');
        expect(await log.removeAccess(ref, 1)).toBe('ok');
        expect(await log.getAccess(ref)).toBeUndefined();
        expect(await log.putAccess(ref, item(1, 1))).toBe('ok');
      });

      it('belongs to one volume of the lineage', async () => {
        const other = { ...ref, volume: fresh('v') };
        expect(await log.putAccess(ref, item(1, 1))).toBe('ok');
        expect(await log.getAccess(other)).toBeUndefined();
      });
    });

    describe('the log', () => {
      it('keeps every byte of a version', async () => {
        const item = versionItem(1, 3, { inline: randomBytes(9000), record: randomBytes(300) });
        expect(await log.putVersion(ref.volume, item, 3)).toBe('ok');
        expect(await log.getVersion(ref.volume, 1)).toEqual(item);
        expect(await log.listVersions(ref.volume, 1, 10)).toEqual([item]);
        await log.deleteVersions(ref.volume, [1]);
      });

      it('knows nothing of a version that was never put', async () => {
        expect(await log.getVersion(ref.volume, 1)).toBeUndefined();
        expect(await log.listVersions(ref.volume, 1, 10)).toEqual([]);
      });

      it('puts a version where nothing lies', async () => {
        await putMany([1, 2, 3]);
        expect((await log.listVersions(ref.volume, 1, 10)).map(({ n }) => n)).toEqual([1, 2, 3]);
      });

      it.each([
        ['an epoch below that of the record before', 4, 5, 'ok'],
        ['the epoch of the record before', 5, 5, 'conflict'],
        ['an epoch above that of the record before', 6, 5, 'conflict'],
      ] as const)('over %s: rule 1 decides', async (_, present, previous, outcome) => {
        await putMany([1], present);
        const item = versionItem(1, 9);
        expect(await log.putVersion(ref.volume, item, previous)).toBe(outcome);
        expect((await log.getVersion(ref.volume, 1))?.epoch).toBe(outcome === 'ok' ? 9 : present);
      });

      it('conflicts with the same version put twice', async () => {
        const item = versionItem(1, 1);
        expect(await log.putVersion(ref.volume, item, 1)).toBe('ok');
        expect(await log.putVersion(ref.volume, item, 1)).toBe('conflict');
        await log.deleteVersions(ref.volume, [1]);
      });

      it('lets exactly one of many simultaneous writers of a version win', async () => {
        const items = Array.from({ length: 10 }, () => versionItem(1, 5));
        const outcomes = await Promise.all(items.map((item) => log.putVersion(ref.volume, item, 5)));
        expect(outcomes.filter((outcome) => outcome === 'ok')).toHaveLength(1);
        expect(await log.getVersion(ref.volume, 1)).toEqual(items[outcomes.indexOf('ok')]);
        await log.deleteVersions(ref.volume, [1]);
      });

      it('lists in the order of n, whatever the order of the puts and however many digits n has', async () => {
        const ns = [2 ** 40, 1, 255, 16, 2, 256, 15, 4096, 10, 9];
        await putMany(ns);
        const ascending = [...ns].sort((a, b) => a - b);
        expect((await walk(log, ref.volume, 0, 100)).map(({ n }) => n)).toEqual(ascending);
        expect((await walk(log, ref.volume, 16, 3)).map(({ n }) => n)).toEqual(ascending.filter((n) => n >= 16));
      });

      it('lists in pages that neither skip nor repeat, and are empty only at the end', async () => {
        const ns = Array.from({ length: 40 }, (_, index) => index + 1);
        await putMany(ns);
        for (const limit of [1, 7, 39, 40, 41, 1000])
          expect((await walk(log, ref.volume, 1, limit)).map(({ n }) => n)).toEqual(ns);
        expect(await log.listVersions(ref.volume, 41, 10)).toEqual([]);
      });

      it('lists items whose sum is far larger than one answer may be', async () => {
        const ns = Array.from({ length: 12 }, (_, index) => index + 1);
        const items = ns.map((n) => versionItem(n, 1, { inline: randomBytes(250_000) }));
        for (const item of items) await log.putVersion(ref.volume, item, 1);
        const found = await walk(log, ref.volume, 1, 1000);
        expect(found.map(({ n }) => n)).toEqual(ns);
        // Compared by hand: the assertion library takes seconds for a buffer of this size.
        for (const [index, { inline }] of found.entries())
          expect(inline.equals(items[index]?.inline ?? inline)).toBe(true);
        await log.deleteVersions(ref.volume, ns);
      });

      it('lists the versions of one volume only', async () => {
        await putMany([1]);
        expect(await log.listVersions(`${ref.volume}x`, 1, 10)).toEqual([]);
        expect(await log.listVersions(ref.volume.slice(0, -1), 1, 10)).toEqual([]);
      });

      it('deletes up to 25 versions, present or not', async () => {
        const ns = Array.from({ length: 26 }, (_, index) => index + 1);
        await putMany(ns);
        await log.deleteVersions(ref.volume, ns.slice(0, 25));
        expect((await log.listVersions(ref.volume, 1, 100)).map(({ n }) => n)).toEqual([26]);
        await log.deleteVersions(ref.volume, [1, 26]);
        await log.deleteVersions(ref.volume, []);
        expect(await log.listVersions(ref.volume, 1, 100)).toEqual([]);
      });
    });

    describe('the volumes of a lineage', () => {
      it('are all listed, the deleted ones too, and nothing else of the lineage or of another', async () => {
        const first = await create();
        const lineage = first.lineage;
        ref = { lineage, volume: fresh('v') };
        const clone = await create({ deletedAt: 5 });
        const own = ref;
        ref = freshRef();
        await create();
        ref = own;
        await log.allocateNumbers(ref, 1, 5);
        await log.putAccess(ref, { epoch: 1, revision: 1, body: Buffer.from('x') });
        const listed = await log.listVolumes(first.lineage);
        expect(listed.map(({ volume }) => volume).sort()).toEqual([first.volume, clone.volume].sort());
        expect(listed.find(({ volume }) => volume === clone.volume)).toEqual(clone);
        expect(await log.listVolumes(fresh('l'))).toEqual([]);
      });
    });

    describe('segment numbers', () => {
      it('starts at 1 and never gives a number twice', async () => {
        expect(await log.allocateNumbers(ref, 1, 64)).toEqual({ from: 1, to: 65 });
        expect(await log.allocateNumbers(ref, 1, 10)).toEqual({ from: 65, to: 75 });
      });

      it('shares one sequence among the volumes of a lineage, and none among lineages', async () => {
        const clone = { ...ref, volume: fresh('v') };
        expect(await log.allocateNumbers(ref, 1, 5)).toEqual({ from: 1, to: 6 });
        expect(await log.allocateNumbers(clone, 9, 5)).toEqual({ from: 6, to: 11 });
        expect(await log.allocateNumbers(freshRef(), 1, 5)).toEqual({ from: 1, to: 6 });
      });

      it('gives disjoint ranges to simultaneous askers', async () => {
        const ranges = await Promise.all(Array.from({ length: 12 }, () => log.allocateNumbers(ref, 1, 100)));
        expect(ranges.map(({ from }) => from).sort((a, b) => a - b)).toEqual(ranges.map((_, index) => 1 + index * 100));
        for (const { from, to } of ranges) expect(to - from).toBe(100);
      });
    });

    describe('names', () => {
      const claimed = async (to: VolumeRef): Promise<string> => {
        const label = fresh('name');
        expect(await log.claimName(label, to)).toBe('ok');
        return label;
      };

      it('binds a name to one volume', async () => {
        const label = await claimed(ref);
        expect(await log.resolveName(label)).toEqual(ref);
        expect(await log.claimName(label, ref)).toBe('ok');
        expect(await log.claimName(label, freshRef())).toBe('conflict');
        expect(await log.resolveName(label)).toEqual(ref);
        await log.releaseName(label, ref);
      });

      it('knows nothing of an unbound name', async () => {
        expect(await log.resolveName(fresh('name'))).toBeUndefined();
      });

      it('rebinds a name only from what it is bound to', async () => {
        const label = await claimed(ref);
        const other = freshRef();
        expect(await log.rebindName(label, other, ref)).toBe('conflict');
        expect(await log.rebindName(fresh('name'), ref, other)).toBe('conflict');
        expect(await log.rebindName(label, ref, other)).toBe('ok');
        expect(await log.resolveName(label)).toEqual(other);
        await log.releaseName(label, other);
      });

      it('releases a name only from what it is bound to', async () => {
        const label = await claimed(ref);
        expect(await log.releaseName(label, freshRef())).toBe('conflict');
        expect(await log.releaseName(label, { ...ref, lineage: fresh('l') })).toBe('conflict');
        expect(await log.releaseName(label, ref)).toBe('ok');
        expect(await log.releaseName(label, ref)).toBe('conflict');
        expect(await log.resolveName(label)).toBeUndefined();
      });

      it('lists every bound name, ascending', async () => {
        const labels = [await claimed(ref), await claimed(freshRef()), await claimed(ref)];
        const listed = await log.listNames();
        const names = listed.map(({ name: label }) => label);
        expect(names).toEqual([...names].sort());
        expect(names).toEqual(expect.arrayContaining(labels));
        expect(listed.find(({ name: label }) => label === labels[0])?.ref).toEqual(ref);
        for (const label of labels) await log.releaseName(label, listed.find((one) => one.name === label)?.ref ?? ref);
      });
    });

    describe('gateways', () => {
      const beat = (gateway: string) => ({ gateway, at: 5, host: 'h', version: '0', volumes: 2, dirtyBlocks: 7 });

      it('hands the notices left for a gateway to its heartbeat until they are cleared', async () => {
        const gateway = fresh('g');
        expect(await log.beat(beat(gateway))).toEqual([]);
        const notices = [
          { volume: fresh('v'), epoch: 3 },
          { volume: fresh('v'), epoch: 2 ** 21 },
        ];
        for (const notice of notices) await log.notify(gateway, notice);
        expect(sorted(await log.beat(beat(gateway)))).toEqual(sorted(notices));
        expect(sorted(await log.beat(beat(gateway)))).toEqual(sorted(notices));
        await log.clearNotices(gateway, notices.slice(0, 1));
        expect(await log.beat(beat(gateway))).toEqual(notices.slice(1));
        await log.clearNotices(gateway, notices);
        await log.clearNotices(gateway, []);
        expect(await log.beat(beat(gateway))).toEqual([]);
      });

      it('keeps a notice once, and for a gateway that has never been heard of', async () => {
        const gateway = fresh('g');
        const notice = { volume: fresh('v'), epoch: 3 };
        await log.notify(gateway, notice);
        await log.notify(gateway, notice);
        expect(await log.beat(beat(gateway))).toEqual([notice]);
        expect(await log.beat(beat(fresh('g')))).toEqual([]);
      });

      it('does not lose a notice to a clearing of another one for the same volume', async () => {
        const gateway = fresh('g');
        const volume = fresh('v');
        await log.notify(gateway, { volume, epoch: 3 });
        await log.notify(gateway, { volume, epoch: 4 });
        await log.clearNotices(gateway, [{ volume, epoch: 3 }]);
        expect(await log.beat(beat(gateway))).toEqual([{ volume, epoch: 4 }]);
      });
    });
  });
}

function fresh(kind: string): string {
  return `test-${kind}-${randomBytes(8).toString('hex')}`;
}

function pointer(n: number, changes: Partial<CheckpointPointer> = {}): CheckpointPointer {
  return { sequence: 1, maintenanceEpoch: 0, n, epoch: 1, chain: Buffer.alloc(32, n), ...changes };
}

function volumeItem(ref: VolumeRef, changes: Partial<VolumeItem>): VolumeItem {
  return {
    ...ref,
    name: 'name',
    bytes: 1 << 30,
    sectorSize: 4096,
    replication: 'async',
    targetName: 'iqn.2026-11.dev.farshore:test',
    naa: Buffer.alloc(16, 6),
    createdAt: 1_700_000_000_000,
    epoch: 0,
    owner: '',
    floor: 0,
    checkpoint: undefined,
    maintenanceEpoch: 0,
    retainedFrom: 0,
    deletedAt: undefined,
    ...changes,
  };
}

function versionItem(n: number, epoch: number, changes: Partial<VersionItem> = {}): VersionItem {
  return { n, epoch, record: randomBytes(200), chain: randomBytes(32), inline: Buffer.alloc(0), ...changes };
}

async function walk(log: VersionLog, volume: string, from: number, limit: number): Promise<VersionItem[]> {
  const items: VersionItem[] = [];
  for (;;) {
    const page = await log.listVersions(volume, (items.at(-1)?.n ?? from - 1) + 1, limit);
    expect(page.length).toBeLessThanOrEqual(limit);
    if (page.length === 0) return items;
    items.push(...page);
  }
}

function sorted<T extends { readonly volume: string }>(notices: readonly T[]): T[] {
  return [...notices].sort((a, b) => (a.volume < b.volume ? -1 : 1));
}
