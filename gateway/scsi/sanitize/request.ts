import type { ByteCount } from '../../base/units.ts';
import type { Sanitize, SanitizeMethod } from '../cdb.ts';
import { invalidCdbField, invalidParameterField } from '../sense.ts';
import type { ScsiResult } from '../result.ts';

/** What is to be done to the whole medium; all of it must be known to go on after a restart. */
export interface SanitizeJob {
  readonly method: SanitizeMethod;
  /** Of an overwrite; empty otherwise. */
  readonly pattern: Buffer;
  readonly passes: number;
  /** Every second pass writes the complement. */
  readonly inverts: boolean;
  /** AUSE: after a failure EXIT FAILURE MODE gives the unit back. */
  readonly mayExit: boolean;
}

const HEADER_BYTES: ByteCount = 4;

type Parsed =
  { readonly kind: 'job'; readonly job: SanitizeJob } | { readonly kind: 'refused'; readonly result: ScsiResult };

/** The parameter list of OVERWRITE (SBC-3); the other methods have none. */
export function parseSanitize(
  command: Sanitize & { readonly action: SanitizeMethod },
  list: Buffer,
  sectorSize: ByteCount,
): Parsed {
  const { action: method, mayFail: mayExit } = command;
  if (method !== 'overwrite') {
    return { kind: 'job', job: { method, pattern: Buffer.alloc(0), passes: 1, inverts: false, mayExit } };
  }
  if (list.length <= HEADER_BYTES || list.length > HEADER_BYTES + sectorSize) return refused(invalidCdbField(7, 7));
  const passes = list.readUInt8(0) & 0x1f;
  const patternBytes = list.readUInt16BE(2);
  if (passes === 0) return refused(invalidParameterField(0));
  if (patternBytes === 0 || patternBytes > list.length - HEADER_BYTES) return refused(invalidParameterField(2));
  const pattern = Buffer.from(list.subarray(HEADER_BYTES, HEADER_BYTES + patternBytes));
  return { kind: 'job', job: { method, pattern, passes, inverts: (list.readUInt8(0) & 0x80) !== 0, mayExit } };
}

function refused(result: ScsiResult): Parsed {
  return { kind: 'refused', result };
}

/** A logical block of the pattern, repeated from the start of each block and cut at its end (SBC-3). */
export function blockOfPattern(job: SanitizeJob, pass: number, sectorSize: ByteCount): Buffer {
  const block = Buffer.alloc(sectorSize, job.pattern);
  if (job.inverts && pass % 2 === 1) for (const [at, byte] of block.entries()) block[at] = ~byte & 0xff;
  return block;
}
