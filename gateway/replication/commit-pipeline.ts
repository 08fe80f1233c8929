import { setMaxListeners } from 'node:events';
import type { Clock, Random } from '../base/clock.ts';
import { describeError, FarshoreError, invariant, isKind, type ErrorKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BlockNumber, ByteCount, VersionNumber } from '../base/units.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import { putOnce, type PutOnceTools } from '../cloud/put-once.ts';
import type { VersionLog, VolumeRef } from '../cloud/version-log.ts';
import type { Compression } from '../format/compression.ts';
import { segmentKey } from '../format/keys.ts';
import { encodeSegment } from '../format/segment-encode.ts';
import type { EncodedSegment } from '../format/segment-layout.ts';
import {
  EXTENT_BYTES,
  INLINE_NUMBER,
  MAX_SEGMENT_BLOCKS,
  MAX_SEGMENT_UNMAPS,
  recordOfSegment,
} from '../format/segment-layout.ts';
import { RANGE_BYTES } from '../format/ranges.ts';
import type { TakeoverProof } from '../format/version-identity.ts';
import type { VersionChanges } from '../maintenance/payload.ts';
import { withRetries } from '../maintenance/retry.ts';
import type { CommitBatch, Committed, LogReader } from './remote-volume.ts';
import { InlineBudget } from './inline-budget.ts';
import { patientReader } from './patient-reader.ts';
import { buildContent, type SegmentContent } from './segment-content.ts';
import type { SegmentMemories, SegmentMemory } from './segment-memory.ts';
import { SegmentNumbers } from './segment-numbers.ts';
import type { SealedVersion, VersionWriter } from './version-writer.ts';
import { Trouble } from './trouble.ts';
import { volumeName } from './volume-name.ts';

/** Batches accepted and not yet committed; the volume keeps far fewer under way. */
export const MAX_QUEUED_BATCHES = 64;

/** What passes, or is mended by an administrator, while the data waits in the local log. */
export const CLOUD_TROUBLE: readonly ErrorKind[] = ['retry', 'busy', 'input', 'damaged'];

export interface PipelineDeps {
  readonly store: ObjectStore;
  readonly versions: VersionLog;
  readonly reader: LogReader;
  readonly compression: Compression;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Segments held in memory at once, over all volumes that share it. */
  readonly segmentsInMemory: SegmentMemories;
}

export interface PipelineHooks {
  /** Waited for before a batch is built: back-pressure of the map in memory. */
  room(): Promise<void>;
  /** A version is committed; called in order of n, before its commit resolves. */
  committed(n: VersionNumber, version: SegmentVersion): void;
  /** The records before the first payload of this epoch. */
  takeoverProof(): Promise<TakeoverProof>;
}

/** What a batch became. */
export type SegmentVersion = Extract<VersionChanges, { kind: 'segment' | 'inline' }>;

interface Sealed {
  readonly version: SealedVersion;
  readonly changes: SegmentVersion;
  readonly lost: readonly BlockNumber[];
}

/**
 * Makes versions of batches: building and sealing one after the other (each needs the chain of the one before), uploading in
 * parallel, committing in order. After the first failure nothing later is committed: a version holds all writes before it.
 */
export class CommitPipeline {
  readonly #deps: PipelineDeps;
  readonly #hooks: PipelineHooks;
  readonly #ref: VolumeRef;
  readonly #writer: VersionWriter;
  readonly #numbers: SegmentNumbers;
  readonly #inline: InlineBudget;
  readonly #abort = new AbortController();
  #building: Promise<unknown> = Promise.resolve();
  #applied: Promise<unknown> = Promise.resolve();
  #queued = 0;
  #lastIndex = 0;
  #proven = false;
  /** What is being tried again; one entry for each attempt under way. */
  readonly #troubles = new Set<{ readonly what: string; readonly trouble: Trouble }>();
  #failure: FarshoreError | undefined;
  /** Rejects when the pipeline is stopped, whatever its parts are waiting for. */
  readonly #stopped: Promise<never>;
  #announceStop: (error: FarshoreError) => void = () => undefined;

  constructor(deps: PipelineDeps, hooks: PipelineHooks, ref: VolumeRef, writer: VersionWriter) {
    this.#deps = deps;
    this.#hooks = hooks;
    this.#ref = ref;
    this.#writer = writer;
    // Uploads and requests that wait to be repeated listen for the end.
    setMaxListeners(MAX_QUEUED_BATCHES, this.#abort.signal);
    this.#numbers = new SegmentNumbers(deps.versions, ref, writer.epoch);
    this.#inline = new InlineBudget(deps.clock);
    this.#stopped = new Promise((_, reject) => {
      this.#announceStop = reject;
    });
    this.#stopped.catch(() => undefined);
  }

  /** Whether a batch was ever accepted. */
  get used(): boolean {
    return this.#lastIndex > 0;
  }

  /** An alarm when a commit has been held up for a while; undefined when there is nothing to tell. */
  get problem(): string | undefined {
    for (const { what, trouble } of this.#troubles)
      if (trouble.alarm !== undefined) return `nothing is replicated: the gateway cannot ${what} ${trouble.alarm}`;
    return undefined;
  }

  /** See RemoteVolume.commit. */
  async commit(batch: CommitBatch): Promise<Committed> {
    this.#throwIfFailed();
    invariant(batch.index === this.#lastIndex + 1, `batch ${batch.index} after batch ${this.#lastIndex}`);
    if (this.#queued >= MAX_QUEUED_BATCHES) {
      throw new FarshoreError(
        'busy',
        `${this.#queued} batches of ${volumeName(this.#ref, this.#writer.item.name)} wait for their commit`,
      );
    }
    checkBatch(batch);
    this.#lastIndex = batch.index;
    this.#queued += 1;
    try {
      const sealing = this.#building.then(() => this.#seal(batch));
      this.#building = sealing;
      const applying = this.#apply(this.#applied, sealing);
      this.#applied = applying;
      const { version, changes, lost } = await Promise.race([applying, this.#stopped]);
      const { at } = this.#writer.lastCommitted();
      const { objectBytes: storedBytes } = changes.header;
      return { n: version.n, throughSeq: batch.throughSeq, committedAt: at, storedBytes, lost };
    } catch (error) {
      throw this.#fail(error);
    } finally {
      this.#queued -= 1;
    }
  }

  /** Ends the pipeline at once: everything under way and everything later rejects. */
  stop(error: unknown): FarshoreError {
    const failure = this.#fail(error);
    this.#abort.abort();
    this.#announceStop(failure);
    return failure;
  }

  /** Nothing is accepted any more; what was sealed before goes on. The first failure is the one that all later batches get. */
  #fail(error: unknown): FarshoreError {
    this.#failure ??= finalFailure(error);
    return this.#failure;
  }

  get #names(): { readonly volume: string; readonly name: string } {
    return { volume: this.#ref.volume, name: this.#writer.item.name };
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #seal(batch: CommitBatch): Promise<Sealed> {
    await this.#hooks.room();
    const memory = await this.#deps.segmentsInMemory.take(batch.blocks.length, batch.isAwaited);
    let uploading = false;
    try {
      this.#throwIfFailed();
      const content = await this.#content(batch, memory);
      // Readers and folds look for lost blocks in segments alone.
      const isInline =
        batch.isAwaited === true && content.lost.length === 0 && this.#inline.takes(inlineBytes(content));
      if (!isInline) this.#inline.noteVersion();
      const number = isInline
        ? INLINE_NUMBER
        : await this.persist('allocate segment numbers', CLOUD_TROUBLE, () => this.#numbers.take());
      const takeover = await this.proveTakeover();
      this.#throwIfFailed();
      const slot = this.#writer.reserve();
      const kind = batch.volumeBytes === undefined ? ('write' as const) : ('resize' as const);
      const identity = {
        ...this.#ref,
        number,
        n: slot.n,
        epoch: slot.epoch,
        kind,
        previousChain: slot.previousChain,
        logId: slot.logId,
        firstSeq: batch.firstSeq,
        throughSeq: batch.throughSeq,
        newestWriteAt: Math.max(slot.newestWriteNotBefore, batch.newestWriteAt),
        sealedAt: slot.sealedAt,
        volumeBytes: batch.volumeBytes ?? this.#writer.volumeBytes,
        takeover,
      };
      let encoded: EncodedSegment;
      try {
        encoded = encodeSegment(identity, content.blocks, content.unmaps, content.frames);
      } catch (error) {
        slot.release();
        throw error;
      }
      const { header } = encoded;
      const fields = {
        kind,
        payload: recordOfSegment(header, encoded.crc32, encoded.digest).payload,
        throughSeq: batch.throughSeq,
        blocks: header.blocks,
        bytes: header.objectBytes,
        newestWriteAt: identity.newestWriteAt,
        volumeBytes: identity.volumeBytes,
      };
      if (isInline) {
        const image = Buffer.concat(encoded.pieces);
        const version = slot.seal(fields, image);
        version.markReady();
        return { version, changes: { kind: 'inline', header, image }, lost: content.lost };
      }
      const version = slot.seal(fields);
      uploading = true;
      void this.#upload(encoded, version, memory);
      return { version, changes: { kind: 'segment', header }, lost: content.lost };
    } finally {
      if (!uploading) memory.end(false);
    }
  }

  /** For as long as the disk gives nothing at all: the data may still be there. */
  async #content(batch: CommitBatch, memory: SegmentMemory): Promise<SegmentContent> {
    const { clock, compression, log } = this.#deps;
    const reader = patientReader(this.#deps.reader, clock, this.#abort.signal);
    const content = await this.persist('read the cache log', ['stopped', 'damaged'], () =>
      buildContent(batch, reader, compression, MAX_SEGMENT_UNMAPS, memory),
    );
    if (content.lost.length > 0) {
      log.error(
        { ...this.#names, blocks: content.lost.slice(0, 100) },
        'blocks that no version has are damaged in the cache log',
      );
    }
    return content;
  }

  /** Rule 6: the version is put only once its segment is in S3. */
  async #upload(
    { header, pieces, crc32 }: EncodedSegment,
    version: SealedVersion,
    memory: SegmentMemory,
  ): Promise<void> {
    const { clock, random, log } = this.#deps;
    const key = segmentKey(this.#ref.lineage, header.number);
    const entry = { what: `upload ${key}`, trouble: new Trouble(clock) };
    const tools = {
      clock,
      random,
      onRetry: (error: FarshoreError, failures: number) => {
        entry.trouble.failed(error.message);
        this.#troubles.add(entry);
        log.warn({ err: error, ...this.#names, n: version.n, failures }, 'a segment is not uploaded yet');
      },
    };
    let isFree = false;
    try {
      isFree = await this.putSegment(key, pieces, crc32, tools, this.#abort.signal);
      version.markReady();
    } catch (error) {
      this.stop(isKind(error, 'in-use') ? await this.#accountFor(error, version.n) : error);
      this.#writer.close();
    } finally {
      this.#troubles.delete(entry);
      memory.end(isFree);
    }
  }

  /** Puts a segment, however long it takes. Answers whether nobody reads its memory any more: an attempt that was answered early, or given up, may. */
  async putSegment(
    key: string,
    pieces: readonly Buffer[],
    crc32: number,
    tools: PutOnceTools,
    signal: AbortSignal,
  ): Promise<boolean> {
    let tries = 0;
    const by = await this.persist(`upload ${key}`, CLOUD_TROUBLE, () => {
      tries += 1;
      return putOnce(this.#deps.store, key, pieces, crc32, tools, signal);
    });
    return by === 'only' && tries === 1;
  }

  /** Why a segment of ours holds other bytes. */
  async #accountFor(error: FarshoreError, n: VersionNumber): Promise<unknown> {
    try {
      return await this.persist('find out who uses our segment numbers', CLOUD_TROUBLE, () =>
        this.#writer.accountFor(error, n),
      );
    } catch (later) {
      return later;
    }
  }

  /** Waits for the version and everything before it, then enters it in the map. */
  async #apply(previous: Promise<unknown>, sealing: Promise<Sealed>): Promise<Sealed> {
    const sealed = await sealing;
    await previous;
    try {
      await sealed.version.committed;
    } catch (error) {
      throw this.stop(error);
    }
    this.#hooks.committed(sealed.version.n, sealed.changes);
    return sealed;
  }

  /** The record that began the epoch, for the header of the first payload in it; undefined after the first call. */
  async proveTakeover(): Promise<TakeoverProof | undefined> {
    if (this.#proven) return undefined;
    const proof = await this.persist('read the takeover record', CLOUD_TROUBLE, () => this.#hooks.takeoverProof());
    this.#proven = true;
    return proof;
  }

  /** For ever, also what an administrator has to mend first (no access, no bucket): the data waits in the local log. */
  persist<Result>(what: string, passing: readonly ErrorKind[], attempt: () => Promise<Result>): Promise<Result> {
    const { log, clock } = this.#deps;
    const trouble = new Trouble(clock);
    const entry = { what, trouble };
    const rules = {
      attempts: Infinity,
      signal: this.#abort.signal,
      passing,
      onFailure: (error: FarshoreError, failures: number) => {
        const fields = { err: error, ...this.#names, failures };
        trouble.failed(error.message);
        this.#troubles.add(entry);
        if (error.kind === 'input') log.error(fields, `cannot ${what}; trying again`);
        else log.warn(fields, `cannot ${what}; trying again`);
      },
    };
    return withRetries(this.#deps, rules, attempt).finally(() => {
      this.#troubles.delete(entry);
    });
  }
}

/** At most, about: what lies before the frames is small beside a unit. */
function inlineBytes({ blocks, frames, unmaps }: SegmentContent): ByteCount {
  let bytes = blocks.length * EXTENT_BYTES + unmaps.length * RANGE_BYTES;
  for (const frame of frames) bytes += frame.length;
  return bytes;
}

function checkBatch({ blocks, places, seqs, unmaps, firstSeq, throughSeq }: CommitBatch): void {
  invariant(blocks.length <= MAX_SEGMENT_BLOCKS, `a batch has at most ${MAX_SEGMENT_BLOCKS} blocks`);
  invariant(places.length === blocks.length && seqs.length === blocks.length, 'every block of a batch has its place');
  invariant(
    unmaps.length % 2 === 0 && unmaps.length / 2 <= MAX_SEGMENT_UNMAPS,
    'a batch has pairs of unmaps within bounds',
  );
  invariant(firstSeq <= throughSeq, 'the first write of a batch comes before its last');
}

/** What the volume is told: a commit ends with `fenced`, `damaged`, `stopped`, or a fault of the program. */
function finalFailure(error: unknown): FarshoreError {
  if (isKind(error, 'fenced', 'damaged', 'stopped', 'bug')) return error;
  if (isKind(error, 'in-use')) return new FarshoreError('damaged', error.message, { cause: error });
  return new FarshoreError('bug', `a commit failed unexpectedly: ${describeError(error)}`, { cause: error });
}
