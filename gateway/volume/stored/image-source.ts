import { describeError, FarshoreError, isKind } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber } from '../../base/units.ts';
import { LOST_BLOCK, type RemoteBlocks } from '../../replication/remote-volume.ts';
import type { BlockSource } from '../miss-reads.ts';
import type { Image } from './image.ts';

/**
 * Reads the image of a stored volume. What its disk can't read, or what it has an older content of, comes from the remote, unless no version has it
 * either: then it is lost, or to be had when the disk mends.
 */
export class ImageSource implements BlockSource {
  readonly #image: Image;
  readonly #remote: BlockSource;
  readonly #isMarked: (block: BlockNumber) => boolean;
  readonly #lost: ReadonlySet<BlockNumber>;
  readonly #diary: Log;

  /** `isMarked`: no version has what the image has of the block. */
  constructor(
    image: Image,
    remote: BlockSource,
    isMarked: (block: BlockNumber) => boolean,
    lost: ReadonlySet<BlockNumber>,
    diary: Log,
  ) {
    this.#image = image;
    this.#remote = remote;
    this.#isMarked = isMarked;
    this.#lost = lost;
    this.#diary = diary;
  }

  async read(block: BlockNumber, count: BlockCount): Promise<RemoteBlocks> {
    if (!this.#isLostAmong(block, count)) {
      try {
        const data = Buffer.allocUnsafe(count * BLOCK_SIZE);
        await this.#image.read(block, data);
        return { data, present: new Uint8Array(count).fill(1) };
      } catch (error) {
        if (!isKind(error, 'stopped')) throw error;
        this.#diary.warn({ block, count, reason: describeError(error) }, 'the image could not be read');
      }
    }
    const present = new Uint8Array(count);
    const pieces: Buffer[] = [];
    for (let at = 0; at < count; at++) {
      const found = await this.#readOne(block + at);
      present[at] = found.present[0] ?? 0;
      if (present[at] === 1) pieces.push(found.data.subarray(0, BLOCK_SIZE));
    }
    return { data: Buffer.concat(pieces), present };
  }

  hurry(block: BlockNumber, count: BlockCount): void {
    this.#remote.hurry(block, count);
  }

  async #readOne(block: BlockNumber): Promise<RemoteBlocks> {
    if (!this.#lost.has(block)) {
      try {
        const data = Buffer.allocUnsafe(BLOCK_SIZE);
        await this.#image.read(block, data);
        return { data, present: Uint8Array.of(1) };
      } catch (error) {
        if (!isKind(error, 'stopped')) throw error;
        if (this.#isMarked(block)) throw new FarshoreError('damaged', error.message, { cause: error });
      }
    } else if (this.#isMarked(block)) return { data: Buffer.alloc(0), present: Uint8Array.of(LOST_BLOCK) };
    return this.#remote.read(block, 1);
  }

  #isLostAmong(block: BlockNumber, count: BlockCount): boolean {
    if (this.#lost.size === 0) return false;
    for (let at = block; at < block + count; at++) if (this.#lost.has(at)) return true;
    return false;
  }
}
