import { formatSize } from '../base/size.ts';
import { BLOCK_SIZE } from '../base/units.ts';
import { SCRUB_SIDES } from '../volume/scrub-pass.ts';
import type { GatewayReport, ReadsReport, VolumeReport } from './gateway-api.ts';

/** What the cache does for reads, for people: see docs/CACHE.md. */
export function cacheLines({ reads, cache }: GatewayReport): string[] {
  const { fills, moved, evicted, readAhead } = cache.counts;
  const ahead = `read-ahead ${blocks(readAhead.fetched)}, ${blocks(readAhead.used)} used, ${blocks(readAhead.wasted)} unused`;
  return [
    `reads     ${readsOf(reads)}`,
    `fills     ${blocks(fills)} filled in, ${blocks(moved)} moved on, ${blocks(evicted)} evicted; ${ahead}`,
  ];
}

/** The ratio of the last minutes, then where everything since the opening was found. */
export function readsOf(reads: ReadsReport): string {
  const { ram, log, missed, hitRatio, recent } = reads;
  if (hitRatio === undefined) return 'none yet';
  const minutes = Math.max(1, Math.round(recent.seconds / 60));
  const lately = recent.hitRatio === undefined ? 'none' : `${percent(recent.hitRatio)} from the cache`;
  return `${lately} in the last ${minutes} min; ${percent(hitRatio)} in all (RAM ${blocks(ram)}, disk ${blocks(log)}, fetched ${blocks(missed)})`;
}

/** One column: the ratio of the last minutes. */
export function hitsOf(reads: ReadsReport | undefined): string {
  return reads?.recent.hitRatio === undefined ? '-' : percent(reads.recent.hitRatio);
}

/** What the scrubs of all volumes have found since they were opened; nothing when none has looked at anything. */
export function scrubLines(volumes: readonly VolumeReport[]): string[] {
  const sides = SCRUB_SIDES.map((side) => {
    const totals = volumes.flatMap(({ scrub }) => scrub?.sinceOpen[side] ?? []);
    const sum = (what: 'checked' | 'found' | 'repaired' | 'unrepairable'): number =>
      totals.reduce((all, each) => all + each[what], 0);
    return { side, checked: sum('checked'), found: sum('found'), repaired: sum('repaired'), lost: sum('unrepairable') };
  });
  if (sides.every(({ checked }) => checked === 0)) return [];
  const running = volumes.find(({ scrub }) => scrub?.running !== undefined);
  const pace =
    running?.scrub?.running === undefined
      ? ''
      : `; ${running.name}: ${running.scrub.running} runs at ${formatSize(running.scrub.bytesPerSecond)}/s`;
  const told = sides.map(
    ({ side, checked, found, repaired, lost }) =>
      `${side === 'local' ? 'cache' : 'S3'} ${blocks(checked)} checked, ${found} damaged, ${repaired} repaired, ${lost} not repairable`,
  );
  return [`scrub     ${told.join('; ')}${pace}`];
}

function blocks(count: number): string {
  return count === 0 ? '0' : formatSize(count * BLOCK_SIZE);
}

function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(1)} %`;
}
