import type { z } from 'zod';
import { decodeChecked } from '../base/checked-json.ts';
import { readWhole, type Disk } from '../base/disk.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import type { ByteCount } from '../base/units.ts';
import type { VolumeRef } from '../cloud/version-log.ts';

/** Where the state directory keeps what it knows of each volume. */
export const STATE_DIRECTORY = 'volumes';

/**
 * A JSON file of the state directory that belongs to a volume; undefined when there is none. Rejects with `damaged` when it can't be understood, or is
 * another volume's.
 */
export async function loadStateFile<Content extends { readonly lineage: string; readonly volume: string }>(
  disk: Disk,
  path: string,
  mostBytes: ByteCount,
  schema: z.ZodType<Content>,
  ref: VolumeRef,
): Promise<Content | undefined> {
  // What the last process did may be visible and not durable yet; before anybody acts on it, it has to be.
  await disk.makeDirectory(STATE_DIRECTORY);
  await disk.syncDirectory(STATE_DIRECTORY);
  const content = await readWhole(disk, path, mostBytes);
  if (content === undefined) return undefined;
  let json: unknown;
  try {
    json = decodeChecked(content);
  } catch (error) {
    throw damaged(`${path} in the state directory is damaged (${describeError(error)})`, error);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success || parsed.data.volume !== ref.volume || parsed.data.lineage !== ref.lineage)
    throw damaged(`${path} in the state directory is not what this Farshore writes`);
  return parsed.data;
}

function damaged(what: string, cause?: unknown): FarshoreError {
  const remedy =
    'put it back from a copy made since the gateway last started, or restore the volume with --takeover to go on from the last version';
  return new FarshoreError('damaged', `${what}; ${remedy}`, { cause });
}
