/**
 * Object keys ⇄ file names. Inside the server a key is a "byte string": one character (0–255) per byte of its UTF-8 form, so that plain
 * comparison is S3's order.
 *
 * A key is split at its slashes. Each part but the last becomes a directory `d-…`, the last a file `f-…`, so that `a` and `a/b` can both
 * exist, and nothing a client writes is ever a path by itself. Bytes other than a–z, 0–9, '.', '_' and '-' are written %xx (capitals too: a
 * file system may not tell them apart). A part longer than a file name may be is continued below a directory `c-…`.
 */

/** 80 bytes, each at most `%xx`, and the two-letter mark stay below the 255 bytes of a file name. */
const BYTES_PER_NAME = 80;

export const MAX_KEY_BYTES = 1024;

export function bytesOf(key: string): string {
  return Buffer.from(key, 'utf8').toString('latin1');
}

export function keyOf(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

function encodeName(part: string): string {
  return part.replace(/[^a-z0-9._-]/g, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function decodeName(name: string): string | undefined {
  if (!/^(?:[a-z0-9._-]|%[0-9a-f]{2})*$/.test(name)) return undefined;
  return name.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** Names of the directories and, last, of the file of a key. */
export function pathOfKey(key: string): string[] {
  const parts = key.split('/');
  const path: string[] = [];
  parts.forEach((part, index) => {
    let rest = part;
    while (rest.length > BYTES_PER_NAME) {
      path.push(`c-${encodeName(rest.slice(0, BYTES_PER_NAME))}`);
      rest = rest.slice(BYTES_PER_NAME);
    }
    path.push(`${index === parts.length - 1 ? 'f' : 'd'}-${encodeName(rest)}`);
  });
  return path;
}

/** One name in a directory: `part` is what it adds to the key, with its slash when it is a directory. */
export interface DecodedName {
  readonly kind: 'file' | 'directory' | 'continued';
  readonly part: string;
}

/** undefined for a name that is none of ours. */
export function decodeEntry(name: string): DecodedName | undefined {
  const part = decodeName(name.slice(2));
  if (part === undefined || part.length > BYTES_PER_NAME) return undefined;
  switch (name.slice(0, 2)) {
    case 'f-':
      return { kind: 'file', part };
    case 'd-':
      return { kind: 'directory', part: `${part}/` };
    case 'c-':
      return { kind: 'continued', part };
    default:
      return undefined;
  }
}
