import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { MIB } from '../../gateway/base/units.ts';
import { decodeCdb } from '../../gateway/scsi/cdb.ts';
import { leavesTraces } from '../../gateway/scsi/traits.ts';
import { anyCommand, reservationCommand } from '../fuzz/commands.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { ScsiBench } from '../support/scsi-bench.ts';

const byte = fc.integer({ min: 0, max: 0xff });
const block = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes));
const parameters = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));

vi.setConfig({ testTimeout: 240_000 }); // a last resort against a hang

/** Statuses this device answers with (SAM-5 5.3.1). */
const STATUSES = [0x00, 0x02, 0x08, 0x18, 0x28];

/**
 * Runs it on a unit of its own. Whoever waits for the end of aborted commands waits for those that leave traces: any
 * other must not touch the medium.
 */
async function isAnswered(cdb: Buffer, data: Buffer, sectorSize: 512 | 4096): Promise<void> {
  const bench = new ScsiBench({ bytes: MIB / 4, sectorSize });
  let changes = 0;
  bench.device.intercept = (operation) => {
    if (operation === 'write' || operation === 'unmap') changes += 1;
  };
  const { status, data: answer } = await bench.run(cdb, data);
  expect(STATUSES).toContain(status);
  expect(answer.length).toBeLessThanOrEqual(16 * MIB);
  const command = decodeCdb(cdb);
  const mayChange =
    command.kind !== 'unknown-opcode' &&
    command.kind !== 'invalid-field' &&
    command.kind !== 'report-luns' &&
    leavesTraces(command);
  if (!mayChange) expect(changes).toBe(0);
}

test('every operation code with any other bytes and any data is answered, and changes nothing it does not own up to', async () => {
  for (let opcode = 0; opcode <= 0xff; opcode += 1) {
    await fc.assert(
      fc.asyncProperty(
        block,
        parameters,
        fc.constantFrom(512 as const, 4096 as const),
        async (cdb, data, sectorSize) => {
          cdb.writeUInt8(opcode, 0);
          await isAnswered(cdb, data, sectorSize);
        },
      ),
      { numRuns: 12 },
    );
  }
});

test('so is every service action of the commands that have some', async () => {
  for (const opcode of [0x5e, 0x5f, 0x83, 0x84, 0x9e, 0x9f, 0xa3, 0xa4, 0x48, 0x7f]) {
    for (let action = 0; action < 0x20; action += 1) {
      const cdb = Buffer.alloc(16);
      cdb.set([opcode, action]);
      cdb.writeUInt32BE(600, 10);
      await isAnswered(cdb, Buffer.alloc(600), 512);
      await fc.assert(
        fc.asyncProperty(block, parameters, async (random, data) => {
          random.set([opcode, action]);
          await isAnswered(random, data, 512);
        }),
        { numRuns: 2 },
      );
    }
  }
});

test('valid commands and parameter lists with some bytes changed, cut or longer are answered', async () => {
  const hit = fc.tuple(fc.nat(0xffff), byte);
  await fc.assert(
    fc.asyncProperty(
      fc.nat(),
      fc.constantFrom(512 as const, 4096 as const),
      fc.array(hit, { maxLength: 4 }),
      fc.array(hit, { maxLength: 4 }),
      fc.option(fc.nat(700)),
      async (seed, sectorSize, inCdb, inData, length) => {
        const random = new SimRandom(seed);
        const command = random.chance(0.2) ? reservationCommand(random) : anyCommand(random, sectorSize);
        const cdb = Buffer.from(command.cdb);
        for (const [at, value] of inCdb) cdb[at % 16] = value;
        const list = Buffer.from(command.out ?? Buffer.alloc(0));
        for (const [at, value] of inData) if (list.length > 0) list[at % list.length] = value;
        const data = length === null ? list : Buffer.concat([list, Buffer.alloc(700)]).subarray(0, length);
        await isAnswered(cdb, data, sectorSize);
      },
    ),
    { numRuns: 1500 },
  );
});
