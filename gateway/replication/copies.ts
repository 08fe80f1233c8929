import { FarshoreError, invariant } from '../base/errors.ts';
import { BLOCK_SIZE, type BlockNumber } from '../base/units.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import { ENVELOPE_BYTES } from '../format/envelope.ts';
import { segmentKey } from '../format/keys.ts';
import { decodeSegmentHeader, encodeSegment, MAX_SEGMENT_BLOCKS, MAX_SEGMENT_UNMAPS } from '../format/segment.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import type { RunReader } from '../maintenance/run-reader.ts';
import { CLOUD_TROUBLE, type CommitPipeline } from './commit-pipeline.ts';
import { commitManifest } from './commit-manifest.ts';
import { patientReader } from './patient-reader.ts';
import type { Committed, CopiesCommit, Copied, CopyBatch, LogReader } from './remote-volume.ts';
import { SectionBuilder } from './section-builder.ts';
import { buildContent, type SegmentContent } from './segment-content.ts';
import type { SegmentMemories, SegmentMemory } from './segment-memory.ts';
import { SegmentNumbers } from './segment-numbers.ts';
import type { VersionWriter } from './version-writer.ts';

/** Where the envelope of an object says how long its header is. */
const HEADER_BYTES_AT = 8;

export interface CopiesDeps extends MaintenanceDeps {
  readonly reader: LogReader;
  readonly segmentsInMemory: SegmentMemories;
}

/**
 * Blocks that are uploaded beside the log of versions, in segments of no version, until one manifest makes them a version, all together (see
 * RemoteVolume.copy). Nothing is remembered over a restart: what was uploaded is known by the headers of the segments, which the caller keeps.
 */
export class Copies {
  readonly #deps: CopiesDeps;
  readonly #ref: VolumeRef;
  readonly #writer: VersionWriter;
  readonly #pipeline: CommitPipeline;
  readonly #signal: AbortSignal;
  readonly #numbers: SegmentNumbers;
  /** Numbers are taken one after the other. */
  #numbering: Promise<unknown> = Promise.resolve();
  #noted: { readonly builder: SectionBuilder; headers: number } | undefined;

  constructor(deps: CopiesDeps, ref: VolumeRef, writer: VersionWriter, pipeline: CommitPipeline, signal: AbortSignal) {
    this.#deps = deps;
    this.#ref = ref;
    this.#writer = writer;
    this.#pipeline = pipeline;
    this.#signal = signal;
    this.#numbers = new SegmentNumbers(deps.versions, ref, writer.epoch);
  }

  /** See RemoteVolume.copy. */
  async copy(batch: CopyBatch): Promise<Copied> {
    const memory = await this.#deps.segmentsInMemory.take(batch.blocks.length);
    let isFree = false;
    try {
      const content = await this.#content(batch, memory);
      const isEmpty = content.blocks.length === 0;
      isFree = isEmpty;
      const number = isEmpty ? 0 : await this.#takeNumber();
      const { n, epoch, chain } = this.#writer.lastCommitted();
      const identity = {
        ...{ ...this.#ref, number, n, epoch, kind: 'moved' as const, previousChain: chain },
        ...{
          logId: this.#writer.logId,
          firstSeq: 0,
          throughSeq: 0,
          newestWriteAt: 0,
          sealedAt: this.#deps.clock.now(),
        },
        volumeBytes: this.#writer.volumeBytes,
      };
      const { pieces, header, crc32 } = encodeSegment(identity, content.blocks, content.unmaps, content.frames);
      if (!isEmpty) {
        const key = segmentKey(this.#ref.lineage, number);
        isFree = await this.#pipeline.putSegment(key, pieces, crc32, this.#deps, this.#signal);
      }
      const storedBytes = isEmpty ? 0 : header.objectBytes;
      // Not from a shared pool: it is moved to another thread.
      return { header: Buffer.from(Uint8Array.from(pieces[0] ?? []).buffer), storedBytes, lost: content.lost };
    } finally {
      memory.end(isFree);
    }
  }

  /** See RemoteVolume.noteCopies. */
  note(headers: Buffer, isFirst: boolean): void {
    if (isFirst) this.#noted = { builder: new SectionBuilder(this.#deps.compression), headers: 0 };
    const noted = this.#noted;
    invariant(noted !== undefined, 'the first headers begin a list');
    for (let at = 0; at < headers.length;) {
      invariant(at + ENVELOPE_BYTES <= headers.length, 'headers are whole');
      const bytes = headers.readUInt32LE(at + HEADER_BYTES_AT);
      const header = decodeSegmentHeader(headers.subarray(at, at + bytes));
      if ('needBytes' in header) throw new FarshoreError('bug', 'the header of a copied segment is cut off');
      noted.builder.enter(header);
      noted.headers += 1;
      at += bytes;
    }
  }

  /** See RemoteVolume.commitCopies. `entered` is told of the version before it resolves. */
  async commit(commit: CopiesCommit, entered: (n: number, run: RunReader) => void): Promise<Committed> {
    const noted = this.#noted;
    this.#noted = undefined;
    invariant(noted?.headers === commit.headers, 'every header is noted before the commit');
    const { sections, ranges } = noted.builder.finish();
    const { firstSeq, throughSeq, newestWriteAt } = commit;
    const takeover = await this.#pipeline.proveTakeover();
    try {
      const { n, bytes, run } = await commitManifest(this.#deps, {
        ...{ ref: this.#ref, writer: this.#writer, takeover, signal: this.#signal, sections, ranges },
        ...{ kind: 'write', firstSeq, throughSeq, newestWriteAt, volumeBytes: this.#writer.volumeBytes },
      });
      entered(n, run);
      const { at } = this.#writer.lastCommitted();
      return { n, throughSeq, committedAt: at, storedBytes: bytes, lost: [] };
    } catch (error) {
      // A version that was reserved and not put leaves nothing that could follow it.
      throw this.#pipeline.stop(error);
    }
  }

  #takeNumber(): Promise<number> {
    const taken = this.#numbering.then(() =>
      this.#pipeline.persist('allocate segment numbers', CLOUD_TROUBLE, () => this.#numbers.take()),
    );
    this.#numbering = taken.catch(() => undefined);
    return taken;
  }

  #content(batch: CopyBatch, memory: SegmentMemory): Promise<SegmentContent> {
    const { blocks, unmaps } = batch;
    invariant(blocks.length <= MAX_SEGMENT_BLOCKS, `a copy has at most ${MAX_SEGMENT_BLOCKS} blocks`);
    const reader =
      batch.from === 'log'
        ? patientReader(this.#deps.reader, this.#deps.clock, this.#signal)
        : readerOver(blocks, batch.data, batch.lost);
    const places = batch.from === 'log' ? batch.places : blocks;
    const seqs = batch.from === 'log' ? batch.seqs : blocks;
    const request = { index: 1, firstSeq: 0, throughSeq: 0, newestWriteAt: 0, blocks, places, seqs, unmaps };
    return this.#pipeline.persist('read what is to be copied', ['stopped', 'damaged'], () =>
      buildContent(request, reader, this.#deps.compression, MAX_SEGMENT_UNMAPS, memory),
    );
  }
}

/** Reads contents that came along, in the order of their blocks; those of lost ones are missing. */
function readerOver(blocks: Float64Array, data: Uint8Array, lost: readonly BlockNumber[]): LogReader {
  const isLost = new Set(lost);
  const at = new Map<BlockNumber, number>();
  for (const block of blocks) if (!isLost.has(block)) at.set(block, at.size * BLOCK_SIZE);
  return {
    readBlocks: (_places, wanted, _seqs, into) => {
      const bad: number[] = [];
      wanted.forEach((block, index) => {
        const from = at.get(block);
        if (from === undefined) bad.push(index);
        else into.set(data.subarray(from, from + BLOCK_SIZE), index * BLOCK_SIZE);
      });
      return Promise.resolve(bad);
    },
  };
}
