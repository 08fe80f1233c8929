import { describe, expect, test } from 'vitest';
import { decodeChecked, encodeChecked } from '../../../gateway/base/checked-json.ts';

const CONTENT = { format: 1, logId: 'a1b2c3', base: { epoch: 3, name: 'ä' }, list: [1, 2.5, null] };

describe('JSON with a checksum', () => {
  test('is what it was', () => {
    expect(decodeChecked(encodeChecked(CONTENT))).toEqual(CONTENT);
  });

  test('leaves out what has no value, as JSON does', () => {
    expect(decodeChecked(encodeChecked({ one: 1, none: undefined }))).toEqual({ one: 1 });
  });

  test('is never taken for other content, whichever bit flips', () => {
    const whole = encodeChecked(CONTENT);
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      let found: unknown;
      try {
        found = decodeChecked(damaged);
      } catch {
        continue;
      }
      // White space that became other white space; or the checksum's own name, which no strict schema knows.
      if (typeof found !== 'object' || found === null || Object.keys(found).length === 4)
        expect(found).toEqual(CONTENT);
      else expect(Object.keys(found)).toHaveLength(5);
    }
  });

  test('is read without a checksum too', () => {
    expect(decodeChecked(Buffer.from(JSON.stringify(CONTENT)))).toEqual(CONTENT);
  });
});
