import { describe, expect, it } from 'vitest';
import { fireCampaign } from '../fire/campaign.ts';
import { SHORT_CASES } from '../fire/cases.ts';

const LIMIT_MS = 400_000;

describe('a gateway whose cloud is behind the fault proxy (each fault by itself: npm run fire)', () => {
  it(
    'loses and mixes nothing under fire, and is well again by itself, its circuits too',
    async () => {
      const seed = Number(process.env['FARSHORE_SEED'] ?? 1);
      const report = await fireCampaign({ cases: SHORT_CASES, seed });
      expect(report.wrong).toEqual([]);
      expect(report.cases.map(({ name }) => name)).toEqual(SHORT_CASES.map(({ name }) => name));
      expect(report.cases.every(({ faults }) => faults >= 8)).toBe(true);
      // Of the bucket that was away.
      expect(report.cases.at(-1)?.circuits[0]).toMatch(/open/);
      expect(report.versions).toBeGreaterThan(5);
      expect(report.restored.length).toBe(2);
    },
    LIMIT_MS,
  );
});
