import { FarshoreError } from '../base/errors.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { Compression } from '../format/compression.ts';
import { segmentKey } from '../format/keys.ts';
import { decodeSegment, decodeSegmentHeader } from '../format/segment-decode.ts';
import type { SegmentHeader } from '../format/segment-layout.ts';
import type { VersionIdentity } from '../format/version-identity.ts';
import type { VersionRecord } from '../format/version-record.ts';
import { RunReader } from './run-reader.ts';
import type { TailRecord } from './walk.ts';

export interface PayloadSource {
  readonly store: ObjectStore;
  readonly compression: Compression;
  readonly ref: VolumeRef;
}

/** What a version of the log changes in the map, without its data. */
export type VersionChanges =
  | { readonly kind: 'none' }
  | { readonly kind: 'segment'; readonly header: SegmentHeader }
  /** `image` is the whole inline payload; the header's number is 0. */
  | { readonly kind: 'inline'; readonly header: SegmentHeader; readonly image: Buffer }
  | { readonly kind: 'manifest'; readonly run: RunReader };

/**
 * Reads what a version changed: the header of its segment (one ranged request), its inline image, or the index of its manifest.
 * Rejects with `not-found` (the object is missing), `damaged` (it is not the payload of this version), `retry`.
 */
export async function loadChanges(source: PayloadSource, { item, record }: TailRecord): Promise<VersionChanges> {
  const { payload } = record;
  switch (payload.kind) {
    case 'none':
      return { kind: 'none' };
    case 'segment': {
      const key = segmentKey(source.ref.lineage, payload.number);
      const bytes = await source.store.get(key, { offset: 0, length: payload.headerBytes });
      if (bytes === undefined) throw missing(key, record);
      const header = decodeHeader(bytes, `object ${key}`);
      const fits = header.number === payload.number && header.objectBytes === payload.objectBytes;
      if (!fits || !isPayloadOf(source.ref, record, header)) throw foreign(`object ${key}`, record);
      return { kind: 'segment', header };
    }
    case 'inline': {
      const { header } = decodeSegment(item.inline);
      if (header.number !== 0 || !isPayloadOf(source.ref, record, header)) throw foreign('the inline payload', record);
      return { kind: 'inline', header, image: item.inline };
    }
    case 'manifest': {
      const { key, headerBytes, objectBytes } = payload;
      const place = { key, ...source.ref, throughN: record.n, headerBytes, objectBytes };
      const run = new RunReader(source.store, source.compression, place);
      const { version } = await run.index();
      if (version === undefined || !isPayloadOf(source.ref, record, version)) throw foreign(`object ${key}`, record);
      return { kind: 'manifest', run };
    }
  }
}

function decodeHeader(bytes: Buffer, what: string): SegmentHeader {
  const header = decodeSegmentHeader(bytes);
  if ('needBytes' in header)
    throw new FarshoreError('damaged', `${what} has a longer header than its version record says`);
  return header;
}

/** Whether a payload says of itself what the record says of it. */
export function isPayloadOf(ref: VolumeRef, record: VersionRecord, identity: VersionIdentity): boolean {
  return (
    identity.lineage === ref.lineage &&
    identity.volume === ref.volume &&
    identity.n === record.n &&
    identity.epoch === record.epoch &&
    identity.kind === record.kind &&
    identity.logId === record.logId &&
    identity.throughSeq === record.throughSeq &&
    identity.volumeBytes === record.volumeBytes
  );
}

function missing(key: string, record: VersionRecord): FarshoreError {
  return new FarshoreError('not-found', `object ${key}, the data of version ${record.n}, is missing`);
}

function foreign(what: string, record: VersionRecord): FarshoreError {
  return new FarshoreError('damaged', `${what} is not the data of version ${record.n} of volume ${record.volume}`);
}
