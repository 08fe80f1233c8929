import { FarshoreError } from '../base/errors.ts';
import type { VersionLog, VolumeRef } from '../cloud/version-log.ts';
import type { TakeoverProof } from '../format/version-identity.ts';
import { MAX_TAKEOVER_BYTES } from '../format/version-identity.ts';
import type { TailRecord } from '../maintenance/walk.ts';
import type { VersionWriter } from './version-writer.ts';

/** The versions at the end of a log that have no payload, so that no object tells of them. */
export interface SilentEnd {
  /** Before the first of them. */
  readonly previousChain: Buffer;
  readonly versions: readonly { readonly record: Buffer; readonly chain: Buffer }[];
}

/** `baseChain` is the chain before the first of `tail`. */
export function silentEnd(tail: readonly TailRecord[], baseChain: Buffer): SilentEnd {
  const spoken = tail.findLastIndex(({ record }) => record.payload.kind !== 'none');
  const versions = tail.slice(spoken + 1).map(({ item: { record, chain } }) => ({ record, chain }));
  return { previousChain: tail[spoken]?.item.chain ?? baseChain, versions };
}

/**
 * What the first payload of an epoch says of the records before it, so that a lost table can be rebuilt: the silent end of the log that was
 * taken over and the takeover itself, as far back as there is room. Reads the takeover record from the table; rejects with `retry`.
 */
export async function readTakeoverProof(
  log: VersionLog,
  ref: VolumeRef,
  writer: VersionWriter,
  { previousChain, versions }: SilentEnd,
): Promise<TakeoverProof> {
  const own = await log.getVersion(ref.volume, writer.takeoverN);
  if (own?.epoch !== writer.epoch)
    throw new FarshoreError('retry', `version ${writer.takeoverN} could not be read back`);
  const records = [...versions.map(({ record }) => record), own.record];
  let bytes = 0;
  // Index of the first record for which there is room.
  const first = records.findLastIndex((record) => (bytes += record.length) > MAX_TAKEOVER_BYTES) + 1;
  return { previousChain: versions[first - 1]?.chain ?? previousChain, record: Buffer.concat(records.slice(first)) };
}
