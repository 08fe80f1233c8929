import { describe, expect, it } from 'vitest';
import { cutToBytes, hasUnprintable, printable, printableJson } from '../../../gateway/base/text.ts';

describe('text in visible characters', () => {
  it.each([
    ['a line end', 'a\nb\r\t', String.raw`a\nb\r\t`],
    ['a terminal sequence', '\u001b[31m\u009b1m\u007f', String.raw`\x1b[31m\x9b1m\x7f`],
    ['a change of direction', 'a\u202eb\u2066c', String.raw`a\u202eb\u2066c`],
    ['what takes no room', 'a\u200bb\ufeffc\u00add', String.raw`a\u200bb\ufeffc\xadd`],
    ['a line or paragraph separator', 'a\u2028b\u2029', String.raw`a\u2028b\u2029`],
    ['a tag, and half a surrogate pair', '\u{e0041}\ud800', String.raw`\u{e0041}\ud800`],
  ])('has %s written as in a string', (_what, text, expected) => {
    expect(hasUnprintable(text)).toBe(true);
    expect(printable(text)).toBe(expected);
    expect(hasUnprintable(printable(text))).toBe(false);
    expect(JSON.parse(printableJson(JSON.stringify({ text }, null, 2)))).toEqual({ text });
    expect(hasUnprintable(printableJson(JSON.stringify({ text })))).toBe(false);
  });

  it('cannot be mistaken for what was escaped, and leaves the rest alone', () => {
    expect(printable(String.raw`a\nb`)).toBe(String.raw`a\\nb`);
    expect(printable('größer 🎉 日本')).toBe('größer 🎉 日本');
    expect(hasUnprintable('größer 🎉 日本')).toBe(false);
  });

  it('is cut between characters', () => {
    expect(cutToBytes('aé日🎉', 3)).toBe('aé');
    expect(cutToBytes('aé日🎉', 9)).toBe('aé日');
    expect(cutToBytes('aé日🎉', 10)).toBe('aé日🎉');
  });
});
