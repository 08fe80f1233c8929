import { describe, expect, it } from 'vitest';
import { ScsiError, decodeSense } from '../../../gateway/initiator/scsi-error.ts';

describe('sense data', () => {
  it('is decoded from fixed and descriptor format', () => {
    const fixed = Buffer.alloc(18);
    fixed[0] = 0xf0;
    fixed[2] = 0x25;
    fixed[12] = 0x21;
    fixed[13] = 0x03;
    expect(decodeSense(fixed)).toEqual({ key: 5, asc: 0x21, ascq: 3 });
    expect(decodeSense(Buffer.from([0x72, 0x06, 0x29, 0x01, 0, 0, 0, 0]))).toEqual({ key: 6, asc: 0x29, ascq: 1 });
  });

  it('is nothing when it is too short or of an unknown format', () => {
    for (const bytes of [[], [0x70], [0x72, 6], [0x00, 0, 0, 0], [0x7f, 1, 2, 3]]) {
      expect(decodeSense(Buffer.from(bytes))).toBeUndefined();
    }
  });

  it('says what the caller must do', () => {
    const kind = (status: number, key?: number): string =>
      new ScsiError('a read', status, key === undefined ? undefined : { key, asc: 0, ascq: 0 }).kind;
    expect(kind(0x08)).toBe('busy');
    expect(kind(0x28)).toBe('busy');
    expect(kind(0x18)).toBe('in-use');
    expect(kind(0x02, 5)).toBe('input');
    expect(kind(0x02, 3)).toBe('damaged');
    expect(kind(0x02, 4)).toBe('stopped');
    expect(kind(0x02, 7)).toBe('fenced');
    expect(kind(0x02, 0xb)).toBe('retry');
    expect(new ScsiError('a read', 2, { key: 3, asc: 0x11, ascq: 0 }).message).toBe(
      'a read failed: MEDIUM ERROR, additional sense 11h 00h',
    );
  });
});
