import type {
  BlockDevice,
  DeviceGeometry,
  DeviceIdentity,
  MaybePromise,
  Provisioning,
  SectorRange,
  SpaceLimit,
} from '../base/block-device.ts';
import { describeError, FarshoreError, isKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  BLOCK_SIZE,
  type BlockCount,
  type BlockNumber,
  type ByteCount,
  type Epoch,
  type Lba,
  type SectorCount,
  type VersionNumber,
  type WriteSeq,
} from '../base/units.ts';
import type { LogOp, LogOpOwner } from '../cache/log-op.ts';
import type { OpenedRemote } from '../replication/remote-volume.ts';
import { BlockState } from './block-state.ts';
import { geometryOf, identityOf, VOLUME_LIMITS } from './device-shape.ts';
import { HeldWrites } from './held-writes.ts';
import { Hydrator } from './hydrator.ts';
import { reconcileVolume, startOver, type ImageVerdict, type LocalLog, type OpenVolumeRequest } from './open-volume.ts';
import { mendLost } from './mend-lost.ts';
import { provisioningOf } from './provisioning.ts';
import { Quota } from './quota.ts';
import { ReadPath } from './read-path.ts';
import { DEFAULT_REMOTE_LOSS_MS, ReplicationControl, type Replication } from './replication-control.ts';
import { RecoveredDirt } from './recovered-dirt.ts';
import { resizeVolume } from './resize.ts';
import type { ScrubSide } from './scrub-pass.ts';
import { DEFAULT_SCRUB, Scrubber, type ScrubReport } from './scrubber.ts';
import { Sealer } from './sealer.ts';
import { SpaceNotices } from './space-notices.ts';
import { bindImage, findImage, letImageGo, type FoundImage } from './stored/open-image.ts';
import { StoredHalf } from './stored/stored-half.ts';
import type { VolumeDeps } from './volume-deps.ts';
import { endVolumeLog } from './volume-state.ts';
import { statusOf, type VolumeStatus } from './volume-status.ts';
import { WritePath } from './write-path.ts';

type State =
  | { readonly kind: 'serving' }
  | { readonly kind: 'fenced'; readonly error: FarshoreError }
  /** The log has stopped, or the volume was closed; of the first, reads of what is certain go on. */
  | { readonly kind: 'stopped'; readonly error: FarshoreError; readonly closed: boolean };

/** One volume of this gateway: the block device that initiators see, over the cache log and the remote. */
export class Volume implements BlockDevice, LogOpOwner {
  readonly identity: DeviceIdentity;
  readonly limits = VOLUME_LIMITS;
  readonly lowSpace: SpaceNotices;
  /** The volume item as it was taken over. */
  readonly item: OpenedRemote['item'];
  readonly #deps: VolumeDeps;
  readonly #diary: Log;
  readonly #epoch: Epoch;
  #geometry: DeviceGeometry;
  /** Size that the geometry was made for. */
  #geometryBlocks: BlockCount;
  #resizing = false;
  readonly #blocks: BlockState;
  readonly #reads: ReadPath;
  readonly #writes: WritePath;
  readonly #quota: Quota;
  readonly #replication: ReplicationControl;
  readonly #held: HeldWrites;
  readonly #sealer: Sealer;
  readonly #hydrator: Hydrator | undefined;
  readonly #scrubber: Scrubber;
  readonly #stored: StoredHalf | undefined;
  #state: State = { kind: 'serving' };
  #replicationProblem: string | undefined;

  /**
   * Takes the volume over and opens it on this gateway. Rejects with `retry` (cloud away: call again), `fenced`, `not-found`, `damaged`
   * (the message says what to do), `stopped` (disk), `busy` (no space).
   */
  static async open(deps: VolumeDeps, request: OpenVolumeRequest): Promise<Volume> {
    const { ref } = request;
    const found = await findImage(deps, ref, request.takeover === true);
    if (found === undefined) return Volume.#take(deps, request, undefined, undefined);
    if ('givenUp' in found) {
      // Without marked blocks the log and the versions have everything between them.
      const verdict = found.givenUp.changes === undefined ? undefined : 'given-up';
      const volume = await Volume.#take(deps, request, undefined, verdict);
      await letImageGo(deps, ref, found.givenUp);
      return volume;
    }
    const { image, state } = found;
    try {
      const isSeed = state.number === undefined && state.changes !== undefined;
      return await Volume.#take(deps, request, found, isSeed ? 'seed' : undefined);
    } catch (error) {
      await image.close();
      throw error;
    }
  }

  static async #take(
    deps: VolumeDeps,
    request: OpenVolumeRequest,
    found: FoundImage | undefined,
    verdict: ImageVerdict,
  ): Promise<Volume> {
    const reconciled = await reconcileVolume(deps, request, verdict);
    const { opened, n } = reconciled;
    const attach = async (local: LocalLog): Promise<Volume> => {
      const bound = found && (await bindImage(deps, request.ref, found, local, opened));
      const stored = bound && new StoredHalf(deps, request.ref, bound, opened.epoch);
      return Volume.#attach(deps, opened, n, local, stored);
    };
    try {
      return await attach(reconciled.local);
    } catch (error) {
      if (request.takeover !== true || !isKind(error, 'damaged')) throw error;
      deps.log.error({ volume: request.ref.volume, reason: describeError(error) }, 'the local log is given up');
      return attach(await startOver(deps, request, reconciled));
    }
  }

  static async #attach(
    deps: VolumeDeps,
    opened: OpenedRemote,
    n: VersionNumber,
    local: LocalLog,
    stored: StoredHalf | undefined,
  ): Promise<Volume> {
    const late: { volume: Volume | undefined } = { volume: undefined };
    const sealer = new Sealer(deps.clock, deps.settings, {
      fenced: (error) => {
        late.volume?.onFenced(error.message);
      },
      failed: (error) => {
        late.volume?.onReplicationFailed(error);
      },
      lost: (blocks) => {
        late.volume?.onBlocksLost(blocks);
      },
      committed: (count) => {
        if (late.volume !== undefined) late.volume.#quota.committed(count);
      },
      reached: (throughSeq) => {
        if (late.volume !== undefined) late.volume.#held.publish(throughSeq);
      },
      advanced: () => {
        if (late.volume !== undefined) late.volume.#replication.advanced();
      },
    });
    const isCatchingUp = stored?.isCatchingUp === true;
    if (isCatchingUp) sealer.suspend();
    const { committedThrough } = local;
    const dirt = new RecoveredDirt(
      sealer,
      stored && { replicatedThrough: committedThrough, destager: stored.destager },
    );
    const { log, built } = await deps.cache.attach({
      ...local,
      committedThrough: stored?.settledThrough(committedThrough) ?? committedThrough,
      sink: dirt,
      onPressure: () => {
        sealer.hurry();
        // What is held is bounded by the initiators' windows, and no image may have it.
        if (late.volume === undefined || !late.volume.#replication.isHolding) stored?.pressed();
      },
      onStopped: (error) => {
        late.volume?.onLogStopped(error);
      },
    });
    const blocks = new BlockState(
      deps.cache,
      log,
      Math.ceil(opened.item.bytes / BLOCK_SIZE),
      dirt.damaged,
      dirt.unmaps,
      stored,
    );
    const volume = new Volume(deps, opened, blocks, sealer, stored);
    late.volume = volume;
    volume.#diary.info(
      { epoch: opened.epoch, n, ...local, dirtyOps: built.dirtyOps, distrusted: built.distrusted },
      'the volume is open',
    );
    const throughSeq = isCatchingUp ? local.versionThrough : committedThrough;
    sealer.start(blocks, deps.remote, { n, throughSeq, at: undefined }, stored, dirt.unsettled);
    stored?.start(blocks, sealer);
    volume.#replication.start();
    volume.#hydrator?.start();
    volume.#quota.start();
    if (deps.settings.scrub?.enabled === true) volume.#scrubber.start();
    // It may have stopped while nobody listened yet.
    if (deps.cache.stoppedBy !== undefined) volume.onLogStopped(deps.cache.stoppedBy);
    return volume;
  }

  private constructor(
    deps: VolumeDeps,
    opened: OpenedRemote,
    blocks: BlockState,
    sealer: Sealer,
    stored: StoredHalf | undefined,
  ) {
    this.#stored = stored;
    const { item } = opened;
    this.#deps = deps;
    this.#diary = deps.log.child({ volume: item.name });
    this.item = item;
    this.identity = identityOf(item, `${deps.cache.poolId}.${blocks.log.number}`);
    const { remote, clock } = deps;
    this.#quota = new Quota({ state: blocks, remote, clock, diary: this.#diary }, item.quotaBytes);
    this.lowSpace = new SpaceNotices(deps.cache.pressure.lowSpace, this.#quota);
    this.#epoch = opened.epoch;
    this.#geometry = geometryOf(item, item.bytes);
    this.#geometryBlocks = blocks.volumeBlocks;
    this.#blocks = blocks;
    this.#sealer = sealer;
    this.#reads = new ReadPath(blocks, stored?.source(deps.remote) ?? deps.remote, this.#diary);
    const admit = (block: BlockNumber, count: BlockCount): Promise<void> => this.#quota.admit(block, count);
    const endLog = (through: WriteSeq): Promise<void> => endVolumeLog(deps.disk, item, opened.epoch, through);
    this.#held = new HeldWrites({ blocks, stored, remote, clock, diary: this.#diary, endLog });
    const { replication: mode, onRemoteLoss = 'block' } = item;
    this.#replication = new ReplicationControl(
      {
        ...{ state: blocks, sealer, clock, diary: this.#diary, hasImage: stored !== undefined },
        remoteLossMs: deps.settings.remoteLossMs ?? DEFAULT_REMOTE_LOSS_MS,
        publish: (through) => {
          this.#held.publish(through);
        },
        syncLocally: () => deps.cache.sync(blocks.log),
      },
      { mode, onRemoteLoss },
    );
    this.#writes = new WritePath({
      ...{ state: blocks, reads: this.#reads, clock, owner: this, admit, replication: this.#replication },
      check: () => this.#refusal(),
    });
    // An image has everything already.
    this.#hydrator =
      deps.settings.hydrate && stored === undefined
        ? new Hydrator(blocks, this.#reads, deps.remote, deps.clock)
        : undefined;
    this.#scrubber = new Scrubber({
      ...{ blocks, reads: this.#reads, remote: deps.remote, clock: deps.clock, disk: deps.disk, diary: this.#diary },
      ref: { lineage: item.lineage, volume: item.volume },
      settings: deps.settings.scrub ?? DEFAULT_SCRUB,
      writeAgain: (block, content, isNewest) => this.#writes.writeAgain(block, content, isNewest),
    });
  }

  geometry(): DeviceGeometry {
    if (this.#blocks.volumeBlocks !== this.#geometryBlocks) {
      this.#geometryBlocks = this.#blocks.volumeBlocks;
      this.#geometry = geometryOf(this.item, this.bytes);
    }
    return this.#geometry;
  }

  /** Present size; a resize changes it. */
  get bytes(): ByteCount {
    return this.#blocks.volumeBlocks * BLOCK_SIZE;
  }

  /**
   * Makes the volume larger or smaller (whole blocks) by a version of the log; resolves when it is committed. Rejects with `input` when data lies
   * beyond the new end, `busy` when another resize is under way, and as flushRemote does.
   */
  async resize(bytes: ByteCount): Promise<void> {
    const refusal = this.#refusal();
    if (refusal !== undefined) throw refusal;
    if (this.#resizing) throw new FarshoreError('busy', `volume ${this.identity.name} is being resized`);
    this.#resizing = true;
    const before = this.bytes;
    try {
      const { remote } = this.#deps;
      const parts = {
        name: this.identity.name,
        state: this.#blocks,
        remote,
        sealer: this.#sealer,
        image: this.#stored,
      };
      await resizeVolume(parts, bytes);
    } finally {
      this.#resizing = false;
    }
    this.#diary.info({ before, bytes }, 'the volume has another size');
  }

  read(lba: Lba, sectors: SectorCount): MaybePromise<readonly Buffer[]> {
    const state = this.#state;
    if (state.kind === 'fenced' || (state.kind === 'stopped' && state.closed)) return Promise.reject(state.error);
    const { sectorSize } = this.#geometry;
    return this.#reads.read(lba * sectorSize, (lba + sectors) * sectorSize);
  }

  readInto(lba: Lba, sectors: SectorCount, into: Buffer, at: number): boolean {
    const state = this.#state;
    if (state.kind === 'fenced' || (state.kind === 'stopped' && state.closed)) return false;
    const { sectorSize } = this.#geometry;
    return this.#reads.copyInto(lba * sectorSize, (lba + sectors) * sectorSize, into, at);
  }

  write(lba: Lba, data: readonly Buffer[], options: { readonly fua: boolean }): MaybePromise<void> {
    const refusal = this.#replication.refusalOf(options.fua);
    if (refusal !== undefined) return Promise.reject(refusal);
    const answered = this.#writes.write(lba * this.#geometry.sectorSize, data);
    return options.fua ? answered.then(() => this.flush()) : answered;
  }

  gatherWrite(lba: Lba, data: Buffer): boolean {
    return this.#writes.gather(lba * this.#geometry.sectorSize, data);
  }

  logGathered(): MaybePromise<void> {
    return this.#writes.logGathered();
  }

  flush(): MaybePromise<void> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    return this.#replication.flush();
  }

  unmap(ranges: readonly SectorRange[]): MaybePromise<void> {
    const refusal = this.#replication.refusalOf(false);
    if (refusal !== undefined) return Promise.reject(refusal);
    const { sectorSize } = this.#geometry;
    return this.#writes.unmap(
      ranges.map(({ lba, sectors }) => ({ from: lba * sectorSize, to: (lba + sectors) * sectorSize })),
    );
  }

  provisioning(lba: Lba, sectors: SectorCount): MaybePromise<Provisioning> {
    const state = this.#state;
    if (state.kind !== 'serving') return Promise.reject(state.error);
    return provisioningOf(this.#blocks, this.#deps.remote, this.#geometry.sectorSize, lba, sectors);
  }

  /** Resolves when everything acked before the call is in a committed version. Rejects when that can't be any more. */
  async flushRemote(): Promise<{ readonly n: VersionNumber; readonly throughSeq: WriteSeq }> {
    const refusal = this.#refusal();
    if (refusal !== undefined) throw refusal;
    const { n, throughSeq } = await this.#sealer.flush(this.#blocks.log.appendedThrough);
    return { n, throughSeq };
  }

  /** The lease, or a commit, says that somebody else owns the volume: nothing is read or written here any more. */
  onFenced(reason: string): void {
    if (this.#state.kind === 'fenced') return;
    const error = new FarshoreError('fenced', `volume ${this.identity.name} has been taken over: ${reason}`);
    this.#become({ kind: 'fenced', error });
    this.#sealer.stop(error);
    this.#replication.close();
    void this.#held.settle(error);
    this.#stored?.stop(error);
    void this.#hydrator?.stop();
    void this.#scrubber.stop();
  }

  /** The cache log takes nothing any more; what is certain can still be read. */
  onLogStopped(cause: Error): void {
    const error = new FarshoreError('stopped', `volume ${this.identity.name} takes no writes: ${cause.message}`, {
      cause,
    });
    if (this.#state.kind === 'serving') this.#become({ kind: 'stopped', error, closed: false });
    this.#sealer.stop(error);
    // What is held stays so: not even a volume that degrades may ack what this log has.
    this.#replication.close();
    this.#stored?.stop(error);
    void this.#hydrator?.stop();
    void this.#scrubber.stop();
  }

  /** Walks the local log or S3 now; see Scrubber.run. */
  async scrub(sides: readonly ScrubSide[], fast: boolean, onProgress: (side: ScrubSide) => void): Promise<ScrubReport> {
    const refusal = this.#refusal();
    if (refusal !== undefined) throw refusal;
    return this.#scrubber.run(sides, fast, onProgress);
  }

  /** Called by the sealer. */
  onReplicationFailed(error: Error): void {
    this.#replicationProblem = error.message;
    if (this.#deps.cache.stoppedBy === undefined) this.#replication.lose();
    this.#diary.error({ reason: error.message }, 'the volume is not replicated any more');
  }

  /**
   * Called by the sealer: a version says that these blocks, read from these places, are lost; see mendLost.
   */
  onBlocksLost(blocks: readonly { readonly block: BlockNumber; readonly place: number }[]): void {
    const tools = {
      blocks: this.#blocks,
      diary: this.#diary,
      writeAgain: this.#writes.writeAgain.bind(this.#writes),
    };
    for (const { block, place } of blocks) void mendLost(tools, block, place);
  }

  /** From now on acks mean this; see ReplicationControl.set. */
  setReplication(replication: Replication): void {
    const refusal = this.#refusal();
    if (refusal !== undefined) throw refusal;
    this.#replication.set(replication);
  }

  /** The most bytes that may be mapped from now on; undefined: as many as there are. */
  setQuota(bytes: ByteCount | undefined): void {
    this.#quota.set(bytes);
  }

  space(): SpaceLimit | undefined {
    return this.#quota.space;
  }

  /** Every write and unmap that is in the log is in a committed version. */
  get isAllCommitted(): boolean {
    const { log } = this.#blocks;
    // What the image alone has the log may have dropped, and no version has it.
    return log.appendedThrough <= log.committedThrough && this.#stored?.isCatchingUp !== true;
  }

  status(): VolumeStatus {
    const state = this.#state;
    return statusOf({
      ...{ state: state.kind, reason: state.kind === 'serving' ? undefined : state.error.message, epoch: this.#epoch },
      ...{ blocks: this.#blocks, reads: this.#reads, sealer: this.#sealer, stored: this.#stored },
      ...{ hydration: this.#hydrator?.progress, scrub: this.#scrubber.report, replication: this.#replication.report },
      ...{ nowMs: this.#deps.clock.monotonicMs(), problem: this.#replicationProblem, quota: this.#quota.space },
    });
  }

  /** Stops serving; everything acked is in the log, on stable storage unless the disk has failed. Closes the remote. Idempotent. */
  async close(): Promise<void> {
    const state = this.#state;
    if (state.kind === 'stopped' && state.closed) return;
    const error = new FarshoreError('stopped', `volume ${this.identity.name} is closed`);
    this.#become({ kind: 'stopped', error, closed: true });
    this.#sealer.stop(error);
    this.#replication.close();
    this.#reads.close();
    await Promise.all([this.#held.close(error), this.#hydrator?.stop(), this.#scrubber.stop()]);
    const { cache, remote } = this.#deps;
    const { log } = this.#blocks;
    await log.idle();
    await this.#stored?.close();
    for (const step of [() => cache.syncLast(log), () => cache.detach(log)]) {
      try {
        await step();
      } catch (failure) {
        this.#diary.error({ reason: describeError(failure) }, 'the volume could not be closed cleanly');
      }
    }
    await remote.close();
  }

  opLogged(op: LogOp): void {
    if (op.isHeld) {
      this.#blocks.pending.noteLogged(op);
      this.#sealer.add(op);
      this.#replication.noteHeld();
      return;
    }
    this.#blocks.opLogged(op);
    this.#sealer.add(op);
    this.#stored?.opLogged(op);
    op.end.writeEnded(undefined);
  }

  /** A held write stays unanswered: a restart may find it in the log, and then it will be in a version. */
  opFailed(op: LogOp, error: Error): void {
    if (op.isHeld) return;
    this.#blocks.opFailed(op);
    op.end.writeEnded(error);
  }

  /** Why writes are refused now. */
  #refusal(): FarshoreError | undefined {
    return this.#state.kind === 'serving' ? undefined : this.#state.error;
  }

  #become(state: State): void {
    if (this.#state.kind === 'stopped' && this.#state.closed) return;
    this.#state = state;
    if (state.kind !== 'serving') this.#deps.cache.turnAway(this.#blocks.log, state.error);
    const reason = state.kind === 'serving' ? undefined : state.error.message;
    const isAsked = state.kind === 'stopped' && state.closed;
    this.#diary[isAsked ? 'info' : 'warn']({ state: state.kind, reason }, 'the volume has changed its state');
    this.#deps.onStateChange?.(state.kind, reason);
  }
}
