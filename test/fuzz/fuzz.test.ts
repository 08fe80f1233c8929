import { describe, expect, test } from 'vitest';
import { Campaign } from './campaign.ts';
import type { CampaignOptions, CampaignReport } from './campaign.ts';

/** A last resort against a hang. */
const TIMEOUT_MS = 240_000;

/** Long before a machine however busy is too slow, and short enough for a command that hangs to be noticed. */
const BOUND_MS = 30_000;

function fuzz(options: Partial<CampaignOptions>): Promise<CampaignReport> {
  return new Campaign({
    seed: 20_261_122,
    firstStep: 0,
    steps: Number.MAX_SAFE_INTEGER,
    mutated: Number.MAX_SAFE_INTEGER,
    seconds: 120,
    lanes: 12,
    boundMs: BOUND_MS,
    ...options,
  }).run();
}

test(
  'the target stands thousands of damaged PDUs, and a well-behaved initiator beside notices nothing',
  async () => {
    const report = await fuzz({ mutated: 6000 });
    expect(report.failure).toBeUndefined();
    // The fuzzer got in, and past the parser.
    expect(report.totals.sessions).toBeGreaterThan(20);
    expect(report.totals.good).toBeGreaterThan(50);
    expect(report.witnessAnswers).toBeGreaterThan(50);
    expect(report.checkpoints).toBeGreaterThan(1);
  },
  TIMEOUT_MS,
);

describe('the fuzzer finds', () => {
  test.each([
    ['crash', /planted|connection was closed/],
    ['unhandled rejection', /planted|connection was closed/],
    ['lost memory of the budget', /bytes of writes and .* of reads are accounted for/],
    ['growing heap', /the heap has grown/],
    ['forgotten timers', /handles and timers/],
    ['LUN mapping that is not asked', /bytes of the witness|does not hold what it wrote/],
    ['a write that goes astray', /does not hold what it wrote/],
    ['a read-only LUN that is written', /may only be read has changed/],
    ['a command that keeps everybody waiting', /not answered within|says nothing/],
  ])(
    '%s',
    async (planted, wanted) => {
      const hangs = planted === 'a command that keeps everybody waiting';
      const { failure } = await fuzz({ planted, ...(hangs ? { boundMs: 4000 } : {}) });
      expect(failure).toMatch(wanted);
    },
    TIMEOUT_MS,
  );
});
