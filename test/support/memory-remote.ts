import { sleep, type Clock } from '../../gateway/base/clock.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import type { VolumeItem } from '../../gateway/cloud/version-log.ts';
import { rawCompression } from '../../gateway/format/compression.ts';
import { decodeSegmentHeader, encodeSegment, MAX_SEGMENT_UNMAPS } from '../../gateway/format/segment.ts';
import {
  LOST_BLOCK,
  type CommitBatch,
  type Committed,
  type Copied,
  type CopiesCommit,
  type CopyBatch,
  type FoldOutcome,
  type LogOrigin,
  type LogReader,
  type OpenedRemote,
  type OpenRequest,
  type ReadHow,
  type RemoteBlocks,
  type RemoteStatus,
  type RemoteVolume,
  type RolledBack,
  type VerifyReport,
  type VersionSummary,
} from '../../gateway/replication/remote-volume.ts';
import { buildContent } from '../../gateway/replication/segment-content.ts';
import { SegmentMemory } from '../../gateway/replication/segment-memory.ts';

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
  /** The maps are known, and the objects with the blocks cannot be had. */
  objectsAway = false;
  readonly batches: CommitBatch[] = [];
  /** How far the log of each name was committed. */
  readonly through = new Map<string, number>();
  /** Copied segments, by number: what each block was; undefined: lost. */
  readonly segments = new Map<number, ReadonlyMap<number, Buffer | undefined>>();
  /** Versions that were made of copied segments. */
  readonly manifests: CopiesCommit[] = [];
  copiedBytes = 0;
  reads = 0;
  /** Those that nobody waited for when they began, and what was hurried since: first block and count. */
  patientReads = 0;
  readonly hurried: { readonly block: number; readonly count: number }[] = [];
  /** How often mapped blocks were counted. */
  counts = 0;
  /** While true, they can't be. */
  refusesCounts = false;
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
  readonly #noted: Buffer[] = [];

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

  async copy(batch: CopyBatch): Promise<Copied> {
    const shore = this.#shore;
    const content = new Map<number, Buffer | undefined>();
    const lost: number[] = [];
    const { blocks, unmaps } = batch;
    if (batch.from === 'log') {
      const data = Buffer.alloc(blocks.length * 4096);
      const bad = await this.#reader.readBlocks(batch.places, blocks, batch.seqs, data);
      blocks.forEach((block, at) => {
        content.set(block, bad.includes(at) ? undefined : Buffer.from(data.subarray(at * 4096, (at + 1) * 4096)));
      });
    } else {
      let at = 0;
      for (const block of blocks) {
        const isLost = batch.lost.includes(block);
        content.set(block, isLost ? undefined : Buffer.from(batch.data.subarray(at, at + 4096)));
        if (!isLost) at += 4096;
      }
    }
    for (const [block, data] of content) if (data === undefined) lost.push(block);
    await this.#passage();
    const kept = await buildContent(
      { index: 1, firstSeq: 0, throughSeq: 0, newestWriteAt: 0, blocks, places: blocks, seqs: blocks, unmaps },
      {
        readBlocks: (_places, wanted, _seqs, into) => {
          const bad: number[] = [];
          wanted.forEach((block, at) => {
            const data = content.get(block);
            if (data === undefined) bad.push(at);
            else data.copy(into, at * 4096);
          });
          return Promise.resolve(bad);
        },
      },
      rawCompression,
      MAX_SEGMENT_UNMAPS,
      new SegmentMemory(),
    );
    const number = kept.blocks.length === 0 ? 0 : shore.segments.size + 1;
    if (number > 0) shore.segments.set(number, content);
    const identity = {
      ...{ lineage: 'lin', volume: 'vol', number, n: shore.n, epoch: this.#epoch, kind: 'moved' as const },
      ...{
        logId: this.#logId,
        previousChain: Buffer.alloc(32),
        firstSeq: 0,
        throughSeq: 0,
        newestWriteAt: 0,
        sealedAt: 0,
      },
      volumeBytes: shore.item.bytes,
    };
    const { pieces } = encodeSegment(identity, kept.blocks, kept.unmaps, kept.frames);
    const storedBytes = kept.blocks.length * 4096;
    shore.copiedBytes += storedBytes;
    return { header: pieces[0] ?? Buffer.alloc(0), storedBytes, lost };
  }

  noteCopies(headers: Buffer, isFirst: boolean): Promise<void> {
    if (isFirst) this.#noted.length = 0;
    for (let at = 0; at < headers.length; at += headers.readUInt32LE(at + 8))
      this.#noted.push(headers.subarray(at, at + headers.readUInt32LE(at + 8)));
    return Promise.resolve();
  }

  async commitCopies(commit: CopiesCommit): Promise<Committed> {
    if (this.#noted.length !== commit.headers) throw new FarshoreError('bug', 'not all headers were noted');
    await this.#passage();
    const shore = this.#shore;
    for (const bytes of this.#noted) {
      const header = decodeSegmentHeader(bytes);
      if ('needBytes' in header) throw new FarshoreError('bug', 'a header is cut off');
      for (const { block, count } of header.unmaps) this.#unmap(block, block + count);
      for (const { block: first, count } of header.extents)
        for (let block = first; block < first + count; block++) {
          const data = shore.segments.get(header.number)?.get(block);
          shore.blocks.delete(block);
          if (data === undefined) shore.lost.add(block);
          else {
            shore.blocks.set(block, data);
            shore.lost.delete(block);
          }
          shore.unreadable.delete(block);
        }
    }
    shore.lastData = { epoch: this.#epoch, logId: this.#logId, throughSeq: commit.throughSeq };
    shore.manifests.push(commit);
    return {
      n: ++shore.n,
      throughSeq: commit.throughSeq,
      committedAt: this.#clock.now(),
      storedBytes: 1,
      lost: [],
    };
  }

  hurry(block: number, count: number): void {
    this.#shore.hurried.push({ block, count });
  }

  async read(block: number, count: number, how?: ReadHow): Promise<RemoteBlocks> {
    this.#shore.reads++;
    if (how?.background === true) this.#shore.patientReads++;
    this.#readsUnderWay++;
    this.#shore.mostReads = Math.max(this.#shore.mostReads, this.#readsUnderWay);
    await this.#wait();
    this.#readsUnderWay--;
    for (let at = block; at < block + count; at++)
      if (this.#shore.objectsAway && this.#shore.blocks.has(at))
        throw new FarshoreError('retry', `the object of block ${at} cannot be had`);
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

  async countMapped(): Promise<number> {
    this.#shore.counts++;
    const count = this.#shore.blocks.size;
    await this.#wait();
    if (this.#shore.refusesCounts) throw new FarshoreError('retry', 'the cloud is away');
    return count;
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

  async provenThrough(): Promise<number> {
    await this.#wait();
    return this.#shore.through.get(this.#logId) ?? 0;
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
    await this.#passage();
    const shore = this.#shore;
    for (let at = 0; at < batch.unmaps.length; at += 2) {
      const first = batch.unmaps[at] ?? 0;
      this.#unmap(first, first + (batch.unmaps[at + 1] ?? 0));
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
    shore.through.set(this.#logId, batch.throughSeq);
    return {
      n: ++shore.n,
      throughSeq: batch.throughSeq,
      committedAt: this.#clock.now(),
      storedBytes: data.length,
      lost,
    };
  }

  #unmap(first: number, end: number): void {
    const shore = this.#shore;
    for (const blocks of [shore.blocks, shore.lost, shore.unreadable])
      for (const block of [...blocks.keys()]) if (block >= first && block < end) blocks.delete(block);
  }

  /** What is sent arrives when the cloud is there, if the volume is still ours then. */
  async #passage(): Promise<void> {
    const shore = this.#shore;
    await sleep(this.#clock, this.#delayMs());
    while ((shore.away || shore.holdCommits) && !this.#closed) await sleep(this.#clock, 50);
    if (this.#closed) throw new FarshoreError('stopped', 'closed');
    if (shore.epoch !== this.#epoch) throw new FarshoreError('fenced', `epoch ${this.#epoch} has ended`);
  }

  async #wait(): Promise<void> {
    await sleep(this.#clock, this.#delayMs());
    if (this.#shore.away) throw new FarshoreError('retry', 'the cloud is away');
  }
}
