import { crc32 } from '../base/crc32.ts';
import { z } from 'zod';
import type { Random } from '../base/clock.ts';
import { replaceFile, type Disk, type DiskFile } from '../base/disk.ts';
import { FarshoreError, invariant, isKind } from '../base/errors.ts';
import { KIB, type WriteSeq } from '../base/units.ts';
import { CACHE_DIRECTORY } from './layout.ts';
import { Mutex } from './mutex.ts';

/** Volumes a pool can know at once, incarnations that wait for salvage included. */
export const MAX_POOL_VOLUMES = 1024;

const FILE = `${CACHE_DIRECTORY}/pool.state`;
const MAGIC = Buffer.from('FSPOOL01');
/** 1 had no cuts; no release ever wrote it. */
const FORMAT = 2 as const;
/** Two copies of a size for the largest content, allocated at creation, so that saving needs no space and never finds the disk full. */
const COPY_BYTES = 512 * KIB;
const PREFIX_BYTES = 20;

/** A descriptor has 16 bits for it. */
const MAX_NUMBER = 65_535;

const schema = z.strictObject({
  format: z.literal(FORMAT),
  poolId: z.string().regex(/^[0-9a-f]{32}$/),
  slots: z.number().int().positive(),
  lastNumber: z.number().int().min(0).max(MAX_NUMBER),
  volumes: z.array(
    z.strictObject({
      number: z.number().int().min(1).max(MAX_NUMBER),
      volume: z.string().min(1).max(100),
      forgetThrough: z.number().int().nonnegative(),
      reclaimedThrough: z.number().int().nonnegative(),
      committedThrough: z.number().int().nonnegative(),
      syncedThrough: z.number().int().nonnegative(),
      ends: z.array(
        z.strictObject({ beforeGeneration: z.number().int().positive(), lastSeq: z.number().int().nonnegative() }),
      ),
    }),
  ),
});

/** What the pool remembers of a volume beside its records. Each only rises. */
export interface VolumeMarks {
  /** Highest sequence of a write or unmap that was in a reclaimed chunk: clean records below it may be outdated. */
  readonly forgetThrough: WriteSeq;
  /** Highest sequence of a write or unmap that was in a reclaimed chunk: all up to it is committed, and may be gone. */
  readonly reclaimedThrough: WriteSeq;
  /** At least everything up to it is in a committed version; how far it really is, the remote knows. */
  readonly committedThrough: WriteSeq;
  /** At least everything up to it was on stable storage once; records claim more. */
  readonly syncedThrough: WriteSeq;
}

/**
 * The log of a volume was cut off here: in chunks of a lower generation, records with a key above `lastSeq` do not exist, whatever the disk
 * may show. Their descriptors are destroyed too, but only this is safe from a crash in between that leaves old sectors behind a page
 * cache that has the new ones.
 */
export interface LogEnd {
  readonly beforeGeneration: number;
  readonly lastSeq: WriteSeq;
}

/** Cuts of a volume that are remembered; more are not needed once the chunks from before them were gone through (`finishCuts`). */
export const MAX_ENDS = 4;

interface PoolVolume extends VolumeMarks {
  readonly volume: string;
  readonly ends: readonly LogEnd[];
}

const NO_MARKS: VolumeMarks = { forgetThrough: 0, reclaimedThrough: 0, committedThrough: 0, syncedThrough: 0 };
const MARKS = ['forgetThrough', 'reclaimedThrough', 'committedThrough', 'syncedThrough'] as const;

/** The pool's durable facts: its identity, which volume each number in the log stands for, and what was reclaimed of each. */
export class PoolState {
  readonly poolId: Buffer;
  readonly slots: number;
  readonly #file: DiskFile;
  readonly #volumes: Map<number, PoolVolume>;
  /** Cuts that stand for an earlier one too, whose process may have died before what it destroyed was durable. */
  readonly #heirs = new WeakSet<LogEnd>();
  readonly #saving = new Mutex();
  #sequence: number;
  /** Handed out last: the next one is higher, so that what a crash brings back of a released volume meets nobody for long. */
  #lastNumber: number;
  /** Changes made in memory, and how many of them are on stable storage, in one copy and in both. */
  #changes = 0;
  #savedOnce = 0;
  #savedTwice = 0;

  private constructor(file: DiskFile, content: z.infer<typeof schema>, sequence: number) {
    this.#file = file;
    this.#sequence = sequence;
    this.#lastNumber = content.lastNumber;
    this.poolId = Buffer.from(content.poolId, 'hex');
    this.slots = content.slots;
    this.#volumes = new Map(content.volumes.map(({ number, ...entry }) => [number, entry]));
  }

  /** Opens the state of an existing pool; undefined when there is none. Rejects with `damaged` when neither copy is whole. */
  static async open(disk: Disk): Promise<PoolState | undefined> {
    let file: DiskFile;
    try {
      file = await disk.open(FILE, 'write');
    } catch (error) {
      if (isKind(error, 'not-found')) return undefined;
      throw error;
    }
    const bytes = Buffer.alloc(2 * COPY_BYTES);
    const size = await file.size();
    if (size !== bytes.length) {
      await file.close();
      throw otherRelease(`has ${size} bytes, not ${bytes.length}`);
    }
    await file.read(bytes, 0);
    const copies = [decodeCopy(bytes.subarray(0, COPY_BYTES)), decodeCopy(bytes.subarray(COPY_BYTES))];
    const newest = copies.reduce((a, b) => (a === undefined || (b !== undefined && b.sequence > a.sequence) ? b : a));
    if (newest === undefined) {
      await file.close();
      throw new FarshoreError(
        'damaged',
        `${FILE} in the state directory is damaged in both of its copies; move the state directory aside and restore the volumes with --takeover`,
      );
    }
    const state = new PoolState(file, newest.content, newest.sequence);
    try {
      // The last process may have died between writing and syncing it: before anybody acts on what we read, it has to be durable.
      await state.#saveChange();
    } catch (error) {
      await file.close();
      throw error;
    }
    return state;
  }

  /** A new pool without volumes; durable when it resolves. */
  static async create(disk: Disk, random: Random, slots: number): Promise<PoolState> {
    const content = { format: FORMAT, poolId: random.bytes(16).toString('hex'), slots, lastNumber: 0, volumes: [] };
    const copy = encodeCopy(content, 0);
    const padding = Buffer.alloc(COPY_BYTES - copy.length);
    await replaceFile(disk, FILE, Buffer.concat([copy, padding, copy, padding]));
    return new PoolState(await disk.open(FILE, 'write'), content, 0);
  }

  marks(number: number): VolumeMarks {
    return this.#volumes.get(number) ?? NO_MARKS;
  }

  /** The highest key that records of the volume may have in a chunk of this generation. */
  keyLimit(number: number, generation: number): WriteSeq {
    const ends = this.#volumes.get(number)?.ends ?? [];
    return ends.reduce(
      (limit, { beforeGeneration, lastSeq }) => (generation < beforeGeneration ? Math.min(limit, lastSeq) : limit),
      Infinity,
    );
  }

  /**
   * Chunks are made ready with at least this generation, even when the one with the highest is gone: a cut must never reach what is written
   * after it.
   */
  get lowestNewGeneration(): number {
    let lowest = 1;
    for (const { ends } of this.#volumes.values())
      for (const { beforeGeneration } of ends) lowest = Math.max(lowest, beforeGeneration);
    return lowest;
  }

  /** Cuts the volume's log off; durable when it resolves. `lowestGeneration`: of the chunks there are, all durable. */
  async cutOff(number: number, end: LogEnd, lowestGeneration: number): Promise<void> {
    const entry = this.#volumes.get(number);
    invariant(entry !== undefined, 'only a registered volume has a log');
    const isNeeded = ({ beforeGeneration, lastSeq }: LogEnd): boolean =>
      beforeGeneration > lowestGeneration && (lastSeq < end.lastSeq || beforeGeneration > end.beforeGeneration);
    const ends = [...entry.ends.filter(isNeeded), end];
    // What an earlier process destroyed shows as zeros, so nobody looks for it again, and the platter may still have it: only the cut holds it back.
    if (entry.ends.some((each) => !isNeeded(each) && each.beforeGeneration > lowestGeneration)) this.#heirs.add(end);
    invariant(ends.length <= MAX_ENDS, 'earlier cuts were finished before there were too many');
    this.#volumes.set(number, { ...entry, ends });
    await this.#saveChange();
  }

  /** Cuts that are remembered of the volume. */
  cuts(number: number): number {
    return this.#volumes.get(number)?.ends.length ?? 0;
  }

  /** What lay behind all its cuts is destroyed, durably. */
  forgetEnds(number: number): void {
    const entry = this.#volumes.get(number);
    if (entry !== undefined) this.#volumes.set(number, { ...entry, ends: [] });
  }

  /**
   * What was found behind the cut is destroyed, durably: the cut need not be remembered, unless it stands for an earlier one too. It stays true, so it
   * goes with the next change that is saved.
   */
  forgetEnd(number: number, end: LogEnd): void {
    const entry = this.#volumes.get(number);
    if (entry !== undefined && !this.#heirs.has(end))
      this.#volumes.set(number, { ...entry, ends: entry.ends.filter((each) => each !== end) });
  }

  get registeredVolumes(): readonly string[] {
    return [...new Set([...this.#volumes.values()].map(({ volume }) => volume))];
  }

  isRegistered(number: number): boolean {
    return this.#volumes.has(number);
  }

  /** Every number that stands for the volume, ascending. */
  numbersOf(volume: string): number[] {
    return [...this.#volumes]
      .filter(([, entry]) => entry.volume === volume)
      .map(([number]) => number)
      .sort((a, b) => a - b);
  }

  /** Takes a number that `isPresent` finds nowhere in the log. `busy` when the pool has too many volumes. */
  async register(volume: string, isPresent: (number: number) => boolean): Promise<number> {
    if (this.#volumes.size >= MAX_POOL_VOLUMES) {
      throw new FarshoreError(
        'busy',
        `the cache already holds ${MAX_POOL_VOLUMES} volumes, salvage included; delete some`,
      );
    }
    let number = this.#lastNumber;
    for (let tried = 0; ; tried++) {
      invariant(tried < MAX_NUMBER, 'there are more numbers than volumes');
      number = (number % MAX_NUMBER) + 1;
      if (!this.#volumes.has(number) && !isPresent(number)) break;
    }
    this.#lastNumber = number;
    this.#volumes.set(number, { volume, ...NO_MARKS, ends: [] });
    await this.#saveChange();
    return number;
  }

  /** The volume's records are nobody's from now on. */
  async release(number: number): Promise<void> {
    if (this.#volumes.delete(number)) this.#changes++;
    await this.#saveAll();
  }

  /**
   * Raises marks, never lowers one; numbers that are not registered are left out. Nobody may act on marks that are saved only `once`: should
   * that copy be damaged, they are the old ones again.
   */
  async raiseMarks(
    raised: Iterable<readonly [number: number, marks: Partial<VolumeMarks>]>,
    copies: 'both' | 'once' = 'both',
  ): Promise<void> {
    for (const [number, marks] of raised) {
      const entry = this.#volumes.get(number);
      if (entry === undefined) continue;
      const next: Record<(typeof MARKS)[number], WriteSeq> & Pick<PoolVolume, 'volume' | 'ends'> = { ...entry };
      for (const mark of MARKS) next[mark] = Math.max(entry[mark], marks[mark] ?? 0);
      if (MARKS.every((mark) => next[mark] === entry[mark])) continue;
      this.#volumes.set(number, next);
      this.#changes++;
    }
    await this.#saveAll(copies);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #saveChange(): Promise<void> {
    this.#changes++;
    return this.#saveAll();
  }

  /**
   * Resolves when every change so far is durable, also one whose saving failed before: in both copies, one after the other, so that neither a
   * power cut nor a bit that flips takes it back. The older copy is overwritten first; whatever becomes of it, the other one is whole.
   * Rejects with `busy` or `stopped`.
   */
  #saveAll(copies: 'both' | 'once' = 'both'): Promise<void> {
    const isSaved = (changes: number): boolean => (copies === 'both' ? this.#savedTwice : this.#savedOnce) >= changes;
    const wanted = this.#changes;
    if (isSaved(wanted)) return Promise.resolve();
    return this.#saving.run(async () => {
      if (isSaved(wanted)) return;
      const changes = this.#changes;
      const sequence = this.#sequence + 1;
      const copy = encodeCopy(this.#content(), sequence);
      await this.#file.write([copy], (sequence % 2) * COPY_BYTES);
      await this.#file.sync();
      this.#sequence = sequence;
      this.#savedOnce = changes;
      const second = Promise.resolve(this.#file.write([copy], ((sequence + 1) % 2) * COPY_BYTES));
      // The next saving writes over it first, so where one copy is enough it need not be synced, nor succeed.
      if (copies === 'once') return second.catch(() => undefined);
      await second;
      await this.#file.sync();
      this.#savedTwice = changes;
    });
  }

  #content(): z.infer<typeof schema> {
    return {
      format: FORMAT,
      poolId: this.poolId.toString('hex'),
      slots: this.slots,
      lastNumber: this.#lastNumber,
      volumes: [...this.#volumes].map(([number, entry]) => ({ number, ...entry, ends: [...entry.ends] })),
    };
  }
}

function encodeCopy(content: z.infer<typeof schema>, sequence: number): Buffer {
  const body = Buffer.from(JSON.stringify(content));
  invariant(PREFIX_BYTES + body.length <= COPY_BYTES, 'the pool state fits its copy');
  const prefix = Buffer.alloc(PREFIX_BYTES);
  MAGIC.copy(prefix);
  prefix.writeUInt32LE(sequence, 8);
  prefix.writeUInt32LE(body.length, 12);
  prefix.writeUInt32LE(crc32(body, crc32(prefix.subarray(0, 16))), 16);
  return Buffer.concat([prefix, body]);
}

function decodeCopy(copy: Buffer): { content: z.infer<typeof schema>; sequence: number } | undefined {
  const length = copy.readUInt32LE(12);
  if (!copy.subarray(0, 8).equals(MAGIC) || PREFIX_BYTES + length > copy.length) return undefined;
  const body = copy.subarray(PREFIX_BYTES, PREFIX_BYTES + length);
  if (crc32(body, crc32(copy.subarray(0, 16))) !== copy.readUInt32LE(16)) return undefined;
  const parsed = schema.safeParse(JSON.parse(body.toString('utf8')));
  if (!parsed.success) throw otherRelease(`is not of format ${FORMAT}`);
  return { content: parsed.data, sequence: copy.readUInt32LE(8) };
}

function otherRelease(what: string): FarshoreError {
  return new FarshoreError(
    'damaged',
    `${FILE} in the state directory ${what}: another release of Farshore wrote it. Go on with that one, or move the state directory aside and restore the volumes with --takeover`,
  );
}
