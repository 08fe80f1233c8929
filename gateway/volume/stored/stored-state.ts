import { z } from 'zod';
import { encodeChecked } from '../../base/checked-json.ts';
import { parentOf, replaceFile, type Disk } from '../../base/disk.ts';
import { MIB, type BlockNumber, type ByteCount, type WriteSeq } from '../../base/units.ts';
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
  pool: z.string().min(1).nullable(),
  number: z.number().int().positive().nullable(),
  destagedThrough: z.number().int().nonnegative(),
  lost: z.array(z.number().int().nonnegative()).max(MAX_LOST_BLOCKS),
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

/** What this gateway knows of the image behind a stored volume: `volumes/<id>.image.json`, replaced atomically. */
export interface StoredState {
  readonly path: string;
  /** Size of the volume. */
  readonly bytes: ByteCount;
  /** The cache directory whose log the image belongs to: in another one the same number is another log. */
  readonly pool: string | undefined;
  /** The volume's number in that log. Both undefined before its first start. */
  readonly number: number | undefined;
  /** The image has, on stable storage, every write of that log up to this one that nothing newer has replaced. At least. */
  readonly destagedThrough: WriteSeq;
  /** Blocks that the image has an older content of than the volume had: they cannot be read. */
  readonly lost: readonly BlockNumber[];
  /** Set by a clean stop, and gone before anything is written again. */
  readonly clean: CleanMark | undefined;
}

/** undefined for a volume without an image. Rejects with `damaged` when the file can't be understood. */
export async function loadStoredState(disk: Disk, ref: VolumeRef): Promise<StoredState | undefined> {
  const content = await loadStateFile(disk, pathOf(ref), MAX_BYTES, schema, ref);
  if (content === undefined) return undefined;
  const { path: image, bytes, pool, number, destagedThrough, lost, clean } = content;
  return {
    path: image,
    bytes,
    pool: pool ?? undefined,
    number: number ?? undefined,
    destagedThrough,
    lost,
    clean: clean ?? undefined,
  };
}

/** Durable when it resolves. */
export async function saveStoredState(disk: Disk, ref: VolumeRef, state: StoredState): Promise<void> {
  const { lineage, volume } = ref;
  const { path, bytes, pool, number, destagedThrough, lost, clean } = state;
  const content: z.infer<typeof schema> = {
    format: 1,
    lineage,
    volume,
    path,
    bytes,
    pool: pool ?? null,
    number: number ?? null,
    destagedThrough,
    lost: [...lost],
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
  await disk.syncDirectory(parentOf(path));
}

function pathOf({ volume }: VolumeRef): string {
  return `${STATE_DIRECTORY}/${volume}.image.json`;
}
