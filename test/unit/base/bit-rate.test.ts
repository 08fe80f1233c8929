import { describe, expect, it } from 'vitest';
import { formatBitRate, parseBitRate } from '../../../gateway/base/bit-rate.ts';

describe('a bit rate', () => {
  it.each([
    ['200Mbit/s', 200e6],
    ['200 Mbit/s', 200e6],
    ['1.5Gbit/s', 1.5e9],
    ['64kbit/s', 64_000],
    ['100000bit/s', 100_000],
    ['1000Gbit/s', 1e12],
  ])('%s is %d bits per second, and comes back as it was', (text, rate) => {
    expect(parseBitRate(text, 'x')).toBe(rate);
    expect(parseBitRate(formatBitRate(rate), 'x')).toBe(rate);
  });

  it.each([
    '200',
    '200M',
    '200MB/s',
    '200mbit/s',
    '200Mbit',
    '200Mbps',
    '200Mbit/S',
    'Mbit/s',
    '-1Mbit/s',
    '1e3Mbit/s',
    ' 1Mbit/s',
    '1,5Mbit/s',
    '',
  ])('"%s" is refused, since it could mean anything', (text) => {
    expect(() => parseBitRate(text, 'cloud.uploadLimit')).toThrow(
      `cloud.uploadLimit "${text}" is not a rate; write it like 200Mbit/s`,
    );
  });

  it.each(['0Mbit/s', '63kbit/s', '1001Gbit/s'])('"%s" is out of range', (text) => {
    expect(() => parseBitRate(text, 'x')).toThrow(/is not between 64kbit\/s and 1000Gbit\/s/);
  });

  it('is shown in the largest unit', () => {
    expect([64_000, 1_500_000, 200e6, 2.5e9].map(formatBitRate)).toEqual([
      '64kbit/s',
      '1.5Mbit/s',
      '200Mbit/s',
      '2.5Gbit/s',
    ]);
  });
});
