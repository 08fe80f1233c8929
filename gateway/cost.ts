import type { ByteCount } from './base/units.ts';
import type { RequestCounts } from './replication/remote-volume.ts';

/**
 * List prices in US dollars, of us-east-1 in November 2026: S3 Standard (first 50 TB), a DynamoDB table on demand, transfer out to the internet
 * (above the free 100 GB, first 10 TB). Other regions differ by up to half as much again.
 */
export const PRICES = {
  asOf: '2026-11',
  region: 'us-east-1',
  s3Put: 5e-6,
  s3Get: 0.4e-6,
  /** LIST is priced like PUT; HEAD and DELETE cost less, and count as much here. */
  s3Other: 5e-6,
  dynamoWrite: 0.625e-6,
  dynamoRead: 0.125e-6,
  /** A decimal gigabyte that leaves AWS; what goes in is free. */
  transferOutPerGb: 0.09,
  /** A binary gigabyte for a month. */
  storagePerGibMonth: 0.023,
} as const;

const MONTH_SECONDS = 30 * 86_400;
const GB = 1e9;
const GIB = 2 ** 30;
export const REQUEST_KINDS = ['s3Put', 's3Get', 's3Other', 'dynamoWrite', 'dynamoRead'] as const;

/** What was used in `seconds`. */
export interface UsageFigures {
  readonly requests: RequestCounts;
  readonly downloadedBytes: ByteCount;
  readonly seconds: number;
}

/** US dollars a month. */
export interface MonthlyCost {
  readonly total: number;
  readonly requests: number;
  readonly transfer: number;
  /** Of what S3 has now; undefined: not counted yet, and not in the total. */
  readonly storage: number | undefined;
}

/** Dollars for these requests. An item read strongly or written counts as one unit: most of ours are under 1 KB. */
export function costOfRequests(counts: RequestCounts): number {
  return REQUEST_KINDS.reduce((sum, kind) => sum + counts[kind] * PRICES[kind], 0);
}

/** A month of thirty days in which it goes on as in these figures; undefined for figures of no time. */
export function monthlyCost(
  { requests, downloadedBytes, seconds }: UsageFigures,
  storedBytes: ByteCount | undefined,
): MonthlyCost | undefined {
  if (seconds <= 0) return undefined;
  const months = MONTH_SECONDS / seconds;
  const made = costOfRequests(requests) * months;
  const transfer = (downloadedBytes / GB) * PRICES.transferOutPerGb * months;
  const storage = storedBytes === undefined ? undefined : (storedBytes / GIB) * PRICES.storagePerGibMonth;
  return { total: made + transfer + (storage ?? 0), requests: made, transfer, storage };
}
