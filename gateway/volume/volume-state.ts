import { z } from 'zod';
import { encodeChecked } from '../base/checked-json.ts';
import { parentOf, replaceFile, type Disk } from '../base/disk.ts';
import { invariant } from '../base/errors.ts';
import { KIB, type Epoch, type WriteSeq } from '../base/units.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { LogOrigin } from '../replication/remote-volume.ts';
import { scrubPath } from './scrub-pass.ts';
import { loadStateFile, STATE_DIRECTORY } from './state-file.ts';

const MAX_BYTES = 64 * KIB;
const VOLUME_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/;

const origin = z.strictObject({
  epoch: z.number().int().nonnegative(),
  logId: z.string(),
  throughSeq: z.number().int().nonnegative(),
});

const schema = z.strictObject({
  format: z.literal(1),
  lineage: z.string(),
  volume: z.string(),
  localNumber: z.number().int().positive(),
  firstSeq: z.number().int().positive(),
  logId: z.string().min(1),
  epoch: z.number().int().nonnegative(),
  base: origin.nullable(),
  endsAt: z.number().int().nonnegative().optional(),
});

/** What a gateway remembers of a volume it serves, beside the cache log: `volumes/<id>.json`, replaced atomically at each open. */
export interface VolumeState {
  /** Stands for the volume in the cache log. */
  readonly localNumber: number;
  /** The first sequence the number ever had. */
  readonly firstSeq: WriteSeq;
  /** Identity of the log since the last open. */
  readonly logId: string;
  readonly epoch: Epoch;
  /** The remote's newest data at the last open. */
  readonly base: LogOrigin | undefined;
  /** Writes of the log behind it were answered as failed after a takeover: they are never part of the volume. */
  readonly endsAt?: WriteSeq | undefined;
}

/** undefined when the gateway has never opened the volume. Rejects with `damaged` when the file can't be understood. */
export async function loadVolumeState(disk: Disk, ref: VolumeRef): Promise<VolumeState | undefined> {
  const content = await loadStateFile(disk, pathOf(ref), MAX_BYTES, schema, ref);
  if (content === undefined) return undefined;
  const { localNumber, firstSeq, logId, epoch, base, endsAt } = content;
  return { localNumber, firstSeq, logId, epoch, base: base ?? undefined, endsAt };
}

/** Notes that the log of the open of this epoch ends at `through` (see VolumeState.endsAt); durable when it resolves. A later open's is left alone. */
export async function endVolumeLog(disk: Disk, ref: VolumeRef, epoch: Epoch, through: WriteSeq): Promise<void> {
  const state = await loadVolumeState(disk, ref);
  if (state?.epoch === epoch) await saveVolumeState(disk, ref, { ...state, endsAt: through });
}

/** Durable when it resolves. */
export async function saveVolumeState(disk: Disk, ref: VolumeRef, state: VolumeState): Promise<void> {
  const path = pathOf(ref);
  await disk.makeDirectory(STATE_DIRECTORY);
  await disk.syncDirectory('');
  const { lineage, volume } = ref;
  const { base, endsAt, ...rest } = state;
  const ending = endsAt === undefined ? {} : { endsAt };
  const content: z.infer<typeof schema> = { format: 1, lineage, volume, ...rest, base: base ?? null, ...ending };
  await replaceFile(disk, path, encodeChecked(content));
}

/** Forgets the volume; durable when it resolves. */
export async function removeVolumeState(disk: Disk, ref: VolumeRef): Promise<void> {
  const path = pathOf(ref);
  await disk.makeDirectory(STATE_DIRECTORY);
  await disk.remove(path);
  await disk.remove(scrubPath(ref));
  await disk.syncDirectory(parentOf(path));
}

function pathOf({ volume }: VolumeRef): string {
  invariant(VOLUME_ID.test(volume), 'a volume id is a file name');
  return `${STATE_DIRECTORY}/${volume}.json`;
}
