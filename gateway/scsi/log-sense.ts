import type { LogSense } from './cdb.ts';
import type { MediumCounters } from './unit-media.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidCdbField } from './sense.ts';

/** Page codes (SPC-4 7.3). */
const SUPPORTED_PAGES = 0x00;
const WRITE_ERRORS = 0x02;
const READ_ERRORS = 0x03;
const ALL_SUBPAGES = 0xff;

/** Parameters of the error counter pages (SPC-4 7.3.7): those there are figures for. */
const TOTAL_BYTES = 0x0005;
const UNCORRECTED_ERRORS = 0x0006;

/** Page control: cumulative values, current and default (SPC-4 6.8); thresholds there are none. */
const THRESHOLD = 0;
const DEFAULT_THRESHOLD = 2;
const DEFAULT_CUMULATIVE = 3;

interface Page {
  readonly page: number;
  readonly subpage: number;
  readonly parameters?: (counters: MediumCounters) => readonly (readonly [code: number, value: number])[];
}

/** In ascending order, as page 00h must list them. */
const PAGES: readonly Page[] = [
  { page: SUPPORTED_PAGES, subpage: 0 },
  { page: SUPPORTED_PAGES, subpage: ALL_SUBPAGES },
  {
    page: WRITE_ERRORS,
    subpage: 0,
    parameters: (counters) => [[TOTAL_BYTES, counters.writtenBytes]],
  },
  {
    page: READ_ERRORS,
    subpage: 0,
    parameters: (counters) => [
      [TOTAL_BYTES, counters.readBytes],
      [UNCORRECTED_ERRORS, counters.readErrors],
    ],
  },
];

/** LOG SENSE (SPC-4 6.8): since the gateway has served the unit, for all initiators together. */
export function logSense(counters: MediumCounters, command: LogSense): ScsiResult {
  const found = PAGES.find(({ page, subpage }) => page === command.page && subpage === command.subpage);
  if (found === undefined) return invalidCdbField(2, 5);
  const { pageControl, parameterPointer, allocationLength } = command;
  if (pageControl === THRESHOLD || pageControl === DEFAULT_THRESHOLD) return invalidCdbField(2, 7);
  const body = found.parameters === undefined ? listOf(found) : undefined;
  if (body !== undefined) {
    if (parameterPointer !== 0) return invalidCdbField(5, 7);
    return parameterData(withHeader(found, body), allocationLength);
  }
  const all = found.parameters?.(pageControl === DEFAULT_CUMULATIVE ? NOTHING_YET : counters) ?? [];
  const asked = all.filter(([code]) => code >= parameterPointer);
  if (asked.length === 0) return checkCondition({ ...SENSE.invalidFieldInCdb, field: { inCdb: true, byte: 5 } });
  return parameterData(withHeader(found, Buffer.concat(asked.map(parameter))), allocationLength);
}

const NOTHING_YET: MediumCounters = { readBytes: 0, writtenBytes: 0, readErrors: 0 };

/** Supported log pages, and supported pages and subpages (SPC-4 7.3.19, 7.3.20). */
function listOf({ subpage }: Page): Buffer {
  return subpage === 0
    ? Buffer.from(PAGES.filter((page) => page.subpage === 0).map(({ page }) => page))
    : Buffer.from(PAGES.flatMap(({ page, subpage: of }) => [page, of]));
}

/** SPC-4 7.3.2: SPF says that there is a subpage code; DS, that nothing is saved. */
function withHeader({ page, subpage }: Page, body: Buffer): Buffer {
  const header = Buffer.from([0x80 | (subpage === 0 ? 0 : 0x40) | page, subpage, 0, 0]);
  header.writeUInt16BE(body.length, 2);
  return Buffer.concat([header, body]);
}

/** A counter of eight bytes (SPC-4 7.3.2): TSD, a bounded data counter. */
function parameter([code, value]: readonly [number, number]): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt16BE(code, 0);
  bytes[2] = 0x20;
  bytes[3] = 8;
  bytes.writeBigUInt64BE(BigInt(value), 4);
  return bytes;
}
