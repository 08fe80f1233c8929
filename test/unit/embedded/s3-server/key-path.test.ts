import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytesOf, decodeEntry, keyOf, pathOfKey } from '../../../../gateway/embedded/s3-server/key-path.ts';

/** Keys that make trouble: slashes, dots, long parts, marks of our own names, capitals, every script. */
const keys = fc
  .array(
    fc.oneof(
      fc.constantFrom('/', '//', '.', '..', 'f-', 'd-', 'c-', '%', '%2f', 'a', 'A', ' ', '\n'),
      fc.string({ unit: 'grapheme', maxLength: 12 }),
      fc.nat(200).map((length) => 'x'.repeat(length)),
    ),
    { minLength: 1, maxLength: 12 },
  )
  .map((parts) => parts.join(''));

function decodePath(names: readonly string[]): string | undefined {
  const parts = names.map((name) => decodeEntry(name)?.part);
  return parts.includes(undefined) ? undefined : parts.join('');
}

describe('the file name of a key', () => {
  it('leads back to the key', () => {
    fc.assert(
      fc.property(keys, (key) => {
        expect(keyOf(decodePath(pathOfKey(bytesOf(key))) ?? '?')).toBe(key);
      }),
    );
  });

  it('consists of plain names of bounded length that mean nothing to a file system', () => {
    fc.assert(
      fc.property(keys, (key) => {
        for (const name of pathOfKey(bytesOf(key))) expect(name).toMatch(/^[fdc]-[a-z0-9._%-]{0,240}$/);
      }),
    );
  });

  it('is never a directory of another one, nor the same', () => {
    fc.assert(
      fc.property(keys, keys, (a, b) => {
        fc.pre(a !== b);
        const [first, second] = [pathOfKey(bytesOf(a)).join('/'), pathOfKey(bytesOf(b)).join('/')];
        expect(first.toLowerCase()).not.toBe(second.toLowerCase());
        expect(first.startsWith(`${second}/`)).toBe(false);
      }),
    );
  });

  it.each(['', 'x', 'f', '..', 'e-a', 'f-A', 'f-%2', 'f-%GG', 'f-a/b', `f-${'a'.repeat(81)}`])(
    'takes %j for none of its own',
    (name) => {
      expect(decodeEntry(name)).toBeUndefined();
    },
  );
});
