import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { address, decodeAttributes, encodeAttributes, readText, text } from '../../gateway/isns/attributes.ts';
import { decodeResponse, periodIn, portalKeyOf, seenIn } from '../../gateway/isns/messages.ts';
import { encodeMessage, MAX_SENT_PAYLOAD, type Message, MessageReader } from '../../gateway/isns/pdu.ts';
import { buildPdu, tlvBytes } from '../support/isns-server.ts';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const words = (maxWords: number): fc.Arbitrary<Buffer> =>
  fc.array(u32, { maxLength: maxWords }).map((list) => {
    const bytes = Buffer.alloc(list.length * 4);
    for (const [index, word] of list.entries()) bytes.writeUInt32BE(word, index * 4);
    return bytes;
  });
const message: fc.Arbitrary<Message> = fc.record({
  functionId: u16,
  transactionId: u16,
  flags: fc.constantFrom(0x8000, 0x4000, 0x9000),
  payload: fc.oneof(words(20), words(3000)),
});

const readAll = (bytes: Buffer, cuts: readonly number[]): Message[] => {
  const reader = new MessageReader();
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let from = 0;
  return ends.flatMap((end) => {
    const messages = reader.push(bytes.subarray(from, end));
    from = end;
    return messages;
  });
};

/** Bytes of a server as hostile as may be: only a FarshoreError of kind `damaged` may come of them. */
function survives(work: () => void): void {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(FarshoreError);
    expect(error).toMatchObject({ kind: 'damaged' });
  }
}

describe('messages', () => {
  test('come out as they went in, over any number of PDUs, cut anywhere', () => {
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 3 }),
        fc.array(fc.nat(), { maxLength: 8 }),
        (sent, cuts) => {
          expect(readAll(Buffer.concat(sent.map(encodeMessage)), cuts)).toEqual(sent);
        },
      ),
    );
  });

  test('are sent in PDUs of which none is too long, numbered and marked as RFC 4171 5.2 says', () => {
    fc.assert(
      fc.property(message, (sent) => {
        const bytes = encodeMessage(sent);
        const pdus: Buffer[] = [];
        for (let at = 0; at < bytes.length; at += 12 + bytes.readUInt16BE(at + 4)) pdus.push(bytes.subarray(at));
        for (const [index, pdu] of pdus.entries()) {
          expect(pdu.readUInt16BE(4)).toBeLessThanOrEqual(MAX_SENT_PAYLOAD);
          expect(pdu.readUInt16BE(10)).toBe(index);
          expect((pdu.readUInt16BE(6) & 0x0400) !== 0).toBe(index === 0);
          expect((pdu.readUInt16BE(6) & 0x0800) !== 0).toBe(index === pdus.length - 1);
        }
      }),
    );
  });

  test('of one PDU are byte for byte what the test builds itself', () => {
    fc.assert(
      fc.property(u16, u16, words(20), (functionId, transactionId, payload) => {
        const built = buildPdu({ functionId, transactionId, payload, flags: 0x8c00 });
        expect(encodeMessage({ functionId, transactionId, payload, flags: 0x8000 })).toEqual(built);
      }),
    );
  });

  test('cut off anywhere wait for the rest; with any bit turned they do no harm', () => {
    const payload = Buffer.concat([
      Buffer.alloc(4),
      tlvBytes([
        [1, 'entity'],
        [0, Buffer.alloc(0)],
        [6, 600],
        [32, 'iqn.x'],
      ]),
    ]);
    const whole = buildPdu({ functionId: 0x8002, transactionId: 7, payload });
    for (let length = 0; length < whole.length; length += 1)
      expect(new MessageReader().push(whole.subarray(0, length))).toEqual([]);
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const damaged = Buffer.from(whole);
      damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      survives(() => {
        for (const each of new MessageReader().push(damaged)) {
          const response = decodeResponse(each.payload);
          periodIn(response);
          seenIn(response);
        }
      });
    }
  });

  test('of random bytes do no harm', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 8 }), (chunks) => {
        survives(() => {
          const reader = new MessageReader();
          for (const chunk of chunks) reader.push(Buffer.from(chunk));
        });
        survives(() => {
          seenIn(decodeResponse(Buffer.concat(chunks)));
        });
      }),
    );
  });
});

describe('attributes', () => {
  test('come out as they went in, and are what the test builds itself', () => {
    const attribute = fc.record({ tag: u16, value: words(10) });
    fc.assert(
      fc.property(fc.array(attribute, { maxLength: 10 }), words(2), (attributes, before) => {
        const bytes = encodeAttributes(attributes);
        expect(bytes).toEqual(tlvBytes(attributes.map(({ tag, value }) => [tag, value])));
        expect(decodeAttributes(Buffer.concat([before, bytes]), before.length)).toEqual(attributes);
      }),
    );
  });

  test('of text are closed by NUL, padded, within their limit and cut off at whole characters', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 100 }),
        fc.constantFrom(4, 64, 224, 256),
        (value, maxBytes) => {
          const { value: bytes } = text(32, value, maxBytes);
          expect(bytes.length % 4).toBe(0);
          expect(bytes.length).toBeLessThanOrEqual(maxBytes);
          expect(bytes.at(-1)).toBe(0);
          const shown = Buffer.from(value.split('\0')[0] ?? '').toString();
          expect(shown.startsWith(readText(bytes))).toBe(true);
          if (Buffer.byteLength(shown) < maxBytes) expect(readText(bytes)).toBe(shown);
        },
      ),
    );
  });

  test('of addresses are the address, however it is written', () => {
    fc.assert(
      fc.property(fc.ipV6(), (host) => {
        const hex = address(16, host).value.toString('hex');
        const groups = (hex.match(/.{4}/g) ?? []).join(':');
        expect(new URL(`http://[${groups}]/`).hostname).toBe(new URL(`http://[${host}]/`).hostname);
      }),
    );
    fc.assert(
      fc.property(fc.ipV4(), fc.integer({ min: 0, max: 65535 }), (host, port) => {
        const [a = 0, b = 0, c = 0, d = 0] = host.split('.').map(Number);
        const bytes = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d, 0, 0, port >> 8, port & 255]);
        expect(portalKeyOf({ host, port })).toBe(bytes.toString('hex'));
        expect(portalKeyOf({ host: `::ffff:${host}`, port })).toBe(bytes.toString('hex'));
      }),
    );
    expect(() => address(16, 'gateway.example')).toThrow(/not an IP address/);
  });
});
