import type { BlockDevice } from '../base/block-device.ts';
import type { LogSense } from './cdb.ts';
import type { MediumCounters } from './unit-media.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidCdbField } from './sense.ts';
import { provisioningLogParameters } from './thresholds.ts';

/** Page codes (SPC-4). */
const SUPPORTED_PAGES = 0x00;
const WRITE_ERRORS = 0x02;
const READ_ERRORS = 0x03;
const PROVISIONING = 0x0c;
const STATISTICS = 0x19;
const ALL_SUBPAGES = 0xff;

/** Parameters of the error counter pages (SPC-4): those there are figures for. */
const TOTAL_BYTES = 0x0005;
const UNCORRECTED_ERRORS = 0x0006;

/** Of General Statistics and Performance (SPC-4): without idle times, which nobody measures. */
const ACCESS_STATISTICS = 0x0001;

/** Page control: cumulative values, current and default (SPC-4); thresholds there are none. */
const THRESHOLD = 0;
const DEFAULT_THRESHOLD = 2;
const DEFAULT_CUMULATIVE = 3;

/** One counter of eight bytes, or several, or what is no counter. */
type Parameter = readonly [code: number, value: number | readonly number[] | Buffer];

interface Page {
  readonly page: number;
  readonly subpage: number;
  readonly parameters?: (counters: MediumCounters, device: BlockDevice) => readonly Parameter[];
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
  {
    page: PROVISIONING,
    subpage: 0,
    parameters: (_counters, device) => provisioningLogParameters(device),
  },
  {
    page: STATISTICS,
    subpage: 0,
    parameters: ({ reads, writes, writtenSectors, readSectors }) => [
      // Received and transmitted blocks; how long commands took is not measured, which is 0 in each of the other four.
      [ACCESS_STATISTICS, [reads, writes, writtenSectors, readSectors, 0, 0, 0, 0]],
    ],
  },
];

/** LOG SENSE (SPC-4): since the gateway has served the unit, for all initiators together. */
export function logSense(device: BlockDevice, counters: MediumCounters, command: LogSense): ScsiResult {
  const found = PAGES.find(({ page, subpage }) => page === command.page && subpage === command.subpage);
  if (found === undefined) return invalidCdbField(2, 5);
  const { pageControl, parameterPointer, allocationLength } = command;
  if (pageControl === THRESHOLD || pageControl === DEFAULT_THRESHOLD) return invalidCdbField(2, 7);
  const body = found.parameters === undefined ? listOf(found) : undefined;
  if (body !== undefined) {
    if (parameterPointer !== 0) return invalidCdbField(5, 7);
    return parameterData(withHeader(found, body), allocationLength);
  }
  const all = found.parameters?.(pageControl === DEFAULT_CUMULATIVE ? NOTHING_YET : counters, device) ?? [];
  const asked = all.filter(([code]) => code >= parameterPointer);
  if (asked.length === 0 && parameterPointer > 0)
    return checkCondition({ ...SENSE.invalidFieldInCdb, field: { inCdb: true, byte: 5 } });
  return parameterData(withHeader(found, Buffer.concat(asked.map(parameter))), allocationLength);
}

const NOTHING_YET: MediumCounters = {
  reads: 0,
  readBytes: 0,
  readSectors: 0,
  writes: 0,
  writtenBytes: 0,
  writtenSectors: 0,
  readErrors: 0,
};

/** Supported log pages, and supported pages and subpages (SPC-4). */
function listOf({ subpage }: Page): Buffer {
  return subpage === 0
    ? Buffer.from(PAGES.filter((page) => page.subpage === 0).map(({ page }) => page))
    : Buffer.from(PAGES.flatMap(({ page, subpage: of }) => [page, of]));
}

/** SPF says that there is a subpage code; DS, that nothing is saved. */
function withHeader({ page, subpage }: Page, body: Buffer): Buffer {
  const header = Buffer.from([0x80 | (subpage === 0 ? 0 : 0x40) | page, subpage, 0, 0]);
  header.writeUInt16BE(body.length, 2);
  return Buffer.concat([header, body]);
}

/** FORMAT AND LINKING (SPC-4): a bounded data counter, or a list in binary format; TSD: nothing is saved. */
const BOUNDED_COUNTER = 0x20;
const BINARY_LIST = 0x23;

function parameter([code, value]: Parameter): Buffer {
  if (Buffer.isBuffer(value))
    return Buffer.concat([Buffer.from([code >> 8, code & 0xff, BINARY_LIST, value.length]), value]);
  const values = typeof value === 'number' ? [value] : value;
  const bytes = Buffer.alloc(4 + 8 * values.length);
  bytes.writeUInt16BE(code, 0);
  bytes[2] = typeof value === 'number' ? BOUNDED_COUNTER : BINARY_LIST;
  bytes[3] = 8 * values.length;
  for (const [index, each] of values.entries()) bytes.writeBigUInt64BE(BigInt(each), 4 + 8 * index);
  return bytes;
}
