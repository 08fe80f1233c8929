import type { GatewayReport } from '../admin/gateway-api.ts';
import type { ByteCount } from '../base/units.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { ProcessReport } from '../process-figures.ts';
import type { OpenVolume } from '../served-volume.ts';
import type { SessionsControl } from '../sessions-control.ts';
import type { ImageRequest, PreparedImage } from '../volume/stored/prepare-image.ts';

/** What the cache log of one thread tells of itself. */
export interface CacheFigures {
  readonly report: GatewayReport['cache'];
  /** What its files have of the disk. */
  readonly allocatedBytes: ByteCount;
}

/**
 * A thread that owns volumes, as the main thread asks it: the volumes, their cache log and part of the state directory, and the sessions that reach
 * them. The main thread is one itself (number 0, `ioHere`); the others are asked by messages (`ioProxy`).
 */
export interface IoThread extends SessionsControl {
  readonly number: number;
  readonly openVolume: OpenVolume;
  /** Makes the image of a volume that is about to be created in this thread (see prepareImage). */
  prepareImage(ref: VolumeRef, request: ImageRequest): Promise<PreparedImage>;
  /** Those of the volumes (by identifier) whose blocks are in the thread's cache log, open or not. */
  keeps(volumes: readonly string[]): Promise<readonly string[]>;
  /** Forgets what the thread keeps of a volume that is closed: gone for ever, or another thread's now. Nothing, when it keeps nothing. */
  forgetVolume(ref: VolumeRef): Promise<void>;
  /** The same for a volume that another gateway has; what may be in no version is kept first. Resolves with where, undefined when there was nothing. */
  surrenderVolume(ref: VolumeRef): Promise<string | undefined>;
  /** Copies that into a salvage file, and gives nothing up (see copyTail). */
  copyTail(ref: VolumeRef): Promise<string | undefined>;
  cache(): Promise<CacheFigures>;
  /** What the thread has cost itself; `newInterval`: its figures begin anew. */
  figures(newInterval: boolean): Promise<ProcessReport>;
}

/** Most threads of a gateway, the main one included. */
export const MAX_THREADS = 16;
