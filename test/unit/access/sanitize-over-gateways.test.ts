import { NO_FAR_SHORE } from '../../support/no-far-shore.ts';
import { describe, expect, it } from 'vitest';
import { AccessBook } from '../../../gateway/access/access-book.ts';
import { AccessControl } from '../../../gateway/access/access-control.ts';
import { AccessSync } from '../../../gateway/access/access-sync.ts';
import { AuditLog } from '../../../gateway/access/audit-log.ts';
import { SecretBox } from '../../../gateway/access/secret-box.ts';
import type { BlockDevice, DeviceIdentity } from '../../../gateway/base/block-device.ts';
import { systemRandom } from '../../../gateway/base/clock.ts';
import type { Disk, DiskFile } from '../../../gateway/base/disk.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { KIB } from '../../../gateway/base/units.ts';
import type { AccessItem, VersionLog, VolumeItem, VolumeRef } from '../../../gateway/cloud/version-log.ts';
import { IscsiTargetServer } from '../../../gateway/iscsi/server.ts';
import { DEFAULT_ISCSI_SETTINGS } from '../../../gateway/iscsi/settings.ts';
import type { MappedLun } from '../../../gateway/iscsi/target-registry.ts';
import { admit } from '../../../gateway/scsi/admission.ts';
import { execute } from '../../../gateway/scsi/dispatch.ts';
import { LogicalUnits } from '../../../gateway/scsi/logical-unit.ts';
import type { UnitNexus } from '../../../gateway/scsi/logical-unit.ts';
import { ServedVolume } from '../../../gateway/served-volume.ts';
import type { VolumeControl } from '../../../gateway/volume-control.ts';
import { AccessEverywhere } from '../../../gateway/threads/access-everywhere.ts';
import { VolumeTargets } from '../../../gateway/target-directory.ts';
import { MemoryTable } from '../../sim/memory-table.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { PromptClock } from '../../support/prompt-clock.ts';
import { RamDevice } from '../../support/ram-device.ts';

const REF: VolumeRef = { lineage: 'l', volume: 'v' };
const TARGET = 'iqn.2026-11.dev.farshore:t';
const PORT = { targetName: TARGET, portalGroupTag: 1 };
const INITIATOR = { name: 'iqn.2026-11.com.example:host', isid: '800000000001' };
const TURNS = 300;

/** What happens to a gateway counts as steps; at one of them the process is gone: nothing it asks for is answered any more. */
class Life {
  steps = 0;
  readonly #last: number;

  constructor(last = Infinity) {
    this.#last = last;
  }

  get isOver(): boolean {
    return this.steps > this.#last;
  }

  async step<T>(act: () => T | Promise<T>): Promise<T> {
    if (this.#ends()) return new Promise(() => undefined);
    const outcome = await act();
    return this.#ends() ? new Promise(() => undefined) : outcome;
  }

  #ends(): boolean {
    this.steps += 1;
    return this.isOver;
  }
}

function mortalDisk(disk: Disk, life: Life): Disk {
  const mortalFile = (file: DiskFile): DiskFile => ({
    size: () => file.size(),
    read: (into, position) => file.read(into, position),
    write: (pieces, position) => life.step(() => file.write(pieces, position)),
    sync: () => file.sync(),
    close: () => file.close(),
  });
  return {
    makeDirectory: (path) => disk.makeDirectory(path),
    list: (path) => disk.list(path),
    open: async (path, mode) => mortalFile(await disk.open(path, mode)),
    rename: (from, to) => life.step(() => disk.rename(from, to)),
    remove: (path) => disk.remove(path),
    syncDirectory: (path) => disk.syncDirectory(path),
  };
}

/** What is acked is in the cloud at once: nothing protects it from a successor that sanitizes. */
function replicated(data: RamDevice, history: string, life: Life): BlockDevice {
  const identity: DeviceIdentity = { ...data.identity, history };
  return {
    identity,
    limits: data.limits,
    geometry: () => data.geometry(),
    read: (lba, sectors) => life.step(() => data.read(lba, sectors)),
    write: (lba, pieces, options) => life.step(() => data.write(lba, pieces, options)),
    flush: () => life.step(() => data.flush()),
    unmap: (ranges) => life.step(() => data.unmap(ranges)),
    provisioning: (lba, sectors) => life.step(() => data.provisioning(lba, sectors)),
  };
}

interface Cloud {
  readonly table: MemoryTable;
  readonly data: RamDevice;
}

function newCloud(): Cloud {
  return { table: new MemoryTable(), data: new RamDevice({ bytes: 64 * KIB, name: 'data' }) };
}

/** A gateway from the volume's opening on. */
async function open(
  { table, data }: Cloud,
  disk: MemoryDisk,
  how: {
    readonly epoch: number;
    readonly history: string;
    readonly life?: Life;
    readonly putFails?: () => boolean;
    readonly offered?: (lun: MappedLun) => void;
  },
) {
  const life = how.life ?? new Life();
  const mortal = mortalDisk(disk, life);
  const clock = new PromptClock();
  const tools = { clock, random: systemRandom, log: silentLog };
  const requests: Pick<VersionLog, 'getAccess' | 'putAccess'> = {
    getAccess: (ref) => life.step(() => table.getAccess(ref)),
    putAccess: (ref: VolumeRef, item: AccessItem) =>
      life.step(() => {
        if (how.putFails?.() === true) throw new FarshoreError('retry', 'no answer');
        return table.putAccess(ref, item);
      }),
  };
  const audit = await AuditLog.open({ disk: mortal, clock, log: silentLog });
  const sync = new AccessSync({ table: requests, ...tools });
  const book = await AccessBook.open({ disk: mortal, audit, epochOf: (volume) => sync.epochOf(volume) });
  sync.follow(book);
  const secrets = await SecretBox.open(mortal, 'access.key', systemRandom);
  const control = new AccessControl({
    book,
    secrets,
    audit,
    mirrored: (volume) => sync.mirrored(volume),
    random: systemRandom,
    log: silentLog,
  });
  const units = new LogicalUnits(() => undefined, clock);
  let nexus: UnitNexus | undefined;
  control.servedBy({
    sessions: () => [],
    offered: ({ device, state }) => {
      nexus = units.of(device, state).join(PORT, INITIATOR);
      nexus.takeAttention();
    },
    accessChanged: () => Promise.resolve(),
  });
  const targets = new VolumeTargets({ book, access: new AccessEverywhere(control), sync, changed: () => undefined });
  const item = { ...REF, name: 'data', targetName: TARGET } as VolumeItem; // what nobody asks for here is left out
  await targets.adopt(item, how.epoch, new AbortController().signal, { isRolledBack: false });
  await targets.offer({ item, place: { device: replicated(data, how.history, life) } });

  /** Undefined: the process is gone. */
  const run = async (cdb: string, bytes: Buffer = Buffer.alloc(0)): Promise<number | undefined> => {
    if (nexus === undefined) throw new Error('nothing is offered');
    const block = Buffer.alloc(16);
    Buffer.from(cdb.replaceAll(' ', ''), 'hex').copy(block);
    const admission = admit(nexus, 0, () => [0], block);
    if (admission.kind === 'answer') return life.isOver ? undefined : admission.result.status;
    const { command } = admission;
    const answered = { status: undefined as number | undefined };
    const outcome = execute(nexus, command, [bytes], { in: 1 << 20, out: bytes.length }, { state: 'executing' });
    void Promise.resolve(outcome).then(({ status }) => {
      answered.status = status;
    });
    for (let turn = 0; turn < TURNS && answered.status === undefined && !life.isOver; turn += 1) await turnOfLoop();
    return life.isOver ? undefined : answered.status;
  };
  return {
    run,
    targets,
    isReady: async (turns = TURNS): Promise<boolean> => {
      for (let turn = 0; turn < turns && !life.isOver; turn += 1) {
        if ((await run('00 00 00 00 00 00')) === 0) return true;
        await turnOfLoop();
      }
      return false;
    },
    write: (lba: number, byte: number) => run(`2a 00 00 00 00 ${hex(lba)} 00 00 01 00`, Buffer.alloc(512, byte)),
    close: () => {
      sync.close();
    },
  };
}

function turnOfLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}

const ERASE_LATER = '48 82 00 00 00 00 00 00 00 00';

describe('a SANITIZE that was interrupted', () => {
  it('goes on when the volume is offered, without any initiator, here and on a gateway that takes the volume over', async () => {
    for (const isTakeover of [false, true]) {
      const cloud = newCloud();
      cloud.data.bytes.fill(1);
      const disk = new MemoryDisk();
      let isHeld = true;
      cloud.data.intercept = (operation) =>
        isHeld && operation === 'unmap' ? new Promise<void>(() => undefined) : undefined;
      const office = await open(cloud, disk, { epoch: 1, history: 'a' });
      expect(await office.run(ERASE_LATER)).toBe(0);
      for (let turn = 0; turn < TURNS; turn += 1) await turnOfLoop(); // the table has it
      isHeld = false;
      office.close();

      const next = isTakeover ? new MemoryDisk() : disk.copy();
      await offeredToNobody(cloud, next, isTakeover ? 'b' : 'a');
      for (let turn = 0; turn < TURNS && cloud.data.bytes.some((byte) => byte !== 0); turn += 1) await turnOfLoop();
      expect(cloud.data.bytes.every((byte) => byte === 0)).toBe(true);
    }
  });

  /** With the target server, which no initiator ever reaches: it does not even listen. */
  async function offeredToNobody(cloud: Cloud, disk: MemoryDisk, history: string): Promise<void> {
    const clock = new PromptClock();
    const tools = { clock, random: systemRandom, log: silentLog };
    const audit = await AuditLog.open({ disk, clock, log: silentLog });
    const { table } = cloud;
    const sync = new AccessSync({
      table: {
        getAccess: (ref) => Promise.resolve(table.getAccess(ref)),
        putAccess: (ref, item) => Promise.resolve(table.putAccess(ref, item)),
      },
      ...tools,
    });
    const book = await AccessBook.open({ disk, audit, epochOf: (volume) => sync.epochOf(volume) });
    sync.follow(book);
    const secrets = await SecretBox.open(disk, 'access.key', systemRandom);
    const control = new AccessControl({ book, secrets, audit, random: systemRandom, log: silentLog });
    control.servedBy(new IscsiTargetServer({ ...tools, targets: control, settings: DEFAULT_ISCSI_SETTINGS }));
    const device = replicated(cloud.data, history, new Life());
    const item = { ...REF, name: 'data', targetName: TARGET };
    const served = new ServedVolume(
      {
        clock,
        log: silentLog,
        gateway: 'g',
        ...NO_FAR_SHORE,
        targets: new VolumeTargets({ book, access: new AccessEverywhere(control), sync, changed: () => undefined }),
        openVolume: () => Promise.resolve({ item, epoch: 2, place: { device } } as VolumeControl), // what an offer needs of it
      },
      { name: 'data', ...REF },
      {},
    );
    expect(await served.firstAttempt).toBeUndefined();
  }
});

describe('what is written after a SANITIZE', () => {
  /** The old block; what was acked since, by LBA; whether the SANITIZE was answered. */
  interface Story {
    readonly acked: Map<number, number>;
    isSanitized: boolean;
  }

  async function firstGateway(cloud: Cloud, disk: MemoryDisk, life: Life, story: Story): Promise<void> {
    const gateway = open(cloud, disk, { epoch: 1, history: 'a', life });
    const office = await Promise.race([gateway, gone(life)]);
    if (office === undefined) return;
    await office.isReady();
    await office.write(0, 1);
    story.isSanitized = (await office.run(ERASE_LATER)) === 0;
    if (!(await office.isReady())) return;
    if ((await office.write(1, 2)) === 0) story.acked.set(1, 2);
  }

  async function gone(life: Life): Promise<undefined> {
    while (!life.isOver) await turnOfLoop();
    return undefined;
  }

  async function successor(cloud: Cloud, disk: MemoryDisk, epoch: number, story: Story): Promise<void> {
    const spare = await open(cloud, disk, { epoch, history: `s${epoch}` });
    expect(await spare.isReady()).toBe(true);
    expect(await spare.write(epoch, 9)).toBe(0);
    story.acked.set(epoch, 9);
    spare.close();
  }

  const lost = ({ data }: Cloud, { acked }: Story): number[] =>
    [...acked].filter(([lba, byte]) => data.bytes[lba * 512] !== byte).map(([lba]) => lba);

  it('is there after a crash at any point, a restart, another crash at any point, and a takeover, and after the way back', async () => {
    const whole = new Life();
    const measured: Story = { acked: new Map(), isSanitized: false };
    await firstGateway(newCloud(), new MemoryDisk(), whole, measured);
    expect([measured.isSanitized, [...measured.acked]]).toEqual([true, [[1, 2]]]);
    let wrote = 0;
    for (let firstEnd = 0; firstEnd <= whole.steps; firstEnd += 1) {
      // -1: there is no second life. All pairs would take long: every second end comes after some first one nearby.
      const ends = [-1, ...Array.from({ length: 14 }, (_, index) => index * 3 + (firstEnd % 3))];
      for (const secondEnd of ends) {
        const at = `ends at ${firstEnd} and ${secondEnd}`;
        const cloud = newCloud();
        const disk = new MemoryDisk();
        const story: Story = { acked: new Map(), isSanitized: false };
        await firstGateway(cloud, disk, new Life(firstEnd), story);
        const left = disk.copy();
        if (secondEnd >= 0) {
          const life = new Life(secondEnd);
          let slow = 2; // the table is away for a moment, but not the rest of the cloud
          const opened = open(cloud, left, { epoch: 2, history: 'a', life, putFails: () => slow-- > 0 });
          const again = await Promise.race([opened, gone(life)]);
          if (again !== undefined && (await again.isReady()) && (await again.write(2, 3)) === 0) story.acked.set(2, 3);
          if (again !== undefined && story.isSanitized && !life.isOver) expect(cloud.data.bytes[0], at).toBe(0);
          again?.close();
        }
        wrote += story.acked.size;
        const back = left.copy();
        await successor(cloud, new MemoryDisk(), 3, story);
        expect(lost(cloud, story), at).toEqual([]);
        await successor(cloud, back, 4, story);
        expect(lost(cloud, story), `${at}, and back`).toEqual([]);
      }
    }
    expect(wrote).toBeGreaterThan(100);
  }, 120_000);

  it('waits while the table is out of reach, over restarts, and status says why', async () => {
    const cloud = newCloud();
    const disk = new MemoryDisk();
    let isAway = false;
    const putFails = (): boolean => isAway;
    const office = await open(cloud, disk, { epoch: 1, history: 'a', putFails });
    expect(await office.isReady()).toBe(true);
    isAway = true;
    expect(await office.run(ERASE_LATER)).toBe(0);
    expect(await office.isReady(2_000)).toBe(false);
    expect(office.targets.notReady(REF)).toContain('once the table knows');
    expect(office.targets.access(REF)).toMatchObject({
      inTable: false,
      problem: 'its access control is not in the table yet: no answer',
    });
    office.close();

    const again = await open(cloud, disk.copy(), { epoch: 2, history: 'a', putFails });
    expect(await again.isReady(2_000)).toBe(false);
    expect(await again.write(1, 2)).toBe(2);
    isAway = false;
    expect(await again.isReady(20_000)).toBe(true);
    expect(again.targets.notReady(REF)).toBeUndefined();
  });
});
