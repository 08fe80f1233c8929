import type { Clock } from '../../gateway/base/clock.ts';
import type { Disk } from '../../gateway/base/disk.ts';
import type { ImageStore } from '../../gateway/base/image.ts';
import { BLOCK_SIZE } from '../../gateway/base/units.ts';
import { prepareImage } from '../../gateway/volume/stored/prepare-image.ts';
import { loadStoredState } from '../../gateway/volume/stored/stored-state.ts';
import { SECTORS_PER_BLOCK } from './areas.ts';
import { History, LOST, Violation } from './history.ts';
import { IMAGES, type SimDisk } from './sim-disk.ts';
import { SECTOR, type SimFile } from './sim-file.ts';
import type { SimGateway } from './sim-gateway.ts';
import { describeSector, readStamp, stampRange } from './stamp.ts';
import type { World } from './world.ts';

const IMAGE = `${IMAGES}disk.raw`;
/** Of the blocks of a seeded volume. */
const SEEDED_SHARE = 0.5;

/** The image of the volume of a world: on one disk and its copies, made before the first start there. */
export class SimImage {
  readonly #world: World;
  readonly #disk: SimDisk;
  #isMade = false;

  constructor(world: World, disk: SimDisk) {
    this.#world = world;
    this.#disk = disk;
  }

  /** What makes it, for a process that is started there before it is made. */
  maker(
    gateway: SimGateway,
    tools: { readonly disk: Disk; readonly images: ImageStore; readonly clock: Clock },
  ): (() => Promise<void>) | undefined {
    if (this.#isMade || gateway.disk !== this.#disk) return undefined;
    return async () => {
      // An attempt before may have made all of it.
      if (!this.#isMade && (await loadStoredState(tools.disk, this.#world.ref)) === undefined) await this.#make(tools);
      this.#isMade = true;
      gateway.line ??= this.#seed();
    };
  }

  async #make({
    disk,
    images,
    clock,
  }: {
    readonly disk: Disk;
    readonly images: ImageStore;
    readonly clock: Clock;
  }): Promise<void> {
    const { ref, plan } = this.#world;
    const bytes = plan.shape.blocks * BLOCK_SIZE;
    await disk.makeDirectory(IMAGES.slice(0, -1));
    await disk.syncDirectory('');
    await images.remove(IMAGE);
    const seed = plan.image === 'seeded';
    if (seed) await this.#fill(images, bytes);
    await prepareImage({ disk, images, clock }, ref, { path: IMAGE, bytes, seed });
  }

  async #fill(images: ImageStore, bytes: number): Promise<void> {
    await images.create(IMAGE, bytes);
    const file = await images.open(IMAGE);
    for (const [block, id] of this.#content) {
      const lba = block * SECTORS_PER_BLOCK;
      await file.write([stampRange(this.#world.volumeTag, lba, SECTORS_PER_BLOCK, id)], block * BLOCK_SIZE);
    }
    await file.sync();
    await file.close();
  }

  /** What the image had before the volume was made from it: the id of each block. */
  #drawn: ReadonlyMap<number, number> | undefined;

  get #content(): ReadonlyMap<number, number> {
    if (this.#drawn !== undefined) return this.#drawn;
    const random = this.#world.random.split('seeded image');
    const drawn = new Map<number, number>();
    for (const { firstBlock, blocks } of this.#world.shape.areas)
      for (let block = firstBlock; block < firstBlock + blocks; block++)
        if (random.chance(SEEDED_SHARE)) drawn.set(block, this.#world.nextWriteId());
    return (this.#drawn = drawn);
  }

  /** The line that a volume begins that is made from an image; undefined where it begins with nothing. */
  #seed(): History | undefined {
    if (this.#world.plan.image !== 'seeded') return undefined;
    const baseline = new Map<number, number>();
    for (const [block, id] of this.#content)
      for (let at = 0; at < SECTORS_PER_BLOCK; at++) baseline.set(block * SECTORS_PER_BLOCK + at, id);
    return new History('line of the image', baseline);
  }
}

/** There was one in this world, and this disk does not go on with it (any more). */
export function isWithoutImage(world: World, { disk }: SimGateway): boolean {
  return world.image !== undefined && disk.file(recordOf(world)) === undefined;
}

function recordOf({ ref }: World): string {
  return `volumes/${ref.volume}.image.json`;
}

/**
 * The volume was closed. If it has an image, and marked it as whole, that must be all that was answered; it must have marked it, too, where the stop was
 * `undisturbed`.
 */
export function checkImage(world: World, { disk, line, life }: SimGateway, undisturbed: boolean): void {
  const record = disk.file(recordOf(world));
  const image = disk.file(IMAGE);
  // It was let go, when the volume went on without it.
  if (record === undefined || image === undefined || line === undefined) return;
  const { clean, lost } = parsed(record);
  if (clean === null) {
    if (undisturbed) throw new Violation(`${life.name} was closed, and leaves an image that is not whole`);
    return;
  }
  world.counts.images++;
  const values = new Map<number, number>();
  for (const sector of world.sectors) {
    const bytes = Buffer.alloc(SECTOR);
    // Not what the page cache shows: a clean stop leaves it on the platter.
    if (!image.readDurable(bytes, sector * SECTOR)) throw new Violation(`the image of ${life.name} is too short`);
    const id = readStamp(world.volumeTag, sector, bytes);
    const isLost = world.mayLose && lost.includes(Math.floor(sector / SECTORS_PER_BLOCK));
    if (id === undefined && !isLost)
      throw new Violation(`the image of ${life.name} has ${describeSector(bytes)} in sector ${sector}`);
    values.set(sector, isLost ? LOST : (id ?? 0));
  }
  line.matchPrefix(
    `the image of ${life.name} after a clean stop`,
    world.sectors,
    (sector) => values.get(sector) ?? 0,
    (op) => op.ackedAt !== Infinity,
  );
}

function parsed(file: SimFile): { readonly clean: unknown; readonly lost: readonly number[] } {
  const bytes = Buffer.alloc(file.size);
  if (!file.read(bytes, 0)) throw new Violation('the record of the image is too short');
  return JSON.parse(bytes.toString()) as { readonly clean: unknown; readonly lost: readonly number[] };
}
