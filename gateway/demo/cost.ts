import { costOfRequests } from '../cost.ts';
import type { RequestCounts } from '../replication/remote-volume.ts';

/** `12 PUT, 3 GET, 14 table writes, 20 table reads ≈ $0.0001`. */
export function describeCost(counts: RequestCounts): string {
  return `${counts.s3Put} PUT, ${counts.s3Get} GET, ${counts.s3Other} other S3 requests, ${counts.dynamoWrite} table writes, ${counts.dynamoRead} table reads: about $${costOfRequests(counts).toFixed(4)} on AWS`;
}
