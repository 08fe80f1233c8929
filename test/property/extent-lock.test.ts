import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MIB } from '../../gateway/base/units.ts';
import { ScsiBench } from '../support/scsi-bench.ts';
import type { Outcome } from '../support/scsi-bench.ts';

const SECTOR = 512;

/** A device whose calls take as many turns of the event loop as the numbers say, one after the other and then again. */
function slow(bench: ScsiBench, turns: readonly number[]): void {
  let calls = 0;
  bench.device.intercept = async () => {
    const wait = turns[calls % turns.length] ?? 0;
    calls += 1;
    for (let turn = 0; turn < wait; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  };
}

function cdb(opcode: number, lba: number, lengthAt: number, count: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes[0] = opcode;
  bytes.writeBigUInt64BE(BigInt(lba), 2);
  bytes[lengthAt] = count;
  return bytes;
}

const read = (lba: number, count: number): Buffer => cdb(0x88, lba, 13, count);
const write = (lba: number, count: number): Buffer => cdb(0x8a, lba, 13, count);
const compareAndWrite = (lba: number, count: number): Buffer => cdb(0x89, lba, 13, count);
const orWrite = (lba: number, count: number): Buffer => cdb(0x8b, lba, 13, count);
const writeAtomic = (lba: number, count: number): Buffer => cdb(0x9c, lba, 13, count);
const writeSame = (lba: number, count: number): Buffer => cdb(0x93, lba, 13, count);
const writeAndVerify = (lba: number, count: number): Buffer => {
  const bytes = cdb(0x8e, lba, 13, count);
  bytes[1] = 0x02;
  return bytes;
};
const unmap = (): Buffer => Buffer.from([0x42, 0, 0, 0, 0, 0, 0, 0, 24 + 16]);

/** An UNMAP parameter list of the extent, and of one sector far away before it. */
function rangesOf(lba: number, count: number): Buffer {
  const list = Buffer.alloc(24 + 16);
  list.writeUInt16BE(32, 2);
  list.writeUInt32BE(100, 12);
  list.writeUInt32BE(1, 16);
  list.writeUInt32BE(lba, 28);
  list.writeUInt32BE(count, 32);
  return list;
}

const turns = fc.array(fc.nat(4), { minLength: 1, maxLength: 7 });

describe('commands that are one action among others', () => {
  it('COMPARE AND WRITE: initiators that count in one sector lose no increment', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 2, max: 6 }),
        fc.integer({ min: 1, max: 8 }),
        turns,
        async (who, each, waits) => {
          const bench = new ScsiBench();
          slow(bench, waits);
          const count = async (): Promise<void> => {
            const nexus = bench.join();
            for (let done = 0; done < each;) {
              const seen = (await bench.run(read(9, 1), undefined, nexus)).data;
              const next = Buffer.from(seen);
              next.writeUInt32BE(seen.readUInt32BE(0) + 1, 0);
              const { status, sense } = await bench.run(compareAndWrite(9, 1), Buffer.concat([seen, next]), nexus);
              if (status === 0) done += 1;
              else expect(sense?.key).toBe(0x0e);
            }
          };
          await Promise.all(Array.from({ length: who }, count));
          expect(bench.device.bytes.readUInt32BE(9 * SECTOR)).toBe(who * each);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('ORWRITE: no bit that was set is lost, and none among plain writes to other sectors', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(31), { minLength: 1, maxLength: 24 }), turns, async (bits, waits) => {
        const bench = new ScsiBench();
        slow(bench, waits);
        await Promise.all(
          bits.flatMap((bit, index) => {
            const mask = Buffer.alloc(2 * SECTOR);
            mask[SECTOR + (bit >> 3)] = 1 << (bit & 7);
            const other = 16 + index;
            return [bench.run(orWrite(3, 2), mask), bench.run(write(other, 1), Buffer.alloc(SECTOR, other))];
          }),
        );
        const expected = Buffer.alloc(4);
        for (const bit of bits) expected[bit >> 3] = (expected[bit >> 3] ?? 0) | (1 << (bit & 7));
        expect(bench.device.bytes.subarray(4 * SECTOR, 4 * SECTOR + 4)).toEqual(expected);
        for (const index of bits.keys()) expect(bench.device.bytes[(16 + index) * SECTOR]).toBe(16 + index);
      }),
      { numRuns: 60 },
    );
  });

  it('the outcome of overlapping commands is that of some order of them', async () => {
    const command = fc.record({
      kind: fc.constantFrom('write', 'or', 'atomic', 'compare', 'same', 'unmap', 'verified'),
      lba: fc.nat(5),
      count: fc.integer({ min: 1, max: 4 }),
      value: fc.integer({ min: 1, max: 255 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 5 }), turns, async (commands, waits) => {
        const bench = new ScsiBench();
        slow(bench, waits);
        const outcomes = await Promise.all(
          commands.map(({ kind, lba, count, value }) => {
            const data = Buffer.alloc(count * SECTOR, value);
            if (kind === 'write') return bench.run(write(lba, count), data);
            if (kind === 'or') return bench.run(orWrite(lba, count), data);
            if (kind === 'atomic') return bench.run(writeAtomic(lba, count), data);
            if (kind === 'same') return bench.run(writeSame(lba, count), data.subarray(0, SECTOR));
            if (kind === 'unmap') return bench.run(unmap(), rangesOf(lba, count));
            if (kind === 'verified') return bench.run(writeAndVerify(lba, count), data);
            return bench.run(compareAndWrite(lba, count), Buffer.concat([Buffer.alloc(count * SECTOR), data]));
          }),
        );
        const seen = Array.from({ length: 9 }, (_, sector) => bench.device.bytes[sector * SECTOR] ?? 0);
        const fits = permutations(commands.length).some((order) => {
          const medium = new Array<number>(9).fill(0);
          const allFit = order.every((index) => {
            const { kind, lba, count, value } = commands[index] ?? { kind: '', lba: 0, count: 0, value: 0 };
            const extent = Array.from({ length: count }, (_, offset) => lba + offset);
            const matches = extent.every((sector) => medium[sector] === 0);
            const succeeded = outcomes[index]?.status === 0;
            if (kind === 'compare' && matches !== succeeded) return false;
            if (kind === 'compare' && !matches) return true;
            if (!succeeded) return false;
            const written = kind === 'unmap' ? 0 : value;
            for (const sector of extent) medium[sector] = kind === 'or' ? (medium[sector] ?? 0) | value : written;
            return true;
          });
          return allFit && medium.every((value, sector) => value === seen[sector]);
        });
        expect(fits, JSON.stringify({ seen, statuses: outcomes.map(({ status }) => status) })).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it('those that go through the device in pieces are whole for those that are atomic', async () => {
    const pieces = 2;
    const count = (pieces * MIB) / SECTOR;
    const places = [0, MIB / SECTOR - 1, MIB / SECTOR, count - 1];
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...places), { minLength: 1, maxLength: 4 }),
        turns,
        async (at, waits) => {
          const bench = new ScsiBench({ bytes: pieces * MIB });
          slow(bench, waits);
          const all = cdb(0x93, 0, 13, 0);
          all.writeUInt32BE(count, 10);
          const swap = Buffer.concat([Buffer.alloc(SECTOR, 5), Buffer.alloc(SECTOR, 6)]);
          const atomic = (lba: number): Promise<Outcome> => bench.run(compareAndWrite(lba, 1), swap);
          const [first, same, ...swapped] = await Promise.all([
            atomic(count - 1),
            bench.run(all, Buffer.alloc(SECTOR, 5)),
            ...[...new Set(at)].map(atomic),
          ]);
          expect([first.status, same.status]).toEqual([2, 0]); // it came before: nothing was there yet
          for (const { status } of swapped) expect(status).toBe(0);
          for (const lba of places) expect(bench.device.bytes[lba * SECTOR]).toBe(at.includes(lba) ? 6 : 5);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('WRITE ATOMIC: a reader sees all of it or nothing', async () => {
    await fc.assert(
      fc.asyncProperty(turns, async (waits) => {
        const bench = new ScsiBench();
        // The device reads sector by sector, as one that has to fetch them from different places does.
        const whole = bench.device.read.bind(bench.device);
        bench.device.read = async (lba, sectors) => {
          const pieces: Buffer[] = [];
          for (let at = 0; at < sectors; at += 1) {
            pieces.push(...(await whole(lba + at, 1)).map((piece) => Buffer.from(piece)));
          }
          return pieces;
        };
        slow(bench, waits);
        let seen = 0;
        const writer = async (): Promise<void> => {
          for (let value = 1; value <= 6; value += 1) {
            await bench.run(writeAtomic(2, 4), Buffer.alloc(4 * SECTOR, value));
          }
        };
        const reader = async (): Promise<void> => {
          for (let times = 0; times < 12; times += 1) {
            const { data } = await bench.run(read(2, 4));
            expect(new Set(data).size).toBe(1);
            seen = Math.max(seen, data[0] ?? 0);
          }
        };
        await Promise.all([writer(), reader(), reader()]);
        expect(seen).toBeGreaterThan(0);
      }),
      { numRuns: 40 },
    );
  });
});

function permutations(count: number): number[][] {
  if (count === 0) return [[]];
  return permutations(count - 1).flatMap((shorter) =>
    Array.from({ length: count }, (_, at) => [...shorter.slice(0, at), count - 1, ...shorter.slice(at)]),
  );
}
