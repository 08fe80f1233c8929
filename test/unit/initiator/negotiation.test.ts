import { describe, expect, it } from 'vitest';
import { DEFAULT_OFFER, decodeKeyList, settle } from '../../../gateway/initiator/negotiation.ts';

const answers = (pairs: Record<string, string>): Map<string, string> => new Map(Object.entries(pairs));

describe('the outcome of a negotiation', () => {
  it('has the defaults of the standard for every key left unanswered', () => {
    expect(settle(DEFAULT_OFFER, new Map())).toEqual({
      headerDigest: false,
      dataDigest: false,
      initialR2T: true,
      immediateData: true,
      maxBurstBytes: 262144,
      firstBurstBytes: 65536,
      maxSendDataSegmentBytes: 8192,
    });
  });

  it('takes the smaller length, the OR of InitialR2T and the AND of ImmediateData', () => {
    const settled = settle(
      { ...DEFAULT_OFFER, maxBurstBytes: 100_000 },
      answers({
        InitialR2T: 'No',
        ImmediateData: 'No',
        MaxBurstLength: '0x10000',
        FirstBurstLength: '131072',
        MaxRecvDataSegmentLength: '16777215',
      }),
    );
    expect(settled).toMatchObject({
      initialR2T: false,
      immediateData: false,
      maxBurstBytes: 65536,
      firstBurstBytes: 65536,
      maxSendDataSegmentBytes: 16777215,
    });
    expect(settle({ ...DEFAULT_OFFER, initialR2T: true }, answers({ InitialR2T: 'No' })).initialR2T).toBe(true);
    expect(settle({ ...DEFAULT_OFFER, immediateData: false }, answers({ ImmediateData: 'Yes' })).immediateData).toBe(
      false,
    );
  });

  it('uses a digest only when it was offered and chosen, and refuses any other answer', () => {
    const both = { ...DEFAULT_OFFER, headerDigest: 'CRC32C,None', dataDigest: 'CRC32C' } as const;
    expect(settle(both, answers({ HeaderDigest: 'CRC32C', DataDigest: 'CRC32C' }))).toMatchObject({
      headerDigest: true,
      dataDigest: true,
    });
    expect(settle(both, answers({ HeaderDigest: 'None', DataDigest: 'CRC32C' })).headerDigest).toBe(false);
    expect(() => settle(both, answers({ HeaderDigest: 'None' }))).toThrow(/DataDigest=None/);
    expect(() => settle(DEFAULT_OFFER, answers({ HeaderDigest: 'CRC32C' }))).toThrow(/HeaderDigest=CRC32C/);
  });

  it('refuses answers that are no numbers, no booleans, or out of range', () => {
    for (const [key, value] of [
      ['MaxBurstLength', 'many'],
      ['MaxBurstLength', '100'],
      ['FirstBurstLength', '16777216'],
      ['MaxRecvDataSegmentLength', ''],
      ['InitialR2T', 'yes'],
      ['DataPDUInOrder', 'No'],
    ] as const) {
      expect(() => settle(DEFAULT_OFFER, answers({ [key]: value })), `${key}=${value}`).toThrow(key);
    }
  });

  it('reads key lists in order, with empty values, and refuses what has no equals sign', () => {
    expect(decodeKeyList(Buffer.from('A=1\0B=\0A=x=y\0'))).toEqual([
      ['A', '1'],
      ['B', ''],
      ['A', 'x=y'],
    ]);
    expect(() => decodeKeyList(Buffer.from('A=1\0rubbish\0'))).toThrow(/rubbish/);
  });
});
