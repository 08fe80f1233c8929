import { PRICES } from '../cost.ts';
import { formatDuration, formatSize } from '../base/size.ts';
import type { UsageReport } from '../usage.ts';

/** One column: written ÷ sent, over the last day. */
export function coalescingOf(usage: UsageReport | undefined): string {
  return ratio(usage?.day.coalescing);
}

/** One column: dollars a month; `+` where what is stored is not counted yet. */
export function costOf(usage: UsageReport | undefined): string {
  const cost = usage?.monthlyCost;
  if (cost === undefined) return '-';
  return `${dollars(cost.total)}${cost.storage === undefined ? '+' : ''}`;
}

/** What a volume has written, sent and fetched, and what that costs. */
export function usageRows({ day, monthlyCost: cost, storedBytes, ...all }: UsageReport): [string, string][] {
  const { requests } = day;
  const lasted = formatDuration(day.seconds * 1000);
  const asked = `${requests.s3Put} PUT, ${requests.s3Get} GET, ${requests.s3Other} other S3 requests, ${requests.dynamoWrite} table writes, ${requests.dynamoRead} table reads`;
  const rows: [string, string][] = [
    ['traffic', `${trafficOf(day)} in the last ${lasted} (${asked}); ${trafficOf(all)} since it was opened`],
  ];
  if (storedBytes !== undefined) rows.push(['in S3', `${formatSize(storedBytes)}, history included`]);
  rows.push([
    'cost',
    cost === undefined
      ? 'told when the volume has been open for ten minutes'
      : `about ${dollars(cost.total)} a month if it goes on like this: requests ${dollars(cost.requests)}, transfer ${dollars(cost.transfer)}, storage ${cost.storage === undefined ? 'not counted yet' : dollars(cost.storage)} (list prices of ${PRICES.region}, ${PRICES.asOf})`,
  ]);
  return rows;
}

function trafficOf({ writtenBytes, sentBytes, fetchedBytes, coalescing }: Omit<UsageReport['day'], 'seconds'>): string {
  return `${formatSize(writtenBytes)} written, ${formatSize(sentBytes)} sent (${ratio(coalescing)}), ${formatSize(fetchedBytes)} fetched`;
}

function ratio(value: number | undefined): string {
  return value === undefined ? '-' : `${value.toFixed(value < 10 ? 2 : 0)}:1`;
}

function dollars(value: number): string {
  return `$${value.toFixed(2)}`;
}
