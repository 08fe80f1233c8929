import { sleep, type Clock } from '../../gateway/base/clock.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { BLOCK_SIZE } from '../../gateway/base/units.ts';
import type { VolumeItem, VolumeRef } from '../../gateway/cloud/version-log.ts';
import { rawCompression } from '../../gateway/format/compression.ts';
import { foldVolume } from '../../gateway/maintenance/fold.ts';
import type { LogOrigin, OpenedRemote } from '../../gateway/replication/remote-volume.ts';
import { SECTORS_PER_BLOCK, sectorsOfAreas } from './areas.ts';
import { History, LOST, Violation, type Op } from './history.ts';
import type { Plan } from './plan.ts';
import { quotaBlocksOf, Quotas } from './quotas.ts';
import { restoreVersion, type Restored, type RestoreTools } from './restore-check.ts';
import { SimClock, type Life } from './sim-clock.ts';
import { HEALTHY_CLOUD, SimCloud } from './sim-cloud.ts';
import { DiskImages } from '../support/disk-images.ts';
import { SimDisk } from './sim-disk.ts';
import { worse, type RunningVolume, type SimGateway, type StartProcess } from './sim-gateway.ts';
import { SECTOR } from './sim-file.ts';
import { isWithoutImage, SimImage } from './sim-image.ts';
import type { SimRandom } from './sim-random.ts';
import { Sizes } from './sizes.ts';
import { describeSector, readStamp } from './stamp.ts';
import { Workload, newCounts, type WorkloadWorld } from './workload.ts';

const REF: VolumeRef = { lineage: 'lineage1', volume: 'volume1' };
/** So much after a flush the log must know what it covered, on a disk without troubles: a second, and time to save it. */
const MARKED_AFTER_MS = 2000;
const VOLUME_TAG = 0xf0;
/** Between two attempts to open while the cloud or the disk is away. */
const REOPEN_MS = 700;
/** Longest read of the check after an opening. */
const CHECK_SECTORS = 128;

/** Gateways, disks and a cloud, all from one seed, and what is known of them. */
export class World implements WorkloadWorld {
  readonly plan: Plan;
  readonly shape: Plan['shape'];
  readonly volumeTag = VOLUME_TAG;
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly cloud: SimCloud;
  readonly ref = REF;
  readonly gateways: SimGateway[] = [];
  /** Who wrote the versions of an epoch. */
  readonly lines = new Map<number, History>();
  readonly sectors: readonly number[];
  readonly counts = {
    givenUp: 0,
    opens: 0,
    resumed: 0,
    foreign: 0,
    crashes: 0,
    restores: 0,
    folds: 0,
    moved: 0,
    ahead: 0,
    images: 0,
    filled: 0,
  };
  /** Calls of all workloads. */
  readonly work = newCounts();
  readonly sizes: Sizes;
  readonly quotas: Quotas;
  /** Synchronous writes that were answered as failed. */
  readonly neverSeen = new Set<number>();
  /** Disks have refused reads or given other bits than were written: blocks that no version had may be told to be lost. */
  mayLose = false;
  /** Of the volume, on the disk of the gateway that was started first. */
  image: SimImage | undefined;
  /** The first broken promise. */
  failure: unknown;
  readonly #start: StartProcess;
  #tick = 0;
  #writeId = 0;
  #lineNumber = 0;
  readonly #empty: History;

  constructor(random: SimRandom, plan: Plan, start: StartProcess) {
    this.random = random;
    this.plan = plan;
    this.shape = plan.shape;
    this.#start = start;
    this.clock = new SimClock(random.split('clock'));
    this.cloud = new SimCloud(this.clock, random.split('cloud'));
    this.sizes = new Sizes(this.shape.blocks * BLOCK_SIZE);
    this.quotas = new Quotas(plan.quotas[0]);
    this.sectors = [...sectorsOfAreas(plan.shape)];
    this.#empty = new History('line 0');
    const names = ['alpha', 'bravo', 'charlie'].slice(0, plan.gateways);
    for (const name of names) this.gateways.push(this.makeGateway(name, name));
    this.cloud.table.createVolume(this.#volumeItem());
  }

  tick(): number {
    return ++this.#tick;
  }

  nextWriteId(): number {
    return ++this.#writeId;
  }

  note(text: string): void {
    this.clock.note(text);
  }

  makeDisk(name: string, random: SimRandom): SimDisk {
    const disk = new SimDisk(name, this.clock, random);
    disk.faults.sameTurn = this.plan.sameTurn;
    disk.onDoubt = () => (this.mayLose = true);
    return disk;
  }

  fail(error: unknown): void {
    this.failure ??= error;
  }

  throwIfFailed(): void {
    if (this.failure !== undefined)
      throw this.failure instanceof Error ? this.failure : new Error('a world failed', { cause: this.failure });
  }

  makeGateway(name: string, label: string): SimGateway {
    return {
      name,
      label,
      faults: { ...this.plan.cloud },
      skewMs: this.random.between(-5000, 5000),
      disk: this.makeDisk(label, this.random.split(`disk ${label}`)),
      life: { name: label, alive: false },
      starts: 0,
      startedAtMs: 0,
      state: 'down',
      running: undefined,
      workload: undefined,
      epoch: 0,
      line: undefined,
      base: '',
      severity: 'none',
      snapshot: undefined,
    };
  }

  get volume(): VolumeItem {
    const item = this.cloud.table.getVolume(REF);
    if (item === undefined) throw new Violation('the volume item is gone');
    return item;
  }

  /** Starts a process on the gateway and keeps trying until the volume is open and checked, or another one has it. */
  start(gateway: SimGateway, takeover: boolean): void {
    if (gateway.state !== 'down') throw new Error('start what is down');
    gateway.starts++;
    gateway.startedAtMs = this.clock.monotonicMs();
    gateway.life = { name: `${gateway.label}.${gateway.starts}`, alive: true };
    gateway.state = 'opening';
    this.image ??= this.plan.image === 'none' ? undefined : new SimImage(this, gateway.disk);
    this.note(`start ${gateway.life.name}${takeover ? ' with takeover' : ''}`);
    this.#open(gateway, gateway.life, takeover).catch((error: unknown) => {
      this.fail(error);
    });
  }

  /** Ends the gateway's process, and with `power` its machine. */
  kill(gateway: SimGateway, kind: 'process' | 'power'): void {
    this.note(`${kind === 'power' ? 'power cut on' : 'kill'} ${gateway.life.name}`);
    this.counts.crashes++;
    this.#noteMarked(gateway);
    this.#noteFigures(gateway);
    gateway.life.alive = false;
    gateway.disk.crash(kind);
    gateway.severity = worse(gateway.severity, gateway.disk.failedSyncs > 0 ? 'power' : kind);
    gateway.state = 'down';
    gateway.running = undefined;
    gateway.workload = undefined;
  }

  /** A disk that has kept everything so far gives the cache nothing to repair. */
  #noteFigures({ running, disk, life }: SimGateway): void {
    if (running === undefined) return;
    const { moved, ahead, repaired } = running.figures();
    this.counts.moved += moved;
    this.counts.ahead += ahead;
    if (repaired > 0 && disk.crashes === 0 && disk.damages === 0 && !this.mayLose)
      this.fail(new Violation(`${life.name} found ${repaired} blocks of its cache damaged, on a disk that is whole`));
  }

  /** What was flushed long enough ago is known to have been, whatever becomes of its bits. */
  #noteMarked({ state, disk, line }: SimGateway): void {
    if (state !== 'serving' || line === undefined || disk.stateDamages > 0) return;
    const latest = this.clock.monotonicMs() - MARKED_AFTER_MS;
    for (const op of line.ops)
      if (op.durable && op.durableAtMs <= latest && op.durableAtMs > disk.troubledAtMs) op.marked = true;
  }

  /** A maintainer in the region folds the log; it may be stopped half-way. */
  lambdaFold(): void {
    const life = { name: 'lambda', alive: true };
    const { store, log } = this.cloud.connect(life, { ...this.plan.cloud, delayMs: 2, partitioned: false });
    const clock = this.clock.forLife(life, 0);
    const random = this.random.split(`lambda ${this.tick()}`);
    if (random.chance(0.3))
      this.clock.schedule(random.between(1, 200), 'lambda stopped', undefined, () => (life.alive = false));
    const deps = { store, versions: log, compression: rawCompression, clock, random, log: silentLog };
    foldVolume(deps, REF).then(
      ({ n, versionsFolded }) => {
        this.counts.folds++;
        this.note(`lambda folded ${versionsFolded} versions through ${n}`);
      },
      (error: unknown) => {
        if (!(error instanceof FarshoreError) || !['retry', 'busy'].includes(error.kind)) this.fail(error);
      },
    );
  }

  restoreTools(): RestoreTools {
    const { clock, cloud, shape, mayLose } = this;
    return {
      mayLose,
      clock,
      random: this.random.split(`restore ${this.#tick}`),
      cloud,
      ref: REF,
      shape,
      volumeTag: VOLUME_TAG,
    };
  }

  async restore(options: { readonly n?: number; readonly verify?: boolean } = {}): Promise<Restored> {
    this.counts.restores++;
    const restored = await restoreVersion(this.restoreTools(), options);
    this.#checkNeverSeen('a restore', restored.values);
    return restored;
  }

  async #open(gateway: SimGateway, life: Life, takeover: boolean): Promise<void> {
    const clock = this.clock.forLife(life, gateway.skewMs);
    const remote: { opened?: OpenedRemote } = {};
    const disk = gateway.disk.mount(life);
    const images = new DiskImages(disk);
    const openVolume = this.#start({
      ...{ disk, images, prepareImage: this.image?.maker(gateway, { disk, images, clock }) },
      clock,
      random: this.random.split(`${life.name} ${this.tick()}`),
      cloud: this.cloud.connect(life, gateway.faults),
      gateway: gateway.name,
      ref: REF,
      takeover,
      onOpened: (opened) => {
        remote.opened = opened;
      },
    });
    for (;;) {
      try {
        const running = await openVolume();
        await this.#check(gateway, life, clock, running, remote.opened, takeover);
        return;
      } catch (error) {
        if (!(error instanceof FarshoreError)) throw error;
        this.note(`${life.name} cannot open: ${error.kind}: ${error.message}`);
        switch (error.kind) {
          case 'retry':
          case 'busy':
            break;
          case 'fenced':
            if (this.volume.owner === gateway.name && this.volume.epoch === gateway.epoch)
              throw new Violation(`${life.name} was refused its own volume`, { cause: error });
            this.kill(gateway, 'process');
            return;
          case 'stopped':
            this.kill(gateway, 'process');
            return;
          case 'damaged':
            if (gateway.disk.damages === 0) throw error;
            this.kill(gateway, 'process');
            this.#giveUpLocal(gateway, takeover);
            return;
          case 'bug':
          case 'in-use':
          case 'input':
          case 'not-found':
          case 'full':
          case 'unreplicated':
            throw error;
        }
      }
      await sleep(clock, REOPEN_MS);
    }
  }

  /** What somebody does who reads that the cache log is damaged: restores the volume with --takeover, and if that does not help either, anew. */
  #giveUpLocal(gateway: SimGateway, hadTakenOver: boolean): void {
    this.counts.givenUp++;
    if (hadTakenOver) this.replaceMachine(gateway);
    else this.start(gateway, true);
  }

  /** The gateway's machine is gone for ever, and another one takes over in its name. */
  replaceMachine(gateway: SimGateway): void {
    if (gateway.state !== 'down') this.kill(gateway, 'power');
    gateway.disk = this.makeDisk(gateway.label, this.random.split(`new disk ${this.tick()}`));
    gateway.line = undefined;
    gateway.base = '';
    gateway.severity = 'none';
    gateway.snapshot = undefined;
    this.start(gateway, true);
  }

  /** The volume is open: finds out what it continues, reads all of it, and sets initiators to work. */
  async #check(
    gateway: SimGateway,
    life: Life,
    clock: Clock,
    running: RunningVolume,
    opened: OpenedRemote | undefined,
    takeover: boolean,
  ): Promise<void> {
    if (opened === undefined) throw new Violation(`${life.name} serves without a remote half`);
    if (this.volume.epoch !== opened.epoch) {
      this.note(`${life.name} opened epoch ${opened.epoch} and was overtaken`);
      this.kill(gateway, 'process');
      return;
    }
    this.counts.opens++;
    this.sizes.opened(opened.epoch, opened.item.bytes);
    this.quotas.opened(life.name, quotaBlocksOf(opened.item.quotaBytes));
    const restored = await this.restore();
    if (restored.bytes !== opened.item.bytes)
      throw new Violation(`${life.name} has ${opened.item.bytes} bytes, and who restores the volume ${restored.bytes}`);
    if (gateway.disk.damages > 0) gateway.severity = worse(gateway.severity, 'damaged');
    // Asked to, a takeover gives up what is damaged.
    if (takeover) for (const op of gateway.line?.ops ?? []) op.marked = false;
    const before = { line: gateway.line, severity: gateway.severity };
    const own = this.#isOwn(gateway, opened.lastData, restored.values);
    const remoteLine = this.#lineOf(opened.lastData);
    const remote = remoteLine.matchPrefix('remote at opening', this.sectors, valuesOf(restored.values), (op) =>
      remoteLine.isPromised(op, opened.n),
    );
    let line = own && before.line !== undefined ? before.line : this.#newLine(restored.values);
    this.lines.set(opened.epoch, line);
    gateway.epoch = opened.epoch;
    const shown = await this.#readAll(gateway, running.device, clock);
    if (shown === undefined) return;
    this.#checkNeverSeen(life.name, shown);
    // Asked to, it also gives up an image that the disk refuses just then, and what it alone has.
    const gaveUp = takeover && isWithoutImage(this, gateway) && gateway.disk.troubledAtMs >= gateway.startedAtMs;
    if (gaveUp) before.severity = worse(before.severity, 'damaged');
    if (own && gaveUp && !line.couldBe(this.sectors, valuesOf(shown))) {
      this.#mustEqual(life, shown, restored.values);
      line = this.#newLine(restored.values);
      this.lines.set(opened.epoch, line);
    } else if (own) {
      this.counts.resumed++;
      const known =
        remoteLine === line || opened.lastData === undefined ? remote : this.#knownOf(line, restored.values);
      const required = this.#required(before.severity, known);
      const survivors = line.matchPrefix(
        `${life.name} after ${before.severity}`,
        this.sectors,
        valuesOf(shown),
        required,
      );
      this.note(`${life.name} resumed epoch ${opened.epoch}: ${survivors.size} of ${line.ops.length} writes`);
      const gone = line.contradicted(this.sectors, valuesOf(shown));
      line.settle(survivors, this.tick(), (sector) => shown.get(sector) === LOST, gone);
    } else {
      this.counts.foreign++;
      this.#mustEqual(life, shown, restored.values);
      this.note(`${life.name} opened epoch ${opened.epoch} from the cloud`);
    }
    gateway.line = line;
    // As the state file has it: a later start resumes when nobody has written since, whoever's copy this disk is.
    gateway.base = originName(opened.lastData);
    gateway.severity = 'none';
    gateway.disk.failedSyncs = 0;
    gateway.running = running;
    gateway.state = 'serving';
    const random = this.random.split(`workload ${life.name}`);
    gateway.workload = new Workload(this, line, running, clock, random, this.plan.workload, {
      epoch: opened.epoch,
      quota: quotaBlocksOf(opened.item.quotaBytes),
    });
    gateway.workload.start((error) => {
      this.fail(error);
    });
  }

  /** Whether what the disk holds continues what the cloud holds. */
  #isOwn(gateway: SimGateway, lastData: LogOrigin | undefined, restored: ReadonlyMap<number, number>): boolean {
    const { line } = gateway;
    if (line === undefined) return false;
    const newest = lastData === undefined ? undefined : this.lines.get(lastData.epoch);
    const began = originName(lastData) === gateway.base;
    if (gateway.severity !== 'rolledBack' || lastData === undefined) return began || newest === line;
    if (!began && newest?.name !== line.name) return false;
    // An old disk continues the cloud only if it knows everything that is there.
    return line.couldBe(this.sectors, valuesOf(restored));
  }

  /** The writes of a line that are in the cloud, where another one (its copy, or its forerunner) brought them there. */
  #knownOf(line: History, restored: ReadonlyMap<number, number>): ReadonlySet<Op> {
    return line.matchPrefix('cloud at opening', this.sectors, valuesOf(restored), () => false);
  }

  #lineOf(lastData: LogOrigin | undefined): History {
    const line = lastData === undefined ? this.#empty : this.lines.get(lastData.epoch);
    if (line === undefined) throw new Violation(`nobody knows who wrote epoch ${String(lastData?.epoch)}`);
    return line;
  }

  #newLine(baseline: ReadonlyMap<number, number>): History {
    return new History(`line ${++this.#lineNumber}`, baseline);
  }

  #required(severity: SimGateway['severity'], remote: ReadonlySet<Op>): (op: Op) => boolean {
    switch (severity) {
      case 'none':
      case 'process':
        return (op) => op.ackedAt !== Infinity || remote.has(op);
      case 'power':
        return (op) => op.durable || remote.has(op);
      case 'damaged':
        return (op) => op.marked || remote.has(op);
      case 'rolledBack':
        return (op) => remote.has(op);
    }
  }

  /** What the device shows in every area; undefined when it was fenced or stopped meanwhile. */
  async #readAll(
    gateway: SimGateway,
    device: Pick<RunningVolume['device'], 'read' | 'geometry'>,
    clock: Clock,
  ): Promise<ReadonlyMap<number, number> | undefined> {
    const shown = new Map<number, number>();
    for (const { firstBlock, blocks } of this.shape.areas) {
      const end = Math.min((firstBlock + blocks) * SECTORS_PER_BLOCK, device.geometry().sectors);
      // Beyond the end of the volume there is nothing, and nothing but zeros may come back there.
      for (
        let sector = Math.max(end, firstBlock * SECTORS_PER_BLOCK);
        sector < (firstBlock + blocks) * SECTORS_PER_BLOCK;
        sector++
      )
        shown.set(sector, 0);
      let most = CHECK_SECTORS;
      for (let lba = firstBlock * SECTORS_PER_BLOCK; lba < end;) {
        const sectors = Math.min(most, end - lba);
        try {
          const data = Buffer.concat(await device.read(lba, sectors));
          for (let at = 0; at < sectors; at++) {
            const bytes = data.subarray(at * SECTOR, (at + 1) * SECTOR);
            const id = readStamp(VOLUME_TAG, lba + at, bytes);
            if (id === undefined)
              throw new Violation(`${gateway.life.name} shows ${describeSector(bytes)} in sector ${lba + at}`);
            shown.set(lba + at, id);
          }
          lba += sectors;
        } catch (error) {
          if (!(error instanceof FarshoreError)) throw error;
          this.note(`${gateway.life.name} cannot read: ${error.kind}: ${error.message}`);
          if (error.kind === 'fenced' || error.kind === 'stopped') {
            this.kill(gateway, 'process');
            return undefined;
          }
          if (error.kind === 'damaged' && this.mayLose) {
            // Block by block, to find out which of them it is.
            if (most === SECTORS_PER_BLOCK) {
              for (let at = 0; at < sectors; at++) shown.set(lba + at, LOST);
              lba += sectors;
            }
            most = SECTORS_PER_BLOCK;
            continue;
          }
          if (error.kind !== 'retry') throw error;
          await sleep(clock, REOPEN_MS);
        }
      }
    }
    return shown;
  }

  #mustEqual(life: Life, shown: ReadonlyMap<number, number>, expected: ReadonlyMap<number, number>): void {
    for (const sector of this.sectors)
      if (shown.get(sector) !== (expected.get(sector) ?? 0))
        throw new Violation(
          `${life.name} opened from the cloud, but sector ${sector} shows write ${String(shown.get(sector))} instead of ${String(expected.get(sector))}`,
        );
  }

  #checkNeverSeen(who: string, values: ReadonlyMap<number, number>): void {
    for (const [sector, id] of values)
      if (this.neverSeen.has(id))
        throw new Violation(`${who} shows write ${id} in sector ${sector}, which was answered as failed for certain`);
  }

  #volumeItem(): VolumeItem {
    return {
      ...REF,
      name: 'data',
      bytes: this.shape.blocks * BLOCK_SIZE,
      sectorSize: 512,
      replication: this.plan.replication.mode,
      onRemoteLoss: this.plan.replication.onRemoteLoss,
      targetName: 'iqn.2026-11.dev.farshore:data',
      naa: Buffer.alloc(16, 0x62),
      createdAt: this.clock.now(),
      epoch: 0,
      owner: '',
      floor: 0,
      checkpoint: undefined,
      maintenanceEpoch: 0,
      retainedFrom: 0,
      deletedAt: undefined,
      ...(this.plan.quotas[0] === undefined ? {} : { quotaBytes: this.plan.quotas[0] * BLOCK_SIZE }),
    };
  }

  heal(): void {
    for (const gateway of this.gateways) {
      Object.assign(gateway.faults, HEALTHY_CLOUD);
      gateway.disk.heal();
    }
  }
}

export function originName(origin: LogOrigin | undefined): string {
  return origin === undefined ? '' : `${origin.epoch}/${origin.logId}/${origin.throughSeq}`;
}

function valuesOf(values: ReadonlyMap<number, number>): (sector: number) => number {
  return (sector) => values.get(sector) ?? 0;
}
