import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Framer } from '../../gateway/iscsi/framer.ts';
import { decodeRequest } from '../../gateway/iscsi/requests.ts';
import {
  encodeAsyncMessage,
  encodeDataIn,
  encodeLoginResponse,
  encodeLogoutResponse,
  encodeNopIn,
  encodeReadyToTransfer,
  encodeReject,
  encodeScsiResponse,
  encodeTaskManagementResponse,
  encodeTextResponse,
} from '../../gateway/iscsi/responses.ts';
import { formatText, parseText } from '../../gateway/iscsi/text.ts';
import { decodeCdb } from '../../gateway/scsi/cdb.ts';
import {
  ResponseParser,
  buildCommand,
  buildDataOut,
  buildLogin,
  buildRequest,
  buildTaskManagement,
  withDigests,
} from '../support/iscsi-wire.ts';
import type { Response } from '../support/iscsi-wire.ts';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u24 = fc.integer({ min: 0, max: 0x00ff_ffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const byte = fc.integer({ min: 0, max: 0xff });
const sequence = fc.record({ statSn: u32, expCmdSn: u32, maxCmdSn: u32 });
const residual = fc.record({ kind: fc.constantFrom('none', 'overflow', 'underflow'), bytes: u32 });
const isid = fc.uint8Array({ minLength: 6, maxLength: 6 }).map((bytes) => Buffer.from(bytes).toString('hex'));

/** What an encoder writes, as the test's own parser reads it; the buffer is dirty before. */
function parsed(encode: (into: Buffer, at: number) => void): Response {
  const into = Buffer.alloc(64, 0xa5);
  encode(into, 8);
  expect(into.subarray(0, 8).every((value) => value === 0xa5)).toBe(true);
  expect(into.subarray(56).every((value) => value === 0xa5)).toBe(true);
  const header = into.subarray(8, 56);
  const parser = new ResponseParser();
  parser.push(Buffer.concat([header, Buffer.alloc((header.readUInt32BE(4) + 3) & 0xff_fffc)]));
  const response = parser.next();
  if (response === undefined) throw new Error('no whole PDU');
  return response;
}

describe('requests decode to what was built', () => {
  test('SCSI Command', () => {
    fc.assert(
      fc.property(
        fc.record({
          cdb: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes)),
          lun: byte,
          itt: u32,
          cmdSn: u32,
          read: fc.boolean(),
          write: fc.boolean(),
          final: fc.boolean(),
          immediate: fc.boolean(),
          expectedBytes: u32,
        }),
        (fields) => {
          const { itt, ...rest } = fields;
          expect(decodeRequest(buildCommand(fields))).toMatchObject({
            kind: 'scsi-command',
            initiatorTaskTag: itt,
            attribute: 1,
            ...rest,
          });
        },
      ),
    );
  });

  test('Data-Out, Task Management and Login', () => {
    fc.assert(
      fc.property(u32, u32, u32, u32, fc.boolean(), isid, u16, (a, b, c, d, flag, session, e) => {
        expect(
          decodeRequest(buildDataOut({ itt: a, ttt: b, dataSn: c, offset: d, final: flag, data: Buffer.alloc(0) })),
        ).toMatchObject({ initiatorTaskTag: a, targetTransferTag: b, dataSn: c, bufferOffset: d, final: flag });
        expect(
          decodeRequest(
            buildTaskManagement({ function: e & 0x7f, itt: a, cmdSn: b, rtt: c, refCmdSn: d, lun: e & 0xff }),
          ),
        ).toMatchObject({
          function: e & 0x7f,
          initiatorTaskTag: a,
          cmdSn: b,
          referencedTaskTag: c,
          refCmdSn: d,
          lun: e & 0xff,
          immediate: true,
        });
        expect(
          decodeRequest(buildLogin({ isid: session, tsih: e, itt: a, cmdSn: b, transit: flag, csg: e & 3, nsg: 3 })),
        ).toMatchObject({ isid: session, tsih: e, initiatorTaskTag: a, cmdSn: b, transit: flag, currentStage: e & 3 });
      }),
    );
  });
});

describe('responses are what was to be said', () => {
  test('SCSI Response and Data-In', () => {
    fc.assert(
      fc.property(
        u32,
        byte,
        u32,
        residual,
        u24,
        u32,
        fc.boolean(),
        sequence,
        (itt, status, sn, rest, dataBytes, offset, last, seq) => {
          const flags = { none: 0, overflow: 0x04, underflow: 0x02 }[rest.kind];
          const response = parsed((into, at) => {
            encodeScsiResponse(
              into,
              at,
              { initiatorTaskTag: itt, status, expDataSn: sn, residual: rest, dataBytes: 20 },
              seq,
            );
          });
          expect(response).toMatchObject({ opcode: 0x21, flags: 0x80 | flags, byte2: 0, byte3: status, itt, ...seq });
          expect([response.word36, response.word44, response.data.length]).toEqual([sn, rest.bytes, 20]);
          const data = parsed((into, at) => {
            encodeDataIn(
              into,
              at,
              {
                initiatorTaskTag: itt,
                final: last,
                status: last,
                dataSn: sn,
                bufferOffset: offset,
                dataBytes: dataBytes & 0xff,
                residual: rest,
              },
              seq,
            );
          });
          expect(data).toMatchObject({
            opcode: 0x25,
            flags: last ? 0x81 | flags : 0,
            itt,
            word20: 0xffff_ffff,
            word36: sn,
            word40: offset,
          });
          expect(data.statSn).toBe(last ? seq.statSn : 0);
        },
      ),
    );
  });

  test('the others', () => {
    fc.assert(
      fc.property(
        u32,
        u32,
        u32,
        u32,
        byte,
        fc.boolean(),
        isid,
        u16,
        sequence,
        (a, b, c, d, code, flag, session, e, seq) => {
          const r2t = {
            lun: code,
            initiatorTaskTag: a,
            targetTransferTag: b,
            r2tSn: c,
            bufferOffset: d,
            desiredBytes: e,
          };
          expect(
            parsed((into, at) => {
              encodeReadyToTransfer(into, at, r2t, seq);
            }),
          ).toMatchObject({
            opcode: 0x31,
            flags: 0x80,
            lun: code,
            itt: a,
            word20: b,
            word36: c,
            word40: d,
            word44: e,
            ...seq,
          });
          const tag = { initiatorTaskTag: a, response: code };
          expect(
            parsed((into, at) => {
              encodeTaskManagementResponse(into, at, tag, seq);
            }),
          ).toMatchObject({
            opcode: 0x22,
            flags: 0x80,
            byte2: code,
            itt: a,
            ...seq,
          });
          expect(
            parsed((into, at) => {
              encodeLogoutResponse(into, at, tag, seq);
            }),
          ).toMatchObject({
            opcode: 0x26,
            flags: 0x80,
            byte2: code,
            itt: a,
            word40: 0,
            ...seq,
          });
          const login = {
            transit: flag,
            continued: !flag,
            currentStage: 1,
            nextStage: 3,
            isid: session,
            tsih: e,
            initiatorTaskTag: a,
            status: 0x0203,
            dataBytes: 4,
          };
          expect(
            parsed((into, at) => {
              encodeLoginResponse(into, at, login, seq);
            }),
          ).toMatchObject({
            opcode: 0x23,
            flags: flag ? 0x87 : 0x44,
            byte2: 0,
            byte3: 0,
            isid: session,
            tsih: e,
            itt: a,
            word36: 0x0203_0000,
            ...seq,
          });
          const text = { final: flag, continued: !flag, initiatorTaskTag: a, targetTransferTag: b, dataBytes: 7 };
          expect(
            parsed((into, at) => {
              encodeTextResponse(into, at, text, seq);
            }),
          ).toMatchObject({
            opcode: 0x24,
            flags: flag ? 0x80 : 0x40,
            itt: a,
            word20: b,
            ...seq,
          });
          const nop = { initiatorTaskTag: a, targetTransferTag: b, lun: undefined, dataBytes: 9 };
          expect(
            parsed((into, at) => {
              encodeNopIn(into, at, nop, seq);
            }),
          ).toMatchObject({ opcode: 0x20, flags: 0x80, itt: a, word20: b, ...seq });
          const message = { event: code, parameter1: e, parameter2: e ^ 1, parameter3: e ^ 2 };
          expect(
            parsed((into, at) => {
              encodeAsyncMessage(into, at, message, seq);
            }),
          ).toMatchObject({
            opcode: 0x32,
            itt: 0xffff_ffff,
            word36: code * 2 ** 24 + e,
            word40: (((e ^ 1) << 16) | (e ^ 2)) >>> 0,
            ...seq,
          });
          expect(
            parsed((into, at) => {
              encodeReject(into, at, { reason: code, dataBytes: 48 }, seq);
            }),
          ).toMatchObject({
            opcode: 0x3f,
            flags: 0x80,
            byte2: code,
            itt: 0xffff_ffff,
            ...seq,
          });
        },
      ),
    );
  });
});

test('text survives formatting and parsing', () => {
  const key = fc.stringMatching(/^[A-Z][A-Za-z0-9.+@_-]{0,40}$/);
  const value = fc.stringMatching(/^[ -~]{0,200}$/);
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(key, value), { selector: ([name]) => name, maxLength: 40 }), (pairs) => {
      expect(parseText(formatText(pairs))).toEqual(pairs);
    }),
  );
});

test('no bytes make a decoder fail', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 48, maxLength: 48 }), fc.uint8Array({ maxLength: 400 }), (header, text) => {
      decodeRequest(Buffer.from(header));
      decodeCdb(Buffer.from(header.subarray(0, 16)));
      parseText(Buffer.from(text));
    }),
    { numRuns: 2000 },
  );
});

test('no byte stream makes the framer fail, deliver too much, or depend on how it is cut', () => {
  const deliver = (stream: Buffer, cuts: readonly number[], digests: boolean): unknown[] => {
    const seen: unknown[] = [];
    const framer = new Framer(
      {
        destination: (_header, bytes) => Buffer.alloc(bytes),
        pdu: (header, additional, data, intact) => {
          expect(data.length).toBeLessThanOrEqual(300);
          seen.push([header.toString('hex'), additional.toString('hex'), data.toString('hex'), intact]);
        },
        error: (error) => seen.push(error),
      },
      { maxDataBytes: 300, headerDigest: digests, dataDigest: digests },
    );
    let at = 0;
    for (const cut of [...cuts].sort((a, b) => a - b)) {
      framer.push(stream.subarray(at, Math.max(at, cut)));
      at = Math.max(at, cut);
    }
    framer.push(stream.subarray(at));
    return seen;
  };
  // Lengths are kept small in half of the headers, so that whole PDUs come about.
  const header = fc.uint8Array({ minLength: 48, maxLength: 48 }).map((bytes) => {
    const copy = Buffer.from(bytes);
    if ((copy[47] ?? 0) % 2 === 0) copy.writeUInt32BE(copy.readUInt8(7), 4);
    return copy;
  });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(header, fc.uint8Array({ maxLength: 300 })), { maxLength: 6 }),
      fc.array(fc.nat(2000), { maxLength: 8 }),
      fc.boolean(),
      (parts, cuts, digests) => {
        const stream = Buffer.concat(parts.flatMap(([start, rest]) => [start, Buffer.from(rest)]));
        expect(deliver(stream, cuts, digests)).toEqual(deliver(stream, [], digests));
      },
    ),
    { numRuns: 500 },
  );
});

describe('every kind of request', { timeout: 240_000 }, () => {
  const DATA = Buffer.from('key=value\0key2=value2\0');
  const one = fc.sample(fc.uint8Array({ minLength: 16, maxLength: 16 }), { seed: 1, numRuns: 1 })[0] ?? [];
  const REQUESTS: readonly Buffer[] = [
    ...[0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x1c].map((opcode) =>
      buildRequest({
        opcode,
        itt: 7,
        word20: 9,
        cmdSn: 11,
        expStatSn: 13,
        word32: 1,
        word36: 2,
        word40: 3,
        data: DATA,
      }),
    ),
    buildRequest({ opcode: 0x01, itt: 8, ahs: Buffer.from(one).subarray(0, 12), data: DATA.subarray(0, 5) }),
    buildRequest({ opcode: 0x06, itt: 9 }),
  ];
  const LIMITS = [false, true].flatMap((headerDigest) =>
    [false, true].map((dataDigest) => ({ maxDataBytes: 300, headerDigest, dataDigest })),
  );

  /** What the framer makes of these chunks: each PDU with its decoded header, or an error. */
  function framed(chunks: readonly Buffer[], limits: (typeof LIMITS)[number]): string[] {
    const seen: string[] = [];
    const framer = new Framer(
      {
        destination: () => undefined,
        pdu: (header, additional, data, intact) => {
          const request = decodeRequest(Buffer.from(header));
          if (request.kind === 'scsi-command') decodeCdb(request.cdb);
          parseText(data);
          seen.push([JSON.stringify(request), additional.toString('hex'), data.toString('hex'), intact].join(' '));
        },
        error: (error) => seen.push(error),
      },
      limits,
    );
    for (const chunk of chunks) framer.push(chunk);
    return seen;
  }

  const wire = (limits: (typeof LIMITS)[number]): Buffer[] =>
    REQUESTS.map((pdu) => withDigests(pdu, { header: limits.headerDigest, data: limits.dataDigest }));

  test('is the same cut in two at every byte, and all of them in single bytes', () => {
    for (const limits of LIMITS) {
      const stream = Buffer.concat(wire(limits));
      const whole = framed([stream], limits);
      expect(whole).toHaveLength(REQUESTS.length);
      for (let cut = 0; cut <= stream.length; cut += 1)
        expect(framed([stream.subarray(0, cut), stream.subarray(cut)], limits).join('\n')).toBe(whole.join('\n'));
      expect(
        framed(
          [...stream].map((value) => Buffer.from([value])),
          limits,
        ),
      ).toEqual(whole);
    }
  });

  test('cut short at every byte is not delivered', () => {
    for (const limits of LIMITS)
      for (const pdu of wire(limits))
        for (let length = 0; length < pdu.length; length += 1)
          expect(framed([pdu.subarray(0, length)], limits)).toEqual([]);
  });

  test('with every bit flipped is delivered or refused, and never as it was where digests guard it', () => {
    for (const limits of LIMITS) {
      for (const pdu of wire(limits)) {
        const [sound] = framed([pdu], limits);
        for (let bit = 0; bit < pdu.length * 8; bit += 1) {
          const flipped = Buffer.from(pdu);
          flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
          // What follows gives a PDU that has become longer its rest.
          const seen = framed([flipped, Buffer.alloc(1400)], limits);
          if (limits.headerDigest && limits.dataDigest) expect(sound !== undefined && seen.includes(sound)).toBe(false);
        }
      }
    }
  });
});
