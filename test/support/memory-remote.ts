import { sleep, type Clock } from '../../gateway/base/clock.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import type { VolumeItem } from '../../gateway/cloud/version-log.ts';
import {
  LOST_BLOCK,
  type CommitBatch,
  type Committed,
  type FoldOutcome,
  type LogOrigin,
  type LogReader,
  type OpenedRemote,
  type OpenRequest,
  type RemoteBlocks,
  type RemoteStatus,
  type RemoteVolume,
  type RolledBack,
  type VerifyReport,
  type VersionSummary,
} from '../../gateway/replication/remote-volume.ts';

/** The far shore of one volume, shared by all that ever open it. */
export class MemoryShore {
  readonly blocks = new Map<number, Buffer>();
  /** Blocks whose newest content could not be read. */
  readonly lost = new Set<number>();
  /** Blocks whose objects are damaged: reads of them reject. */
  readonly unreadable = new Set<number>();
  item: VolumeItem;
  epoch = 0;
  n = 0;
  lastData: LogOrigin | undefined;
  /** While true, nothing is committed. */
  holdCommits = false;
  /** While true, nothing is answered at all. */
  away = false;
  readonly batches: CommitBatch[] = [];
  reads = 0;
  /** Reads that were under way at the same time, at most. */
  mostReads = 0;

  constructor(bytes: number, sectorSize: 512 | 4096 = 4096) {
    this.item = {
      lineage: 'lin',
      volume: 'vol',
      name: 'vol',
      bytes,
      sectorSize,
      replication: 'async',
      targetName: 'iqn.test:vol',
      naa: Buffer.alloc(16, 6),
      createdAt: 0,
      epoch: 0,
      owner: '',
      floor: 0,
      checkpoint: undefined,
      maintenanceEpoch: 0,
      retainedFrom: 1,
      deletedAt: undefined,
    };
  }
}

/** A RemoteVolume without a cloud: commits read the cache log as the real one does, and land in the shore if its epoch is still theirs. */
export class MemoryRemote implements RemoteVolume {
  readonly #shore: MemoryShore;
  readonly #reader: LogReader;
  readonly #clock: Clock;
  readonly #delayMs: () => number;
  #epoch = 0;
  #logId = '';
  #closed = false;
  #readsUnderWay = 0;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(shore: MemoryShore, reader: LogReader, clock: Clock, delayMs: () => number = () => 1) {
    this.#shore = shore;
    this.#reader = reader;
    this.#clock = clock;
    this.#delayMs = delayMs;
  }

  async open(request: OpenRequest): Promise<OpenedRemote> {
    await this.#wait();
    const shore = this.#shore;
    this.#epoch = ++shore.epoch;
    this.#logId = request.logId;
    shore.n++;
    return { item: shore.item, epoch: this.#epoch, n: shore.n, lastData: shore.lastData };
  }

  commit(batch: CommitBatch): Promise<Committed> {
    const result = this.#tail.then(() => this.#commit(batch));
    // A failure is final: what comes after a batch that failed must not be committed.
    this.#tail = result;
    this.#tail.catch(() => undefined);
    return result;
  }

  async read(block: number, count: number): Promise<RemoteBlocks> {
    this.#shore.reads++;
    this.#readsUnderWay++;
    this.#shore.mostReads = Math.max(this.#shore.mostReads, this.#readsUnderWay);
    await this.#wait();
    this.#readsUnderWay--;
    for (let at = block; at < block + count; at++)
      if (this.#shore.unreadable.has(at)) throw new FarshoreError('damaged', `the object of block ${at} is damaged`);
    const present = new Uint8Array(count);
    const found: Buffer[] = [];
    for (let i = 0; i < count; i++) {
      const data = this.#shore.blocks.get(block + i);
      if (this.#shore.lost.has(block + i)) present[i] = LOST_BLOCK;
      if (data === undefined) continue;
      present[i] = 1;
      found.push(data);
    }
    return { data: Buffer.concat(found), present };
  }

  async mapped(block: number, count: number): Promise<{ mapped: boolean; count: number }> {
    const mapped = this.#shore.blocks.has(block);
    let run = 1;
    while (run < count && this.#shore.blocks.has(block + run) === mapped) run++;
    return { mapped, count: run };
  }

  async nextMapped(from: number, limit: number): Promise<{ blocks: number[] } | undefined> {
    await this.#wait();
    const blocks = [...this.#shore.blocks.keys()].filter((block) => block >= from).sort((a, b) => a - b);
    return blocks.length === 0 ? undefined : { blocks: blocks.slice(0, limit) };
  }

  async rollBackTo(): Promise<RolledBack> {
    await this.#wait();
    this.#shore.lastData = { epoch: this.#epoch, logId: this.#logId, throughSeq: 0 };
    return { n: ++this.#shore.n, volumeBytes: this.#shore.item.bytes };
  }

  fold(): Promise<FoldOutcome> {
    return Promise.resolve({ n: this.#shore.n, versionsFolded: 0, shardsRewritten: 0, runs: 0 });
  }

  verify(): Promise<VerifyReport> {
    return Promise.resolve({ verdict: 'pass', n: this.#shore.n, objects: 0, blocks: 0, bytes: 0, problems: [] });
  }

  versions(): Promise<VersionSummary[]> {
    return Promise.resolve([]);
  }

  status(): Promise<RemoteStatus> {
    return Promise.reject(new FarshoreError('bug', 'the memory remote has no status'));
  }

  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }

  async #commit(batch: CommitBatch): Promise<Committed> {
    const data = Buffer.alloc(batch.blocks.length * 4096);
    const bad = await this.#reader.readBlocks(batch.places, batch.blocks, batch.seqs, data);
    const lost = bad.map((at) => batch.blocks[at] ?? 0);
    await sleep(this.#clock, this.#delayMs());
    while ((this.#shore.away || this.#shore.holdCommits) && !this.#closed) await sleep(this.#clock, 50);
    const shore = this.#shore;
    if (this.#closed) throw new FarshoreError('stopped', 'closed');
    if (shore.epoch !== this.#epoch) throw new FarshoreError('fenced', `epoch ${this.#epoch} has ended`);
    for (let at = 0; at < batch.unmaps.length; at += 2) {
      const first = batch.unmaps[at] ?? 0;
      const end = first + (batch.unmaps[at + 1] ?? 0);
      for (const blocks of [shore.blocks, shore.lost, shore.unreadable])
        for (const block of [...blocks.keys()]) if (block >= first && block < end) blocks.delete(block);
    }
    batch.blocks.forEach((block, at) => {
      shore.blocks.set(block, Buffer.from(data.subarray(at * 4096, (at + 1) * 4096)));
      shore.lost.delete(block);
      shore.unreadable.delete(block);
    });
    for (const block of lost) {
      shore.blocks.delete(block);
      shore.lost.add(block);
    }
    if (batch.volumeBytes === undefined) {
      shore.lastData = { epoch: this.#epoch, logId: this.#logId, throughSeq: batch.throughSeq };
    } else shore.item = { ...shore.item, bytes: batch.volumeBytes };
    shore.batches.push(batch);
    return {
      n: ++shore.n,
      throughSeq: batch.throughSeq,
      committedAt: this.#clock.now(),
      storedBytes: data.length,
      lost,
    };
  }

  async #wait(): Promise<void> {
    await sleep(this.#clock, this.#delayMs());
    if (this.#shore.away) throw new FarshoreError('retry', 'the cloud is away');
  }
}
