import { invariant } from '../base/errors.ts';
import type { ByteCount, Epoch, VersionNumber, WallMillis, WriteSeq } from '../base/units.ts';
import type { ByteReader, ByteWriter } from './bytes.ts';
import { textBytes } from './bytes.ts';
import { HASH_BYTES, ID_PATTERN, requireId } from './ids.ts';
import { decodeRecord, EMPTY_CHAIN, MAX_RECORD_BYTES } from './version-record.ts';

/** The takeover record that began an epoch, and the chain before it: what S3 could not tell otherwise, since it has no object. */
export interface TakeoverProof {
  readonly previousChain: Buffer;
  readonly record: Buffer;
}

/** What the payload of a version says about the version it is meant for; with the payload itself it gives the record. */
export interface VersionIdentity {
  readonly lineage: string;
  readonly volume: string;
  readonly epoch: Epoch;
  /** The version this payload is meant for; whether it became that version only the log (or a later chain) says. */
  readonly n: VersionNumber;
  readonly kind: 'write' | 'restore';
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
const KIND_CODES = { write: 1, restore: 6 } as const;

/** Bytes that writeIdentity writes. */
export function identityBytes(identity: VersionIdentity): number {
  const texts = textBytes(identity.lineage) + textBytes(identity.volume) + textBytes(identity.logId);
  return FIXED_BYTES + texts + (identity.takeover?.record.length ?? 0);
}

export const MAX_IDENTITY_BYTES = FIXED_BYTES + 3 * 65 + MAX_RECORD_BYTES;

export function writeIdentity(writer: ByteWriter, identity: VersionIdentity): void {
  requireId(identity.lineage, 'lineage');
  requireId(identity.volume, 'volume');
  requireId(identity.logId, 'log identity');
  invariant(identity.n >= 1 && identity.epoch >= 1, 'versions and epochs count from 1');
  invariant(identity.previousChain.length === HASH_BYTES, 'a chain value is a SHA-256');
  invariant(identity.firstSeq <= identity.throughSeq, 'the first write of a version comes before its last');
  const { takeover } = identity;
  writer.u64(identity.n).u64(identity.epoch).u64(identity.firstSeq).u64(identity.throughSeq);
  writer.u64(identity.newestWriteAt).u64(identity.sealedAt).u64(identity.volumeBytes);
  writer.u16(KIND_CODES[identity.kind]).u16(takeover?.record.length ?? 0);
  writer.raw(identity.previousChain).raw(takeover?.previousChain ?? EMPTY_CHAIN);
  writer.text(identity.lineage).text(identity.volume).text(identity.logId);
  if (takeover !== undefined) {
    requireOwnTakeover(identity, takeover, (condition, detail) => {
      invariant(condition, detail);
    });
    writer.raw(takeover.record);
  }
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
  const record = reader.copy(recordBytes, 'takeover record');
  reader.check(n >= 1 && epoch >= 1, `n ${n} and epoch ${epoch} count from 1`);
  reader.check(firstSeq <= throughSeq, `writes ${firstSeq} to ${throughSeq}`);
  reader.check(kindCode === KIND_CODES.write || kindCode === KIND_CODES.restore, `unknown kind ${kindCode}`);
  const kind = kindCode === KIND_CODES.write ? 'write' : 'restore';
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
  if (takeover !== undefined) {
    requireOwnTakeover(identity, takeover, (condition, detail) => {
      reader.check(condition, detail);
    });
  }
  return identity;
}

function requireOwnTakeover(
  identity: VersionIdentity,
  takeover: TakeoverProof,
  require: (condition: boolean, detail: string) => void,
): void {
  const record = decodeRecord(takeover.record);
  require(takeover.previousChain.length === HASH_BYTES, 'a chain value is a SHA-256');
  require(record.kind === 'takeover', 'the record named as takeover is one');
  require(record.volume === identity.volume && record.epoch === identity.epoch, 'the takeover began this epoch');
  require(record.n < identity.n, 'the takeover comes before its versions');
}
