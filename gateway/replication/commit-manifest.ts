import type { BlockCount, ByteCount, VersionNumber, WallMillis, WriteSeq } from '../base/units.ts';
import { putOnce, type PutOnceTools } from '../cloud/put-once.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { BlockRange } from '../format/ids.ts';
import { manifestKey } from '../format/keys.ts';
import type { PackedSection, RunSection } from '../format/run.ts';
import { encodeRun, packSection } from '../format/run.ts';
import type { TakeoverProof } from '../format/version-identity.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import { RunReader } from '../maintenance/run-reader.ts';
import type { VersionWriter } from './version-writer.ts';

export interface ManifestRequest {
  readonly ref: VolumeRef;
  readonly writer: VersionWriter;
  readonly takeover: TakeoverProof | undefined;
  readonly signal: AbortSignal;
  readonly kind: 'write' | 'restore';
  readonly sections: readonly (RunSection | PackedSection)[];
  readonly ranges: readonly BlockRange[];
  readonly firstSeq: WriteSeq;
  readonly throughSeq: WriteSeq;
  readonly newestWriteAt: WallMillis;
  readonly volumeBytes: ByteCount;
  readonly tools?: PutOnceTools;
}

export interface CommittedManifest {
  readonly n: VersionNumber;
  readonly bytes: ByteCount;
  readonly run: RunReader;
}

/**
 * Commits one version whose data lies in many segments, all of them in S3 already. Nothing else may be sealed before it resolves. Rejects as
 * commits do.
 */
export async function commitManifest(deps: MaintenanceDeps, request: ManifestRequest): Promise<CommittedManifest> {
  const { ref, writer, takeover, signal, kind, ranges, firstSeq, throughSeq, volumeBytes, tools = deps } = request;
  const sections = request.sections.map((section) =>
    'payload' in section ? section : packSection(section, deps.compression),
  );
  const slot = writer.reserve();
  const { n, epoch } = slot;
  const key = manifestKey(ref.lineage, ref.volume, epoch, n);
  const newestWriteAt = Math.max(slot.newestWriteNotBefore, request.newestWriteAt);
  const identity = {
    ...ref,
    n,
    epoch,
    kind,
    previousChain: slot.previousChain,
    logId: slot.logId,
    firstSeq,
    throughSeq,
    newestWriteAt,
    sealedAt: slot.sealedAt,
    volumeBytes,
    takeover,
  };
  let encoded: ReturnType<typeof encodeRun>;
  try {
    const run = { ...ref, fromN: n, throughN: n, sections, ranges, version: identity };
    encoded = encodeRun(run, deps.compression);
  } catch (error) {
    slot.release();
    throw error;
  }
  const { bytes, headerBytes, crc32, digest } = encoded;
  const blocks: BlockCount = sections.reduce((sum, { mapped }) => sum + mapped, 0);
  const version = slot.seal({
    ...{ kind, throughSeq, newestWriteAt, volumeBytes },
    payload: { kind: 'manifest', key, headerBytes, objectBytes: bytes.length, crc32, digest },
    blocks,
    bytes: bytes.length,
  });
  await putOnce(deps.store, key, [bytes], crc32, tools, signal);
  version.markReady();
  await version.committed;
  const place = { key, ...ref, throughN: n, headerBytes, objectBytes: bytes.length };
  return { n, bytes: bytes.length, run: new RunReader(deps.store, deps.compression, place) };
}
