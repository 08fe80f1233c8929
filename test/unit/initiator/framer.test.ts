import { describe, expect, it } from 'vitest';
import { InboundFramer } from '../../../gateway/initiator/framer.ts';
import { pdu } from './target-pdus.ts';

const DATA = Buffer.from(Array.from({ length: 13 }, (_, index) => index + 1));

/** Three PDUs: with data that needs padding, without data, with aligned data. */
function stream(digests: { header: boolean; data: boolean }): Buffer {
  return Buffer.concat([
    pdu({ opcode: 0x25, words: { 16: 7 }, data: DATA }, digests),
    pdu({ opcode: 0x21, words: { 16: 8 } }, digests),
    pdu({ opcode: 0x3f, words: { 16: 9 }, data: DATA.subarray(0, 12) }, digests),
  ]);
}

interface Seen {
  readonly opcode: number;
  readonly tag: number;
  readonly data: string;
}

function collect(
  chunks: readonly Buffer[],
  digests: { header: boolean; data: boolean },
  place: boolean,
  drop = false,
): Seen[] {
  const seen: Seen[] = [];
  const destination = Buffer.alloc(64);
  const framer = new InboundFramer(
    {
      destination: (_header, _at, length) => (drop ? 'drop' : place ? destination.subarray(0, length) : undefined),
      pdu: (header, at, data, dataAt, dataLength, placed) => {
        const bytes = placed ? destination.subarray(0, dataLength) : data.subarray(dataAt, dataAt + dataLength);
        seen.push({ opcode: header[at] ?? 0, tag: header.readUInt32BE(at + 16), data: bytes.toString('hex') });
      },
    },
    1024,
  );
  framer.headerDigest = digests.header;
  framer.dataDigest = digests.data;
  // Each chunk lies somewhere in a reused buffer, as chunks from a socket do.
  const received = Buffer.alloc(4096);
  for (const chunk of chunks) {
    received.fill(0xee);
    chunk.copy(received, 5);
    framer.push(received, 5, 5 + chunk.length);
  }
  return seen;
}

const EXPECTED: Seen[] = [
  { opcode: 0x25, tag: 7, data: DATA.toString('hex') },
  { opcode: 0x21, tag: 8, data: '' },
  { opcode: 0x3f, tag: 9, data: DATA.subarray(0, 12).toString('hex') },
];

describe('the inbound framer', () => {
  for (const header of [false, true]) {
    for (const data of [false, true]) {
      const digests = { header, data };
      const whole = stream(digests);

      it(`finds the same PDUs for every split in two (digests ${JSON.stringify(digests)})`, () => {
        for (const place of [false, true]) {
          for (let at = 0; at <= whole.length; at += 1) {
            expect(collect([whole.subarray(0, at), whole.subarray(at)], digests, place), `split at ${at}`).toEqual(
              EXPECTED,
            );
          }
        }
      });

      it(`finds them byte by byte (digests ${JSON.stringify(digests)})`, () => {
        const bytes = Array.from(whole, (_, at) => whole.subarray(at, at + 1));
        expect(collect(bytes, digests, true)).toEqual(EXPECTED);
      });
    }
  }

  it('drops data that nobody wants, and finds the next PDU all the same', () => {
    for (const digests of [
      { header: false, data: false },
      { header: true, data: true },
    ]) {
      const whole = stream(digests);
      for (let at = 1; at < whole.length; at += 1) {
        const seen = collect([whole.subarray(0, at), whole.subarray(at)], digests, false, true);
        expect(seen.map(({ tag }) => tag)).toEqual([7, 8, 9]);
      }
    }
  });

  it('refuses a PDU with a bad header or data digest, whole or in pieces', () => {
    const good = pdu({ opcode: 0x25, data: DATA }, { header: true, data: true });
    for (const at of [3, 20, 49, 53, 60, good.length - 1]) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 0x10;
      // A damaged length field is caught by the header digest, once enough bytes have come.
      expect(() => collect([bad, Buffer.alloc(64)], { header: true, data: true }, false), `byte ${at}`).toThrow(
        /digest/,
      );
      const pieces = [bad.subarray(0, 50), bad.subarray(50), Buffer.alloc(64)];
      expect(() => collect(pieces, { header: true, data: true }, false), `byte ${at}`).toThrow(/digest/);
    }
  });

  it('refuses a data segment longer than it allowed', () => {
    const long = pdu({ opcode: 0x25, data: Buffer.alloc(1025) });
    expect(() => collect([long], { header: false, data: false }, false)).toThrow(/more than the 1024/);
    expect(() => collect([long.subarray(0, 40), long.subarray(40)], { header: false, data: false }, false)).toThrow(
      /more than the 1024/,
    );
  });

  it('skips additional header segments', () => {
    const base = pdu({ opcode: 0x21, bytes: { 4: 2 }, words: { 16: 5 } });
    const withExtra = Buffer.concat([base, Buffer.alloc(8, 0xaa), pdu({ opcode: 0x31, words: { 16: 6 } })]);
    for (let at = 0; at <= withExtra.length; at += 1) {
      const seen = collect([withExtra.subarray(0, at), withExtra.subarray(at)], { header: false, data: false }, false);
      expect(seen.map(({ tag }) => tag)).toEqual([5, 6]);
    }
  });
});
