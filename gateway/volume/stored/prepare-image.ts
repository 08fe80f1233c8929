import type { Disk } from '../../base/disk.ts';
import { FarshoreError, isKind } from '../../base/errors.ts';
import type { ImageStore } from '../../base/image.ts';
import type { ByteCount } from '../../base/units.ts';
import type { VolumeRef } from '../../cloud/version-log.ts';
import { removeStoredState, saveStoredState } from './stored-state.ts';

export interface ImageRequest {
  /** Absolute path of a file that does not exist yet. */
  readonly path: string;
  readonly bytes: ByteCount;
}

export interface PreparedImage {
  /** Nothing will come of the volume: what was made for it is taken back. */
  undo(): Promise<void>;
}

/**
 * Makes the image of a volume that is about to be created, and notes it; the volume's first start takes it from there. Rejects with `input`, `in-use`,
 * `busy`, `stopped`.
 */
export async function prepareImage(
  { disk, images }: { readonly disk: Disk; readonly images: ImageStore },
  ref: VolumeRef,
  { path, bytes }: ImageRequest,
): Promise<PreparedImage> {
  await make(images, path, bytes);
  const state = {
    path,
    bytes,
    pool: undefined,
    number: undefined,
    destagedThrough: 0,
    lost: [],
    clean: undefined,
  };
  const undo = async (): Promise<void> => {
    await removeStoredState(disk, ref);
    await images.remove(path);
  };
  try {
    await saveStoredState(disk, ref, state);
  } catch (error) {
    await undo();
    throw error;
  }
  return { undo };
}

async function make(images: ImageStore, path: string, bytes: ByteCount): Promise<void> {
  try {
    await images.create(path, bytes);
  } catch (error) {
    if (!isKind(error, 'in-use')) throw error;
    throw new FarshoreError(
      'in-use',
      `${path} exists already; name a file that does not exist yet: what is in an image or on a device cannot be taken over in this release`,
      { cause: error },
    );
  }
}
