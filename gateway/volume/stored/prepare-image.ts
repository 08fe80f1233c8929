import type { Clock } from '../../base/clock.ts';
import type { Disk } from '../../base/disk.ts';
import { FarshoreError, isKind } from '../../base/errors.ts';
import type { ImageFile, ImageStore } from '../../base/image.ts';
import { BLOCK_SIZE, GIB, MIB, type ByteCount } from '../../base/units.ts';
import type { VolumeRef } from '../../cloud/version-log.ts';
import { removeStoredState, saveStoredState } from './stored-state.ts';

export interface ImageRequest {
  /** Absolute path. */
  readonly path: string;
  readonly bytes: ByteCount;
  /** What is there is the volume; otherwise a file that does not exist yet is made, or a device without content taken. */
  readonly seed: boolean;
}

export interface PreparedImage {
  /** Nothing will come of the volume: what was made for it is taken back. What was there before stays. */
  undo(): Promise<void>;
}

export interface PrepareDeps {
  readonly disk: Disk;
  readonly images: ImageStore;
  readonly clock: Pick<Clock, 'now'>;
}

/** One version has all of it, and its map is made in memory: 1 TiB takes 400 MB for a moment. */
const MAX_SEED_BYTES: ByteCount = 2048 * GIB;

/** At its start and its end a device that has anything on it has something: partition tables, superblocks and their copies. */
const LOOKED_BYTES: ByteCount = 4 * MIB;

/**
 * Makes the image of a volume that is about to be created, or looks at the one there is, and notes it; the volume's first start takes it from there. Nothing
 * that exists is written to here. Rejects with `input`, `not-found`, `in-use`, `busy`, `stopped`.
 */
export async function prepareImage(
  { disk, images, clock }: PrepareDeps,
  ref: VolumeRef,
  request: ImageRequest,
): Promise<PreparedImage> {
  const { path, bytes } = request;
  const isMade = await makeOrExamine(images, request);
  // What a device that looks empty really has is found out by reading all of it: it is replicated like the content of any other image.
  const changes = isMade ? undefined : { generation: 1, through: 0, isFull: true, since: clock.now() };
  const state = {
    ...{
      path,
      bytes,
      pool: undefined,
      number: undefined,
      destagedThrough: 0,
      lost: [],
      lastGeneration: isMade ? 0 : 1,
      changes,
    },
    clean: undefined,
  };
  const undo = async (): Promise<void> => {
    await removeStoredState(disk, ref);
    if (isMade) await images.remove(path);
  };
  try {
    await saveStoredState(disk, ref, state);
  } catch (error) {
    await undo();
    throw error;
  }
  return { undo };
}

/** Size of the image or device that a volume is to be seeded from. Rejects as prepareImage. */
export async function sizeOfImage(images: ImageStore, path: string): Promise<ByteCount> {
  const file = await images.open(path);
  try {
    return await file.size();
  } finally {
    await file.close();
  }
}

/** Whether the image was made. */
async function makeOrExamine(images: ImageStore, { path, bytes, seed }: ImageRequest): Promise<boolean> {
  let file: ImageFile;
  try {
    file = await images.open(path);
  } catch (error) {
    if (seed || !isKind(error, 'not-found')) throw error;
    await images.create(path, bytes);
    return true;
  }
  try {
    if (seed) await examineSeed(file, path, bytes);
    else await examineDevice(file, path, bytes);
  } finally {
    await file.close();
  }
  return false;
}

async function examineSeed(file: ImageFile, path: string, bytes: ByteCount): Promise<void> {
  const size = await file.size();
  if (size % BLOCK_SIZE !== 0) {
    const whole = Math.ceil(size / BLOCK_SIZE) * BLOCK_SIZE;
    const remedy = file.isDevice
      ? 'use one whose size is a multiple of 4096'
      : `make it so, if what is on it does not mind zeros at its end: truncate -s ${whole} ${path}`;
    throw new FarshoreError(
      'input',
      `${path} has ${size} bytes, which is no whole number of 4096-byte blocks; ${remedy}`,
    );
  }
  if (size !== bytes)
    throw new FarshoreError(
      'input',
      `${path} has ${size} bytes, and a volume that takes it over has as many; leave --size out`,
    );
  if (size > MAX_SEED_BYTES) {
    throw new FarshoreError(
      'input',
      `${path} has ${size} bytes; at most ${MAX_SEED_BYTES} can be taken over in this release. Make a new volume, and copy onto it`,
    );
  }
}

async function examineDevice(file: ImageFile, path: string, bytes: ByteCount): Promise<void> {
  if (!file.isDevice) {
    throw new FarshoreError(
      'in-use',
      `${path} exists already; name a file that does not exist yet, or take over what is in it with --seed`,
    );
  }
  const size = await file.size();
  if (size < bytes)
    throw new FarshoreError('input', `the device ${path} has ${size} bytes, fewer than the ${bytes} of the volume`);
  if (bytes > MAX_SEED_BYTES)
    throw new FarshoreError(
      'input',
      `at most ${MAX_SEED_BYTES} bytes of a device can be used in this release; use a file`,
    );
  const looked = Math.min(bytes, LOOKED_BYTES);
  for (const from of [0, bytes - looked]) {
    const content = Buffer.alloc(looked);
    await file.read(content, from);
    if (content.every((byte) => byte === 0)) continue;
    throw new FarshoreError(
      'in-use',
      `the device ${path} has something on it; take it over with --seed, or wipe it first if nobody needs it any more: blkdiscard -z ${path}`,
    );
  }
}
