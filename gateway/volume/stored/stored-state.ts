import { z } from 'zod';
import { encodeChecked } from '../../base/checked-json.ts';
import { parentOf, replaceFile, type Disk } from '../../base/disk.ts';
import { MIB, type BlockNumber, type ByteCount, type WallMillis, type WriteSeq } from '../../base/units.ts';
import type { VolumeRef } from '../../cloud/version-log.ts';
import { loadStateFile, STATE_DIRECTORY } from '../state-file.ts';

const MAX_BYTES = MIB;

/** Blocks whose content was lost before the image had it, remembered until they are written again. */
export const MAX_LOST_BLOCKS = 4096;

const schema = z.strictObject({
  format: z.literal(1),
  lineage: z.string(),
  volume: z.string(),
  path: z.string().min(1),
  bytes: z.number().int().positive(),
  resizeTo: z.number().int().positive().optional(),
  pool: z.string().min(1).nullable(),
  number: z.number().int().positive().nullable(),
  destagedThrough: z.number().int().nonnegative(),
  lost: z.array(z.number().int().nonnegative()).max(MAX_LOST_BLOCKS),
  /** Absent before a release could have any. */
  lastGeneration: z.number().int().nonnegative().optional(),
  changes: z
    .strictObject({
      generation: z.number().int().positive(),
      through: z.number().int().nonnegative(),
      isFull: z.boolean(),
      since: z.number().int().nonnegative(),
    })
    .nullable()
    .optional(),
  clean: z
    .strictObject({
      bytes: z.number().int().positive(),
      lastChange: z.string(),
      headCrc: z.number().int().nonnegative(),
    })
    .nullable(),
});

/** What an image looked like when it was closed: enough to notice that somebody else wrote to it. */
export interface CleanMark {
  readonly bytes: ByteCount;
  readonly lastChange: string;
  /** CRC-32 of its first 4 MiB, where file systems keep what changes when they are mounted. */
  readonly headCrc: number;
}

/** Blocks that the image has and no version, all together as of `through`. */
export interface ChangedSince {
  /** Pages and records of other generations do not count. */
  readonly generation: number;
  /** Everything up to this write is in a version, or its blocks are marked. 0 before the first start of a volume that is seeded. */
  readonly through: WriteSeq;
  /** The generation began with every block marked: the image was there before the volume. */
  readonly isFull: boolean;
  readonly since: WallMillis;
}

/** What this gateway knows of the image behind a stored volume: `volumes/<id>.image.json`, replaced atomically. */
export interface StoredState {
  readonly path: string;
  /** Size of the volume. */
  readonly bytes: ByteCount;
  /** The size that a resize under way is to give it. Whether it has, the versions say: the image has room for both. */
  readonly resizeTo?: ByteCount | undefined;
  /** The cache directory whose log the image belongs to: in another one the same number is another log. */
  readonly pool: string | undefined;
  /** The volume's number in that log. Both undefined before its first start. */
  readonly number: number | undefined;
  /** The image has, on stable storage, every write of that log up to this one that nothing newer has replaced. At least. */
  readonly destagedThrough: WriteSeq;
  /** Blocks that the image has an older content of than the volume had: they cannot be read. */
  readonly lost: readonly BlockNumber[];
  /** Of the marks, ever: the next one is higher. */
  readonly lastGeneration: number;
  /** undefined: what the log has dropped is in a version. */
  readonly changes: ChangedSince | undefined;
  /** Set by a clean stop, and gone before anything is written again. */
  readonly clean: CleanMark | undefined;
}

/** undefined for a volume without an image. Rejects with `damaged` when the file can't be understood. */
export async function loadStoredState(disk: Disk, ref: VolumeRef): Promise<StoredState | undefined> {
  const content = await loadStateFile(disk, pathOf(ref), MAX_BYTES, schema, ref);
  if (content === undefined) return undefined;
  const {
    path: image,
    bytes,
    resizeTo,
    pool,
    number,
    destagedThrough,
    lost,
    lastGeneration = 0,
    changes,
    clean,
  } = content;
  return {
    path: image,
    bytes,
    resizeTo,
    pool: pool ?? undefined,
    number: number ?? undefined,
    destagedThrough,
    lost,
    lastGeneration,
    changes: changes ?? undefined,
    clean: clean ?? undefined,
  };
}

/** Durable when it resolves. */
export async function saveStoredState(disk: Disk, ref: VolumeRef, state: StoredState): Promise<void> {
  const { lineage, volume } = ref;
  const { path, bytes, resizeTo, pool, number, destagedThrough, lost, lastGeneration, changes, clean } = state;
  const content: z.infer<typeof schema> = {
    format: 1,
    lineage,
    volume,
    path,
    bytes,
    ...(resizeTo === undefined ? {} : { resizeTo }),
    pool: pool ?? null,
    number: number ?? null,
    destagedThrough,
    lost: [...lost],
    lastGeneration,
    changes: changes === undefined ? null : { ...changes },
    clean: clean === undefined ? null : { ...clean },
  };
  await disk.makeDirectory(STATE_DIRECTORY);
  await disk.syncDirectory('');
  await replaceFile(disk, pathOf(ref), encodeChecked(content));
}

/** The volume has no image here any more; durable when it resolves. */
export async function removeStoredState(disk: Disk, ref: VolumeRef): Promise<void> {
  const path = pathOf(ref);
  await disk.makeDirectory(STATE_DIRECTORY);
  await disk.remove(path);
  await removeGenerations(disk, ref, undefined);
  await disk.syncDirectory(parentOf(path));
}

/** Removes the files of every generation of marks but the one to be kept. */
export async function removeGenerations(disk: Disk, ref: VolumeRef, keep: number | undefined): Promise<void> {
  const kept = keep === undefined ? [] : [marksPath(ref, keep), journalPath(ref, keep)];
  for (const name of await disk.list(STATE_DIRECTORY)) {
    const path = `${STATE_DIRECTORY}/${name}`;
    const isOurs = name.startsWith(`${ref.volume}.marks-`) || name.startsWith(`${ref.volume}.copies-`);
    if (isOurs && !kept.includes(path)) await disk.remove(path);
  }
}

/** Which blocks no version has: see MarkPages. */
export function marksPath({ volume }: VolumeRef, generation: number): string {
  return `${STATE_DIRECTORY}/${volume}.marks-${generation}`;
}

/** Which of those were copied: see CopyJournal. */
export function journalPath({ volume }: VolumeRef, generation: number): string {
  return `${STATE_DIRECTORY}/${volume}.copies-${generation}`;
}

function pathOf({ volume }: VolumeRef): string {
  return `${STATE_DIRECTORY}/${volume}.image.json`;
}
