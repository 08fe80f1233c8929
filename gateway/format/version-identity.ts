import { invariant } from '../base/errors.ts';
import type { ByteCount, Epoch, VersionNumber, WallMillis, WriteSeq } from '../base/units.ts';
import type { ByteReader, ByteWriter } from './bytes.ts';
import { damaged, textBytes } from './bytes.ts';
import { HASH_BYTES, ID_PATTERN, requireId } from './ids.ts';
import type { VersionRecord } from './version-record.ts';
import { chainAfter, EMPTY_CHAIN, splitRecords } from './version-record.ts';

/**
 * Records before a version that no object would tell of otherwise: one after the other, the last of them (at least) of this epoch, usually
 * the takeover that began it. Kept in the first payload of an epoch, so that a lost table can be rebuilt (docs/FORMAT.md says how).
 */
export interface TakeoverProof {
  /** Chain before the first of the records. */
  readonly previousChain: Buffer;
  /** One or more encoded records without a payload, of consecutive versions; at most MAX_TAKEOVER_BYTES. */
  readonly record: Buffer;
}

/** `moved`: made by maintenance of blocks that lay elsewhere; the payload of no version, so no record is made of it. */
export type PayloadOrigin = 'moved' | 'write' | 'resize' | 'restore';

/** What the payload of a version says about the version it is meant for; with the payload itself it gives the record. */
export interface VersionIdentity {
  readonly lineage: string;
  readonly volume: string;
  readonly epoch: Epoch;
  /** The version this payload is meant for; whether it became that version only the log (or a later chain) says. */
  readonly n: VersionNumber;
  readonly kind: PayloadOrigin;
  /** The chain before n, 32 bytes. */
  readonly previousChain: Buffer;
  readonly logId: string;
  readonly firstSeq: WriteSeq;
  readonly throughSeq: WriteSeq;
  readonly newestWriteAt: WallMillis;
  readonly sealedAt: WallMillis;
  readonly volumeBytes: ByteCount;
  readonly takeover?: TakeoverProof | undefined;
}

const FIXED_BYTES = 7 * 8 + 2 + 2 + 2 * HASH_BYTES;
/** Some 75 records: as many starts in a row of a gateway that writes nothing. */
export const MAX_TAKEOVER_BYTES = 12 * 1024;
export const MAX_IDENTITY_BYTES = FIXED_BYTES + 3 * 65 + MAX_TAKEOVER_BYTES;
const KIND_CODES: Readonly<Record<PayloadOrigin, number>> = { moved: 0, write: 1, resize: 3, restore: 6 };
const KIND_BY_CODE = new Map<number, PayloadOrigin>([
  [0, 'moved'],
  [1, 'write'],
  [3, 'resize'],
  [6, 'restore'],
]);

/** Bytes that writeIdentity writes. */
export function identityBytes(identity: VersionIdentity): number {
  const texts = textBytes(identity.lineage) + textBytes(identity.volume) + textBytes(identity.logId);
  return FIXED_BYTES + texts + (identity.takeover?.record.length ?? 0);
}

export function writeIdentity(writer: ByteWriter, identity: VersionIdentity): void {
  requireId(identity.lineage, 'lineage');
  requireId(identity.volume, 'volume');
  requireId(identity.logId, 'log identity');
  invariant(identity.n >= 1 && identity.epoch >= 1, 'versions and epochs count from 1');
  invariant(identity.previousChain.length === HASH_BYTES, 'a chain value is a SHA-256');
  invariant(identity.firstSeq <= identity.throughSeq, 'the first write of a version comes before its last');
  const { takeover } = identity;
  const problem = takeover === undefined ? undefined : takeoverProblem(identity, takeover);
  invariant(problem === undefined, `takeover: ${problem ?? ''}`);
  writer.u64(identity.n).u64(identity.epoch).u64(identity.firstSeq).u64(identity.throughSeq);
  writer.u64(identity.newestWriteAt).u64(identity.sealedAt).u64(identity.volumeBytes);
  writer.u16(KIND_CODES[identity.kind]).u16(takeover?.record.length ?? 0);
  writer.raw(identity.previousChain).raw(takeover?.previousChain ?? EMPTY_CHAIN);
  writer.text(identity.lineage).text(identity.volume).text(identity.logId);
  if (takeover !== undefined) writer.raw(takeover.record);
}

export function readIdentity(reader: ByteReader): VersionIdentity {
  const n = reader.u64('n');
  const epoch = reader.u64('epoch');
  const firstSeq = reader.u64('first write sequence');
  const throughSeq = reader.u64('last write sequence');
  const newestWriteAt = reader.u64('time of the newest write');
  const sealedAt = reader.u64('time of sealing');
  const volumeBytes = reader.u64('size of the volume');
  const kindCode = reader.u16('kind');
  const recordBytes = reader.u16('bytes of the takeover record');
  const previousChain = reader.copy(HASH_BYTES, 'previous chain');
  const takeoverChain = reader.copy(HASH_BYTES, 'chain before the takeover');
  const lineage = reader.text('lineage', ID_PATTERN);
  const volume = reader.text('volume', ID_PATTERN);
  const logId = reader.text('log identity', ID_PATTERN);
  reader.check(recordBytes <= MAX_TAKEOVER_BYTES, `${recordBytes} bytes of takeover`);
  const record = reader.copy(recordBytes, 'takeover record');
  reader.check(n >= 1 && epoch >= 1, `n ${n} and epoch ${epoch} count from 1`);
  reader.check(firstSeq <= throughSeq, `writes ${firstSeq} to ${throughSeq}`);
  const kind = KIND_BY_CODE.get(kindCode);
  if (kind === undefined) throw damaged(reader.what, `unknown kind ${kindCode}`);
  const takeover = recordBytes === 0 ? undefined : { previousChain: takeoverChain, record };
  reader.check(takeover !== undefined || takeoverChain.equals(EMPTY_CHAIN), 'a chain before no takeover');
  const identity: VersionIdentity = {
    lineage,
    volume,
    epoch,
    n,
    kind,
    previousChain,
    logId,
    firstSeq,
    throughSeq,
    newestWriteAt,
    sealedAt,
    volumeBytes,
    takeover,
  };
  const problem = takeover === undefined ? undefined : takeoverProblem(identity, takeover);
  reader.check(problem === undefined, problem ?? '');
  return identity;
}

/** Why the records cannot be what came before the version; undefined when they can. */
function takeoverProblem(identity: VersionIdentity, takeover: TakeoverProof): string | undefined {
  if (takeover.previousChain.length !== HASH_BYTES) return 'a chain value is a SHA-256';
  if (takeover.record.length > MAX_TAKEOVER_BYTES) return `${takeover.record.length} bytes of takeover`;
  let chain = takeover.previousChain;
  let last: VersionRecord | undefined;
  for (const { bytes, record } of splitRecords(takeover.record)) {
    if (record.volume !== identity.volume) return 'a record of another volume before the version';
    if (record.payload.kind !== 'none') return `version ${record.n} before it has a payload`;
    if (last !== undefined && (record.n !== last.n + 1 || record.epoch < last.epoch)) {
      return `version ${record.n} of epoch ${record.epoch} after version ${last.n} of epoch ${last.epoch}`;
    }
    chain = chainAfter(chain, bytes);
    last = record;
  }
  if (last?.epoch !== identity.epoch) return 'the takeover began another epoch';
  if (last.n >= identity.n) return 'the takeover comes after its version';
  if (last.n === identity.n - 1 && !chain.equals(identity.previousChain))
    return 'the chain after the takeover is another';
  return undefined;
}

/** What the record of a version takes from its payload's version part. A `moved` payload has none: `damaged`. */
export function recordFields(
  version: VersionIdentity,
): Pick<
  VersionRecord,
  'volume' | 'n' | 'epoch' | 'kind' | 'logId' | 'throughSeq' | 'newestWriteAt' | 'sealedAt' | 'volumeBytes'
> {
  const { volume, n, epoch, kind, logId, throughSeq, newestWriteAt, sealedAt, volumeBytes } = version;
  if (kind === 'moved') throw damaged('payload', 'it was made by maintenance and is that of no version');
  return { volume, n, epoch, kind, logId, throughSeq, newestWriteAt, sealedAt, volumeBytes };
}
