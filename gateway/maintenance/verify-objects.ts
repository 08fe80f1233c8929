import { createHash } from 'node:crypto';
import { crc32 } from '../base/crc32.ts';
import { FarshoreError, isKind } from '../base/errors.ts';
import { EMPTY_CHAIN } from '../format/version-record.ts';
import type { VersionPayload } from '../format/version-record.ts';
import type { Checkpoint } from '../format/checkpoint.ts';
import { decodeFrame, isLostFrame } from '../format/frame.ts';
import type { FramePlace } from '../format/frame.ts';
import { runKey, segmentKey, shardKey } from '../format/keys.ts';
import { decodeRun } from '../format/run.ts';
import { decodeSegment } from '../format/segment-decode.ts';
import type { SegmentHeader } from '../format/segment-layout.ts';
import { decodeShard } from '../format/shard.ts';
import type { VersionIdentity } from '../format/version-identity.ts';
import type { MapSource } from './map-reader.ts';
import { mapParallel } from './parallel.ts';
import { isPayloadOf, loadChanges } from './payload.ts';
import type { VersionChanges } from './payload.ts';
import type { Findings } from './verify-findings.ts';
import type { TailRecord } from './walk.ts';

const PARALLEL_OBJECTS = 8;

/**
 * The payload of one version, every byte of it: checksums, identity, chain, each frame. Answers with what it changes in the map;
 * undefined when it cannot be read (which is a finding).
 */
export async function verifyVersion(
  source: MapSource,
  tail: TailRecord,
  previousChain: Buffer | undefined,
  findings: Findings,
): Promise<VersionChanges | undefined> {
  const { record, item } = tail;
  const { payload } = record;
  if (payload.kind === 'none') return { kind: 'none' };
  const what = nameOf(source, record.n, payload);
  try {
    findings.objects += 1;
    const bytes = payload.kind === 'inline' ? item.inline : await wholeObject(source, keyOf(source, payload));
    checkBytes(bytes, payload);
    if (payload.kind !== 'manifest') {
      const { header, frames } = decodeSegment(bytes);
      checkIdentity(source, tail, header, previousChain);
      const number = payload.kind === 'segment' ? payload.number : 0;
      if (header.number !== number) throw damaged(`it says that it is segment ${header.number}`);
      frames.forEach((frame, index) => {
        if (!isLostFrame(frame)) decodeFrame(frame, source.compression, placesIn(header, index));
        else findings.segmentsWithLost.add(number);
      });
    } else {
      const { index } = decodeRun(bytes, source.compression);
      if (index.version === undefined) throw damaged('it is a run of maintenance, not the manifest of a version');
      checkIdentity(source, tail, index.version, previousChain);
    }
    return await loadChanges(source, tail);
  } catch (error) {
    if (!isKind(error, 'damaged', 'not-found')) throw error;
    findings.add(`Version ${record.n}: ${what}: ${error.message}.`);
    return undefined;
  }
}

/** Runs and shards of a checkpoint, each as a whole. */
export async function verifyCheckpointObjects(
  source: MapSource,
  checkpoint: Checkpoint,
  findings: Findings,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { lineage, volume } = source.ref;
  const runs = checkpoint.runs.map((run) => ({
    key: runKey(lineage, volume, run.sequence, run.maintenanceEpoch),
    expected: run,
    check: (bytes: Buffer) => {
      const { index } = decodeRun(bytes, source.compression);
      if (index.volume !== volume || index.throughN !== run.throughN) throw damaged('it is another run');
    },
  }));
  const shards = checkpoint.shards.map((shard) => ({
    key: shardKey(lineage, volume, shard.shard, shard.sequence, shard.maintenanceEpoch),
    expected: shard,
    check: (bytes: Buffer) => {
      const found = decodeShard(bytes, source.compression);
      const fits =
        found.volume === volume && found.shard === shard.shard && found.n === shard.n && found.mapped === shard.mapped;
      if (!fits) throw damaged('it is another shard');
    },
  }));
  await mapParallel([...runs, ...shards], PARALLEL_OBJECTS, async ({ key, expected, check }) => {
    if (signal?.aborted === true || findings.full) return;
    findings.objects += 1;
    try {
      const bytes = await wholeObject(source, key);
      if (bytes.length !== expected.objectBytes)
        throw damaged(`it has ${bytes.length} bytes instead of ${expected.objectBytes}`);
      if (crc32(bytes) !== expected.crc32) throw damaged('its CRC-32 is not the one in the checkpoint');
      check(bytes);
    } catch (error) {
      if (!isKind(error, 'damaged', 'not-found')) throw error;
      findings.add(`Object ${key}: ${error.message}.`);
    }
  });
}

function checkBytes(bytes: Buffer, payload: Exclude<VersionPayload, { kind: 'none' }>): void {
  const expected = payload.kind === 'inline' ? payload.bytes : payload.objectBytes;
  if (bytes.length !== expected) throw damaged(`it has ${bytes.length} bytes instead of ${expected}`);
  if (crc32(bytes) !== payload.crc32) throw damaged('its CRC-32 is not the one in the version log');
  if (!createHash('sha256').update(bytes).digest().equals(payload.digest)) {
    throw damaged('its SHA-256 is not the one in the version log');
  }
}

function checkIdentity(
  source: MapSource,
  { record }: TailRecord,
  identity: VersionIdentity,
  previousChain: Buffer | undefined,
): void {
  if (!isPayloadOf(source.ref, record, identity)) throw damaged('it says that it belongs to another version');
  if (!identity.previousChain.equals(previousChain ?? EMPTY_CHAIN)) throw damaged('it names another chain before it');
}

/** The blocks that a header claims for one of its frames. */
export function placesIn(header: SegmentHeader, frame: number): FramePlace[] {
  const places: FramePlace[] = [];
  for (const extent of header.extents) {
    if (extent.frame !== frame) continue;
    for (let ahead = 0; ahead < extent.count; ahead += 1)
      places.push({ index: extent.index + ahead, block: extent.block + ahead });
  }
  return places;
}

function keyOf({ ref }: MapSource, payload: Extract<VersionPayload, { kind: 'segment' | 'manifest' }>): string {
  return payload.kind === 'segment' ? segmentKey(ref.lineage, payload.number) : payload.key;
}

function nameOf(source: MapSource, n: number, payload: Exclude<VersionPayload, { kind: 'none' }>): string {
  return payload.kind === 'inline' ? `the inline payload of version ${n}` : `object ${keyOf(source, payload)}`;
}

async function wholeObject({ store }: MapSource, key: string): Promise<Buffer> {
  const bytes = await store.get(key);
  if (bytes === undefined) throw new FarshoreError('not-found', 'it is missing');
  return bytes;
}

function damaged(message: string): FarshoreError {
  return new FarshoreError('damaged', message);
}
