import { describe, expect, test } from 'vitest';
import { admit } from '../../../../gateway/scsi/admission.ts';
import { execute } from '../../../../gateway/scsi/dispatch.ts';
import { SUPPORTED_COMMANDS } from '../../../../gateway/scsi/supported-commands.ts';
import { CONFLICT, GOOD, ReservationBench, TYPES } from './reservation-bench.ts';

/**
 * SPC-4 table 65 and SBC-3 table 13, in their columns: write exclusive and exclusive access (from any other nexus), any
 * registrants only or all registrants type (from a registered one), and the two kinds of those (from one not registered).
 */
type Row = readonly [writeExclusive: Mark, exclusiveAccess: Mark, registered: Mark, writeRr: Mark, accessRr: Mark];
type Mark = 'allowed' | 'conflict';

const [A, C] = ['allowed', 'conflict'] as const;
const ALLOWED: Row = [A, A, A, A, A];
const READS: Row = [A, C, A, A, C];
const CHANGES: Row = [C, C, A, C, C];

/** Every command of REPORT SUPPORTED OPERATION CODES, but for those that make reservations and REPORT LUNS. */
const COMMANDS: Readonly<Record<string, readonly [name: string, row: Row]>> = {
  '00 00 00 00 00 00': ['TEST UNIT READY', ALLOWED],
  '03 00 00 00 ff 00': ['REQUEST SENSE', ALLOWED],
  '08 00 00 00 01 00': ['READ (6)', READS],
  '0a 00 00 00 01 00': ['WRITE (6)', CHANGES],
  '12 00 00 00 ff 00': ['INQUIRY', ALLOWED],
  '15 10 00 00 00 00': ['MODE SELECT (6)', CHANGES],
  '1a 00 3f 00 ff 00': ['MODE SENSE (6)', READS],
  '1b 00 00 00 01 00': ['START STOP UNIT, start', ALLOWED],
  '1b 00 00 00 00 00': ['START STOP UNIT, stop', CHANGES],
  '1b 00 00 00 11 00': ['START STOP UNIT, power condition', CHANGES],
  '1e 00 00 00 00 00': ['PREVENT ALLOW, allow', ALLOWED],
  '1e 00 00 00 01 00': ['PREVENT ALLOW, prevent', CHANGES],
  '25 00 00 00 00 00 00 00 00 00': ['READ CAPACITY (10)', ALLOWED],
  '28 00 00 00 00 00 00 00 01 00': ['READ (10)', READS],
  '2a 00 00 00 00 00 00 00 01 00': ['WRITE (10)', CHANGES],
  '2e 00 00 00 00 00 00 00 01 00': ['WRITE AND VERIFY (10)', CHANGES],
  '2f 00 00 00 00 00 00 00 01 00': ['VERIFY (10)', READS],
  '34 00 00 00 00 00 00 00 01 00': ['PRE-FETCH (10)', READS],
  '35 00 00 00 00 00 00 00 01 00': ['SYNCHRONIZE CACHE (10)', CHANGES],
  '37 00 08 00 00 00 00 00 ff 00': ['READ DEFECT DATA (10)', READS],
  '41 00 00 00 00 00 00 00 01 00': ['WRITE SAME (10)', CHANGES],
  '42 00 00 00 00 00 00 00 00 00': ['UNMAP', CHANGES],
  '48 01 00 00 00 00 00 00 08 00': ['SANITIZE, overwrite', CHANGES],
  '48 02 00 00 00 00 00 00 00 00': ['SANITIZE, block erase', CHANGES],
  '48 03 00 00 00 00 00 00 00 00': ['SANITIZE, cryptographic erase', CHANGES],
  '48 1f 00 00 00 00 00 00 00 00': ['SANITIZE, exit failure mode', CHANGES],
  '4d 00 40 00 00 00 00 00 ff 00': ['LOG SENSE', ALLOWED],
  '55 10 00 00 00 00 00 00 00 00': ['MODE SELECT (10)', CHANGES],
  '5a 00 3f 00 00 00 00 00 ff 00': ['MODE SENSE (10)', READS],
  '83 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00': ['EXTENDED COPY (LID1)', CHANGES],
  '84 00 00 00 00 00 00 00 00 00 00 00 00 ff 00 00': ['RECEIVE COPY STATUS (LID1)', ALLOWED],
  '84 01 00 00 00 00 00 00 00 00 00 00 00 ff 00 00': ['RECEIVE COPY DATA (LID1)', ALLOWED],
  '84 03 00 00 00 00 00 00 00 00 00 00 00 ff 00 00': ['RECEIVE COPY OPERATING PARAMETERS', ALLOWED],
  '84 04 00 00 00 00 00 00 00 00 00 00 00 ff 00 00': ['RECEIVE COPY FAILURE DETAILS (LID1)', ALLOWED],
  '88 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['READ (16)', READS],
  '89 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['COMPARE AND WRITE', CHANGES],
  '8a 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['WRITE (16)', CHANGES],
  '8b 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['ORWRITE (16)', CHANGES],
  '8e 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['WRITE AND VERIFY (16)', CHANGES],
  '8f 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['VERIFY (16)', READS],
  '90 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['PRE-FETCH (16)', READS],
  '91 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['SYNCHRONIZE CACHE (16)', CHANGES],
  '93 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['WRITE SAME (16)', CHANGES],
  '9c 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00': ['WRITE ATOMIC (16)', CHANGES],
  '9e 10 00 00 00 00 00 00 00 00 00 00 00 ff 00 00': ['READ CAPACITY (16)', ALLOWED],
  '9e 12 00 00 00 00 00 00 00 00 00 00 00 ff 00 00': ['GET LBA STATUS', READS],
  'a3 0a 00 00 00 00 00 00 00 ff 00 00': ['REPORT TARGET PORT GROUPS', ALLOWED],
  'a3 0c 00 00 00 00 00 00 00 ff 00 00': ['REPORT SUPPORTED OPERATION CODES', READS],
  'a3 0d 00 00 00 00 00 00 00 ff 00 00': ['REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS', READS],
  'a8 00 00 00 00 00 00 00 00 01 00 00': ['READ (12)', READS],
  'aa 00 00 00 00 00 00 00 00 01 00 00': ['WRITE (12)', CHANGES],
  'ae 00 00 00 00 00 00 00 00 01 00 00': ['WRITE AND VERIFY (12)', CHANGES],
  'af 00 00 00 00 00 00 00 00 01 00 00': ['VERIFY (12)', READS],
  'b7 08 00 00 00 00 00 00 00 ff 00 00': ['READ DEFECT DATA (12)', READS],
};

/** RESERVE, RELEASE and the persistent ones have rules of their own. */
const OF_RESERVATIONS = [0x16, 0x17, 0x56, 0x57, 0x5e, 0x5f];
const REPORT_LUNS = 0xa0;

/** Which column counts for a type, for another nexus that is registered or not. */
function column(type: number, registered: boolean): number {
  if (type === TYPES['write exclusive']) return 0;
  if (type === TYPES['exclusive access']) return 1;
  if (registered) return 2;
  return type === TYPES['write exclusive, registrants only'] || type === TYPES['write exclusive, all registrants']
    ? 3
    : 4;
}

async function verdict(type: number, cdb: string, who: string): Promise<Mark> {
  const unit = new ReservationBench();
  await unit.out('A', 'register', { newKey: 1n });
  await unit.out('B', 'register', { newKey: 2n });
  expect((await unit.out('A', 'reserve', { key: 1n, type })).status).toBe(GOOD);
  const { status } = await unit.run(who, cdb, Buffer.alloc(1024));
  return status === CONFLICT ? 'conflict' : 'allowed';
}

describe.each(Object.entries(TYPES))('%s', (_name, type) => {
  test.each(Object.entries(COMMANDS).map(([cdb, [name, row]]) => [name, cdb, row] as const))(
    '%s',
    async (_, cdb, row) => {
      expect(await verdict(type, cdb, 'A')).toBe('allowed');
      expect(await verdict(type, cdb, 'B')).toBe(row[column(type, true)]);
      expect(await verdict(type, cdb, 'C')).toBe(row[column(type, false)]);
    },
  );
});

test('no command is forgotten', () => {
  const decided = new Set(Object.keys(COMMANDS).map((cdb) => cdb.slice(0, 5)));
  for (const { opcode, serviceAction } of SUPPORTED_COMMANDS) {
    if (OF_RESERVATIONS.includes(opcode) || opcode === REPORT_LUNS) continue;
    const listed = [...decided].some((start) => {
      const [first = 0, second = 0] = Buffer.from(start.replace(' ', ''), 'hex');
      return first === opcode && (serviceAction === undefined || second === serviceAction);
    });
    expect(listed, `operation code ${opcode.toString(16)}h, service action ${serviceAction ?? 0}`).toBe(true);
  }
});

test('a write that was admitted before another initiator reserved the unit is refused when its data is there', async () => {
  const unit = new ReservationBench();
  await unit.out('A', 'register', { newKey: 1n });
  const writer = unit.nexus('B');
  const cdb = Buffer.from('2a000000000000000100000000000000', 'hex');
  const admission = admit(writer, 0, () => [0], cdb);
  if (admission.kind !== 'run') throw new Error('not admitted');
  await unit.out('A', 'reserve', { key: 1n, type: 3 });
  const result = await execute(
    writer,
    admission.command,
    [Buffer.alloc(512, 1)],
    { in: 0, out: 512 },
    { state: 'executing' },
  );
  expect(result.status).toBe(CONFLICT);
  expect(Buffer.concat(await unit.bench.device.read(0, 1)).every((byte) => byte === 0)).toBe(true);
});
