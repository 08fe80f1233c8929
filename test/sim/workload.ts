import type { BlockDevice } from '../../gateway/base/block-device.ts';
import { sleep, type Clock } from '../../gateway/base/clock.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { chooseSpan, clipToAreas, type VolumeShape } from './areas.ts';
import { Violation, sectorsOf, type History, type Op, type SectorSpan } from './history.ts';
import { SECTOR } from './sim-file.ts';
import type { SimRandom } from './sim-random.ts';
import { describeSector, readStamp, stampRange } from './stamp.ts';

/** What all workloads of a world share. */
export interface WorkloadWorld {
  /** Rises with every call and answer. */
  tick(): number;
  /** Never used before. */
  nextWriteId(): number;
  note(text: string): void;
  readonly shape: VolumeShape;
  /** Number of the volume in stamps. */
  readonly volumeTag: number;
}

export interface WorkloadSettings {
  readonly workers: number;
  /** Mean pause between two calls of one worker. */
  readonly thinkMs: number;
  readonly mostBlocks: number;
  readonly weights: Readonly<Record<Action, number>>;
}

export type Action = 'read' | 'write' | 'fua' | 'zero' | 'unmap' | 'wideUnmap' | 'flush' | 'flushRemote';

/** The volume as the workload uses it. */
export interface WorkloadDevice extends BlockDevice {
  flushRemote(): Promise<{ readonly n: number; readonly throughSeq: number }>;
}

/** A promise that `farshore flush` made: everything answered before `before` is in version n. */
export interface RemoteFlush {
  readonly n: number;
  readonly before: number;
}

/** Initiators at work on one gateway's volume, from its opening to its end. Every call and answer goes through the history. */
export class Workload {
  readonly remoteFlushes: RemoteFlush[] = [];
  readonly counts: Record<Action | 'refused', number> = {
    read: 0,
    write: 0,
    fua: 0,
    zero: 0,
    unmap: 0,
    wideUnmap: 0,
    flush: 0,
    flushRemote: 0,
    refused: 0,
  };
  /** Why the volume stopped serving, once it has. */
  stoppedBy: FarshoreError | undefined;
  /** After a failed sync only what was flushed before is promised. */
  syncFailed = false;
  readonly #world: WorkloadWorld;
  readonly #history: History;
  readonly #device: WorkloadDevice;
  readonly #clock: Clock;
  readonly #random: SimRandom;
  readonly #settings: WorkloadSettings;
  readonly #locked = new Set<number>();
  #paused = false;
  #busy = 0;

  constructor(
    world: WorkloadWorld,
    history: History,
    device: WorkloadDevice,
    clock: Clock,
    random: SimRandom,
    settings: WorkloadSettings,
  ) {
    this.#world = world;
    this.#history = history;
    this.#device = device;
    this.#clock = clock;
    this.#random = random;
    this.#settings = settings;
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
      await sleep(this.#clock, this.#settings.thinkMs * 2 * this.#random.fraction());
      if (this.stoppedBy !== undefined || this.#paused) return;
      const action = this.#random.weighted(this.#settings.weights);
      this.counts[action]++;
      this.#busy++;
      await this.#perform(action);
      this.#busy--;
    }
  }

  async #perform(action: Action): Promise<void> {
    switch (action) {
      case 'read':
        return this.read(chooseSpan(this.#random, this.#world.shape, this.#settings.mostBlocks));
      case 'write':
      case 'zero':
        return this.#change(action, action === 'zero' ? 'zero' : 'write', false);
      case 'fua':
        return this.#change(action, 'write', true);
      case 'unmap':
        return this.#change(action, 'unmap', false);
      case 'wideUnmap':
        return this.#wideUnmap();
      case 'flush':
        return this.#flush();
      case 'flushRemote':
        return this.#flushRemote();
    }
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

  async #change(action: Action, kind: Op['kind'], fua: boolean): Promise<void> {
    const span = chooseSpan(this.#random, this.#world.shape, this.#settings.mostBlocks);
    const spans = [span];
    if (kind === 'unmap' && this.#random.chance(0.3)) {
      const second = chooseSpan(this.#random, this.#world.shape, 4);
      if (second.lba >= span.lba + span.sectors || second.lba + second.sectors <= span.lba) spans.push(second);
    }
    await this.#guarded(action, kind, spans, fua, async (id) => {
      if (kind === 'unmap') {
        await this.#device.unmap(spans);
        return;
      }
      const data = stampRange(this.#world.volumeTag, span.lba, span.sectors, kind === 'write' ? id : 0);
      await this.#device.write(span.lba, this.#pieces(data), { fua });
      // The buffer is the initiator's again.
      data.fill(0xee);
    });
  }

  /** Across areas and shards, most of it never written. */
  async #wideUnmap(): Promise<void> {
    const { shape } = this.#world;
    const blocks = this.#random.between(1, shape.blocks);
    const first = this.#random.between(0, shape.blocks - blocks);
    const range = { lba: first * 8, sectors: blocks * 8 };
    await this.#guarded('wideUnmap', 'unmap', clipToAreas(shape, range), false, async () => {
      await this.#device.unmap([range]);
    });
  }

  async #guarded(
    action: Action,
    kind: Op['kind'],
    spans: readonly SectorSpan[],
    fua: boolean,
    call: (id: number) => Promise<void>,
  ): Promise<void> {
    const op: Op = {
      id: this.#world.nextWriteId(),
      kind,
      spans,
      invokedAt: this.#world.tick(),
      ackedAt: Infinity,
      durable: false,
    };
    const sectors = [...sectorsOf(op)];
    if (sectors.some((sector) => this.#locked.has(sector))) return;
    for (const sector of sectors) this.#locked.add(sector);
    this.#history.add(op);
    this.#world.note(`${action} ${op.id} ${spans.map(({ lba, sectors: count }) => `${lba}+${count}`).join(' ')}`);
    try {
      await call(op.id);
    } catch (error) {
      // What is refused as busy must not have happened. After anything else the volume is stopped, and only a restart tells.
      if (error instanceof FarshoreError && error.kind === 'busy') this.#history.withdraw(op);
      this.#refused(action, error);
      if (this.stoppedBy === undefined) for (const sector of sectors) this.#locked.delete(sector);
      return;
    }
    op.ackedAt = this.#world.tick();
    if (fua) op.durable = true;
    this.#world.note(`acked ${op.id}`);
    for (const sector of sectors) this.#locked.delete(sector);
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
    for (const op of this.#history.ops) if (op.ackedAt < before) op.durable = true;
  }

  async #flushRemote(): Promise<void> {
    const before = this.#world.tick();
    try {
      const { n } = await this.#device.flushRemote();
      this.#world.note(`remote flush: version ${n}`);
      this.remoteFlushes.push({ n, before });
    } catch (error) {
      this.#refused('flushRemote', error);
    }
  }

  #refused(action: string, error: unknown): void {
    this.counts.refused++;
    if (!(error instanceof FarshoreError)) throw error;
    this.#world.note(`${action} refused: ${error.kind}: ${error.message}`);
    switch (error.kind) {
      case 'busy':
      case 'retry':
        return;
      case 'fenced':
      case 'stopped':
        this.stoppedBy ??= error;
        return;
      case 'bug':
      case 'damaged':
      case 'in-use':
      case 'input':
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
