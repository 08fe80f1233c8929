import type { Clock } from '../../gateway/base/clock.ts';
import type { Disk } from '../../gateway/base/disk.ts';
import type { ImageStore } from '../../gateway/base/image.ts';
import type { BlockCount, ByteCount } from '../../gateway/base/units.ts';
import type { VolumeRef } from '../../gateway/cloud/version-log.ts';
import type { OpenedRemote } from '../../gateway/replication/remote-volume.ts';
import type { Replication, ReplicationReport } from '../../gateway/volume/replication-control.ts';
import type { CloudFaults, CloudPorts } from './sim-cloud.ts';
import type { Life } from './sim-clock.ts';
import type { History } from './history.ts';
import type { SeenCount } from './quotas.ts';
import type { SimDisk } from './sim-disk.ts';
import type { SimRandom } from './sim-random.ts';
import type { Workload, WorkloadDevice } from './workload.ts';

/** What a process starts with. */
export interface ProcessParts {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: SimRandom;
  readonly cloud: CloudPorts;
  readonly gateway: string;
  readonly ref: VolumeRef;
  readonly takeover: boolean;
  readonly images: ImageStore;
  /** Makes the image that the volume is to have from its first start on; undefined where there is one, or is to be none. */
  readonly prepareImage: (() => Promise<void>) | undefined;
  /** Heard of as soon as the remote half is open. */
  readonly onOpened: (opened: OpenedRemote) => void;
}

/** The storage half of one gateway process, with one volume. */
export interface RunningVolume {
  readonly device: WorkloadDevice;
  readonly fold: () => Promise<unknown>;
  /** Blocks so far: moved on by reclaim, read ahead, fetched again because the cache did not have them where it should. */
  readonly figures: () => { readonly moved: number; readonly ahead: number; readonly repaired: number };
  /** What is none of it there when nobody is at work and everything is replicated. */
  readonly underWay: () => Readonly<Record<'waiting' | 'reserved' | 'ahead' | 'dirty' | 'inFlight', number>>;
  /** In the table first, then in force. Rejects as the table does. */
  readonly changeQuota: (bytes: ByteCount | undefined) => Promise<void>;
  readonly replication: () => ReplicationReport;
  /** As changeQuota. */
  readonly changeReplication: (replication: Replication) => Promise<void>;
  /** The newest count of mapped blocks that the remote has answered. */
  readonly seenCount: () => SeenCount | undefined;
  /** What the volume says is mapped; undefined: it has no quota, or does not know yet. */
  readonly countedBlocks: () => BlockCount | undefined;
  readonly close: () => Promise<void>;
}

/** Starts a process; what it gives opens the volume and may be called again after a failure. */
export type StartProcess = (parts: ProcessParts) => () => Promise<RunningVolume>;

/** How bad the end of the last process was for what it had answered. */
export type Severity = 'none' | 'process' | 'power' | 'damaged' | 'rolledBack';

const SEVERITIES: readonly Severity[] = ['none', 'process', 'power', 'damaged', 'rolledBack'];

export function worse(a: Severity, b: Severity): Severity {
  return SEVERITIES.indexOf(a) > SEVERITIES.indexOf(b) ? a : b;
}

export interface Snapshot {
  readonly disk: SimDisk;
  readonly line: History | undefined;
  readonly base: string;
}

/** A machine: its disk and network outlive its processes. */
export interface SimGateway {
  readonly name: string;
  readonly label: string;
  readonly faults: CloudFaults;
  readonly skewMs: number;
  disk: SimDisk;
  life: Life & { alive: boolean };
  starts: number;
  /** Its last start. */
  startedAtMs: number;
  state: 'down' | 'opening' | 'serving';
  running: RunningVolume | undefined;
  workload: Workload | undefined;
  epoch: number;
  /** What its disk belongs to; undefined for an empty one. */
  line: History | undefined;
  /** The last data of the log at its last opening: when nobody has written since, it resumes. */
  base: string;
  severity: Severity;
  snapshot: Snapshot | undefined;
}
