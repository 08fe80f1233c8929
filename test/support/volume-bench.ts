import type { Clock } from '../../gateway/base/clock.ts';
import type { Disk } from '../../gateway/base/disk.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { BLOCK_SIZE, MIB } from '../../gateway/base/units.ts';
import { CacheLog } from '../../gateway/cache/cache-log.ts';
import { openLogReader } from '../../gateway/cache/log-reader.ts';
import type { CacheSettings } from '../../gateway/cache/settings.ts';
import { patientReader } from '../../gateway/replication/patient-reader.ts';
import type { OpenVolumeRequest } from '../../gateway/volume/open-volume.ts';
import type { ScrubSettings } from '../../gateway/volume/scrubber.ts';
import { prepareImage } from '../../gateway/volume/stored/prepare-image.ts';
import { loadStoredState } from '../../gateway/volume/stored/stored-state.ts';
import { Volume } from '../../gateway/volume/volume.ts';
import type { Replication } from '../../gateway/volume/replication-control.ts';
import { SimClock, type Life } from '../sim/sim-clock.ts';
import { SimDisk, type CrashOptions } from '../sim/sim-disk.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { DiskImages, type ImageFaults } from './disk-images.ts';
import { MemoryRemote, MemoryShore } from './memory-remote.ts';

export const REF = { lineage: 'lin', volume: 'vol' };

export interface BenchOptions {
  readonly seed?: number;
  readonly chunks?: number;
  readonly chunkSlots?: number;
  readonly ramBlocks?: number;
  readonly sectorSize?: 512 | 4096;
  readonly volumeBlocks?: number;
  readonly rpoMs?: number;
  readonly replication?: Partial<Replication>;
  readonly hydrate?: boolean;
  readonly maxWaitMs?: number;
  readonly heldBlocks?: number;
  /** How long the remote takes for everything; otherwise it varies. */
  readonly remoteMs?: number;
  readonly scrub?: ScrubSettings;
  /** What the remote reads of the log is tried several times, as the real one does. */
  readonly patientReads?: boolean;
  /** The volume has an image, on the same disk. */
  readonly stored?: boolean;
  /** What the image has before the volume is made from it. */
  readonly seedImage?: Buffer;
}

export const IMAGE = 'images/disk.raw';

/** A gateway's storage half on a simulated disk and clock, with a remote in memory. */
export class VolumeBench {
  readonly random: SimRandom;
  readonly clock: SimClock;
  readonly shore: MemoryShore;
  readonly options: BenchOptions;
  disk: SimDisk;
  /** Of the image alone; those of the disk hold for log and image. */
  readonly imageFaults: ImageFaults = { read: false, write: false, sync: false, writes: 0 };
  life: Life & { alive: boolean } = { alive: true, name: 'bench' };
  #running: { volume: Volume; cache: CacheLog } | undefined;

  constructor(options: BenchOptions = {}) {
    this.options = options;
    this.random = new SimRandom(options.seed ?? 1);
    this.clock = new SimClock(this.random.split('clock'));
    this.disk = new SimDisk('disk', this.clock, this.random.split('disk'));
    this.shore = new MemoryShore((options.volumeBlocks ?? 4096) * BLOCK_SIZE, options.sectorSize ?? 4096);
    const { mode = 'async', onRemoteLoss = 'block' } = options.replication ?? {};
    this.shore.item = { ...this.shore.item, replication: mode, onRemoteLoss };
  }

  get volume(): Volume {
    if (this.#running === undefined) throw new Error('the bench is down');
    return this.#running.volume;
  }

  get cache(): CacheLog {
    if (this.#running === undefined) throw new Error('the bench is down');
    return this.#running.cache;
  }

  get settings(): CacheSettings {
    const chunkSlots = this.options.chunkSlots ?? 384;
    return {
      sizeBytes: (this.options.chunks ?? 6) * chunkSlots * BLOCK_SIZE,
      ramBytes: (this.options.ramBlocks ?? 64) * BLOCK_SIZE,
      indexBytes: 4 * MIB,
      chunkSlots,
      maxWaitMs: this.options.maxWaitMs ?? 20_000,
    };
  }

  /** Starts a process and opens the volume. */
  async start(request: Partial<OpenVolumeRequest> = {}): Promise<Volume> {
    this.#running = await this.settle(this.open(request));
    return this.#running.volume;
  }

  /** Starts a process that opens the volume while the caller runs the clock. */
  async open(request: Partial<OpenVolumeRequest> = {}): Promise<{ volume: Volume; cache: CacheLog }> {
    this.life = { alive: true, name: 'bench' };
    const disk = this.disk.mount(this.life);
    const clock = this.clock.forLife(this.life, 0);
    const random = this.random.split(`process ${this.shore.epoch}`);
    const cache = await CacheLog.open({ disk, clock, random, log: silentLog }, this.settings);
    const reader = openLogReader(disk);
    const remote = new MemoryRemote(
      this.shore,
      this.options.patientReads === true ? patientReader(reader, clock, new AbortController().signal) : reader,
      clock,
      () => this.options.remoteMs ?? 0.5 + random.fraction() * 4,
    );
    const images = new DiskImages(disk, this.imageFaults);
    if (this.options.stored !== undefined && this.shore.epoch === 0) await this.#prepareImage(disk, images, clock);
    const { rpoMs = 1000, hydrate = false, heldBlocks, scrub } = this.options;
    const settings = { rpoMs, hydrate, heldBlocks, scrub };
    const deps = { disk, clock, random, log: silentLog, cache, remote, images, settings };
    const volume = await Volume.open(deps, { ref: REF, gateway: 'gw', ...request });
    return { volume, cache };
  }

  /** As `start`, while the caller runs the clock. */
  async launch(): Promise<void> {
    this.#running = await this.open();
  }

  /** What the image has in its file, durable or not; undefined when there is none. */
  image(blocks = this.options.volumeBlocks ?? 4096): Buffer {
    const content = Buffer.alloc(blocks * BLOCK_SIZE);
    if (this.disk.file(IMAGE)?.read(content, 0) !== true) throw new Error('there is no image');
    return content;
  }

  async #prepareImage(disk: Disk, images: DiskImages, clock: Clock): Promise<void> {
    await disk.makeDirectory('images');
    await disk.syncDirectory('');
    // An earlier attempt may have done it.
    if ((await loadStoredState(disk, REF)) !== undefined) return;
    await images.remove(IMAGE);
    const bytes = (this.options.volumeBlocks ?? 4096) * BLOCK_SIZE;
    const { seedImage } = this.options;
    if (seedImage !== undefined) {
      const file = await disk.open(IMAGE, 'create');
      for (let at = 0; at < seedImage.length; at += MIB) await file.write([seedImage.subarray(at, at + MIB)], at);
      await file.sync();
      await file.close();
      await disk.syncDirectory('images');
    }
    await prepareImage({ disk, images, clock }, REF, { path: IMAGE, bytes, seed: seedImage !== undefined });
  }

  /** Ends the process without a word. */
  crash(kind: 'process' | 'power', options: CrashOptions = {}): void {
    this.life.alive = false;
    this.disk.crash(kind, options);
    this.#running = undefined;
  }

  async stop(): Promise<void> {
    await this.settle(this.close());
  }

  /** As `stop`, while the caller runs the clock. */
  async close(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    if (running === undefined) return;
    await running.volume.close();
    await running.cache.close();
    this.life.alive = false;
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.clock.settle(promise);
  }

  /** Lets simulated time pass. */
  async pass(ms: number): Promise<void> {
    await this.clock.run({ untilMs: this.clock.monotonicMs() + ms });
  }

  async write(block: number, fill: number, count = 1): Promise<void> {
    const { sectorSize } = this.volume.geometry();
    const lba = (block * BLOCK_SIZE) / sectorSize;
    await this.settle(
      Promise.resolve(this.volume.write(lba, [Buffer.alloc(count * BLOCK_SIZE, fill)], { fua: false })),
    );
  }

  async readBlock(block: number): Promise<Buffer> {
    const { sectorSize } = this.volume.geometry();
    const perBlock = BLOCK_SIZE / sectorSize;
    const pieces = await this.settle(Promise.resolve(this.volume.read(block * perBlock, perBlock)));
    return Buffer.concat(pieces);
  }

  /** The byte that fills the block; throws when it is a mix. */
  async byteOf(block: number): Promise<number> {
    const data = await this.readBlock(block);
    const first = data[0] ?? -1;
    if (!data.equals(Buffer.alloc(data.length, first))) throw new Error(`block ${block} is a mix`);
    return first;
  }

  async flush(): Promise<void> {
    await this.settle(Promise.resolve(this.volume.flush()));
  }

  async flushRemote(): Promise<void> {
    await this.settle(this.volume.flushRemote());
  }
}
