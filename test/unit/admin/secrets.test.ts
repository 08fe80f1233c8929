import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readSecret } from '../../../gateway/admin/secrets.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'farshore-secrets-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function secretIn(content: Buffer | string): Buffer {
  const file = join(folder, 'secret');
  writeFileSync(file, content);
  return readSecret({ file, generate: undefined, option: '--secret-file', isJson: false }).secret;
}

describe('a secret file', () => {
  it.each([
    ['a line', 'correct horse battery\n'],
    ['a line of Windows', 'correct horse battery\r\n'],
    ['a line without its end', 'correct horse battery'],
  ])('is %s', (_what, content) => {
    expect(secretIn(content).toString()).toBe('correct horse battery');
  });

  it('counts by its bytes', () => {
    expect(secretIn('größe\n')).toEqual(Buffer.from('größe'));
  });

  // As text each of these bytes would be U+FFFD, and the secret one that anybody can guess.
  it.each([
    ['random bytes', Buffer.from(Array.from({ length: 32 }, (_, index) => 0x80 + index)), 'is no text'],
    ['too few of them', Buffer.from([0x80, 0x81, 0x82, 0x83]), 'is no text'],
    ['half a character at its end', Buffer.from([...Buffer.from('correct horse'), 0xc3]), 'is no text'],
    ['text in UTF-16', Buffer.from('\ufeffcorrect horse', 'utf16le'), 'is no text'],
    ['a zero', 'correct\0horse battery', 'control characters'],
    ['an escape', 'correct\u001bhorse battery', 'control characters'],
    ['a byte order mark', '\ufeffcorrect horse battery', 'invisible'],
    ['a zero-width space', 'correct\u200bhorse battery', 'invisible'],
    ['two lines', 'correct horse\nbattery\n', 'more than one line'],
    ['a bare carriage return', 'correct horse\rbattery', 'more than one line'],
    ['what is left of other bytes', '\ufffd'.repeat(12), 'U+FFFD'],
  ])('with %s is refused, and the error says how to write one', (_what, content, reason) => {
    expect(() => secretIn(content)).toThrow(reason);
    expect(() => secretIn(content)).toThrow('one line of plain text');
  });
});
