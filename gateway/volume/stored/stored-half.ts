import type { Clock } from '../../base/clock.ts';
import type { Disk } from '../../base/disk.ts';
import { describeError, FarshoreError, isKind } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { BlockCount, BlockNumber, ByteCount, Epoch, WallMillis, WriteSeq } from '../../base/units.ts';
import { Mutex } from '../../cache/mutex.ts';
import type { LogOp } from '../../cache/log-op.ts';
import type { VolumeRef } from '../../cloud/version-log.ts';
import type { RemoteVolume } from '../../replication/remote-volume.ts';
import type { BlockState, ImageBlocks } from '../block-state.ts';
import type { BlockSource } from '../miss-reads.ts';
import type { CommittedVersion, SettleGate, Sealer } from '../sealer.ts';
import type { SettledBatch } from '../unsettled.ts';
import { CatchUp } from './catch-up.ts';
import { Changes } from './changes.ts';
import { Destager } from './destager.ts';
import type { Image } from './image.ts';
import { ImageSource } from './image-source.ts';
import type { BoundImage } from './open-image.ts';
import { Overflow } from './overflow.ts';
import { removeGenerations, saveStoredState, type StoredState } from './stored-state.ts';

/** How far the image is, is saved no more often: what a restart does again is little, and never wrong. */
const SAVE_MS = 5_000;

export interface StoredTools {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  readonly remote: RemoteVolume;
}

export interface StoredStatus {
  readonly image: string;
  /** Written blocks that are not in the image yet. */
  readonly backlogBlocks: BlockCount;
  /** What the image has and no version, while that is made one; undefined when there is nothing. */
  readonly catchUp: CatchUpStatus | undefined;
  /** An alarm while the volume serves. */
  readonly problem: string | undefined;
}

export interface CatchUpStatus {
  /** `seed`: the image was there before the volume. `overflow`: the cache was full of what the cloud did not have. */
  readonly why: 'seed' | 'overflow';
  readonly since: WallMillis;
  /** Blocks that no version has, and those of them that are still to be looked at. */
  readonly blocks: BlockCount;
  readonly openBlocks: BlockCount;
  /** Since the start of the gateway. */
  readonly copiedBytes: ByteCount;
}

/** What a volume with an image has beside the others: the image, what goes there, and what is known of it. */
export class StoredHalf implements SettleGate, ImageBlocks {
  readonly destager: Destager;
  readonly #image: Image;
  readonly #ref: VolumeRef;
  readonly #epoch: Epoch;
  readonly #tools: StoredTools;
  readonly #saving = new Mutex();
  /** Held by whoever marks blocks, or settles what was marked. */
  readonly #marking = new Mutex();
  /** Held by whoever changes the size of the image. */
  readonly #sizing = new Mutex();
  #isClosing = false;
  #state: StoredState;
  #lastBegun = 0;
  /** A save has failed: the disk may have what nobody here goes by. */
  #isStateDoubtful = false;
  #changes: Changes | undefined;
  #blocks: BlockState | undefined;
  #sealer: Sealer | undefined;
  #catchUp: CatchUp | undefined;
  #overflow: Overflow | undefined;
  #savedMs: number;

  constructor(tools: StoredTools, ref: VolumeRef, { image, state, changes }: BoundImage, epoch: Epoch) {
    this.#tools = tools;
    this.#ref = ref;
    this.#epoch = epoch;
    this.#image = image;
    this.#state = state;
    this.#changes = changes;
    this.#savedMs = tools.clock.monotonicMs();
    this.destager = new Destager(image, state.destagedThrough, state.lost, tools, {
      rememberLost: () => this.#save(() => ({})),
      advanced: () => {
        this.#advanced();
      },
    });
  }

  /** Through which write the log is not needed any more, `committed` being what is in a version. */
  settledThrough(committed: WriteSeq): WriteSeq {
    return Math.min(this.destager.through, Math.max(committed, this.#changes?.through ?? 0));
  }

  /** Versions are made of what the image has, for now. */
  get isCatchingUp(): boolean {
    return this.#changes !== undefined;
  }

  /** The image alone has the newest content of the block, as far as the log has not. */
  isMarked(block: BlockNumber): boolean {
    return this.#changes?.isMarked(block) === true;
  }

  isBehind(block: BlockNumber): boolean {
    return this.destager.isBehind(block);
  }

  /** What the image has there. Rejects with `stopped` when its disk can't read it. */
  async read(block: BlockNumber, into: Buffer): Promise<void> {
    await this.#image.read(block, into);
  }

  source(remote: BlockSource): ImageSource {
    const isMarked = (block: BlockNumber): boolean => this.isMarked(block);
    return new ImageSource(this.#image, remote, isMarked, this.destager.lost, this.#tools.log);
  }

  /** Recovery has told of all that is dirty. */
  start(blocks: BlockState, sealer: Sealer): void {
    const { clock, log: diary, remote } = this.#tools;
    this.#blocks = blocks;
    this.#sealer = sealer;
    this.#overflow = new Overflow(blocks, diary, {
      settledThrough: () => this.settledThrough(sealer.committed.throughSeq),
      destagedThrough: () => this.destager.through,
      suspend: () => {
        sealer.suspend();
      },
      resume: () => {
        sealer.resume();
      },
      isOpen: () => this.#changes !== undefined,
      raise: (mark) => this.#raise(blocks, sealer, mark),
      hurryImage: () => {
        this.destager.hurry();
      },
    });
    this.#catchUp = new CatchUp({
      ...{ state: blocks, image: this.#image, remote, clock, diary, lost: this.destager.lost },
      idle: () => sealer.idle(),
      committedThrough: () => sealer.committed.throughSeq,
      changes: () => this.#changes,
      markAll: async () => {
        await this.destager.reach(blocks.visibleThrough);
        await this.#overflow?.raise();
      },
      caughtUp: (committed, replicated, storedBytes) => this.#caughtUp(sealer, committed, replicated, storedBytes),
      failed: (error) => {
        sealer.fail(error);
      },
    });
    this.destager.start(blocks);
    this.#catchUp.kick();
  }

  opLogged(op: LogOp): void {
    this.destager.add(op);
    // Before writes are held back for the share: whoever writes goes on at the image's speed.
    this.#overflow?.look();
  }

  /**
   * Makes the image ready for a volume of another size: it has room for the larger of the two, durably, before the log may say which it is, and all that it
   * is to have in the smaller one's place. Rejects with `input` (a device is too small), `busy`, `stopped`.
   */
  prepareSize(before: ByteCount, after: ByteCount): Promise<void> {
    return this.#sizing.run(async () => {
      const blocks = this.#blocks;
      this.#throwIfClosing();
      if (after > before) await this.#image.requireRoomFor(after);
      // What lies beyond a smaller size, zeros by now, is not to be brought there after the image was cut off.
      else if (blocks !== undefined) await this.destager.reach(blocks.visibleThrough);
      await this.#save(() => ({ bytes: before, resizeTo: after }));
      if (after > before)
        await this.#image.grow(after, () => {
          this.#throwIfClosing();
        });
    });
  }

  /** A version says that the volume is so large. What can't be done now, the next start does. Never rejects. */
  resized(bytes: ByteCount): Promise<void> {
    this.#image.bytes = bytes;
    for (const block of this.destager.lost) if (block >= this.#image.blocks) this.destager.lost.delete(block);
    return this.#sizing.run(async () => {
      try {
        this.#throwIfClosing();
        await this.#image.cutOff();
        await this.#save(() => ({ bytes, resizeTo: undefined }));
      } catch (error) {
        const { volume } = this.#ref;
        this.#tools.log.warn(
          { volume, reason: describeError(error) },
          'a resize is brought to its end at the next start',
        );
      }
    });
  }

  /** Writes wait for room. */
  pressed(): void {
    this.#overflow?.look();
  }

  through(): WriteSeq {
    return this.destager.through;
  }

  status(): StoredStatus {
    const changes = this.#changes;
    return {
      image: this.#image.path,
      backlogBlocks: this.destager.backlog,
      catchUp: changes && {
        why: changes.isFull ? 'seed' : 'overflow',
        since: changes.since,
        blocks: changes.markedBlocks,
        openBlocks: changes.openBlocks,
        copiedBytes: this.#catchUp?.copiedBytes ?? 0,
      },
      problem: this.destager.problem ?? this.#catchUp?.problem ?? this.#overflow?.problem,
    };
  }

  /** At once, and for good: nothing of the log may go to the image any more. */
  stop(error: Error): void {
    this.#isClosing = true;
    void this.#catchUp?.stop();
    void this.destager.stop(error);
  }

  /**
   * Brings everything that is logged to the image and marks it as whole, unless it was stopped before: then it is what it is, and a start goes on
   * from the log. Nothing may be written any more. Closes the image.
   */
  async close(): Promise<void> {
    const { log } = this.#tools;
    this.#isClosing = true;
    await this.#catchUp?.stop();
    await this.#sizing.run(() => Promise.resolve());
    await this.#overflow?.stop();
    try {
      await this.#changes?.settle();
    } catch (error) {
      log.warn({ volume: this.#ref.volume, reason: describeError(error) }, 'some blocks will be copied once more');
    }
    try {
      if (this.#blocks !== undefined) {
        await this.destager.reach(this.#blocks.visibleThrough);
        await this.destager.stop(new FarshoreError('stopped', 'the volume is closed'));
        const clean = await this.#image.finish();
        await this.#save(() => ({ clean }));
      }
    } catch (error) {
      log.warn(
        { volume: this.#ref.volume, image: this.#image.path, reason: describeError(error) },
        'the image is not whole: it has to be opened by this gateway again before anybody else uses it',
      );
    }
    await this.destager.stop(new FarshoreError('stopped', 'the volume is closed'));
    await this.#saving.run(() => this.#image.close());
    await this.#marking.run(async () => this.#changes?.close());
  }

  #throwIfClosing(): void {
    if (this.#isClosing) throw new FarshoreError('stopped', 'the volume is closed');
  }

  #advanced(): void {
    this.#sealer?.settle();
    this.#overflow?.look();
    const now = this.#tools.clock.monotonicMs();
    if (now - this.#savedMs < SAVE_MS) return;
    this.#savedMs = now;
    // The marks of the log say as much, if not as exactly: a disk that is full is no reason to stop.
    this.#save(() => ({})).catch((error: unknown) => {
      this.#tools.log.warn(
        { volume: this.#ref.volume, reason: describeError(error) },
        'the state of the image could not be saved',
      );
    });
  }

  /** The marks are durable, and so is the state that counts on them, before the log may drop anything. */
  #raise(
    blocks: BlockState,
    sealer: Sealer,
    markAll: (mark: (block: BlockNumber, count: BlockCount) => void) => Promise<WriteSeq>,
  ): Promise<void> {
    return this.#marking.run(async () => {
      // What was caught up with while this waited for its turn has let the sealer go on.
      if (this.#changes === undefined) sealer.suspend();
      const changes = this.#changes ?? (await this.#begin(sealer.committed.throughSeq));
      try {
        const through = await markAll((block, count) => {
          changes.mark(block, count);
        });
        if (through <= this.settledThrough(sealer.committed.throughSeq)) return;
        await changes.save();
        await this.#save(() => ({ changes: changes.record(through), lastGeneration: changes.generation }));
        changes.through = through;
        this.#changes = changes;
      } finally {
        if (this.#changes !== changes) await changes.close();
      }
      blocks.cache.noteCommitted(blocks.log, this.settledThrough(sealer.committed.throughSeq));
      blocks.noteCommitted();
      this.#catchUp?.kick();
    });
  }

  async #begin(through: WriteSeq): Promise<Changes> {
    const { disk, clock } = this.#tools;
    // While states cannot be saved nothing is begun that would need one: else each attempt left its files behind.
    if (this.#isStateDoubtful) await this.#save(() => ({}));
    // Never one that was begun before: what failed to be saved may be on the disk all the same, and names its marks.
    const generation = Math.max(this.#state.lastGeneration, this.#lastBegun) + 1;
    this.#lastBegun = generation;
    const record = { generation, through, isFull: false, since: clock.now() };
    return Changes.begin(disk, this.#ref, record, this.#image, this.#epoch);
  }

  #caughtUp(
    sealer: Sealer,
    committed: CommittedVersion,
    replicated: readonly SettledBatch[],
    storedBytes: ByteCount,
  ): Promise<void> {
    return this.#marking.run(async () => {
      const done = this.#changes;
      if (done === undefined) return;
      sealer.uploadedBytes += storedBytes;
      if (done.through <= committed.throughSeq) this.#changes = undefined;
      else await this.#goOn(done);
      sealer.noteCommitted(committed, replicated);
      if (this.#changes === done) return;
      if (this.#changes === undefined) sealer.resume();
      await done.close();
      try {
        await this.#save(() => ({ changes: this.#changes?.record(this.#changes.through) }));
        await removeGenerations(this.#tools.disk, this.#ref, this.#changes?.generation);
      } catch (error) {
        // A start finds a version that reaches as far as these marks, and forgets them.
        if (!isKind(error, 'busy', 'stopped')) throw error;
        this.#tools.log.warn({ volume: this.#ref.volume, reason: describeError(error) }, 'old marks are left behind');
      }
    });
  }

  /** What was marked again since its block was copied is the next version's. When that can't be noted the old marks do as well, and cost more. */
  async #goOn(done: Changes): Promise<void> {
    let next: Changes | undefined;
    try {
      next = await this.#begin(done.through);
      for (const { block, count } of done.leftOver()) next.mark(block, count);
      await next.save();
      const { generation } = next;
      const record = next.record(done.through);
      await this.#save(() => ({ changes: record, lastGeneration: generation }));
      this.#changes = next;
    } catch (error) {
      await next?.close();
      if (!isKind(error, 'busy', 'stopped')) throw error;
    }
  }

  #save(change: () => Partial<StoredState>): Promise<void> {
    return this.#saving.run(async () => {
      const { through, lost } = this.destager;
      const state = { ...this.#state, destagedThrough: through, lost: [...lost], ...change() };
      this.#isStateDoubtful = true;
      await saveStoredState(this.#tools.disk, this.#ref, state);
      this.#isStateDoubtful = false;
      this.#state = state;
    });
  }
}
