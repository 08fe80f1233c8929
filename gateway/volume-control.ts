import type { BlockDevice } from './base/block-device.ts';
import type { ByteCount, Epoch, VersionNumber } from './base/units.ts';
import type { VolumeItem } from './cloud/version-log.ts';
import type { RemoteVolume } from './replication/remote-volume.ts';
import type { Replication } from './volume/replication-control.ts';
import type { ScrubSide } from './volume/scrub-pass.ts';
import type { ScrubReport } from './volume/scrubber.ts';
import type { VolumeStatus } from './volume/volume-status.ts';
import type { Volume } from './volume/volume.ts';

export interface VolumeStanding extends VolumeStatus {
  /** Present size. */
  readonly bytes: ByteCount;
}

/** Where the initiators of an open volume find its device: in this thread, or in the I/O thread of this number, which knows it by the handle. */
export type VolumePlace = { readonly device: BlockDevice } | { readonly thread: number; readonly handle: number };

/**
 * What is asked of an open volume by whoever administers it, in whichever thread it lives: asynchronous throughout, plain data only, nothing on
 * the I/O path. Rejections are those of `Volume` and `RemoteVolume`.
 */
export interface VolumeControl {
  /** The volume item as it was taken over, and the epoch it is held under. */
  readonly item: VolumeItem;
  readonly epoch: Epoch;
  readonly place: VolumePlace;
  /** As last heard, so that nobody has to wait for it; `status` has what is so at this moment. */
  readonly state: VolumeStatus['state'];
  status(): Promise<VolumeStanding>;
  /** See Volume.flushRemote. */
  flushRemote(): Promise<{ readonly n: VersionNumber }>;
  /** See Volume.resize. */
  resize(bytes: ByteCount): Promise<void>;
  /** See Volume.setQuota. */
  setQuota(bytes: ByteCount | undefined): Promise<void>;
  /** See Volume.setReplication. */
  setReplication(replication: Replication): Promise<void>;
  /** See Volume.scrub; told with what is reported of the scrub so far. */
  scrub(
    sides: readonly ScrubSide[],
    fast: boolean,
    onProgress: (side: ScrubSide, report: ScrubReport) => void,
  ): Promise<ScrubReport>;
  /** Its remote half. */
  readonly remote: Pick<RemoteVolume, 'versions' | 'fold' | 'verify' | 'status'>;
  /**
   * See Volume.close. Idempotent; resolves also when the volume's thread is gone. Answers whether everything that was ever written is in a committed
   * version: nothing can be added any more. False when nobody knows.
   */
  close(): Promise<boolean>;
}

/** Of a volume that lives in this thread. */
export function directControl(volume: Volume, remote: VolumeControl['remote']): VolumeControl {
  return {
    item: volume.item,
    epoch: volume.status().epoch,
    place: { device: volume },
    get state() {
      return volume.status().state;
    },
    status: () => Promise.resolve({ ...volume.status(), bytes: volume.bytes }),
    flushRemote: async () => {
      const { n } = await volume.flushRemote();
      return { n };
    },
    resize: (bytes) => volume.resize(bytes),
    setQuota: (bytes) => {
      volume.setQuota(bytes);
      return Promise.resolve();
    },
    setReplication: async (replication) => {
      volume.setReplication(replication);
      return Promise.resolve();
    },
    scrub: (sides, fast, onProgress) =>
      volume.scrub(sides, fast, (side) => {
        onProgress(side, volume.status().scrub);
      }),
    remote: {
      versions: (limit) => remote.versions(limit),
      fold: () => remote.fold(),
      verify: () => remote.verify(),
      status: () => remote.status(),
    },
    close: async () => {
      await volume.close();
      return volume.isAllCommitted;
    },
  };
}
