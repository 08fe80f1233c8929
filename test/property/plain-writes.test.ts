import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { KIB } from '../../gateway/base/units.ts';
import { HEADER_BYTES } from '../../gateway/iscsi/constants.ts';
import { dataLengthOf } from '../../gateway/iscsi/requests.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { buildTaskManagement, cdb, read10, write10 } from '../support/iscsi-wire.ts';
import { acts, BYTES, Twin } from '../support/twins.ts';
import type { Act } from '../support/twins.ts';

/**
 * Most writes take a short way (ShortWay.write): they are gathered, logged together and answered without becoming tasks. It must not be told from the
 * long one, neither by what is answered nor by what it leaves behind; only the answers' order may differ, as it may between
 * SIMPLE commands.
 */

vi.setConfig({ testTimeout: 240_000 }); // a last resort against a hang

const ON = { readsAtOnce: true, gathersWrites: true };
const OFF = { readsAtOnce: true, gathersWrites: false };

/** What was sent since the last call: PDUs without their sequence numbers, in an order that does not depend on when each was sent. */
function answers(twin: Twin): string[] {
  const bytes = Buffer.concat(twin.sent);
  twin.sent.length = 0;
  const pdus: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = HEADER_BYTES + Math.ceil(dataLengthOf(bytes, at) / 4) * 4;
    const pdu = Buffer.from(bytes.subarray(at, at + length));
    pdu.fill(0, 24, 36);
    pdus.push(pdu.toString('hex'));
    at += length;
  }
  return pdus.sort();
}

test('whatever a session does, what it is answered on the short way, and what is on the medium then, is what it is on the long one', async () => {
  let short = 0;
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.integer({ min: 1, max: 6 }), async (seed, pause) => {
      const [first, second] = [new Twin(ON), new Twin(OFF)];
      const [some, others] = [first, second].map(() => acts(new SimRandom(seed), 60, 'writes'));
      for (let at = 0; at < 60; at += 1) {
        void some?.[at]?.(first);
        void others?.[at]?.(second);
        if (at % pause !== 0 && at < 59) continue;
        await first.settle();
        await second.settle();
        expect(answers(first)).toEqual(answers(second));
        expect(first.device.bytes.equals(second.device.bytes)).toBe(true);
      }
      expect(first.front.session.expCmdSn).toBe(second.front.session.expCmdSn);
      expect(second.device.gathered).toBe(0);
      short += first.device.gathered;
    }),
    { numRuns: 60 },
  );
  expect(short).toBeGreaterThan(200);
});

const DATA = Buffer.alloc(4096, 7);
const PLAIN = { write: true, expectedBytes: 4096, data: DATA };

function write(twin: Twin, lba = 8): void {
  twin.command(write10(lba, 8), PLAIN);
}

function flagged(byte: number, value: number): Buffer {
  const block = write10(8, 8);
  block.writeUInt8(value, byte);
  return block;
}

function writes(block: Buffer, fields = {}, attribute = 1): Act {
  return (twin) => {
    twin.command(block, { ...PLAIN, ...fields }, attribute);
  };
}

describe('the short way is not taken', () => {
  const held = new Promise<void>(() => undefined);
  const cases: readonly (readonly [string, Act])[] = [
    ['with FUA', writes(flagged(1, 0x08))],
    ['with WRPROTECT', writes(flagged(1, 0x20))],
    ['with NACA', writes(flagged(9, 0x04))],
    ['by WRITE (6)', writes(cdb(0x0a, 0, 8, 8))],
    ['by WRITE AND VERIFY', writes(cdb(0x2e, 0, 0, 0, 0, 8, 0, 0, 8))],
    ['when more is expected than has come', writes(write10(8, 8), { expectedBytes: 8192 })],
    ['when the command is for more than has come', writes(write10(8, 16))],
    ['when more has come than the command is for', writes(write10(8, 4))],
    ['without the W bit', writes(write10(8, 8), { write: false })],
    ['with the R bit', writes(write10(8, 8), { read: true })],
    ['without the F bit', writes(write10(8, 8), { final: false })],
    ['for an ORDERED command', writes(write10(8, 8), {}, 2)],
    ['for a HEAD OF QUEUE command', writes(write10(8, 8), {}, 3)],
    ['for an ACA command', writes(write10(8, 8), {}, 4)],
    ['at a LUN that is not there', writes(write10(8, 8), { lun: 3 })],
    ['past the end', writes(write10(BYTES / 512 - 4, 8))],
    [
      'for an immediate command',
      (twin) => {
        twin.command(write10(8, 8), { ...PLAIN, immediate: true, cmdSn: twin.cmdSn });
      },
    ],
    [
      'ahead of its turn',
      (twin) => {
        twin.command(write10(8, 8), { ...PLAIN, cmdSn: twin.cmdSn + 1 });
      },
    ],
    [
      'by an initiator that may only read',
      (twin) => {
        twin.front.luns.set(0, { device: twin.device, readOnly: true, state: undefined });
        write(twin);
      },
    ],
    [
      'under software write protection',
      async (twin) => {
        const list = Buffer.alloc(4 + 12);
        list.set([0x0a, 0x0a, 0x00, 0x10, 0x08], 4);
        twin.command(cdb(0x15, 0x10, 0, 0, list.length), { write: true, expectedBytes: list.length, data: list });
        await twin.settle();
        twin.command(cdb(0)); // mode parameters may have become an attention
        write(twin);
      },
    ],
    [
      'while a unit attention is pending',
      (twin) => {
        twin.front.push(buildTaskManagement({ function: 5, itt: 9, cmdSn: twin.cmdSn, lun: 0 }));
        write(twin);
      },
    ],
    [
      'while the unit is stopped',
      async (twin) => {
        twin.command(cdb(0x1b));
        await twin.settle();
        write(twin);
      },
    ],
    [
      'while the unit is reserved',
      (twin) => {
        twin.command(cdb(0x16));
        write(twin);
      },
    ],
    [
      'while the device is written as one action',
      (twin) => {
        twin.device.intercept = () => held;
        const data = Buffer.alloc(1024);
        twin.command(cdb(0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), { write: true, expectedBytes: 1024, data });
        twin.device.intercept = undefined;
        write(twin);
      },
    ],
    [
      'while an ORDERED command is about',
      (twin) => {
        twin.device.intercept = () => held;
        twin.command(read10(0, 8), { read: true, expectedBytes: 4096 }, 2);
        twin.device.intercept = undefined;
        write(twin);
      },
    ],
    [
      'for a tag that is in use',
      (twin) => {
        twin.device.intercept = () => held;
        twin.command(read10(0, 8), { read: true, expectedBytes: 4096, itt: 5 });
        twin.device.intercept = undefined;
        twin.command(write10(8, 8), { ...PLAIN, itt: 5 });
      },
    ],
  ];

  for (const [name, act] of cases) {
    test(name, async () => {
      const twin = await new Twin(ON).ready();
      await act(twin);
      expect(twin.device.gathered).toBe(0);
    });
  }

  test('with data that its digest says is damaged', async () => {
    const twin = await new Twin(ON, { dataDigest: true }).ready();
    twin.front.session.receive(twin.pdu(write10(8, 8), PLAIN).subarray(0, HEADER_BYTES), DATA, false);
    expect(twin.device.gathered).toBe(0);
  });
});

describe('gathered writes', () => {
  test('are logged once for all that came in a chunk, and answered then; the log pages count them', async () => {
    const twin = await new Twin(ON).ready();
    let logged = 0;
    twin.device.logging = () => {
      logged += 1;
      return undefined;
    };
    const long = cdb(0x8a);
    long.writeUInt32BE(32, 6);
    long.writeUInt32BE(8, 10);
    twin.front.push(Buffer.concat([twin.pdu(write10(8, 8), PLAIN), twin.pdu(long, PLAIN)]));
    expect([logged, twin.device.gathered, answers(twin).length]).toEqual([1, 2, 2]);
    expect(twin.front.session.tasks.nexusOf(0)?.unit.media.counters).toMatchObject({ writes: 2, writtenBytes: 8192 });
  });

  test('are done before any other command of the chunk is looked at', async () => {
    const twin = await new Twin(ON).ready();
    const order: string[] = [];
    twin.device.logging = () => {
      order.push('logged');
      return undefined;
    };
    twin.device.flush = () => {
      order.push('flushed');
    };
    twin.front.push(Buffer.concat([twin.pdu(write10(8, 8), PLAIN), twin.pdu(cdb(0x35))]));
    expect(order).toEqual(['logged', 'flushed']);
  });

  test('do not share a tag: the second one is refused', async () => {
    const twin = await new Twin(ON).ready();
    const [one, two] = [twin.pdu(write10(8, 8), { ...PLAIN, itt: 5 }), twin.pdu(write10(16, 8), { ...PLAIN, itt: 5 })];
    twin.device.logging = () => new Promise<void>(() => undefined);
    twin.front.push(Buffer.concat([one, two]));
    expect(twin.device.gathered).toBe(1);
    expect(answers(twin).map((pdu) => pdu.slice(0, 2))).toEqual(['3f']);
  });

  test('for which the device needs longer are tasks until it has answered: they can be aborted, and a reset waits for them', async () => {
    const twin = await new Twin(ON).ready();
    let end: () => void = () => undefined;
    twin.device.logging = () =>
      new Promise((resolve) => {
        end = resolve;
      });
    twin.front.push(Buffer.concat([twin.pdu(write10(8, 8), PLAIN), twin.pdu(write10(16, 8), PLAIN)]));
    const { tasks } = twin.front.session;
    expect([tasks.size, answers(twin).length]).toEqual([2, 0]);
    twin.front.push(buildTaskManagement({ function: 5, itt: 9, cmdSn: twin.cmdSn, lun: 0 }));
    expect([tasks.size, tasks.isSettling(), answers(twin).length]).toEqual([0, true, 0]);
    end();
    await twin.settle();
    expect([tasks.isSettling(), answers(twin).map((pdu) => pdu.slice(0, 2))]).toEqual([false, ['22']]);
  });

  test('for which the device needs longer are answered with what became of them', async () => {
    for (const outcome of ['good', 'busy'] as const) {
      const twin = await new Twin(ON).ready();
      twin.device.logging = async () => {
        await Promise.resolve();
        if (outcome === 'busy') throw new FarshoreError('busy', 'later');
      };
      write(twin);
      await twin.settle();
      const [answer = ''] = answers(twin);
      expect(Buffer.from(answer, 'hex').readUInt8(3)).toBe(outcome === 'good' ? 0 : 8);
      expect(twin.front.session.tasks.size).toBe(0);
    }
  });

  test('of a session that ends in the same chunk are logged before it is told that nothing is under way', async () => {
    const twin = await new Twin(ON).ready();
    let isLogged = false;
    twin.device.logging = async () => {
      await Promise.resolve();
      isLogged = true;
    };
    twin.front.session.receive(twin.pdu(write10(8, 8), PLAIN).subarray(0, HEADER_BYTES), DATA, true);
    await twin.front.session.end();
    expect(isLogged).toBe(true);
  });

  test('take the long way beyond the first burst or without immediate data, as the sizes of the login say', async () => {
    const twin = await new Twin(ON).ready();
    const data = Buffer.alloc(256 * KIB);
    twin.command(write10(0, 512), { write: true, expectedBytes: data.length, data });
    expect(twin.device.gathered).toBe(1);
  });
});
