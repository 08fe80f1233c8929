import { describe, expect, it } from 'vitest';
import type { VersionRecord } from '../../../gateway/format/version-record.ts';
import {
  chainAfter,
  decodeRecord,
  EMPTY_CHAIN,
  encodeRecord,
  MAX_RECORD_BYTES,
  splitRecords,
} from '../../../gateway/format/version-record.ts';
import { manifestKey } from '../../../gateway/format/keys.ts';
import { buildRecord, NO_HASH, sha256 } from '../../golden/builder.ts';
import { MANIFEST_KEY, TAKEOVER_FIELDS } from '../../golden/samples.ts';
import { expectDamaged } from './damage.ts';

const DIGEST = sha256(Buffer.from('payload'));
const RECORD: VersionRecord = {
  volume: 'vol',
  n: 7,
  epoch: 2,
  kind: 'write',
  payload: { kind: 'segment', number: 5, headerBytes: 256, objectBytes: 512, crc32: 9, digest: DIGEST },
  logId: 'log',
  throughSeq: 99,
  blocks: 1,
  bytes: 512,
  newestWriteAt: 1000,
  sealedAt: 1001,
  volumeBytes: 4096,
};

describe('a version record', () => {
  it('is at most 640 bytes long, with the longest names and key', () => {
    const id = 'i'.repeat(64);
    const big = Number.MAX_SAFE_INTEGER;
    const key = manifestKey(id, id, big, big);
    const record: VersionRecord = {
      ...RECORD,
      volume: id,
      logId: id,
      payload: { kind: 'manifest', key, headerBytes: 1, objectBytes: 0xffffffff, crc32: 1, digest: DIGEST },
    };
    const bytes = encodeRecord(record);
    expect(bytes.length).toBeLessThanOrEqual(MAX_RECORD_BYTES);
    expect(decodeRecord(bytes)).toEqual(record);
  });

  it('of a resize by nobody in particular has no log identity', () => {
    const record: VersionRecord = {
      ...RECORD,
      kind: 'resize',
      payload: { kind: 'none' },
      logId: '',
      blocks: 0,
      bytes: 0,
    };
    expect(decodeRecord(encodeRecord(record))).toEqual(record);
  });

  it('is not made of values that could not be read back', () => {
    for (const change of [
      { n: 0 },
      { epoch: 0 },
      { volume: '' },
      { volume: 'a b' },
      { logId: '/' },
      { throughSeq: -1 },
      { throughSeq: 0.5 },
      { blocks: Number.NaN },
      { kind: 'takeover' as const },
      { payload: { ...RECORD.payload, number: 0 } as VersionRecord['payload'] },
      { payload: { ...RECORD.payload, number: 2 ** 36 } as VersionRecord['payload'] },
      { payload: { ...RECORD.payload, headerBytes: 0 } as VersionRecord['payload'] },
      { payload: { ...RECORD.payload, headerBytes: 513 } as VersionRecord['payload'] },
      { payload: { ...RECORD.payload, digest: Buffer.alloc(31) } as VersionRecord['payload'] },
      { payload: { ...RECORD.payload, kind: 'manifest', key: '' } as VersionRecord['payload'] },
      { payload: { ...RECORD.payload, kind: 'manifest', key: 'x'.repeat(256) } as VersionRecord['payload'] },
      { payload: { kind: 'inline' as const, bytes: 0, crc32: 0, digest: DIGEST } },
    ]) {
      expect(() => encodeRecord({ ...RECORD, ...change }), JSON.stringify(change)).toThrow(/invariant/);
    }
  });

  it('is refused when it has a second encoding, even with a right checksum', () => {
    const build = (payload: string, change: Record<string, number | string | Buffer>): (() => unknown) => {
      const bytes = buildRecord('write', payload, { ...TAKEOVER_FIELDS, ...change });
      return () => decodeRecord(bytes);
    };
    expectDamaged(build('none', { digest: DIGEST }), /payload that is not there/);
    expectDamaged(build('none', { payloadCrc: 1 }), /payload that is not there/);
    expectDamaged(build('none', { number: 1 }), /payload of no kind/);
    expectDamaged(build('none', { objectBytes: 1 }), /payload of no kind/);
    expectDamaged(build('none', { key: MANIFEST_KEY }), /payload of no kind/);
    expectDamaged(build('inline', { objectBytes: 1, number: 1 }), /elsewhere/);
    expectDamaged(build('inline', { objectBytes: 1, headerBytes: 1 }), /elsewhere/);
    expectDamaged(build('segment', { number: 0, headerBytes: 1, objectBytes: 1 }), /segment number 0/);
    expectDamaged(build('segment', { number: 1, headerBytes: 1, objectBytes: 1, key: 'k' }), /segment number/);
    expectDamaged(build('segment', { number: 1, headerBytes: 2, objectBytes: 1 }), /header of 2 in 1/);
    expectDamaged(build('manifest', { headerBytes: 1, objectBytes: 1 }), /without a key/);
    expectDamaged(build('manifest', { number: 1, headerBytes: 1, objectBytes: 1, key: 'k' }), /manifest/);
    expectDamaged(build('none', { n: 0 }), /count from 1/);
    const takeover = buildRecord('takeover', 'inline', { ...TAKEOVER_FIELDS, objectBytes: 1 });
    expectDamaged(() => decodeRecord(takeover), /takeover has no payload/);
  });
});

describe('records one after the other', () => {
  it('are told apart by their lengths', () => {
    const records = [1, 2, 3].map((n) => encodeRecord({ ...RECORD, n, volume: 'v'.repeat(n) }));
    const split = splitRecords(Buffer.concat(records));
    expect(split.map(({ bytes }) => bytes.toString('hex'))).toEqual(records.map((bytes) => bytes.toString('hex')));
    expect(split.map(({ record }) => record.n)).toEqual([1, 2, 3]);
    expect(splitRecords(Buffer.alloc(0))).toEqual([]);
  });

  it('are refused when the last one is cut off or its length is not its own', () => {
    const record = encodeRecord(RECORD);
    const both = Buffer.concat([record, record]);
    for (let length = record.length + 1; length < both.length; length++) {
      expectDamaged(() => splitRecords(both.subarray(0, length)));
    }
    for (const length of [0, 1, 0xffff]) {
      const copy = Buffer.from(both);
      copy.writeUInt16LE(length, 8);
      expectDamaged(() => splitRecords(copy));
    }
  });
});

describe('the chain', () => {
  it('covers the chain before, the payload and the record', () => {
    const record = encodeRecord(RECORD);
    const chain = chainAfter(EMPTY_CHAIN, record);
    expect(chain).toEqual(sha256(NO_HASH, DIGEST, record));
    const bare = encodeRecord({ ...RECORD, kind: 'barrier', payload: { kind: 'none' } });
    expect(chainAfter(chain, bare)).toEqual(sha256(chain, NO_HASH, bare));
    expect(EMPTY_CHAIN).toEqual(NO_HASH);
  });

  it('goes on only from a value of 32 bytes, over a whole record', () => {
    expect(() => chainAfter(Buffer.alloc(31), encodeRecord(RECORD))).toThrow(/invariant/);
    expectDamaged(() => chainAfter(EMPTY_CHAIN, encodeRecord(RECORD).subarray(1)));
    expectDamaged(() => chainAfter(EMPTY_CHAIN, Buffer.alloc(0)));
  });
});
