import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import { rawCompression } from '../../../gateway/format/compression.ts';
import { encodeFrame } from '../../../gateway/format/frame.ts';
import { manifestKey, parseKey, segmentKey } from '../../../gateway/format/keys.ts';
import { decodeRun, encodeRun, recordOfManifest } from '../../../gateway/format/run.ts';
import { decodeSegment, encodeSegment, rebuildRecord, recordOfSegment } from '../../../gateway/format/segment.ts';
import type { PayloadOrigin, TakeoverProof, VersionIdentity } from '../../../gateway/format/version-identity.ts';
import type { VersionKind } from '../../../gateway/format/version-record.ts';
import {
  chainAfter,
  decodeRecord,
  EMPTY_CHAIN,
  encodeRecord,
  splitRecords,
} from '../../../gateway/format/version-record.ts';

/** What a walk through the rebuilt log needs of a version. */
interface Candidate {
  readonly n: number;
  readonly epoch: number;
  readonly kind: VersionKind;
  readonly hasObject: boolean;
  readonly previousChain: Buffer;
  readonly record: Buffer;
}

type Bucket = ReadonlyMap<string, Buffer>;

function candidatesOf(bucket: Bucket): Candidate[] {
  const found = new Map<string, Candidate>();
  const add = (record: Buffer, previousChain: Buffer): void => {
    const { n, epoch, kind, payload } = decodeRecord(record);
    const hasObject = payload.kind !== 'none';
    found.set(record.toString('hex'), { n, epoch, kind, hasObject, previousChain, record });
  };
  for (const [key, bytes] of bucket) {
    const name = parseKey(key);
    let version: VersionIdentity | undefined;
    if (name?.kind === 'segment') {
      version = decodeSegment(bytes).header;
      if (version.kind === 'moved') continue;
      add(encodeRecord(rebuildRecord(bytes)), version.previousChain);
    } else if (name?.kind === 'manifest') {
      const { index } = decodeRun(bytes, rawCompression);
      version = index.version;
      if (version === undefined) continue;
      const object = { key, crc32: crc32(bytes), digest: createHash('sha256').update(bytes).digest() };
      add(encodeRecord(recordOfManifest(index, version, object)), version.previousChain);
    }
    let chain = version?.takeover?.previousChain ?? EMPTY_CHAIN;
    for (const before of splitRecords(version?.takeover?.record ?? Buffer.alloc(0))) {
      add(before.bytes, chain);
      chain = chainAfter(chain, before.bytes);
    }
  }
  return [...found.values()];
}

/** The walk that docs/FORMAT.md describes. */
function rebuild(bucket: Bucket): Buffer[] {
  const candidates = candidatesOf(bucket);
  const log: Buffer[] = [];
  let tail = { n: 0, epoch: 0, chain: EMPTY_CHAIN };
  for (;;) {
    const following = candidates.filter(
      ({ n, epoch, kind, previousChain }) =>
        n === tail.n + 1 &&
        previousChain.equals(tail.chain) &&
        (kind === 'takeover' ? epoch > tail.epoch : epoch === tail.epoch),
    );
    const next = following.find(({ hasObject }) => !hasObject) ?? following[0];
    if (next === undefined) return log;
    log.push(next.record);
    tail = { n: next.n, epoch: next.epoch, chain: chainAfter(tail.chain, next.record) };
  }
}

interface Tail {
  readonly n: number;
  readonly chain: Buffer;
  readonly proof?: TakeoverProof | undefined;
}

/** A gateway that takes over and uploads, as the real one does: it knows its chain before anything is sent. */
class Writer {
  readonly #bucket: Map<string, Buffer>;
  readonly #epoch: number;
  /** Everything without an object since the last version that has one; for the first payload. */
  #proof: TakeoverProof | undefined;
  #n: number;
  #chain: Buffer;
  #number: number;
  readonly takeoverRecord: Buffer;

  constructor(bucket: Map<string, Buffer>, epoch: number, after: Tail) {
    this.#bucket = bucket;
    this.#epoch = epoch;
    this.takeoverRecord = encodeRecord({
      ...this.#common(after.n + 1),
      kind: 'takeover',
      payload: { kind: 'none' },
      throughSeq: 0,
      blocks: 0,
      bytes: 0,
    });
    const known = after.proof ?? { previousChain: after.chain, record: Buffer.alloc(0) };
    this.#proof = { ...known, record: Buffer.concat([known.record, this.takeoverRecord]) };
    this.#n = after.n + 1;
    this.#chain = chainAfter(after.chain, this.takeoverRecord);
    this.#number = epoch * 1000;
  }

  tail(): Tail {
    return { n: this.#n, chain: this.#chain, proof: this.#proof };
  }

  /** A segment of compaction: it takes the place of the last version in its header, and is the payload of none. */
  moved(): void {
    const version = { ...this.#version('moved'), takeover: undefined };
    const segment = encodeSegment({ ...version, number: 9 }, new Float64Array(0), [], []);
    this.#bucket.set(segmentKey('lin', 9), Buffer.concat(segment.pieces));
  }

  segment(): Buffer {
    this.#number++;
    const raw = Buffer.alloc(BLOCK_SIZE, this.#number);
    const frame = encodeFrame(raw, [this.#n], rawCompression);
    const segment = encodeSegment(
      { ...this.#version('write'), number: this.#number },
      Float64Array.of(this.#n),
      [],
      [frame],
    );
    this.#bucket.set(segmentKey('lin', this.#number), Buffer.concat(segment.pieces));
    return this.#chained(encodeRecord(recordOfSegment(segment.header, segment.crc32, segment.digest)));
  }

  manifest(): Buffer {
    const version = this.#version('restore');
    const { lineage, volume, n } = version;
    const ranges = [{ block: 0, count: 10 }];
    const run = encodeRun({ lineage, volume, fromN: n, throughN: n, sections: [], ranges, version }, rawCompression);
    const key = manifestKey(lineage, volume, this.#epoch, n);
    this.#bucket.set(key, run.bytes);
    const { index } = decodeRun(run.bytes, rawCompression);
    return this.#chained(encodeRecord(recordOfManifest(index, version, { ...run, key })));
  }

  #version(kind: PayloadOrigin): VersionIdentity {
    const common = this.#common(this.#n + 1);
    return {
      ...common,
      lineage: 'lin',
      kind,
      previousChain: this.#chain,
      firstSeq: this.#n,
      throughSeq: this.#n,
      takeover: this.#proof,
    };
  }

  #common(n: number): Omit<VersionIdentity, 'lineage' | 'kind' | 'previousChain' | 'firstSeq' | 'throughSeq'> {
    const epoch = this.#epoch;
    return { volume: 'vol', n, epoch, logId: `log-${epoch}`, newestWriteAt: n, sealedAt: n, volumeBytes: 2 ** 30 };
  }

  #chained(record: Buffer): Buffer {
    this.#proof = undefined;
    this.#n++;
    this.#chain = chainAfter(this.#chain, record);
    return record;
  }
}

describe('a log lost with its table', () => {
  it('comes back byte for byte from the objects, without what was uploaded but fenced', () => {
    const bucket = new Map<string, Buffer>();
    const log: Buffer[] = [];
    const first = new Writer(bucket, 1, { n: 0, chain: EMPTY_CHAIN });
    log.push(first.takeoverRecord, first.segment(), first.segment());
    const committed = first.tail();
    // Uploaded in advance, never put: the next owner came first.
    first.segment();
    first.segment();
    // Owners that never write leave no object; the next one that does tells of them.
    const second = new Writer(bucket, 2, committed);
    const third = new Writer(bucket, 5, second.tail());
    log.push(second.takeoverRecord, third.takeoverRecord, third.segment(), third.manifest());
    third.moved();
    log.push(third.segment());
    expect(rebuild(bucket).map(hex)).toEqual(log.map(hex));
  });

  it('goes on with the uploads of the last known owner when nothing tells of another', () => {
    const bucket = new Map<string, Buffer>();
    const first = new Writer(bucket, 1, { n: 0, chain: EMPTY_CHAIN });
    const log = [first.takeoverRecord, first.segment()];
    const committed = first.tail();
    log.push(first.segment());
    new Writer(bucket, 2, committed);
    expect(rebuild(bucket).map(hex)).toEqual(log.map(hex));
  });

  it('is empty when nothing was ever uploaded', () => {
    expect(rebuild(new Map())).toEqual([]);
  });
});

function hex(record: Buffer): string {
  return record.toString('hex');
}
