import { createHash } from 'node:crypto';
import { FarshoreError, assertNever } from '../base/errors.ts';
import type { VersionNumber } from '../base/units.ts';
import type { VersionItem, VersionLog, VolumeItem, VolumeRef } from '../cloud/version-log.ts';
import { EMPTY_CHAIN, chainAfter, decodeRecord } from '../format/version-record.ts';
import type { VersionRecord } from '../format/version-record.ts';
import { readerMachine } from './walk-machine.ts';
import type { LogEntry, LogPosition, ReaderFailure, ReaderStep, VolumeView } from './walk-machine.ts';

/** A version of the log: as stored, and decoded. */
export interface TailRecord {
  readonly item: VersionItem;
  readonly record: VersionRecord;
}

/** Receives a walk as it goes. Both are called without waiting: collect, and work afterwards. */
export interface WalkVisitor {
  /** A walk sets out from this item's checkpoint; forget all records of an earlier walk. Called at least once, first. */
  onRestart(item: VolumeItem): void;
  /** The next record of the history, from the checkpoint's n + 1 on without gaps. Not to be trusted before the walk as a whole has ended. */
  onRecord(tail: TailRecord): void;
}

export interface WalkOptions {
  /** End at this version; without it, at the tail. */
  readonly through?: VersionNumber;
}

export interface WalkResult {
  /** As read after the walk; its checkpoint is the one the walk set out from. */
  readonly item: VolumeItem;
  /** The last version walked (the checkpoint's, when nothing follows it). Below `through` when the log ends earlier. */
  readonly tail: { readonly n: VersionNumber; readonly epoch: number; readonly chain: Buffer };
}

/** Items asked for at a time. */
export const WALK_PAGE = 128;

/**
 * A reader's walk from the checkpoint along the log (rule 3): verifies epoch and chain, ends at the first gap, and reads the volume
 * item again afterwards; starts over if a takeover or a new checkpoint came between. Rejects with `not-found` (no such volume),
 * `retry` (never came to rest, or the table is away), `damaged`, `input` (`through` lies below the checkpoint).
 */
export async function walkLogInto(
  log: VersionLog,
  ref: VolumeRef,
  visitor: WalkVisitor,
  options: WalkOptions = {},
): Promise<WalkResult> {
  const machine = readerMachine(chainOfItem, options.through);
  let step: ReaderStep = machine.start;
  let item: VolumeItem | undefined;
  for (;;) {
    const { state } = step;
    switch (state.phase) {
      case 'looking':
      case 'checking': {
        item = await log.getVolume(ref);
        step = machine.next(state, { type: 'volume', view: item && viewOf(item) });
        if (step.state.phase === 'walking' && item) visitor.onRestart(item);
        break;
      }
      case 'walking': {
        const page = await log.listVersions(ref.volume, state.position.n + 1, WALK_PAGE);
        step = machine.next(state, { type: 'page', entries: page.map(entryOf) });
        const accepted = step.effects.find((effect) => effect.type === 'accepted');
        for (const taken of page.slice(0, accepted?.count ?? 0)) visitor.onRecord(tailRecord(ref, taken));
        break;
      }
      case 'done': {
        if (!item) throw new FarshoreError('bug', 'a walk ended without a volume item');
        const { n, epoch, chain } = state.position;
        return { item, tail: { n, epoch, chain: Buffer.from(chain, 'hex') } };
      }
      case 'failed':
        throw walkFailure(ref, state.why, state.why === 'behind' ? options.through : undefined);
      default:
        return assertNever(state);
    }
  }
}

/** As walkLogInto, all records in memory: bounded by when the log is folded (4,096 versions or 16 MiB of inline bytes). */
export async function walkLog(
  log: VersionLog,
  ref: VolumeRef,
  options: WalkOptions = {},
): Promise<WalkResult & { readonly records: readonly TailRecord[] }> {
  let records: TailRecord[] = [];
  const result = await walkLogInto(
    log,
    ref,
    {
      onRestart: () => {
        records = [];
      },
      onRecord: (tail) => {
        records.push(tail);
      },
    },
    options,
  );
  return { ...result, records };
}

/** The volume item as the machines see it. */
export function viewOf(item: VolumeItem): VolumeView {
  const { checkpoint } = item;
  const start: LogPosition = checkpoint
    ? { n: checkpoint.n, epoch: checkpoint.epoch, chain: checkpoint.chain.toString('hex') }
    : { n: 0, epoch: 0, chain: EMPTY_CHAIN.toString('hex') };
  return { epoch: item.epoch, owner: item.owner, floor: item.floor, checkpoint: start };
}

/** A stored version as the machines see it. */
export function entryOf(item: VersionItem): LogEntry<VersionItem> {
  return { n: item.n, epoch: item.epoch, chain: item.chain.toString('hex'), content: item };
}

/** The ChainRule over stored versions; `damaged` for a record of an unknown format. */
export function chainOfItem(previousChain: string, item: VersionItem): string {
  return chainAfter(Buffer.from(previousChain, 'hex'), item.record).toString('hex');
}

/** Decodes an item that lies in the history and checks what the chain does not cover; rejects with `damaged`. */
export function tailRecord(ref: VolumeRef, item: VersionItem): TailRecord {
  const record = decodeRecord(item.record);
  const damaged = (what: string): FarshoreError =>
    new FarshoreError('damaged', `version ${item.n} of volume ${ref.volume} is damaged in the table: ${what}`);
  if (record.volume !== ref.volume) throw damaged(`its record belongs to volume ${record.volume}`);
  if (record.n !== item.n || record.epoch !== item.epoch)
    throw damaged(`its record says version ${record.n} of epoch ${record.epoch}, the item epoch ${item.epoch}`);
  if (record.payload.kind === 'inline') {
    const digest = createHash('sha256').update(item.inline).digest();
    if (!digest.equals(record.payload.digest)) throw damaged('its inline bytes are not what its digest says');
  }
  return { item, record };
}

function walkFailure(ref: VolumeRef, why: ReaderFailure, through: VersionNumber | undefined): FarshoreError {
  switch (why) {
    case 'not-found':
      return new FarshoreError('not-found', `there is no volume ${ref.volume} in the table`);
    case 'unsettled':
      return new FarshoreError('retry', `the log of volume ${ref.volume} kept moving while it was read; try again`);
    case 'damaged':
      return new FarshoreError(
        'damaged',
        `the version log of volume ${ref.volume} holds a record that does not chain to the one before it`,
      );
    case 'behind':
      return new FarshoreError(
        'input',
        `version ${String(through)} of volume ${ref.volume} lies below its checkpoint and can no longer be walked to`,
      );
    default:
      return assertNever(why);
  }
}
