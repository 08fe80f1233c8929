import { z } from 'zod';
import { decodeChecked, encodeChecked } from '../base/checked-json.ts';
import { readWhole, replaceFile, type Disk } from '../base/disk.ts';
import { invariant } from '../base/errors.ts';
import { KIB, type BlockCount, type BlockNumber, type WallMillis } from '../base/units.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import { STATE_DIRECTORY } from './state-file.ts';

export const SCRUB_SIDES = ['local', 'remote'] as const;
/** The cache log of this gateway, or what S3 has of the newest version. */
export type ScrubSide = (typeof SCRUB_SIDES)[number];

/** Ranges told of at most; the first ones say enough. */
const MAX_RANGES = 64;
const MAX_STATE_BYTES = 64 * KIB;

const count = z.number().int().nonnegative();
const passSchema = z.strictObject({
  startedAt: z.number(),
  finishedAt: z.number().nullable(),
  // Absent in what the first release wrote.
  completedBefore: z.number().nullable().default(null),
  position: count,
  checked: count,
  found: count,
  repaired: count,
  unrepairable: count,
  ranges: z.array(z.strictObject({ first: count, count })).max(MAX_RANGES),
});
const schema = z.strictObject({
  format: z.literal(1),
  local: passSchema.nullable(),
  remote: passSchema.nullable(),
});

/** One walk over a side, finished or not, and what it found. */
export interface ScrubPass {
  readonly startedAt: WallMillis;
  readonly finishedAt: WallMillis | null;
  /** End of the last pass before this one that came to its end. */
  readonly completedBefore: WallMillis | null;
  /** Blocks below it have been looked at. */
  readonly position: BlockNumber;
  readonly checked: BlockCount;
  /** Damaged blocks, and what became of them. */
  readonly found: BlockCount;
  readonly repaired: BlockCount;
  readonly unrepairable: BlockCount;
  /** Where the unrepairable ones are; the first of them. */
  readonly ranges: readonly { readonly first: BlockNumber; readonly count: BlockCount }[];
}

export interface ScrubState {
  readonly local: ScrubPass | null;
  readonly remote: ScrubPass | null;
}

/** `before`: the pass whose place it takes. */
export function newPass(now: WallMillis, before: ScrubPass | null = null): ScrubPass {
  return {
    startedAt: now,
    finishedAt: null,
    completedBefore: before === null ? null : lastCompleted(before),
    position: 0,
    checked: 0,
    found: 0,
    repaired: 0,
    unrepairable: 0,
    ranges: [],
  };
}

/** When the side was last walked from beginning to end. */
export function lastCompleted({ finishedAt, completedBefore }: ScrubPass): WallMillis | null {
  return finishedAt ?? completedBefore;
}

/** The pass with one more block that nothing could be done for. */
export function withUnrepairable(pass: ScrubPass, block: BlockNumber): ScrubPass {
  const unrepairable = pass.unrepairable + 1;
  const last = pass.ranges.at(-1);
  if (last !== undefined && last.first + last.count === block) {
    const grown = { first: last.first, count: last.count + 1 };
    return { ...pass, unrepairable, ranges: [...pass.ranges.slice(0, -1), grown] };
  }
  if (pass.ranges.length === MAX_RANGES) return { ...pass, unrepairable };
  return { ...pass, unrepairable, ranges: [...pass.ranges, { first: block, count: 1 }] };
}

/** What the last process has left of its passes; nothing when it cannot be read, which costs no more than a pass from the start. */
export async function loadScrubState(disk: Disk, ref: VolumeRef): Promise<ScrubState> {
  try {
    const content = await readWhole(disk, scrubPath(ref), MAX_STATE_BYTES);
    const parsed = schema.safeParse(decodeChecked(content ?? Buffer.alloc(0)));
    if (parsed.success) return { local: parsed.data.local, remote: parsed.data.remote };
  } catch {
    // As if there were none.
  }
  return { local: null, remote: null };
}

export async function saveScrubState(disk: Disk, ref: VolumeRef, { local, remote }: ScrubState): Promise<void> {
  const content: z.infer<typeof schema> = {
    format: 1,
    local: local && { ...local, ranges: [...local.ranges] },
    remote: remote && { ...remote, ranges: [...remote.ranges] },
  };
  await replaceFile(disk, scrubPath(ref), encodeChecked(content, 0));
}

/** Beside the state of the volume, and removed with it. */
export function scrubPath({ volume }: VolumeRef): string {
  invariant(/^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/.test(volume), 'a volume id is a file name');
  return `${STATE_DIRECTORY}/${volume}.scrub`;
}
