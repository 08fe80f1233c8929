import { crc32 } from '../base/crc32.ts';
import { invariant } from '../base/errors.ts';
import type { BlockCount, ByteCount, Epoch, VersionNumber, WallMillis, WriteSeq } from '../base/units.ts';
import { GIB } from '../base/units.ts';
import { ByteReader, ByteWriter, damaged, textBytes } from './bytes.ts';
import type { Compression } from './compression.ts';
import { CODEC_CODES, codecFromCode } from './compression.ts';
import type { ObjectKind } from './envelope.ts';
import { ENVELOPE_BYTES, openWhole, sealEnvelope } from './envelope.ts';
import { HASH_BYTES, ID_PATTERN, LOG_ID_PATTERN, requireId } from './ids.ts';
import { MAX_SHARDS, SHARD_BLOCKS } from './run.ts';

/** A run of map changes; its key is runKey(lineage, volume, sequence, maintenanceEpoch). */
export interface CheckpointRun {
  readonly sequence: number;
  readonly maintenanceEpoch: number;
  readonly fromN: VersionNumber;
  readonly throughN: VersionNumber;
  readonly headerBytes: ByteCount;
  readonly objectBytes: ByteCount;
  /** Of the whole object. */
  readonly crc32: number;
}

/** The map of a shard; its key is shardKey(lineage, volume, shard, sequence, maintenanceEpoch). */
export interface CheckpointShard {
  readonly shard: number;
  readonly sequence: number;
  readonly maintenanceEpoch: number;
  /** The object holds the map as of this version: runs through it (throughN ≤ n) are in it and must not be applied again. */
  readonly n: VersionNumber;
  readonly mapped: BlockCount;
  readonly objectBytes: ByteCount;
  /** Of the whole object. */
  readonly crc32: number;
}

/** The map of a volume as of version n: shards, and over each of them the runs that end after its n, oldest first. */
export interface Checkpoint {
  readonly lineage: string;
  readonly volume: string;
  /** Rises by one with each checkpoint of the volume. */
  readonly sequence: number;
  readonly maintenanceEpoch: number;
  readonly n: VersionNumber;
  /** Of record n. */
  readonly epoch: Epoch;
  /** After record n. */
  readonly chain: Buffer;
  /** Size of the volume. */
  readonly bytes: ByteCount;
  /** Origin of the newest record of kind write or restore through n. */
  readonly lastData: { readonly epoch: Epoch; readonly logId: string; readonly throughSeq: WriteSeq } | undefined;
  /** Of record n, so that times never run backwards over a fold. */
  readonly newestWriteAt: WallMillis;
  readonly sealedAt: WallMillis;
  /** Ascending by version, not overlapping. */
  readonly runs: readonly CheckpointRun[];
  /** Ascending by shard; a shard that is not listed is unmapped but for runs. */
  readonly shards: readonly CheckpointShard[];
}

export const MAX_CHECKPOINT_RUNS = 16_384;
const RUN_BYTES = 44;
const SHARD_BYTES = 40;
/** sequence, maintenance epoch, n, epoch, bytes, newestWriteAt, sealedAt, lastData's epoch and sequence; runs, shards, codec; chain */
const FIXED_BYTES = 9 * 8 + 3 * 4 + HASH_BYTES;
const MAX_HEADER_BYTES = ENVELOPE_BYTES + FIXED_BYTES + 3 * 65;
const MAX_BODY_BYTES = MAX_CHECKPOINT_RUNS * RUN_BYTES + MAX_SHARDS * SHARD_BYTES;

const CHECKPOINT_KIND: ObjectKind = {
  what: 'checkpoint',
  magic: 'FSCP',
  maxHeaderBytes: MAX_HEADER_BYTES,
  maxObjectBytes: MAX_HEADER_BYTES + MAX_BODY_BYTES,
};
invariant(CHECKPOINT_KIND.maxObjectBytes < GIB, 'a checkpoint of the largest volume can be held in memory');

/** Disorder in the input is a `bug`. */
export function encodeCheckpoint(
  checkpoint: Checkpoint,
  compression: Compression,
): { readonly bytes: Buffer; readonly crc32: number } {
  const { lineage, volume, lastData } = checkpoint;
  requireId(lineage, 'lineage');
  requireId(volume, 'volume');
  if (lastData !== undefined) requireId(lastData.logId, 'log identity');
  const problem = checkpointProblem(checkpoint);
  invariant(problem === undefined, `checkpoint: ${problem ?? ''}`);
  const logId = lastData?.logId ?? '';
  const body = bodyBytes(checkpoint);
  const { codec, payload } = compression.compress(body);
  const writer = new ByteWriter(
    ENVELOPE_BYTES + FIXED_BYTES + textBytes(lineage) + textBytes(volume) + textBytes(logId),
  );
  writer.position = ENVELOPE_BYTES;
  writer.u64(checkpoint.sequence).u64(checkpoint.maintenanceEpoch).u64(checkpoint.n).u64(checkpoint.epoch);
  writer.u64(checkpoint.bytes).u64(checkpoint.newestWriteAt).u64(checkpoint.sealedAt);
  writer.u64(lastData?.epoch ?? 0).u64(lastData?.throughSeq ?? 0);
  writer.u32(checkpoint.runs.length).u32(checkpoint.shards.length).u32(CODEC_CODES[codec]);
  writer.raw(checkpoint.chain).text(lineage).text(volume).text(logId);
  const header = writer.done();
  sealEnvelope(header, CHECKPOINT_KIND, header.length + payload.length, crc32(payload));
  const bytes = Buffer.concat([header, payload]);
  return { bytes, crc32: crc32(bytes) };
}

function bodyBytes(checkpoint: Checkpoint): Buffer {
  const writer = new ByteWriter(checkpoint.runs.length * RUN_BYTES + checkpoint.shards.length * SHARD_BYTES);
  for (const run of checkpoint.runs) {
    writer.u64(run.sequence).u64(run.maintenanceEpoch).u64(run.fromN).u64(run.throughN);
    writer.u32(run.headerBytes).u32(run.objectBytes).u32(run.crc32);
  }
  for (const shard of checkpoint.shards) {
    writer.u64(shard.sequence).u64(shard.maintenanceEpoch).u64(shard.n);
    writer.u32(shard.shard).u32(shard.mapped).u32(shard.objectBytes).u32(shard.crc32);
  }
  return writer.done();
}

/** Rejects by `damaged`; `bytes` is the whole object. */
export function decodeCheckpoint(bytes: Buffer, compression: Compression): Checkpoint {
  const { what } = CHECKPOINT_KIND;
  const { reader, headerBytes } = openWhole(bytes, CHECKPOINT_KIND);
  const sequence = reader.u64('sequence');
  const maintenanceEpoch = reader.u64('maintenance epoch');
  const n = reader.u64('n');
  const epoch = reader.u64('epoch');
  const volumeBytes = reader.u64('size of the volume');
  const newestWriteAt = reader.u64('time of the newest write');
  const sealedAt = reader.u64('time of sealing');
  const dataEpoch = reader.u64('epoch of the last data');
  const dataSeq = reader.u64('write sequence of the last data');
  const runCount = reader.u32('runs');
  const shardCount = reader.u32('shards');
  const codecCode = reader.u32('codec');
  const chain = reader.copy(HASH_BYTES, 'chain');
  const lineage = reader.text('lineage', ID_PATTERN);
  const volume = reader.text('volume', ID_PATTERN);
  const logId = reader.text('log identity', LOG_ID_PATTERN);
  reader.finish();
  reader.check(runCount <= MAX_CHECKPOINT_RUNS && shardCount <= MAX_SHARDS, `${runCount} runs, ${shardCount} shards`);
  reader.check((dataEpoch === 0) === (logId === ''), 'last data of no log');
  reader.check(dataEpoch !== 0 || dataSeq === 0, 'last data of no epoch');
  const codec = codecFromCode(codecCode);
  if (codec === undefined) throw damaged(what, `unknown codec ${codecCode}`);
  const bodyLength = runCount * RUN_BYTES + shardCount * SHARD_BYTES;
  const raw = compression.decompress(codec, bytes.subarray(headerBytes), bodyLength);
  const body = new ByteReader(raw, what);
  const runs = Array.from({ length: runCount }, () => readRun(body));
  const shards = Array.from({ length: shardCount }, () => readShard(body));
  body.finish();
  const lastData = dataEpoch === 0 ? undefined : { epoch: dataEpoch, logId, throughSeq: dataSeq };
  const checkpoint: Checkpoint = {
    lineage,
    volume,
    sequence,
    maintenanceEpoch,
    n,
    epoch,
    chain,
    bytes: volumeBytes,
    lastData,
    newestWriteAt,
    sealedAt,
    runs,
    shards,
  };
  const problem = checkpointProblem(checkpoint);
  if (problem !== undefined) throw damaged(what, problem);
  return checkpoint;
}

function readRun(body: ByteReader): CheckpointRun {
  return {
    sequence: body.u64('sequence of a run'),
    maintenanceEpoch: body.u64('maintenance epoch of a run'),
    fromN: body.u64('first version of a run'),
    throughN: body.u64('last version of a run'),
    headerBytes: body.u32('header bytes of a run'),
    objectBytes: body.u32('object bytes of a run'),
    crc32: body.u32('CRC of a run'),
  };
}

function readShard(body: ByteReader): CheckpointShard {
  return {
    sequence: body.u64('sequence of a shard'),
    maintenanceEpoch: body.u64('maintenance epoch of a shard'),
    n: body.u64('version of a shard'),
    shard: body.u32('shard'),
    mapped: body.u32('mapped blocks of a shard'),
    objectBytes: body.u32('object bytes of a shard'),
    crc32: body.u32('CRC of a shard'),
  };
}

/** Why a checkpoint cannot be one; undefined when it can. */
function checkpointProblem(checkpoint: Checkpoint): string | undefined {
  const { n, epoch, chain, lastData, runs, shards } = checkpoint;
  if (n < 1 || epoch < 1) return `n ${n} and epoch ${epoch} count from 1`;
  if (chain.length !== HASH_BYTES) return `a chain value of ${chain.length} bytes`;
  if (lastData !== undefined && (lastData.epoch < 1 || lastData.epoch > epoch))
    return `last data of epoch ${lastData.epoch}`;
  if (runs.length > MAX_CHECKPOINT_RUNS) return `${runs.length} runs`;
  let lastN = 0;
  for (const run of runs) {
    if (run.fromN <= lastN || run.throughN < run.fromN || run.throughN > n) {
      return `a run of versions ${run.fromN} to ${run.throughN}`;
    }
    if (run.headerBytes < ENVELOPE_BYTES || run.objectBytes < run.headerBytes)
      return `a run of ${run.objectBytes} bytes`;
    lastN = run.throughN;
  }
  let lastShard = -1;
  for (const shard of shards) {
    if (shard.shard <= lastShard || shard.shard >= MAX_SHARDS) return `shard ${shard.shard} is out of order`;
    if (shard.n > n || shard.mapped > SHARD_BLOCKS) return `shard ${shard.shard} of version ${shard.n}`;
    if (shard.objectBytes < ENVELOPE_BYTES) return `shard ${shard.shard} of ${shard.objectBytes} bytes`;
    lastShard = shard.shard;
  }
  return undefined;
}
