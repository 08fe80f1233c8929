import type { IncomingHttpHeaders } from 'node:http';
import type { Precondition } from './object-files.ts';
import type { ObjectMeta } from './object-file.ts';
import { S3Error, notImplemented } from './s3-error.ts';

function failed(condition: string): S3Error {
  return new S3Error(
    'PreconditionFailed',
    `At least one of the pre-conditions you specified did not hold: ${condition}.`,
  );
}

/** A list of quoted (or, as some clients send them, bare) entity tags; true when one is the object's, or '*'. */
function names(header: string, etag: string): boolean {
  return header
    .split(',')
    .map((tag) =>
      tag
        .trim()
        .replace(/^W\//, '')
        .replace(/^"(.*)"$/, '$1'),
    )
    .some((tag) => tag === '*' || tag === etag);
}

/** If-None-Match: * and If-Match: etag of a write, as S3 has them. */
export function writePrecondition(headers: IncomingHttpHeaders): Precondition | undefined {
  const noneMatch = headers['if-none-match'];
  const match = headers['if-match'];
  if (noneMatch === undefined && match === undefined) return undefined;
  if (noneMatch !== undefined && match !== undefined)
    throw new S3Error('InvalidRequest', 'If-Match and If-None-Match exclude each other.');
  if (noneMatch !== undefined && noneMatch.trim() !== '*')
    throw notImplemented('If-None-Match other than * on a write');
  return (present) => {
    if (noneMatch !== undefined && present !== undefined) throw failed('If-None-Match');
    if (match === undefined) return;
    if (present === undefined) throw new S3Error('NoSuchKey', 'The specified key does not exist.');
    if (!names(match, present.etag)) throw failed('If-Match');
  };
}

/** Conditions of a read (RFC 9110, 13.2.2). Answers 304 when the caller's copy is good; throws PreconditionFailed. */
export function checkReadConditions(
  condition: (name: string) => string | undefined,
  meta: ObjectMeta,
): 'proceed' | 'not-modified' {
  // HTTP dates have whole seconds.
  const modified = Math.floor(meta.modifiedAt / 1000) * 1000;
  const match = condition('if-match');
  const unmodifiedSince = dateOf(condition('if-unmodified-since'));
  if (match !== undefined) {
    if (!names(match, meta.etag)) throw failed('If-Match');
  } else if (unmodifiedSince !== undefined && modified > unmodifiedSince) throw failed('If-Unmodified-Since');
  const noneMatch = condition('if-none-match');
  const modifiedSince = dateOf(condition('if-modified-since'));
  if (noneMatch !== undefined) return names(noneMatch, meta.etag) ? 'not-modified' : 'proceed';
  return modifiedSince !== undefined && modified <= modifiedSince ? 'not-modified' : 'proceed';
}

function dateOf(header: string | undefined): number | undefined {
  const parsed = header === undefined ? Number.NaN : Date.parse(header);
  return Number.isNaN(parsed) ? undefined : parsed;
}

export interface ByteRange {
  readonly first: number;
  /** Exclusive. */
  readonly end: number;
}

/** undefined: the whole object (no range, several ranges, or one of another form). Throws InvalidRange when nothing of it exists. */
export function parseRange(header: string | undefined, bytes: number): ByteRange | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '');
  if (match === null) return undefined;
  const [from = '', to = ''] = match.slice(1);
  const unsatisfiable = (): S3Error =>
    new S3Error('InvalidRange', 'The requested range is not satisfiable', { 'Content-Range': `bytes */${bytes}` });
  if (from === '') {
    if (to === '') return undefined;
    const suffix = Math.min(Number(to), bytes);
    if (suffix === 0) throw unsatisfiable();
    return { first: bytes - suffix, end: bytes };
  }
  const first = Number(from);
  const last = to === '' ? bytes - 1 : Math.min(Number(to), bytes - 1);
  if (to !== '' && Number(to) < first) return undefined;
  if (first >= bytes) throw unsatisfiable();
  return { first, end: last + 1 };
}
