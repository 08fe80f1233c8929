import { bytesOf, keyOf } from './key-path.ts';
import { walkKeys } from './key-walk.ts';
import type { WalkEntry } from './key-walk.ts';
import type { ObjectMeta } from './object-file.ts';
import type { ObjectFiles } from './object-files.ts';
import { S3Error } from './s3-error.ts';

export interface ListRequest {
  readonly prefix: string;
  /** '' for none. */
  readonly delimiter: string;
  readonly limit: number;
  readonly startAfter: string | undefined;
  readonly token: string | undefined;
}

export interface ListedObject {
  readonly key: string;
  readonly meta: ObjectMeta;
}

export interface ListedPage {
  readonly objects: readonly ListedObject[];
  readonly prefixes: readonly string[];
  readonly nextToken: string | undefined;
}

/** Greater than every key that begins with the prefix before it: no UTF-8 text contains this byte. */
const PAST_PREFIX = '\xff';
/** Metadata of a page is read so many files at a time. */
const PARALLEL_READS = 16;

/** One page of a bucket in S3's order; keys that share what is up to the delimiter are rolled up into a common prefix. */
export async function listPage(files: ObjectFiles, bucket: string, request: ListRequest): Promise<ListedPage> {
  const prefix = bytesOf(request.prefix);
  const delimiter = bytesOf(request.delimiter);
  const after = request.token === undefined ? startOf(request.startAfter) : decodeToken(request.token);
  const walk = walkKeys(files.objectsOf(bucket), { prefix, after, stopAtSlash: delimiter === '/' });
  const keys: string[] = [];
  const prefixes: string[] = [];
  let last: string | undefined;
  let truncated = false;
  if (request.limit > 0) {
    for await (const entry of walk) {
      const common = commonPrefix(entry, prefix, delimiter);
      if (common !== undefined && common === prefixes.at(-1)) continue;
      if (keys.length + prefixes.length === request.limit) {
        truncated = true;
        break;
      }
      if (common === undefined) keys.push(entry.key);
      else prefixes.push(common);
      last = common === undefined ? entry.key : common + PAST_PREFIX;
    }
  }
  return {
    objects: await readMetas(files, bucket, keys),
    prefixes: prefixes.map(keyOf),
    nextToken: truncated && last !== undefined ? encodeToken(last) : undefined,
  };
}

function commonPrefix(entry: WalkEntry, prefix: string, delimiter: string): string | undefined {
  if (entry.kind === 'prefix') return entry.key;
  if (delimiter === '') return undefined;
  const at = entry.key.indexOf(delimiter, prefix.length);
  return at < 0 ? undefined : entry.key.slice(0, at + delimiter.length);
}

async function readMetas(files: ObjectFiles, bucket: string, keys: readonly string[]): Promise<ListedObject[]> {
  const found: ListedObject[] = [];
  for (let at = 0; at < keys.length; at += PARALLEL_READS) {
    const group = keys.slice(at, at + PARALLEL_READS);
    const metas = await Promise.all(group.map((key) => files.headBytes(bucket, key)));
    group.forEach((key, index) => {
      const meta = metas[index];
      // Deleted since the walk passed it.
      if (meta !== undefined) found.push({ key: keyOf(key), meta });
    });
  }
  return found;
}

function startOf(startAfter: string | undefined): string | undefined {
  return startAfter === undefined || startAfter === '' ? undefined : bytesOf(startAfter);
}

function encodeToken(after: string): string {
  return `1.${Buffer.from(after, 'latin1').toString('base64url')}`;
}

function decodeToken(token: string): string {
  const match = /^1\.([A-Za-z0-9_-]+)$/.exec(token);
  if (match?.[1] === undefined) throw new S3Error('InvalidArgument', 'The continuation token provided is incorrect');
  return Buffer.from(match[1], 'base64url').toString('latin1');
}
