import { Acks } from './acks.ts';
import type { BlockDevice } from '../../gateway/base/block-device.ts';
import { sleep, type Clock } from '../../gateway/base/clock.ts';
import { FarshoreError, isKind } from '../../gateway/base/errors.ts';
import { BLOCK_SIZE, type ByteCount, type VersionNumber } from '../../gateway/base/units.ts';
import { SECTORS_PER_BLOCK, chooseSpan, clipToAreas, sizesOf, type VolumeShape } from './areas.ts';
import { isWholeBlock, unmapSteps } from './unmap-steps.ts';
import { noteDurable, Violation, type History, type Op, type SectorSpan } from './history.ts';
import type { Plan } from './plan.ts';
import { blocksOf, QuotaInForce, type QuotaBlocks, type Quotas } from './quotas.ts';
import { SECTOR } from './sim-file.ts';
import type { RunningVolume } from './sim-gateway.ts';
import type { SimRandom } from './sim-random.ts';
import type { Sizes } from './sizes.ts';
import { describeSector, readStamp, stampRange } from './stamp.ts';

/** Calls, and what came of them. */
export type Counted = Action | 'refused' | 'resized' | 'full' | 'promised' | 'unreplicated';

export function newCounts(): Record<Counted, number> {
  return {
    ...{ read: 0, scan: 0, write: 0, fua: 0, zero: 0, unmap: 0, wideUnmap: 0, flush: 0, flushRemote: 0 },
    ...{ resize: 0, quota: 0, mode: 0, refused: 0, resized: 0, full: 0, promised: 0, unreplicated: 0 },
  };
}

/** What all workloads of a world share. */
export interface WorkloadWorld {
  /** Rises with every call and answer. */
  tick(): number;
  /** Never used before. */
  nextWriteId(): number;
  note(text: string): void;
  /** Whether disks have refused reads, or given other bits than were written. */
  readonly mayLose: boolean;
  readonly work: Record<Counted, number>;
  readonly sizes: Sizes;
  readonly quotas: Quotas;
  /** Identifiers of writes that nobody may ever see. */
  readonly neverSeen: Set<number>;
  readonly plan: Pick<Plan, 'quotas'>;
  readonly shape: VolumeShape;
  /** Number of the volume in stamps. */
  readonly volumeTag: number;
}

export interface WorkloadSettings {
  readonly workers: number;
  /** After so many calls pauses become much longer, so that a world of long pauses stays cheap. */
  readonly eagerCalls: number;
  /** Mean pause between two calls of one worker. */
  readonly thinkMs: number;
  readonly mostBlocks: number;
  readonly weights: Readonly<Record<Action, number>>;
}

const TIRED = 50;
/** While the cloud is away. */
const RETRY_MS = 500;

export type Action =
  | 'read'
  | 'scan'
  | 'write'
  | 'fua'
  | 'zero'
  | 'unmap'
  | 'wideUnmap'
  | 'flush'
  | 'flushRemote'
  | 'resize'
  | 'quota'
  | 'mode';

type Outcome = 'done' | 'full' | 'refused';

/** The volume as the workload uses it. */
export interface WorkloadDevice extends BlockDevice {
  flushRemote(): Promise<{ readonly n: number; readonly throughSeq: number }>;
  resize(bytes: ByteCount): Promise<void>;
  status(): { readonly committedN: VersionNumber };
}

/** Initiators at work on one gateway's volume, from its opening to its end. Every call and answer goes through the history. */
export class Workload {
  /** Why the volume stopped serving, once it has. */
  stoppedBy: FarshoreError | undefined;
  readonly quota: QuotaInForce;
  readonly #running: RunningVolume;
  readonly #world: WorkloadWorld;
  readonly #history: History;
  readonly #device: WorkloadDevice;
  readonly #clock: Clock;
  readonly #random: SimRandom;
  readonly #settings: WorkloadSettings;
  readonly #epoch: number;
  readonly #acks: Acks;
  readonly #locked = new Set<number>();
  #isChangingQuota = false;
  #paused = false;
  #busy = 0;
  #calls = 0;

  constructor(
    world: WorkloadWorld,
    history: History,
    running: RunningVolume,
    clock: Clock,
    random: SimRandom,
    settings: WorkloadSettings,
    opened: { readonly epoch: number; readonly quota: QuotaBlocks },
  ) {
    this.#epoch = opened.epoch;
    this.quota = new QuotaInForce(opened.quota);
    this.#running = running;
    this.#world = world;
    this.#history = history;
    this.#device = running.device;
    this.#clock = clock;
    this.#random = random;
    this.#settings = settings;
    this.#acks = new Acks(world, running, history);
  }

  /** Starts the workers; `fail` hears of the first broken promise. */
  start(fail: (error: unknown) => void): void {
    for (let worker = 0; worker < this.#settings.workers; worker++) this.#work().catch(fail);
  }

  /** No new calls from now on. */
  pause(): void {
    this.#paused = true;
  }

  /** Calls that are not answered. */
  get underWay(): number {
    return this.#busy;
  }

  async #work(): Promise<void> {
    for (;;) {
      const tired = this.#calls > this.#settings.eagerCalls ? TIRED : 1;
      await sleep(this.#clock, this.#settings.thinkMs * tired * 2 * this.#random.fraction());
      if (this.stoppedBy !== undefined || this.#paused) return;
      const action = this.#random.weighted(this.#settings.weights);
      this.#world.work[action]++;
      this.#calls++;
      this.#busy++;
      await this.#perform(action);
      this.#busy--;
    }
  }

  async #perform(action: Action): Promise<void> {
    switch (action) {
      case 'read':
        return this.read(this.#span(this.#settings.mostBlocks));
      case 'scan':
        return this.#scan();
      case 'write':
      case 'zero':
        return this.#write(action, false);
      case 'fua':
        return this.#write(action, true);
      case 'unmap':
        return this.#unmap();
      case 'wideUnmap':
        return this.#wideUnmap();
      case 'flush':
        return this.#flush();
      case 'flushRemote':
        await this.flushRemote();
        return;
      case 'resize':
        return this.#resize();
      case 'quota':
        return this.#changeQuota();
      case 'mode':
        return this.#changeMode();
    }
  }

  /** In an area, and within the volume as large as it is now. */
  #span(mostBlocks: number): SectorSpan {
    const { shape } = this.#world;
    const end = this.#device.geometry().sectors;
    for (;;) {
      const span = chooseSpan(this.#random, shape, mostBlocks);
      if (span.lba + span.sectors <= end) return span;
    }
  }

  /** One area from its beginning to its end, a few blocks at a time: what makes a volume read ahead. */
  async #scan(): Promise<void> {
    const area = this.#random.pick(this.#world.shape.areas);
    const end = Math.min((area.firstBlock + area.blocks) * SECTORS_PER_BLOCK, this.#device.geometry().sectors);
    for (let lba = area.firstBlock * SECTORS_PER_BLOCK; lba < end && this.stoppedBy === undefined;) {
      const sectors = Math.min(this.#random.between(1, 8) * SECTORS_PER_BLOCK, end - lba);
      await this.read({ lba, sectors });
      lba += sectors;
    }
  }

  /** To another of the world's sizes. What a smaller one cuts off is unmapped before, usually with nobody in between; data beyond it refuses it. */
  async #resize(): Promise<void> {
    const { shape } = this.#world;
    const before = this.#device.geometry().sectors;
    const after = this.#random.pick(sizesOf(shape)) * SECTORS_PER_BLOCK;
    if (after === before) return;
    if (after > before || this.#random.chance(0.2)) {
      try {
        await this.#resizeTo(after);
      } catch (error) {
        this.#refused('resize', error);
      }
      return;
    }
    const tail = { lba: after, sectors: before - after };
    await this.#change('resize', [{ kind: 'unmap', spans: clipToAreas(shape, tail) }], false, async () => {
      await this.#device.unmap([tail]);
      await this.#resizeTo(after);
    });
  }

  /** To another one, or none. */
  async #changeQuota(): Promise<void> {
    const { quotas, plan } = this.#world;
    const blocks = this.#random.chance(0.2) ? undefined : this.#random.pick(plan.quotas);
    // One at a time, as the administrator does.
    if (this.#isChangingQuota) return;
    this.#isChangingQuota = true;
    const done = quotas.begin(blocks);
    const end = this.quota.begin(blocks);
    let isDone = false;
    try {
      await this.#running.changeQuota(blocks === undefined ? undefined : blocks * BLOCK_SIZE);
      isDone = true;
      done();
      this.#world.note(`quota of ${String(blocks)} blocks`);
    } catch (error) {
      this.#refused('quota', error);
    } finally {
      end(isDone);
      this.#isChangingQuota = false;
    }
  }

  async #changeMode(): Promise<void> {
    try {
      await this.#acks.change(this.#random);
    } catch (error) {
      this.#refused('mode', error);
    }
  }

  /** Whether the volume is so large now. */
  reaches(block: number): boolean {
    return (block + 1) * SECTORS_PER_BLOCK <= this.#device.geometry().sectors;
  }

  /** Writes a whole block, and says what became of it. */
  async writeBlock(block: number): Promise<Outcome> {
    return this.#writeSpan('write', { lba: block * SECTORS_PER_BLOCK, sectors: SECTORS_PER_BLOCK }, false);
  }

  /** Resolves too when it is refused and nothing has changed. */
  async #resizeTo(sectors: number): Promise<void> {
    const { sizes, work } = this.#world;
    const resizing = sizes.begin(this.#epoch, sectors * SECTOR);
    this.#world.note(`resize to ${sectors} sectors`);
    try {
      await this.#device.resize(sectors * SECTOR);
    } catch (error) {
      if (!isKind(error, 'input', 'busy', 'retry')) throw error;
      sizes.refused(resizing);
      this.#world.note(`resize refused: ${error.message}`);
      return;
    }
    sizes.done(resizing);
    work.resized++;
    this.#world.note(`resized to ${sectors} sectors`);
  }

  /** Reads and checks. */
  async read(span: SectorSpan): Promise<void> {
    const startedAt = this.#world.tick();
    let pieces: readonly Buffer[];
    try {
      pieces = await this.#device.read(span.lba, span.sectors);
    } catch (error) {
      // The cloud may be away; nothing else excuses a read.
      if (!(error instanceof FarshoreError && error.kind === 'retry')) this.#refused('read', error);
      return;
    }
    const now = this.#world.tick();
    const data = Buffer.concat(pieces);
    if (data.length !== span.sectors * SECTOR)
      throw new Violation(`a read of ${span.sectors} sectors gave ${data.length} bytes`);
    const bytesOf = (sector: number): Buffer =>
      data.subarray((sector - span.lba) * SECTOR, (sector - span.lba + 1) * SECTOR);
    this.#history.checkRead(span, startedAt, now, (sector) => {
      const id = readStamp(this.#world.volumeTag, sector, bytesOf(sector));
      if (id === undefined) throw new Violation(`a read of sector ${sector} shows ${describeSector(bytesOf(sector))}`);
      return id;
    });
  }

  async #write(action: Action, fua: boolean): Promise<void> {
    await this.#writeSpan(action, this.#span(this.#settings.mostBlocks), fua);
  }

  async #writeSpan(action: Action, span: SectorSpan, fua: boolean): Promise<Outcome> {
    const kind = action === 'zero' ? 'zero' : 'write';
    return this.#change(action, [{ kind, spans: [span] }], fua, async ([op]) => {
      const data = stampRange(this.#world.volumeTag, span.lba, span.sectors, kind === 'write' ? (op?.id ?? 0) : 0);
      // The short way, where it is open; otherwise the long one.
      const isGathered = !fua && this.#random.chance(0.5) && this.#device.gatherWrite?.(span.lba, data) === true;
      if (isGathered) await this.#device.logGathered?.();
      else await this.#device.write(span.lba, this.#pieces(data), { fua });
      // The buffer is the initiator's again.
      data.fill(0xee);
    });
  }

  async #unmap(): Promise<void> {
    const ranges = [this.#span(this.#settings.mostBlocks)];
    if (this.#random.chance(0.3)) ranges.push(this.#span(4));
    await this.#change('unmap', unmapSteps(ranges), false, async () => {
      await this.#device.unmap(ranges);
    });
  }

  /** Across areas and shards, most of it never written. */
  async #wideUnmap(): Promise<void> {
    const { shape } = this.#world;
    const volumeBlocks = this.#device.geometry().sectors / SECTORS_PER_BLOCK;
    const blocks = this.#random.between(1, volumeBlocks);
    const first = this.#random.between(0, volumeBlocks - blocks);
    const range = { lba: first * SECTORS_PER_BLOCK, sectors: blocks * SECTORS_PER_BLOCK };
    await this.#change('wideUnmap', [{ kind: 'unmap', spans: clipToAreas(shape, range) }], false, async () => {
      await this.#device.unmap([range]);
    });
  }

  /** One call, which may be several steps that are each atomic by themselves; not made, and done, where another one is under way. */
  async #change(
    action: Action,
    steps: readonly Pick<Op, 'kind' | 'spans'>[],
    fua: boolean,
    call: (ops: readonly Op[]) => Promise<void>,
  ): Promise<Outcome> {
    const invokedAt = this.#world.tick();
    const ops: Op[] = steps.map((step) => ({
      ...step,
      id: this.#world.nextWriteId(),
      invokedAt,
      ackedAt: Infinity,
      durable: false,
      durableAtMs: Infinity,
      marked: false,
    }));
    if (!this.#lock(ops)) return 'done';
    const touched = steps.flatMap(({ kind, spans }) =>
      spans.flatMap((span) => [...blocksOf(span)].filter((block) => kind !== 'unmap' || !isWholeBlock(block, span))),
    );
    for (const block of touched) this.#world.quotas.touched.add(block);
    const counted = this.quota.writing(touched.length);
    for (const op of ops) {
      this.#history.add(op);
      this.#world.note(`${action} ${op.id} ${op.spans.map(({ lba, sectors: count }) => `${lba}+${count}`).join(' ')}`);
    }
    const { isFailing: wasFailing } = this.#acks;
    try {
      await call(ops);
    } catch (error) {
      const isFull = isKind(error, 'full') && isWrite(action);
      if (isFull) {
        this.quota.checkRefusal(action, this.#running.seenCount());
        this.#world.work.full++;
        this.#world.note(`${action} refused: full`);
      } else this.#refused(action, error);
      if (ops.length === 1) this.#acks.failed(ops[0], error);
      if (this.stoppedBy === undefined) counted.refused();
      // A volume that goes on has not done it, or of several steps only some; of one that stopped only a restart tells.
      if (this.stoppedBy !== undefined) return 'refused';
      // A flush that fails behind a write takes nothing back.
      if (fua && isKind(error, 'unreplicated') && !wasFailing) for (const op of ops) op.ackedAt = this.#world.tick();
      else await this.#settleRefused(ops);
      this.#unlock(ops);
      return isFull ? 'full' : 'refused';
    }
    counted.ended(this.#clock.monotonicMs());
    const ackedAt = this.#world.tick();
    for (const op of ops) {
      op.ackedAt = ackedAt;
      if (fua) noteDurable(op, this.#clock.monotonicMs());
      this.#world.note(`acked ${op.id}`);
    }
    this.#acks.acked(['sync'], this.#world.tick());
    // What was answered while it was flushed is not in that.
    if (fua) this.#acks.acked(['flush'], invokedAt);
    this.#unlock(ops);
    return 'done';
  }

  /** False, and nothing locked, when a call is under way to one of the sectors, or two of these ops share one. */
  #lock(ops: readonly Op[]): boolean {
    const taken: number[] = [];
    for (const op of ops)
      for (const { lba, sectors } of op.spans)
        for (let sector = lba; sector < lba + sectors; sector++) {
          if (this.#locked.has(sector)) {
            for (const other of taken) this.#locked.delete(other);
            return false;
          }
          this.#locked.add(sector);
          taken.push(sector);
        }
    return true;
  }

  #unlock(ops: readonly Op[]): void {
    for (const { spans } of ops)
      for (const { lba, sectors } of spans)
        for (let sector = lba; sector < lba + sectors; sector++) this.#locked.delete(sector);
  }

  async #settleRefused(ops: readonly Op[]): Promise<void> {
    for (const op of ops) {
      if (ops.length === 1) this.#history.withdraw(op);
      else {
        const isZero = await this.#isZero(op.spans);
        if (isZero === undefined) return;
        if (isZero) op.ackedAt = this.#world.tick();
        else this.#history.withdraw(op);
      }
    }
  }

  /** undefined when the volume has stopped, or a block of it is damaged. */
  async #isZero(spans: readonly SectorSpan[]): Promise<boolean | undefined> {
    for (const { lba, sectors } of spans) {
      let data: Buffer | undefined;
      while (data === undefined) {
        try {
          data = Buffer.concat(await this.#device.read(lba, sectors));
        } catch (error) {
          this.#refused('read', error);
          if (this.stoppedBy !== undefined || isKind(error, 'damaged')) return undefined;
          await sleep(this.#clock, RETRY_MS);
        }
      }
      if (data.some((byte) => byte !== 0)) return false;
    }
    return true;
  }

  async #flush(): Promise<void> {
    const before = this.#world.tick();
    try {
      await this.#device.flush();
    } catch (error) {
      this.#refused('flush', error);
      return;
    }
    this.#world.note('flushed');
    this.#history.flushed(before, this.#clock.monotonicMs());
    this.#acks.acked(['sync', 'flush'], before);
  }

  /** Whether it was done. */
  async flushRemote(): Promise<boolean> {
    const before = this.#world.tick();
    try {
      const { n } = await this.#device.flushRemote();
      this.#world.note(`remote flush: version ${n}`);
      this.#history.promises.push({ n, before });
      return true;
    } catch (error) {
      this.#refused('flushRemote', error);
      return false;
    }
  }

  #refused(action: string, error: unknown): void {
    this.#world.work.refused++;
    if (!(error instanceof FarshoreError)) throw error;
    this.#world.note(`${action} refused: ${error.kind}: ${error.message}`);
    switch (error.kind) {
      case 'busy':
      case 'retry':
        return;
      case 'unreplicated':
        this.#world.work.unreplicated++;
        return;
      case 'fenced':
      case 'stopped':
        this.stoppedBy ??= error;
        return;
      case 'damaged':
        // A block that no version has yet is gone with the place where it lies; nothing else excuses it.
        if (this.#world.mayLose) return;
        throw error;
      case 'bug':
      case 'in-use':
      case 'input':
      case 'full':
      case 'not-found':
        throw error;
    }
  }

  /** Cut anywhere: buffers off the wire know no sectors. */
  #pieces(data: Buffer): Buffer[] {
    const pieces: Buffer[] = [];
    for (let at = 0; at < data.length;) {
      const size = this.#random.chance(0.7) ? data.length - at : this.#random.between(1, data.length - at);
      pieces.push(data.subarray(at, at + size));
      at += size;
    }
    return pieces;
  }
}

const isWrite = (action: Action): boolean => action === 'write' || action === 'fua' || action === 'zero';
