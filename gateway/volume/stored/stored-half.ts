import type { Clock } from '../../base/clock.ts';
import type { Disk } from '../../base/disk.ts';
import { describeError, FarshoreError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { BlockCount, WriteSeq } from '../../base/units.ts';
import { Mutex } from '../../cache/mutex.ts';
import type { LogOp } from '../../cache/log-op.ts';
import type { VolumeRef } from '../../cloud/version-log.ts';
import type { BlockState } from '../block-state.ts';
import type { BlockSource } from '../read-path.ts';
import type { SettleGate, Sealer } from '../sealer.ts';
import { Destager } from './destager.ts';
import type { Image } from './image.ts';
import { ImageSource } from './image-source.ts';
import type { BoundImage } from './open-image.ts';
import { saveStoredState, type StoredState } from './stored-state.ts';

/** How far the image is, is saved no more often: what a restart does again is little, and never wrong. */
const SAVE_MS = 5_000;

export interface StoredTools {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
}

export interface StoredStatus {
  readonly image: string;
  /** Written blocks that are not in the image yet. */
  readonly backlogBlocks: BlockCount;
  /** An alarm while the volume serves. */
  readonly problem: string | undefined;
}

/** What a volume with an image has beside the others: the image, what goes there, and what is known of it. */
export class StoredHalf implements SettleGate {
  readonly destager: Destager;
  readonly #image: Image;
  readonly #ref: VolumeRef;
  readonly #tools: StoredTools;
  readonly #saving = new Mutex();
  #state: StoredState;
  #blocks: BlockState | undefined;
  #sealer: Sealer | undefined;
  #savedMs: number;

  constructor(tools: StoredTools, ref: VolumeRef, { image, state }: BoundImage) {
    this.#tools = tools;
    this.#ref = ref;
    this.#image = image;
    this.#state = state;
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
    return Math.min(this.destager.through, committed);
  }

  source(remote: BlockSource): ImageSource {
    return new ImageSource(this.#image, remote, this.destager.lost, this.#tools.log);
  }

  /** Recovery has told of all that is dirty. */
  start(blocks: BlockState, sealer: Sealer): void {
    this.#blocks = blocks;
    this.#sealer = sealer;
    this.destager.start(blocks);
  }

  opLogged(op: LogOp): void {
    this.destager.add(op);
  }

  through(): WriteSeq {
    return this.destager.through;
  }

  status(): StoredStatus {
    return {
      image: this.#image.path,
      backlogBlocks: this.destager.backlog,
      problem: this.destager.problem,
    };
  }

  /** At once, and for good: nothing of the log may go to the image any more. */
  stop(error: Error): void {
    void this.destager.stop(error);
  }

  /**
   * Brings everything that is logged to the image and marks it as whole, unless it was stopped before: then it is what it is, and a start goes on
   * from the log. Nothing may be written any more. Closes the image.
   */
  async close(): Promise<void> {
    const { log } = this.#tools;
    try {
      if (this.#blocks !== undefined) {
        await this.destager.reach(this.#blocks.log.appendedThrough);
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
  }

  #advanced(): void {
    this.#sealer?.settle();
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

  #save(change: () => Partial<StoredState>): Promise<void> {
    return this.#saving.run(async () => {
      const { through, lost } = this.destager;
      this.#state = { ...this.#state, destagedThrough: through, lost: [...lost], ...change() };
      await saveStoredState(this.#tools.disk, this.#ref, this.#state);
    });
  }
}
