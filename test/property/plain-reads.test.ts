import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { KIB } from '../../gateway/base/units.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { buildTaskManagement, cdb, read10 } from '../support/iscsi-wire.ts';
import { acts, BYTES, Twin } from '../support/twins.ts';
import type { Act } from '../support/twins.ts';

/**
 * Most reads are answered on a short way (ShortWay.read). It must not be told from the long one: neither by what is said, byte
 * for byte, nor by what it leaves behind. A device that cannot read at once always has the long way.
 */

vi.setConfig({ testTimeout: 240_000 }); // a last resort against a hang

/** Gathered writes are answered a little later than the reads after them. */
const WAYS = { readsAtOnce: true, gathersWrites: false };

test('whatever a session does, what it is answered on the short way is byte for byte what it is answered on the long one', async () => {
  let short = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.nat(),
      fc.constantFrom(512, 8 * KIB, 256 * KIB),
      fc.integer({ min: 1, max: 6 }),
      async (seed, maxRecvBytes, pause) => {
        const twins = [true, false].map(
          (readsAtOnce) => new Twin({ readsAtOnce, gathersWrites: false }, { maxRecvBytes }),
        );
        for (const twin of twins) {
          const random = new SimRandom(seed);
          for (const [at, act] of acts(random, 60, 'reads').entries()) {
            void act(twin);
            if (at % pause === 0) await twin.settle();
          }
          await twin.settle();
        }
        const [first, second] = twins;
        expect(Buffer.concat(first?.sent ?? []).equals(Buffer.concat(second?.sent ?? []))).toBe(true);
        expect(first?.device.bytes.equals(second?.device.bytes ?? Buffer.alloc(0))).toBe(true);
        expect(first?.front.readBudget.usedBytes).toBe(second?.front.readBudget.usedBytes);
        expect(second?.device.readAtOnce).toBe(0);
        short += first?.device.readAtOnce ?? 0;
      },
    ),
    { numRuns: 60 },
  );
  expect(short).toBeGreaterThan(200);
});

describe('the short way is not taken', () => {
  const PLAIN = { read: true, expectedBytes: 4096 };
  const read = (twin: Twin): void => {
    twin.command(read10(8, 8), PLAIN);
  };
  const flagged = (byte: number, value: number): Buffer => {
    const block = read10(8, 8);
    block.writeUInt8(value, byte);
    return block;
  };
  const modeSelect = (byte: number, mask: number): Act => {
    const list = Buffer.alloc(4 + 12);
    list.set([0x0a, 0x0a, 0x00, 0x10], 4);
    list.writeUInt8(list.readUInt8(4 + byte) | mask, 4 + byte);
    return (twin) => {
      twin.command(cdb(0x15, 0x10, 0, 0, list.length), { write: true, expectedBytes: list.length, data: list });
    };
  };
  const cases: readonly (readonly [string, Act])[] = [
    [
      'with FUA',
      (twin) => {
        twin.command(flagged(1, 0x08), PLAIN);
      },
    ],
    [
      'with RDPROTECT',
      (twin) => {
        twin.command(flagged(1, 0x20), PLAIN);
      },
    ],
    [
      'with NACA',
      (twin) => {
        twin.command(flagged(9, 0x04), PLAIN);
      },
    ],
    [
      'by READ (6)',
      (twin) => {
        twin.command(cdb(0x08, 0, 8, 8), PLAIN);
      },
    ],
    [
      'by READ (12)',
      (twin) => {
        twin.command(cdb(0xa8, 0, 0, 0, 0, 8, 0, 0, 0, 8), PLAIN);
      },
    ],
    [
      'for no sectors',
      (twin) => {
        twin.command(read10(8, 0), { read: true, expectedBytes: 0 });
      },
    ],
    [
      'when less is expected',
      (twin) => {
        twin.command(read10(8, 8), { read: true, expectedBytes: 4000 });
      },
    ],
    [
      'when more is expected',
      (twin) => {
        twin.command(read10(8, 8), { read: true, expectedBytes: 8192 });
      },
    ],
    [
      'without the R bit',
      (twin) => {
        twin.command(read10(8, 8), { expectedBytes: 4096 });
      },
    ],
    [
      'with the W bit',
      (twin) => {
        twin.command(read10(8, 8), { ...PLAIN, write: true });
      },
    ],
    [
      'without the F bit',
      (twin) => {
        twin.command(read10(8, 8), { ...PLAIN, final: false });
      },
    ],
    [
      'with data',
      (twin) => {
        twin.command(read10(8, 8), { ...PLAIN, data: Buffer.alloc(4) });
      },
    ],
    [
      'for an immediate command',
      (twin) => {
        twin.command(read10(8, 8), { ...PLAIN, immediate: true, cmdSn: twin.cmdSn });
      },
    ],
    [
      'for an ORDERED command',
      (twin) => {
        twin.command(read10(8, 8), PLAIN, 2);
      },
    ],
    [
      'for a HEAD OF QUEUE command',
      (twin) => {
        twin.command(read10(8, 8), PLAIN, 3);
      },
    ],
    [
      'for an ACA command',
      (twin) => {
        twin.command(read10(8, 8), PLAIN, 4);
      },
    ],
    [
      'at a LUN that is not there',
      (twin) => {
        twin.command(read10(8, 8), { ...PLAIN, lun: 3 });
      },
    ],
    [
      'past the end',
      (twin) => {
        twin.command(read10(BYTES / 512 - 4, 8), PLAIN);
      },
    ],
    [
      'for more than one PDU holds',
      (twin) => {
        twin.command(read10(0, 1000), { read: true, expectedBytes: 512_000 });
      },
    ],
    [
      'outside the command window',
      (twin) => {
        twin.command(read10(8, 8), { ...PLAIN, cmdSn: twin.cmdSn + 5000 });
      },
    ],
    [
      'ahead of its turn',
      (twin) => {
        twin.command(read10(8, 8), { ...PLAIN, cmdSn: twin.cmdSn + 1 });
      },
    ],
    [
      'while a unit attention is pending',
      (twin) => {
        twin.front.push(buildTaskManagement({ function: 5, itt: 9, cmdSn: twin.cmdSn, lun: 0 }));
        read(twin);
      },
    ],
    [
      'when the capacity has changed',
      (twin) => {
        twin.device.resize(500);
        read(twin);
      },
    ],
    [
      'while the unit is stopped',
      async (twin) => {
        twin.command(cdb(0x1b));
        await twin.settle();
        read(twin);
      },
    ],
    [
      'while the unit is reserved',
      (twin) => {
        twin.command(cdb(0x16));
        read(twin);
      },
    ],
    [
      'while the device is written as one action',
      (twin) => {
        const held = new Promise<void>(() => undefined);
        twin.device.intercept = () => held;
        const data = Buffer.alloc(1024);
        twin.command(cdb(0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), { write: true, expectedBytes: 1024, data });
        twin.device.intercept = undefined;
        read(twin);
      },
    ],
    [
      'while an ORDERED command is about',
      (twin) => {
        const held = new Promise<void>(() => undefined);
        twin.device.intercept = () => held;
        twin.command(read10(0, 8), PLAIN, 2);
        twin.device.intercept = undefined;
        read(twin);
      },
    ],
    [
      'for a tag that is in use',
      (twin) => {
        const held = new Promise<void>(() => undefined);
        twin.device.intercept = () => held;
        twin.command(read10(0, 8), { ...PLAIN, itt: 5 });
        twin.device.intercept = undefined;
        twin.command(read10(0, 8), { ...PLAIN, itt: 5 });
      },
    ],
  ];

  for (const [name, act] of cases) {
    test(name, async () => {
      const twin = await new Twin(WAYS).ready();
      expect(twin.device.readAtOnce).toBe(0);
      await act(twin);
      expect(twin.device.readAtOnce).toBe(0);
    });
  }

  test('with digests', async () => {
    for (const digests of [{ headerDigest: true }, { dataDigest: true }]) {
      const twin = await new Twin(WAYS, digests).ready();
      read(twin);
      expect(twin.device.readAtOnce).toBe(0);
    }
  });

  test('to its end while the session has no room for reads: it waits for that like any other', async () => {
    const twin = await new Twin(WAYS).ready();
    const held = new Promise<void>(() => undefined);
    twin.device.intercept = () => held;
    for (let at = 0; at < 16; at += 1) twin.command(read10(0, 1024), { read: true, expectedBytes: BYTES });
    twin.device.intercept = undefined;
    read(twin);
    expect(twin.sent).toHaveLength(0);
    expect(twin.front.session.tasks.size).toBe(17);
  });

  test('with software write protection or descriptor sense data it may be: neither is about reads that succeed', async () => {
    for (const act of [modeSelect(4, 0x08), modeSelect(2, 0x04)]) {
      const twin = await new Twin(WAYS).ready();
      await act(twin);
      await twin.settle();
      twin.command(cdb(0)); // mode parameters may have become an attention
      read(twin);
      expect(twin.device.readAtOnce).toBe(1);
    }
  });

  test('otherwise it is, for both lengths of the CDB, and the log pages count it', async () => {
    const twin = await new Twin(WAYS).ready();
    read(twin);
    const long = cdb(0x88);
    long.writeUInt32BE(8, 6);
    long.writeUInt32BE(8, 10);
    twin.command(long, PLAIN);
    expect(twin.device.readAtOnce).toBe(2);
    const answer = twin.sent.at(-1);
    expect(answer?.subarray(48).equals(twin.device.bytes.subarray(4096, 8192))).toBe(true);
    const nexus = twin.front.session.tasks.nexusOf(0);
    expect(nexus?.unit.media.counters).toMatchObject({ reads: 2, readBytes: 8192, readSectors: 16 });
  });
});
