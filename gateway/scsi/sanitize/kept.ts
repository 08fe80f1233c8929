import type { Lba } from '../../base/units.ts';
import type { SanitizeMethod } from '../cdb.ts';
import { sectionOf } from '../unit-document.ts';
import type { SanitizeJob } from './request.ts';

/** Where a sanitize operation stands, as the unit's document keeps it. */
export interface KeptSanitize {
  readonly job: SanitizeJob;
  /** `ended`: nothing is left to do but to make sure that whoever takes the volume over knows. */
  readonly state: 'running' | 'ended' | 'failed';
  /** What is certainly done: whole passes, and of the present one the blocks before `lba`. */
  readonly pass: number;
  readonly lba: Lba;
  /** Of the device, when this was kept: under another one nothing is certain. */
  readonly history: string | undefined;
}

const METHODS: ReadonlySet<unknown> = new Set<SanitizeMethod>(['overwrite', 'block-erase', 'cryptographic-erase']);
const MAX_PASSES = 31;

export function encodeKept({ job, state, pass, lba, history }: KeptSanitize): unknown {
  return { ...job, pattern: job.pattern.toString('base64'), state, pass, lba, history };
}

/** Undefined: it is nonsense. */
export function decodeKept(value: unknown): KeptSanitize | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { method, pattern, passes, inverts, mayExit, state, pass, lba, history } = value as Record<string, unknown>; // each is checked
  if (!METHODS.has(method) || typeof pattern !== 'string') return undefined;
  if (typeof inverts !== 'boolean' || typeof mayExit !== 'boolean') return undefined;
  if (state !== 'running' && state !== 'ended' && state !== 'failed') return undefined;
  if (!isCount(passes) || passes < 1 || passes > MAX_PASSES || !isCount(pass) || pass > passes || !isCount(lba)) {
    return undefined;
  }
  if (history !== undefined && typeof history !== 'string') return undefined;
  const bytes = Buffer.from(pattern, 'base64');
  if ((method === 'overwrite') !== bytes.length > 0) return undefined;
  return {
    job: { method: method as SanitizeMethod, pattern: bytes, passes, inverts, mayExit },
    state,
    pass,
    lba,
    history,
  };
}

/** Where the sanitize operation of a unit stands by the document it keeps; undefined: there is none, or it makes no sense. */
export function keptSanitizeState(document: string | undefined): KeptSanitize['state'] | undefined {
  return decodeKept(sectionOf(document, 'sanitize'))?.state;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
