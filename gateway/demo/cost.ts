import type { RequestCounts } from '../replication/remote-volume.ts';

/** List prices of us-east-1 in US dollars, as published in November 2026: standard storage class, on-demand table. */
const PRICES = { s3Put: 5e-6, s3Get: 0.4e-6, s3Other: 5e-6, dynamoWrite: 0.625e-6, dynamoRead: 0.125e-6 } as const;

/** `12 PUT, 3 GET, 14 table writes, 20 table reads ≈ $0.0001`. An item read strongly or written counts as one unit: ours are under 1 KB. */
export function describeCost(counts: RequestCounts): string {
  const keys = ['s3Put', 's3Get', 's3Other', 'dynamoWrite', 'dynamoRead'] as const;
  const dollars = keys.reduce((sum, key) => sum + counts[key] * PRICES[key], 0);
  return `${counts.s3Put} PUT, ${counts.s3Get} GET, ${counts.s3Other} other S3 requests, ${counts.dynamoWrite} table writes, ${counts.dynamoRead} table reads: about $${dollars.toFixed(4)} on AWS`;
}
