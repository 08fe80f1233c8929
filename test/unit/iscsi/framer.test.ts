import { describe, expect, test } from 'vitest';
import { Framer } from '../../../gateway/iscsi/framer.ts';
import type { FramingError } from '../../../gateway/iscsi/framer.ts';
import { buildRequest, withDigests } from '../../support/iscsi-wire.ts';

interface Seen {
  readonly opcode: number;
  readonly additional: string;
  readonly data: string;
  readonly intact: boolean;
}

/** A framer that writes down what it delivers. */
function recorder(digests: { header: boolean; data: boolean }, maxDataBytes = 1000) {
  const seen: Seen[] = [];
  const errors: FramingError[] = [];
  const destinations: Buffer[] = [];
  let place: ((bytes: number) => Buffer | undefined) | undefined;
  const framer = new Framer(
    {
      destination: (_header, bytes) => {
        const buffer = place?.(bytes);
        if (buffer !== undefined) destinations.push(buffer);
        return buffer;
      },
      pdu: (header, additional, data, intact) => {
        seen.push({ opcode: header.readUInt8(0), additional: additional.toString(), data: data.toString(), intact });
      },
      error: (error) => errors.push(error),
    },
    { maxDataBytes, headerDigest: digests.header, dataDigest: digests.data },
  );
  return {
    framer,
    seen,
    errors,
    destinations,
    setPlace: (chosen: (bytes: number) => Buffer | undefined) => {
      place = chosen;
    },
  };
}

const PDUS = [
  buildRequest({ opcode: 0x00 }),
  buildRequest({ opcode: 0x01, data: Buffer.from('seven b') }),
  buildRequest({ opcode: 0x01, ahs: Buffer.from('01234567'), data: Buffer.from('and data') }),
  buildRequest({ opcode: 0x05, data: Buffer.from('x') }),
  buildRequest({ opcode: 0x04, data: Buffer.alloc(500, 0x61) }),
];
const EXPECTED: readonly Seen[] = [
  { opcode: 0x00, additional: '', data: '', intact: true },
  { opcode: 0x01, additional: '', data: 'seven b', intact: true },
  { opcode: 0x01, additional: '01234567', data: 'and data', intact: true },
  { opcode: 0x05, additional: '', data: 'x', intact: true },
  { opcode: 0x04, additional: '', data: 'a'.repeat(500), intact: true },
];

describe.each([
  { header: false, data: false },
  { header: true, data: false },
  { header: false, data: true },
  { header: true, data: true },
])('digests %j', (digests) => {
  const stream = Buffer.concat(PDUS.map((pdu) => withDigests(pdu, digests)));

  test('every split into two chunks gives the same PDUs', () => {
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const { framer, seen, errors } = recorder(digests);
      framer.push(stream.subarray(0, cut));
      framer.push(stream.subarray(cut));
      expect(seen).toEqual(EXPECTED);
      expect(errors).toEqual([]);
    }
  });

  test('so do single bytes, and chunks of every other size', () => {
    for (let size = 1; size < 120; size += 1) {
      const { framer, seen } = recorder(digests);
      for (let at = 0; at < stream.length; at += size) framer.push(stream.subarray(at, at + size));
      expect(seen).toEqual(EXPECTED);
    }
  });

  test('data that is split goes straight where it is told to', () => {
    const { framer, seen, destinations, setPlace } = recorder(digests);
    setPlace((bytes) => Buffer.alloc(bytes));
    framer.push(stream.subarray(0, stream.length - 20));
    framer.push(stream.subarray(stream.length - 20));
    expect(seen).toEqual(EXPECTED);
    expect(destinations.map((buffer) => buffer.toString())).toEqual(['a'.repeat(500)]);
  });
});

test.each([1, 2])('a damaged header digest is an error, in %s chunks', (chunks) => {
  const { framer, seen, errors } = recorder({ header: true, data: false });
  const pdu = withDigests(buildRequest({ opcode: 0x01, data: Buffer.from('data') }), { header: true, data: false });
  pdu.writeUInt8(0x7f, 20);
  const cut = chunks === 1 ? pdu.length : 30;
  framer.push(pdu.subarray(0, cut));
  framer.push(pdu.subarray(cut));
  framer.push(pdu);
  expect([seen, errors]).toEqual([[], ['header-digest']]);
});

test.each([1, 2])('a damaged data segment is delivered as such, in %s chunks', (chunks) => {
  const { framer, seen } = recorder({ header: true, data: true });
  const pdu = withDigests(buildRequest({ opcode: 0x01, data: Buffer.from('data') }), { header: true, data: true });
  pdu.writeUInt8(0x7f, 53);
  const cut = chunks === 1 ? pdu.length : 54;
  framer.push(pdu.subarray(0, cut));
  framer.push(pdu.subarray(cut));
  expect(seen.map(({ intact }) => intact)).toEqual([false]);
});

test('a data segment above the limit is an error before any of it is taken', () => {
  const { framer, errors, setPlace } = recorder({ header: false, data: false }, 8192);
  setPlace(() => {
    throw new Error('asked for a place');
  });
  const header = buildRequest({ opcode: 0x01 });
  header.writeUInt32BE(0x00ff_ffff, 4);
  framer.push(header);
  expect(errors).toEqual(['data-too-long']);
});

test('additional header segments belong to commands alone', () => {
  const { framer, errors } = recorder({ header: false, data: false });
  framer.push(buildRequest({ opcode: 0x05, ahs: Buffer.alloc(8) }));
  expect(errors).toEqual(['unexpected-ahs']);
});

test('new limits hold from the PDU after the one that brought them', () => {
  const seen: number[] = [];
  const framer: Framer = new Framer(
    {
      destination: () => undefined,
      pdu: (header) => {
        seen.push(header.readUInt8(0));
        framer.setLimits({ maxDataBytes: 1000, headerDigest: true, dataDigest: true });
      },
      error: (error) => {
        throw new Error(error);
      },
    },
    { maxDataBytes: 1000, headerDigest: false, dataDigest: false },
  );
  const second = withDigests(buildRequest({ opcode: 0x04, data: Buffer.from('abc') }), { header: true, data: true });
  framer.push(Buffer.concat([buildRequest({ opcode: 0x03, data: Buffer.from('login') }), second]));
  expect(seen).toEqual([0x03, 0x04]);
});

test('the rest of a long data segment is received where it belongs, and the stream goes on behind it', () => {
  for (const digests of [
    { header: false, data: false },
    { header: true, data: true },
  ]) {
    for (const bytes of [100_000, 99_999]) {
      const { framer, seen, destinations, setPlace } = recorder(digests, 200_000);
      const data = Buffer.from(Array.from({ length: bytes }, (_, index) => 0x20 + (index % 90)));
      setPlace((length) => Buffer.alloc(length));
      const stream = Buffer.concat(
        [buildRequest({ opcode: 0x05, data }), buildRequest({ opcode: 0x00 })].map((pdu) => withDigests(pdu, digests)),
      );
      let at = 10_000;
      framer.push(stream.subarray(0, at));
      for (let wanted = framer.wanted; wanted !== undefined; wanted = framer.wanted) {
        expect(wanted.buffer).toBe(destinations[0]?.buffer);
        const count = stream.copy(wanted, 0, at, at + Math.min(25_000, wanted.length));
        framer.filled(count);
        at += count;
      }
      framer.push(stream.subarray(at));
      expect(seen).toEqual([
        { opcode: 0x05, additional: '', data: data.toString(), intact: true },
        { opcode: 0x00, additional: '', data: '', intact: true },
      ]);
    }
  }
});
