import { z } from 'zod';
import type { SpaceLimit } from '../base/block-device.ts';
import { PHYSICAL_SIZES } from '../base/block-device.ts';
import type { BlockCount, ByteCount, Epoch, VersionNumber, WallMillis } from '../base/units.ts';
import type { InitiatorReport, TargetReport } from '../access/access-admin.ts';
import type { LunMap } from '../access/document.ts';
import type { AccessReport } from '../access/report.ts';
import type { ReservationReport } from '../scsi/reservations/report.ts';
import type { CloudMeter } from '../cloud/metered.ts';
import { ON_REMOTE_LOSS, REPLICATION_MODES, type OnRemoteLoss, type ReplicationMode } from '../cloud/version-log.ts';
import type { Standing } from '../volume/replication-control.ts';
import type { ReplicationState } from '../replication-standing.ts';
import type { UsageReport } from '../usage.ts';
import type { SalvageReport } from '../salvage/salvage-files.ts';
import type { TailOutcome } from '../salvage/commit-tail.ts';
import type { ProcessReport } from '../process-figures.ts';
import type { LimitReport } from '../rate-limits.ts';
import type { ReadCounts } from '../volume/read-path.ts';
import type { ScrubReport } from '../volume/scrubber.ts';
import type { CloudCircuits } from '../replication/replication-host.ts';
import type { FoldOutcome, VerifyReport, VersionSummary } from '../replication/remote-volume.ts';

/** Where a volume of this gateway stands. */
export type VolumeState = 'opening' | 'serving' | 'fenced' | 'stopped' | 'deleted';

export interface VolumeReport {
  readonly name: string;
  readonly id: string;
  readonly bytes: ByteCount;
  readonly sectorSize: 512 | 4096;
  /** When writes and flushes are acked. */
  readonly replication: ReplicationMode;
  /** How that stands; undefined while the volume is not open. */
  readonly acks: AcksReport | undefined;
  readonly target: string;
  /** The I/O thread that has it; 0 is the main one. */
  readonly thread: number;
  readonly state: VolumeState;
  /** One sentence when the state is not `serving`, or when it serves but nothing is replicated any more. */
  readonly reason: string | undefined;
  readonly epoch: Epoch;
  /** Newest committed version, and when it was committed; "replicated" means this and nothing else. */
  readonly committedN: VersionNumber;
  readonly committedAt: WallMillis | undefined;
  readonly lagSeconds: number;
  readonly lagBytes: ByteCount;
  /** undefined while the volume is not open. */
  readonly standing: StandingReport | undefined;
  /** The same. */
  readonly usage: UsageReport | undefined;
  readonly hydration:
    { readonly done: BlockCount; readonly total: BlockCount | undefined; readonly finished: boolean } | undefined;
  /** Of a volume with a raw image on site; undefined: it is cached. */
  readonly stored: StoredReport | undefined;
  /** The most that may be mapped, and how much is at most (undefined: not counted yet); undefined: there is no quota. */
  readonly quota: SpaceLimit | undefined;
  readonly sessions: number;
  /** undefined while the volume is not open. */
  readonly scrub: ScrubReport | undefined;
  /** The same. */
  readonly reads: ReadsReport | undefined;
  readonly access: VolumeAccessReport;
}

export interface AcksReport {
  readonly onRemoteLoss: OnRemoteLoss;
  readonly standing: Standing;
  /** For so long. */
  readonly seconds: number;
  /** Writes and flushes that wait for the cloud now. */
  readonly waiting: number;
}

/** How its replication stands, counted from committed versions alone. */
export interface StandingReport {
  readonly state: ReplicationState;
  /** The most that the loss of the site may cost, by age, and whether it would cost more now. */
  readonly rpoSeconds: number;
  readonly targetMissed: boolean;
  /** Until what lags now is in a version, at the pace of the last minute: 0 when nothing lags; undefined when nothing is committed. */
  readonly drainSeconds: number | undefined;
}

/** Blocks that were read since the volume was opened, by where they were; what share of them did not have to be fetched. */
export interface ReadsReport extends ReadCounts {
  /** 0 to 1; undefined: nothing was read. */
  readonly hitRatio: number | undefined;
  /** The same over the last ten minutes, or `seconds` when it was opened later. */
  readonly recent: ReadCounts & { readonly hitRatio: number | undefined; readonly seconds: number };
}

/** How far the image of a stored volume is. */
export interface StoredReport {
  readonly image: string;
  /** Written, and not in the image yet. */
  readonly backlogBytes: ByteCount;
  /** What the image has and no version, while it is made one; undefined when there is nothing. */
  readonly catchUp: CatchUpReport | undefined;
}

export interface CatchUpReport {
  /** `seed`: the image was there before the volume. `overflow`: the cache was full of what the cloud did not have. */
  readonly why: 'seed' | 'overflow';
  readonly since: WallMillis;
  /** Of so many bytes, in blocks that no version has, this many are still to be looked at; zeros are not uploaded. */
  readonly bytes: ByteCount;
  readonly openBytes: ByteCount;
  /** Uploaded since the start of the gateway. */
  readonly uploadedBytes: ByteCount;
}

/** Who may see the volume, in short; `farshore access report` has it in full. */
export interface VolumeAccessReport {
  /** `open`: every initiator on loopback portals; `unknown`: not read yet. */
  readonly mode: 'open' | 'mapped' | 'unknown';
  readonly maps: number;
  /** Whether what is in force here (maps, credentials, reservations) is in the table too, so that a restore brings it back; false when another gateway has the volume. */
  readonly inTable: boolean;
  readonly problem: string | undefined;
}

export interface GatewayReport {
  readonly gateway: string;
  readonly version: string;
  readonly stateDir: string;
  readonly portals: readonly string[];
  readonly startedAt: WallMillis;
  readonly cache: {
    readonly bytes: ByteCount;
    readonly usedBytes: ByteCount;
    readonly dirtyBytes: ByteCount;
    /** Memory of the index: where each cached block lies. */
    readonly indexBytes: ByteCount;
    readonly ramBytes: ByteCount;
    /** Since the start, in blocks: see docs/CACHE.md. */
    readonly counts: {
      readonly ramHits: number;
      readonly fills: number;
      readonly moved: number;
      readonly evicted: number;
      readonly reclaimedChunks: number;
      readonly readAhead: { readonly fetched: number; readonly used: number; readonly wasted: number };
    };
    /** How much of the cache can't be used before something is committed, 0 to 1: from ½ on writes are slowed, at 1 they are told BUSY. */
    readonly dirtyShare: number;
    /** If it goes on filling as in the last minute, 0 when it is full; undefined when it does not. */
    readonly secondsUntilFull: number | undefined;
    /** How long a write is held back now. */
    readonly writeDelayMs: number;
    /** Writes that are held back or wait for room now, and those that were told BUSY since the start. */
    readonly waitingWrites: number;
    readonly busyWrites: number;
    readonly state: string;
  };
  readonly cloud: {
    readonly reachable: boolean | undefined;
    readonly detail: string;
    readonly requests: Readonly<CloudMeter>;
    /** Whether requests to S3 and DynamoDB are made as they come, and since when and why not; undefined: it cannot be told now. */
    readonly circuits: CloudCircuits | undefined;
    /** What all volumes together may upload and download, and how many transfers wait for that. */
    readonly uploads: LimitReport & { readonly waiting: number };
    readonly downloads: LimitReport & { readonly waiting: number };
  };
  readonly access: {
    /** What keeps somebody out who should be let in, or cannot be recorded; one sentence each. */
    readonly problems: readonly string[];
  };
  /** undefined: no iSNS server is configured. */
  readonly isns: { readonly server: string; readonly state: string; readonly problem: string | undefined } | undefined;
  readonly volumes: readonly VolumeReport[];
  /** Writes that were acked here and are in no version, in files of their own. */
  readonly salvage: readonly SalvageReport[];
  /** Of all volumes that are open. */
  readonly reads: ReadsReport;
  readonly process: ProcessReport;
  /** Of each thread that owns volumes; absent where there is one. */
  readonly threads?: readonly ThreadReport[];
}

/** One thread that owns volumes. */
export interface ThreadReport {
  readonly thread: number;
  /** Names of its volumes. */
  readonly volumes: readonly string[];
  /** Both absent when it did not answer. */
  readonly cache?: GatewayReport['cache'];
  readonly process?: ProcessReport;
  /** Why there is nothing to tell of it. */
  readonly problem?: string;
}

/** A session as people see it; `id` is what `session kill` takes. */
export interface SessionReport {
  readonly id: number;
  readonly initiator: string;
  /** undefined: a discovery session. */
  readonly target: string | undefined;
  readonly peer: string;
  readonly portal: string;
  readonly authentication: 'none' | 'chap' | 'mutual-chap';
  readonly since: WallMillis;
  readonly outstandingTasks: number;
  /** Names of the volumes it sees. */
  readonly volumes: readonly string[];
}

/** One right that was given or taken. */
export interface MapReport extends LunMap {
  readonly volume: string;
}

/** A volume as the table has it, whether or not this gateway serves it. */
export interface CatalogueEntry {
  readonly name: string;
  readonly id: string;
  readonly bytes: ByteCount;
  /** The most that may be mapped. */
  readonly quotaBytes: ByteCount | undefined;
  readonly owner: string;
  readonly here: boolean;
  readonly state: VolumeState | 'elsewhere' | 'unowned';
  readonly purgeAfter: WallMillis | undefined;
  /** Whether all of it is on site too, in an image; undefined where this gateway does not serve it: only the one that does knows. */
  readonly kind: 'cached' | 'stored' | undefined;
  /** Of a stored one: the file or device. */
  readonly image: string | undefined;
}

export interface Finding {
  readonly check: string;
  readonly verdict: 'pass' | 'warn' | 'fail';
  /** What was seen and, unless it passed, how to mend it. */
  readonly detail: string;
}

/** Long work says how far it is; `total` is 0 while unknown. */
export interface Progress {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  readonly unit: 'bytes' | 'blocks' | 'versions' | 'steps';
}

const name = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/,
    'a volume name has 1 to 63 lower-case letters, digits, dots and hyphens, and begins and ends with a letter or digit',
  );
const volume = z.strictObject({ name });

const iscsiName = z
  .string()
  .regex(
    /^[^]{1,512}$/,
    'an iSCSI name has 1 to 223 bytes; write it like iqn.2026-11.com.example:host1, eui.02004567a425678d or naa.52004567ba64678d',
  );
/** Bytes of a secret, base64: it may be anything. */
const secret = z.string().max(1024);
const credential = { user: z.string().max(1024), secret };
const chap = z.strictObject({ ...credential, mutual: z.strictObject(credential).optional() });

/** As in the configuration. */
const RATE_PLAN = z.union([
  z.string().max(64),
  z.strictObject({
    default: z.string().max(64).optional(),
    schedule: z.record(z.string().max(64), z.string().max(64)).optional(),
  }),
]);

/** Versions that one listing shows at most. */
export const MAX_VERSIONS_LISTED = 10_000;

const salvageFile = z.string().min(1).max(512);
/** `file`: as it is listed, where a volume has several. `damaged`: records that do not fit their checksum are passed over, and told of. */
const salvaged = { name, file: salvageFile.optional(), damaged: z.boolean() };

/** What each operation takes; the server checks it, the command line is typed by it. */
export const ARGUMENTS = {
  /** `newInterval`: the figures of the process begin anew with this answer. */
  status: z.strictObject({ newInterval: z.literal(true).optional() }),
  'volume-create': z.strictObject({
    name,
    /** Left out with `seed`: as large as what is taken over. */
    bytes: z.number().int().positive().optional(),
    /** Absolute path of a raw image to be made on site, or of a block device, which holds the whole volume. */
    stored: z.string().min(1).max(4096).startsWith('/').optional(),
    /** What is in the image or on the device is taken over. */
    seed: z.literal(true).optional(),
    quotaBytes: z.number().int().positive().optional(),
    sectorSize: z.union([z.literal(512), z.literal(4096)]),
    physicalSize: z.literal(PHYSICAL_SIZES).optional(),
    removable: z.literal(true).optional(),
    replication: z.enum(REPLICATION_MODES),
    onRemoteLoss: z.enum(ON_REMOTE_LOSS).optional(),
    /** The I/O thread that is to have it; without it the one with the fewest. */
    thread: z.number().int().min(0).optional(),
  }),
  'volume-move': z.strictObject({ name, thread: z.number().int().min(0) }),
  'volume-list': z.strictObject({}),
  'volume-show': volume,
  'volume-delete': volume,
  'volume-undelete': volume,
  'volume-purge': z.strictObject({ name, confirm: z.string() }),
  flush: volume,
  /** Without `set` nothing is changed; `plan` as in the configuration (see parseRatePlan), until the next start; without one what is configured holds. */
  limit: z.strictObject({
    set: z.strictObject({ direction: z.enum(['upload', 'download']), plan: RATE_PLAN.optional() }).optional(),
  }),
  versions: z.strictObject({ name, limit: z.number().int().min(1).max(MAX_VERSIONS_LISTED) }),
  fold: volume,
  restore: z.strictObject({ name, version: z.number().int().min(0).optional() }),
  verify: volume,
  /** `now`: at full speed. */
  scrub: z.strictObject({
    name,
    sides: z
      .array(z.enum(['local', 'remote']))
      .min(1)
      .max(2),
    now: z.boolean(),
  }),
  doctor: z.strictObject({}),
  'volume-forget': volume,
  /** `to`: identity of the gateway that is to have it. */
  handover: z.strictObject({ name, to: z.string().max(64) }),
  'salvage-list': z.strictObject({}),
  /** `out`: absolute; `tailOnly`: without the version that the writes follow; `version`: that one. */
  'salvage-export': z.strictObject({
    ...salvaged,
    out: z.string().min(1).max(4096).startsWith('/'),
    tailOnly: z.boolean(),
    version: z.number().int().min(1).optional(),
  }),
  'salvage-import': z.strictObject({
    ...salvaged,
    as: name,
    version: z.number().int().min(1).optional(),
    thread: z.number().int().min(0).optional(),
  }),
  /** `confirm`: the name once more. */
  'salvage-remove': z.strictObject({ name, file: salvageFile.optional(), confirm: z.string() }),
  /** `force`: also to a smaller size. */
  'volume-resize': z.strictObject({ name, bytes: z.number().int().positive(), force: z.boolean() }),
  /** Without `bytes` it has none. */
  'volume-quota': z.strictObject({ name, bytes: z.number().int().positive().optional() }),
  'volume-set': z.strictObject({
    name,
    replication: z.enum(REPLICATION_MODES).optional(),
    onRemoteLoss: z.enum(ON_REMOTE_LOSS).optional(),
  }),
  'target-create': z.strictObject({ name: iscsiName }),
  'target-list': z.strictObject({}),
  'target-delete': z.strictObject({ name: iscsiName }),
  'initiator-add': z.strictObject({ initiator: iscsiName }),
  'initiator-list': z.strictObject({}),
  'initiator-remove': z.strictObject({ initiator: iscsiName }),
  /** Without `chap` the credential is cleared. */
  'initiator-chap': z.strictObject({ initiator: iscsiName, target: iscsiName.optional(), chap: chap.optional() }),
  'discovery-chap': z.strictObject({ initiator: iscsiName.optional(), chap: chap.optional() }),
  map: z.strictObject({
    name,
    initiator: iscsiName,
    target: iscsiName.optional(),
    lun: z.number().int().optional(),
    readOnly: z.boolean(),
    addresses: z.array(z.string().max(64)).max(64),
  }),
  unmap: z.strictObject({ name, initiator: iscsiName, target: iscsiName.optional() }),
  'session-list': z.strictObject({}),
  'session-kill': z.strictObject({ id: z.number().int().min(0).max(65_535) }),
  'reservation-list': volume,
  /** `discardUnreadable`: also when what was kept cannot be understood. */
  'reservation-clear': z.strictObject({ name, discardUnreadable: z.boolean() }),
  'access-report': z.strictObject({ name: name.optional(), initiator: iscsiName.optional() }),
  'access-key-export': z.strictObject({}),
  'access-key-import': z.strictObject({ key: z.string().max(8192) }),
} as const;

export type Operation = keyof typeof ARGUMENTS;
export type ArgumentsOf<Op extends Operation> = z.infer<(typeof ARGUMENTS)[Op]>;

/** A change that was made, and what may yet become of it; one sentence each. */
export interface Warned {
  readonly warnings?: readonly string[];
}

/** What became of salvaged writes. */
export interface SalvageOutcome extends Warned {
  readonly file: string;
  /** The version they follow; undefined: none was asked for. */
  readonly n: VersionNumber | undefined;
  /** undefined: an earlier call had done it already. */
  readonly tail: TailOutcome | undefined;
}

export interface Results {
  status: GatewayReport;
  'volume-create': VolumeReport;
  'volume-list': readonly CatalogueEntry[];
  'volume-show': VolumeReport;
  'volume-delete': { readonly purgeAfter: WallMillis };
  'volume-undelete': VolumeReport;
  'volume-purge': { readonly objects: number };
  flush: { readonly n: VersionNumber };
  limit: Readonly<Record<'upload' | 'download', LimitReport>>;
  versions: readonly VersionSummary[];
  fold: FoldOutcome;
  restore: VolumeReport;
  verify: VerifyReport;
  scrub: ScrubReport;
  doctor: readonly Finding[];
  'volume-forget': { readonly salvage: string | undefined };
  handover: VolumeReport;
  'salvage-list': readonly SalvageReport[];
  'salvage-export': SalvageOutcome & { readonly bytes: ByteCount };
  'salvage-import': SalvageOutcome & { readonly volume: VolumeReport };
  'salvage-remove': { readonly files: readonly string[] };
  'volume-resize': VolumeReport;
  'volume-quota': VolumeReport;
  'volume-set': VolumeReport;
  'volume-move': VolumeReport;
  'target-create': TargetReport;
  'target-list': readonly TargetReport[];
  'target-delete': { readonly name: string };
  'initiator-add': InitiatorReport & Warned;
  'initiator-list': readonly InitiatorReport[];
  'initiator-remove': { readonly initiator: string } & Warned;
  'initiator-chap': InitiatorReport & Warned;
  'discovery-chap': { readonly initiator: string | undefined } & Warned;
  map: MapReport & Warned;
  unmap: { readonly maps: readonly MapReport[] } & Warned;
  'session-list': readonly SessionReport[];
  'session-kill': {
    readonly id: number;
    /** Its commands that hang in a device, and may change the medium yet. */
    readonly unsettled: readonly { readonly lun: number; readonly command: string }[];
  };
  'reservation-list': ReservationReport;
  /** What there was. */
  'reservation-clear': ReservationReport;
  'access-report': AccessReport;
  'access-key-export': { readonly key: string };
  'access-key-import': { readonly ids: readonly string[] };
}

/** Who calls: what the caller says of itself, for the audit log. The socket is open to one user of the machine (and root) alone. */
export interface Caller {
  /** Like `cli:root`. */
  readonly by: string;
}

/** What the control socket offers: one method, typed per operation. Rejects with FarshoreError. */
export interface GatewayApi {
  call<Op extends Operation>(
    op: Op,
    args: ArgumentsOf<Op>,
    onProgress: (progress: Progress) => void,
    caller?: Caller,
  ): Promise<Results[Op]>;
}
