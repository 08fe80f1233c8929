import { setMaxListeners } from 'node:events';
import type { Clock, Random } from '../base/clock.ts';
import { FarshoreError, invariant, isKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BlockCount, BlockNumber, Epoch, VersionNumber, WriteSeq } from '../base/units.ts';
import { Urgency } from '../base/urgency.ts';
import { meteredObjectStore, meteredVersionLog, newMeter } from '../cloud/metered.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { VersionLog, VolumeItem, VolumeRef } from '../cloud/version-log.ts';
import type { Compression } from '../format/compression.ts';
import type { TakeoverProof } from '../format/version-identity.ts';
import { EMPTY_CHAIN } from '../format/version-record.ts';
import { FrameReader } from '../maintenance/frame-reader.ts';
import { newestVersions } from '../maintenance/history.ts';
import { InlineImages } from '../maintenance/inline-images.ts';
import { enterVersion } from '../maintenance/load-map.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import { CheckpointMap } from '../maintenance/map-reader.ts';
import type { VersionChanges } from '../maintenance/payload.ts';
import { verifyVolume } from '../maintenance/verify.ts';
import type { VolumeMap } from '../maintenance/volume-map.ts';
import type { TailRecord } from '../maintenance/walk.ts';
import { BackgroundFold } from './background-fold.ts';
import { countMappedBlocks, mappedExtent, nextMappedBlocks } from './block-queries.ts';
import { CommitPipeline } from './commit-pipeline.ts';
import { Copies } from './copies.ts';
import type { EngineSettings } from './engine-settings.ts';
import { DEFAULT_ENGINE_SETTINGS } from './engine-settings.ts';
import type { LogEnd } from './fence-takeover.ts';
import { FoldBacklog } from './fold-backlog.ts';
import { readBlocks } from './frames.ts';
import { inBackground as storeInBackground } from './download-throttle.ts';
import { openMap } from './open-map.ts';
import { guardOwner } from './owner-guard.ts';
import type {
  CommitBatch,
  Committed,
  Copied,
  CopiesCommit,
  CopyBatch,
  FoldOutcome,
  LogReader,
  OpenedRemote,
  OpenRequest,
  ReadHow,
  RemoteBlocks,
  RemoteStatus,
  RemoteVolume,
  RolledBack,
  VerifyReport,
  VersionSummary,
} from './remote-volume.ts';
import { PatientReads } from './patient-reads.ts';
import { rollBack } from './roll-back.ts';
import { SegmentMemories } from './segment-memory.ts';
import { SizeMirror } from './size-mirror.ts';
import { readTakeoverProof, silentEnd } from './takeover-proof.ts';
import { VersionWriter } from './version-writer.ts';
import { volumeName } from './volume-name.ts';

/** Segments held in memory at once unless the owner shares a wider allowance among its volumes. */
export const PARALLEL_UPLOADS = 4;
/** Well above what folds and verifications have under way at once. */
const MAX_SIGNAL_LISTENERS = 128;
/** Blocks of one read. */
export const MAX_READ_BLOCKS = 256;

export interface EngineDeps {
  readonly store: ObjectStore;
  readonly versions: VersionLog;
  readonly reader: LogReader;
  readonly compression: Compression;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Shared by the volumes of a gateway; one of its own without. */
  readonly segmentsInMemory?: SegmentMemories;
  /** Called once when another writer has taken the volume over, also when nothing is under way. */
  readonly onFenced?: (error: FarshoreError) => void;
}

/** What there is between a successful open and the end. */
interface Open {
  readonly ref: VolumeRef;
  readonly writer: VersionWriter;
  readonly map: VolumeMap;
  readonly frames: FrameReader;
  readonly images: InlineImages;
  readonly backlog: FoldBacklog;
  readonly pipeline: CommitPipeline;
  readonly copies: Copies;
  readonly folding: BackgroundFold;
  readonly size: SizeMirror;
}

/**
 * The remote half of one volume over the ports (see RemoteVolume). It does no I/O of its own, keeps nothing at module level
 * and nothing on disk: what it knows it has from the log.
 */
export class RemoteVolumeEngine implements RemoteVolume {
  readonly #deps: EngineDeps;
  readonly #settings: EngineSettings;
  readonly #meter = newMeter();
  readonly #maintenance: MaintenanceDeps;
  readonly #abort = new AbortController();
  readonly #patient = new PatientReads();
  #opening = false;
  #open: Open | undefined;
  #ended: FarshoreError | undefined;

  constructor(deps: EngineDeps, settings: Partial<EngineSettings> = {}) {
    this.#deps = deps;
    // Maintenance reads that wait to be repeated listen for the end.
    setMaxListeners(MAX_SIGNAL_LISTENERS, this.#abort.signal);
    this.#settings = { ...DEFAULT_ENGINE_SETTINGS, ...settings };
    const { compression, clock, random, log } = deps;
    const store = meteredObjectStore(deps.store, this.#meter);
    this.#maintenance = {
      store,
      versions: meteredVersionLog(deps.versions, this.#meter),
      compression,
      clock,
      random,
      log,
    };
  }

  /** undefined until it is open. */
  get epoch(): Epoch | undefined {
    return this.#open?.writer.epoch;
  }

  async open(request: OpenRequest): Promise<OpenedRemote> {
    this.#throwIfEnded();
    invariant(!this.#opening && this.#open === undefined, `volume ${request.ref.volume} is opened once`);
    this.#opening = true;
    try {
      return await this.#takeOver(request);
    } finally {
      this.#opening = false;
    }
  }

  async commit(batch: CommitBatch): Promise<Committed> {
    const { pipeline, size } = this.#opened();
    const committed = await pipeline.commit(batch);
    if (batch.volumeBytes !== undefined) void size.tell(batch.volumeBytes);
    return committed;
  }

  async copy(batch: CopyBatch): Promise<Copied> {
    return this.#opened().copies.copy(batch);
  }

  async noteCopies(headers: Buffer, isFirst: boolean): Promise<void> {
    this.#opened().copies.note(headers, isFirst);
  }

  async commitCopies(commit: CopiesCommit): Promise<Committed> {
    const { copies, map, images, backlog, folding } = this.#opened();
    return copies.commit(commit, (n, run) => {
      const version: VersionChanges = { kind: 'manifest', run };
      enterVersion(map, images, n, version);
      backlog.add(n, version);
      folding.check();
    });
  }

  async read(
    block: BlockNumber,
    count: BlockCount,
    { fresh = false, background = false }: ReadHow = {},
  ): Promise<RemoteBlocks> {
    invariant(count >= 1 && count <= MAX_READ_BLOCKS, `${count} blocks in one read`);
    const urgency = new Urgency(background ? 'background' : 'foreground');
    const read = this.#reading(async ({ map, frames: cached, images, ref }) => {
      const { store, compression } = this.#maintenance;
      const frames = fresh ? new FrameReader(store, compression, ref.lineage, 0) : cached;
      const entries = await map.entries(block, count);
      return readBlocks({ frames, images, compression, urgency }, block, count, entries);
    });
    return background ? this.#patient.follow({ block, count, urgency }, read) : read;
  }

  hurry(block: BlockNumber, count: BlockCount): void {
    this.#patient.hurry(block, count);
  }

  async mapped(
    block: BlockNumber,
    count: BlockCount,
  ): Promise<{ readonly mapped: boolean; readonly count: BlockCount }> {
    return this.#reading(({ map }) => mappedExtent(map, block, count));
  }

  countMapped(): Promise<BlockCount> {
    return this.#reading(({ map }) => countMappedBlocks(map));
  }

  async nextMapped(
    from: BlockNumber,
    limit: BlockCount,
  ): Promise<{ readonly blocks: readonly BlockNumber[] } | undefined> {
    invariant(limit >= 1 && limit <= MAX_READ_BLOCKS, `${limit} blocks in one answer`);
    return this.#reading(({ map }) => nextMappedBlocks(map, from, limit));
  }

  async rollBackTo(n: VersionNumber): Promise<RolledBack> {
    const { ref, writer, map, images, backlog, pipeline, size } = this.#opened();
    invariant(!pipeline.used, 'a volume is rolled back before its first commit');
    const { signal } = this.#abort;
    const takeover = await pipeline.proveTakeover();
    const made = await rollBack(this.#maintenance, { ref, writer, map, takeover, signal }, n);
    const version: VersionChanges = { kind: 'manifest', run: made.run };
    enterVersion(map, images, made.n, version);
    backlog.add(made.n, version);
    void size.tell(made.volumeBytes);
    return { n: made.n, volumeBytes: made.volumeBytes };
  }

  async provenThrough(): Promise<WriteSeq> {
    if (this.#open === undefined) throw new FarshoreError('retry', 'the volume was not open');
    return this.#open.writer.provenThrough();
  }

  async fold(): Promise<FoldOutcome> {
    const { n, versionsFolded, shardsRewritten, runs } = await this.#opened().folding.now();
    return { n, versionsFolded, shardsRewritten, runs };
  }

  async verify(): Promise<VerifyReport> {
    const { ref } = this.#opened();
    return verifyVolume(inBackground(this.#maintenance), ref, { signal: this.#abort.signal });
  }

  async versions(limit: number): Promise<readonly VersionSummary[]> {
    const { ref, writer } = this.#opened();
    return newestVersions(this.#maintenance.versions, ref, writer.lastCommitted().n, limit);
  }

  status(): Promise<RemoteStatus> {
    const { uploadedBytes, downloadedBytes, ...requests } = this.#meter;
    const { writer, map, folding, pipeline } = this.#opened();
    const committed = writer.lastCommitted();
    return Promise.resolve({
      epoch: writer.epoch,
      committedN: committed.n,
      committedAt: committed.at,
      checkpointN: map.checkpoint.n,
      overlayEntries: map.overlayEntries,
      problem: pipeline.problem ?? folding.problem,
      requests,
      uploadedBytes,
      downloadedBytes,
    });
  }

  close(): Promise<void> {
    this.#end(new FarshoreError('stopped', 'the volume was closed'));
    return Promise.resolve();
  }

  /** For the lease: reads the volume item, and ends the engine with `fenced` when its epoch is no longer ours. */
  async confirmOwnership(): Promise<boolean> {
    if (this.#open === undefined) return this.#ended === undefined;
    return this.#open.writer.confirmOwnership();
  }

  /** Memory for maps and frames, when the volumes that share it have become more or fewer. */
  setCaches(shardCacheBytes: number, frameCacheBytes: number): void {
    this.#open?.map.setShardCache(shardCacheBytes);
    this.#open?.frames.setCache(frameCacheBytes);
  }

  async #takeOver({ ref, takeover, gateway, logId, isUnfinished = false }: OpenRequest): Promise<OpenedRemote> {
    let tail: TailRecord[] = [];
    let item: VolumeItem | undefined;
    const guard = guardOwner(this.#maintenance.versions, gateway);
    if (takeover) guard.lower();
    const writer = await VersionWriter.takeOver(
      { ...this.#maintenance, versions: guard.versions },
      {
        ref,
        gateway,
        logId,
        signal: this.#abort.signal,
        onRestart: (found) => {
          item = found;
          tail = [];
        },
        onRecord: (record) => {
          tail.push(record);
        },
        checkpointEnd: (found) => this.#checkpointEnd(ref, found),
      },
    );
    guard.lower();
    try {
      this.#throwIfEnded();
      if (writer.item.deletedAt !== undefined && !isUnfinished) {
        const { name } = writer.item;
        throw new FarshoreError(
          'input',
          `volume ${name} is deleted; bring it back with: farshore volume undelete ${name}`,
        );
      }
      invariant(item !== undefined, 'a takeover has read the volume item');
      const images = new InlineImages();
      const backlog = new FoldBacklog();
      const found = { item: { ...writer.item, checkpoint: item.checkpoint }, tail };
      const { map, lastData } = await openMap(
        this.#maintenance,
        found,
        images,
        backlog,
        this.#settings.shardCacheBytes,
      );
      this.#throwIfEnded();
      backlog.add(writer.takeoverN, { kind: 'none' });
      const silent = silentEnd(tail, item.checkpoint?.chain ?? EMPTY_CHAIN);
      const { versions } = this.#maintenance;
      this.#start({ ref, writer, map, images, backlog }, () => readTakeoverProof(versions, ref, writer, silent));
      const { volumeBytes: bytes, epoch, takeoverN } = writer;
      return { item: { ...writer.item, bytes }, epoch, n: takeoverN, lastData };
    } catch (error) {
      writer.close();
      throw error;
    }
  }

  async #checkpointEnd(ref: VolumeRef, { checkpoint }: VolumeItem): Promise<LogEnd | undefined> {
    const { store, compression } = this.#maintenance;
    try {
      return (await CheckpointMap.load({ store, compression, ref }, checkpoint)).checkpoint;
    } catch (error) {
      if (!isKind(error, 'not-found')) throw error;
      return undefined;
    }
  }

  #start(
    parts: Pick<Open, 'ref' | 'writer' | 'map' | 'images' | 'backlog'>,
    proveTakeover: () => Promise<TakeoverProof>,
  ): void {
    const { ref, writer, map, images, backlog } = parts;
    const { store, versions, compression } = this.#maintenance;
    const folding = new BackgroundFold(
      inBackground(this.#maintenance),
      ref,
      writer.epoch,
      this.#settings.foldAt,
      backlog,
      map,
      {
        signal: this.#abort.signal,
        adopted: (n) => {
          images.forgetThrough(n);
        },
        overtaken: (epoch) => {
          const volume = volumeName(ref, writer.item.name);
          this.#end(
            new FarshoreError('fenced', `another gateway has taken over ${volume}: it writes in epoch ${epoch}`),
          );
        },
      },
    );
    const segmentsInMemory = this.#deps.segmentsInMemory ?? new SegmentMemories(PARALLEL_UPLOADS);
    const pipeline = new CommitPipeline(
      {
        ...this.#deps,
        store,
        versions,
        segmentsInMemory,
      },
      {
        room: () => folding.room(),
        committed: (n, version) => {
          enterVersion(map, images, n, version);
          backlog.add(n, version);
          folding.check();
        },
        takeoverProof: proveTakeover,
      },
      ref,
      writer,
    );
    const frames = new FrameReader(store, compression, ref.lineage, this.#settings.frameCacheBytes);
    const size = new SizeMirror(this.#maintenance, ref, writer.epoch, writer.item.bytes, this.#abort.signal);
    const copying = { ...this.#maintenance, reader: this.#deps.reader, segmentsInMemory };
    const copies = new Copies(copying, ref, writer, pipeline, this.#abort.signal);
    this.#open = { ...parts, frames, pipeline, copies, folding, size };
    // The gateway that changed it may have died before it came to that.
    void size.tell(writer.volumeBytes);
    void writer.stopped.then((error) => {
      this.#end(error);
    });
    folding.check();
  }

  /** On a missing object the checkpoint may have moved on: it is adopted, and the question asked once more. */
  async #reading<Result>(ask: (open: Open) => Promise<Result>): Promise<Result> {
    const open = this.#opened();
    try {
      return await ask(open);
    } catch (error) {
      if (!isKind(error, 'not-found')) throw error;
    }
    await this.#reload(open);
    this.#throwIfEnded();
    try {
      return await ask(open);
    } catch (error) {
      if (!isKind(error, 'not-found')) throw error;
      throw new FarshoreError('damaged', `${volumeName(open.ref, open.writer.item.name)}: ${error.message}`, {
        cause: error,
      });
    }
  }

  async #reload({ ref, folding }: Open): Promise<void> {
    const item = await this.#maintenance.versions.getVolume(ref);
    if (item?.checkpoint === undefined) return;
    const { store, compression } = this.#maintenance;
    try {
      folding.adopt(await CheckpointMap.load({ store, compression, ref }, item.checkpoint));
    } catch (error) {
      // It has moved on once more since the item was read, or is damage that the second attempt will name.
      if (!isKind(error, 'not-found')) throw error;
    }
  }

  #end(error: FarshoreError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#abort.abort();
    this.#open?.pipeline.stop(error);
    this.#open?.writer.close();
    if (error.kind === 'fenced') this.#deps.onFenced?.(error);
  }

  #opened(): Open {
    this.#throwIfEnded();
    if (this.#open === undefined) throw new FarshoreError('stopped', 'the volume has not been opened');
    return this.#open;
  }

  #throwIfEnded(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }
}

/** Of work that initiators do not wait for. */
function inBackground(deps: MaintenanceDeps): MaintenanceDeps {
  return { ...deps, store: storeInBackground(deps.store) };
}
