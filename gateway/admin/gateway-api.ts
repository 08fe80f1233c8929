import { z } from 'zod';
import type { BlockCount, ByteCount, Epoch, VersionNumber, WallMillis } from '../base/units.ts';
import type { CloudMeter } from '../cloud/metered.ts';
import type { ReplicationMode } from '../cloud/version-log.ts';
import type { FoldOutcome, VerifyReport, VersionSummary } from '../replication/remote-volume.ts';

/** Where a volume of this gateway stands. */
export type VolumeState = 'opening' | 'serving' | 'fenced' | 'stopped' | 'deleted';

export interface VolumeReport {
  readonly name: string;
  readonly id: string;
  readonly bytes: ByteCount;
  readonly sectorSize: 512 | 4096;
  readonly replication: ReplicationMode;
  readonly target: string;
  readonly state: VolumeState;
  /** One sentence when the state is not `serving`, or when it serves but nothing is replicated any more. */
  readonly reason: string | undefined;
  readonly epoch: Epoch;
  /** Newest committed version, and when it was committed; "replicated" means this and nothing else. */
  readonly committedN: VersionNumber;
  readonly committedAt: WallMillis | undefined;
  readonly lagSeconds: number;
  readonly lagBytes: ByteCount;
  readonly hydration:
    { readonly done: BlockCount; readonly total: BlockCount | undefined; readonly finished: boolean } | undefined;
  readonly sessions: number;
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
    readonly state: string;
  };
  readonly cloud: {
    readonly reachable: boolean | undefined;
    readonly detail: string;
    readonly requests: Readonly<CloudMeter>;
  };
  readonly volumes: readonly VolumeReport[];
}

/** A volume as the table has it, whether or not this gateway serves it. */
export interface CatalogueEntry {
  readonly name: string;
  readonly id: string;
  readonly bytes: ByteCount;
  readonly owner: string;
  readonly here: boolean;
  readonly state: VolumeState | 'elsewhere' | 'unowned';
  readonly purgeAfter: WallMillis | undefined;
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

/** Versions that one listing shows at most. */
export const MAX_VERSIONS_LISTED = 10_000;

/** What each operation takes; the server checks it, the command line is typed by it. */
export const ARGUMENTS = {
  status: z.strictObject({}),
  'volume-create': z.strictObject({
    name,
    bytes: z.number().int().positive(),
    sectorSize: z.union([z.literal(512), z.literal(4096)]),
    replication: z.enum(['async', 'flush', 'sync']),
  }),
  'volume-list': z.strictObject({}),
  'volume-show': volume,
  'volume-delete': volume,
  'volume-undelete': volume,
  'volume-purge': z.strictObject({ name, confirm: z.string() }),
  flush: volume,
  versions: z.strictObject({ name, limit: z.number().int().min(1).max(MAX_VERSIONS_LISTED) }),
  fold: volume,
  restore: z.strictObject({ name, version: z.number().int().min(0).optional() }),
  verify: volume,
  doctor: z.strictObject({}),
} as const;

export type Operation = keyof typeof ARGUMENTS;
export type ArgumentsOf<Op extends Operation> = z.infer<(typeof ARGUMENTS)[Op]>;

export interface Results {
  status: GatewayReport;
  'volume-create': VolumeReport;
  'volume-list': readonly CatalogueEntry[];
  'volume-show': VolumeReport;
  'volume-delete': { readonly purgeAfter: WallMillis };
  'volume-undelete': VolumeReport;
  'volume-purge': { readonly objects: number };
  flush: { readonly n: VersionNumber };
  versions: readonly VersionSummary[];
  fold: FoldOutcome;
  restore: VolumeReport;
  verify: VerifyReport;
  doctor: readonly Finding[];
}

/** What the control socket offers: one method, typed per operation. Rejects with FarshoreError. */
export interface GatewayApi {
  call<Op extends Operation>(
    op: Op,
    args: ArgumentsOf<Op>,
    onProgress: (progress: Progress) => void,
  ): Promise<Results[Op]>;
}
