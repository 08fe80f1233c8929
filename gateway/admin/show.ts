import { formatLimit } from '../base/rate-plan.ts';
import { formatDuration, formatSize } from '../base/size.ts';
import type { LimitReport } from '../rate-limits.ts';
import type { CatalogueEntry, Finding, GatewayReport, Results, StandingReport, VolumeReport } from './gateway-api.ts';
import { lastCompleted, SCRUB_SIDES, type ScrubPass, type ScrubSide } from '../volume/scrub-pass.ts';
import type { ScrubReport } from '../volume/scrubber.ts';
import { formatTable, formatTime } from './output.ts';
import { salvaged } from './show-salvage.ts';
import { cacheLines, hitsOf, readsOf, scrubLines } from './show-cache.ts';
import { coalescingOf, costOf, usageRows } from './show-usage.ts';

/** What people read on their terminal; `--json` prints the values themselves. */

export function status(report: GatewayReport): string {
  const { cache, cloud } = report;
  const unread = report.volumes.some((volume) => volume.bytes === 0);
  const lines = [
    `gateway   ${report.gateway} (Farshore ${report.version}), ${report.portals.length === 0 ? 'starting: no portal is open yet' : `serving on ${report.portals.join(', ')}`}`,
    `cache     ${formatSize(cache.usedBytes)} of ${formatSize(cache.bytes)} used, ${formatSize(cache.dirtyBytes)} not yet in the cloud${unread ? ' (volumes that are not open yet not counted)' : ''}; ${cache.state}`,
    ...pressure(cache),
    ...threads(report),
    ...cacheLines(report),
    ...scrubLines(report.volumes),
    `cloud     ${cloud.detail}${line('uploads', cloud.uploads)}${line('downloads', cloud.downloads)}`,
    ...circuits(cloud.circuits),
    ...(report.isns === undefined
      ? []
      : [
          `iSNS      ${report.isns.server}: ${report.isns.state}${report.isns.problem === undefined ? '' : `, ${report.isns.problem}`}`,
        ]),
    '',
  ];
  if (report.volumes.length === 0)
    return [
      ...lines,
      'no volumes yet; make one with: farshore volume create NAME --size 10G',
      ...salvaged(report.salvage),
    ].join('\n');
  const rows = report.volumes.map((volume) => [
    volume.name,
    volume.bytes === 0 ? 'unknown' : formatSize(volume.bytes),
    volume.state,
    modeAndState(volume),
    lag(volume),
    String(volume.committedN),
    String(volume.sessions),
    hitsOf(volume.reads),
    coalescingOf(volume.usage),
    costOf(volume.usage),
    accessOf(volume),
    volume.target,
  ]);
  const reasons = [
    ...report.volumes.flatMap((volume) => [
      ...(volume.reason === undefined ? [] : [`${volume.name}: ${volume.reason}`]),
      ...missed(volume),
      ...(volume.access.problem === undefined ? [] : [`${volume.name}: ${volume.access.problem}`]),
    ]),
    ...report.access.problems,
  ];
  return [
    ...lines,
    formatTable(
      [
        ...['volume', 'size', 'state', 'replication', 'lag', 'version', 'sessions', 'hits', 'written/sent', 'a month'],
        ...['access', 'target'],
      ],
      rows,
    ),
    ...reasons,
    ...salvaged(report.salvage),
  ].join('\n');
}

/** Which thread has which volumes, where there are several. */
function threads({ threads: all }: GatewayReport): string[] {
  return (all ?? []).map(({ thread, volumes, cache, problem }) => {
    const state = problem ?? cache?.state ?? 'serving';
    return `thread ${thread}  ${volumes.length === 0 ? 'no volumes' : volumes.join(', ')}${state === 'serving' ? '' : `; ${state}`}`;
  });
}

/** Of each service that is not asked as ever. */
function circuits(all: GatewayReport['cloud']['circuits']): string[] {
  return (['s3', 'dynamodb'] as const).flatMap((service) => {
    const { state = 'closed', since = 0, reason = '' } = all?.[service] ?? {};
    if (state === 'closed') return [];
    const name = service === 's3' ? 'S3' : 'DynamoDB';
    return [`circuit   ${name} ${state}: nothing has succeeded since ${formatTime(since)} UTC; ${reason}`];
  });
}

function line(what: string, { limit, span, waiting }: GatewayReport['cloud']['uploads']): string {
  if (limit === undefined) return '';
  const by = span === undefined ? '' : ` (${span})`;
  const wait = waiting === 0 ? '' : `, ${waiting} waiting`;
  return limit === 0 ? `; ${what} are paused${by}${wait}` : `; ${what} limited to ${formatLimit(limit)}${by}${wait}`;
}

export function limits(result: Results['limit']): string {
  return [...limitLines('upload', result.upload), ...limitLines('download', result.download)].join('\n');
}

function limitLines(direction: string, { limit, span, default: otherwise, schedule, by }: LimitReport): string[] {
  const entries = Object.entries(schedule);
  const holds = span === undefined ? '' : `, by ${span}`;
  const until = by === 'set' ? '; set until the gateway starts again' : '';
  const alone = limit === 0 ? ': what is written stays here alone' : '';
  return [
    `${direction.padEnd(9)} ${formatLimit(limit)} now${holds}${alone}${until}`,
    ...entries.map(([text, rate]) => `          ${text}: ${rate}`),
    ...(entries.length === 0 ? [] : [`          otherwise: ${otherwise}`]),
  ];
}

export function volume(report: VolumeReport): string {
  const { hydration } = report;
  const rows: [string, string][] = [
    ['volume', `${report.name} (${report.id})`],
    ['size', `${formatSize(report.bytes)}, ${report.sectorSize}-byte sectors`],
    ['target', `${report.target} LUN 0`],
    ...(report.thread === 0 ? [] : [['thread', String(report.thread)] as [string, string]]),
    ['state', report.reason === undefined ? report.state : `${report.state}: ${report.reason}`],
    ['replication', replicationOf(report)],
    ...(report.standing === undefined ? [] : [['standing', standingOf(report.standing)] as [string, string]]),
    [
      'committed',
      report.committedAt === undefined
        ? `version ${report.committedN}`
        : `version ${report.committedN} at ${formatTime(report.committedAt)} UTC`,
    ],
    ['lag', lag(report)],
    ...storedRows(report),
    ...quotaRows(report),
    ['epoch', String(report.epoch)],
    ['sessions', String(report.sessions)],
    ['access', `${accessOf(report)}${report.access.problem === undefined ? '' : `; ${report.access.problem}`}`],
  ];
  if (hydration !== undefined) {
    rows.push([
      'hydration',
      hydration.finished
        ? 'done'
        : `${hydration.done}${hydration.total === undefined ? '' : ` of ${hydration.total}`} blocks`,
    ]);
  }
  if (report.reads !== undefined) rows.push(['reads', readsOf(report.reads)]);
  if (report.usage !== undefined) rows.push(...usageRows(report.usage));
  if (report.scrub !== undefined) {
    for (const side of SCRUB_SIDES) rows.push([`scrub ${side}`, passOf(report.scrub, side)]);
  }
  return rows.map(([key, value]) => `${key.padEnd(12)} ${value}`).join('\n');
}

function replicationOf({ replication, acks }: VolumeReport): string {
  if (acks === undefined || replication === 'async') return replication;
  const waiting = acks.waiting === 0 ? '' : `, ${acks.waiting} waiting`;
  const { standing, seconds, onRemoteLoss } = acks;
  const stands = standing === 'in-force' ? standing : `${standing} for ${Math.floor(seconds)} s`;
  return `${replication}, ${stands}${waiting}; on remote loss: ${onRemoteLoss}`;
}

function storedRows({ stored }: VolumeReport): [string, string][] {
  if (stored === undefined) return [];
  const { image, backlogBytes, catchUp } = stored;
  const rows: [string, string][] = [
    ['stored in', `${image}${backlogBytes === 0 ? '' : `, ${formatSize(backlogBytes)} not in it yet`}`],
  ];
  if (catchUp !== undefined) {
    const { why, bytes, openBytes, uploadedBytes } = catchUp;
    const percent = bytes === 0 ? 100 : Math.floor((100 * (bytes - openBytes)) / bytes);
    const what = why === 'seed' ? 'taking over the image' : 'catching up after the cache was full';
    const done = `${percent} % of ${formatSize(bytes)} looked at, ${formatSize(uploadedBytes)} uploaded`;
    rows.push(['seeding', `${what}: ${done}; it becomes one version`]);
  }
  return rows;
}

function quotaRows({ quota }: VolumeReport): [string, string][] {
  if (quota === undefined) return [];
  const mapped = quota.mappedBytes === undefined ? 'being counted' : `${formatSize(quota.mappedBytes)} mapped at most`;
  return [['quota', `${formatSize(quota.bytes)}, ${mapped}`]];
}

export function catalogue(entries: readonly CatalogueEntry[]): string {
  if (entries.length === 0) return 'no volumes in the cloud yet';
  const rows = entries.map((entry) => [
    entry.name,
    formatSize(entry.bytes),
    entry.purgeAfter === undefined ? entry.state : `deleted, kept until ${formatTime(entry.purgeAfter)} UTC`,
    entry.here ? 'this gateway' : entry.owner,
    entry.image === undefined ? (entry.kind ?? '-') : `${entry.kind ?? 'stored'} in ${entry.image}`,
  ]);
  return formatTable(['volume', 'size', 'state', 'owner', 'kind'], rows);
}

export function versions(list: Results['versions']): string {
  if (list.length === 0) return 'no versions yet';
  const rows = list.map((version) => [
    String(version.n),
    version.kind,
    formatTime(version.sealedAt),
    version.newestWriteAt === 0 ? '-' : formatTime(version.newestWriteAt),
    String(version.blocks),
    formatSize(version.bytes),
    String(version.epoch),
  ]);
  return formatTable(['version', 'kind', 'sealed (UTC)', 'newest write', 'blocks', 'stored', 'epoch'], rows);
}

export function findings(list: readonly Finding[]): string {
  return list.map((finding) => `${finding.verdict.padEnd(4)} ${finding.check.padEnd(12)} ${finding.detail}`).join('\n');
}

export const flushed =
  (name: string) =>
  (result: Results['flush']): string =>
    `${name}: everything acked is in committed version ${result.n}`;

export const folded =
  (name: string) =>
  (result: Results['fold']): string =>
    `${name}: folded ${result.versionsFolded} versions through ${result.n}; ${result.shardsRewritten} shards rewritten, ${result.runs} runs`;

export const deleted =
  (name: string) =>
  (result: Results['volume-delete']): string =>
    `${name} is deleted; until ${formatTime(result.purgeAfter)} UTC it comes back with: farshore volume undelete ${name}`;

export const forgotten =
  (name: string) =>
  (result: Results['volume-forget']): string =>
    `nothing of ${name} is kept here any more${result.salvage === undefined ? '' : `; what may be in no version is in ${result.salvage} of the state directory`}`;

export const handedOver =
  (name: string, to: string) =>
  (report: Results['handover']): string =>
    `${name} is gateway ${to}'s now; what is cached of it here stays for its way back (${report.state} here)`;

export const purged =
  (name: string) =>
  (result: Results['volume-purge']): string =>
    `${name} is gone for ever; ${result.objects} objects were removed`;

export const scrubbed =
  (name: string) =>
  (report: Results['scrub']): string =>
    SCRUB_SIDES.flatMap((side) => (report[side] === null ? [] : [`${name}: ${side}: ${passOf(report, side)}`])).join(
      '\n',
    );

/** One line of a pass: how far it came, and what it found. */
function passOf(report: ScrubReport, side: ScrubSide): string {
  const pass = report[side];
  if (pass === null) return 'never';
  const { position, checked, found, repaired, unrepairable, ranges, finishedAt } = pass;
  const when =
    finishedAt === null
      ? `${report.running === side ? `running at ${formatSize(report.bytesPerSecond)}/s,` : 'interrupted'} at block ${position} of ${report.total}${completed(pass)}`
      : `ended ${formatTime(finishedAt)} UTC`;
  const where = ranges
    .map(({ first, count }) => (count === 1 ? `${first}` : `${first}-${first + count - 1}`))
    .join(', ');
  return `${when}; ${checked} blocks checked, ${found} damaged, ${repaired} repaired, ${unrepairable} not repairable${where === '' ? '' : ` (blocks ${where})`}`;
}

/** Of a pass that is not at its end. */
function completed(pass: ScrubPass): string {
  const before = lastCompleted(pass);
  return before === null ? ', the first one' : `, the one before ended ${formatTime(before)} UTC`;
}

export const verified =
  (name: string) =>
  (report: Results['verify']): string =>
    [
      `${name}: ${report.verdict}: version ${report.n}, ${report.objects} objects, ${report.blocks} blocks, ${formatSize(report.bytes)} read back`,
      ...report.problems.map((problem) => `  ${problem}`),
    ].join('\n');

function accessOf({ access, state }: VolumeReport): string {
  if (state === 'fenced') return 'elsewhere';
  if (access.mode !== 'mapped') return access.mode;
  const maps = `${access.maps} map${access.maps === 1 ? '' : 's'}`;
  return access.inTable ? maps : `${maps}, not in the table yet`;
}

/** Only of a volume that is open: of any other it is not known here. */
function lag(report: VolumeReport): string {
  if (report.state === 'opening' || report.bytes === 0) return 'unknown';
  if (report.lagBytes === 0) return 'none';
  return `${formatSize(report.lagBytes)}, ${formatDuration(report.lagSeconds * 1000)}${drained(report)}`;
}

/** Only where it is late: what is within the target goes by itself. */
function drained({ standing }: VolumeReport): string {
  if (standing === undefined || (standing.state === 'synced' && !standing.targetMissed)) return '';
  const { drainSeconds } = standing;
  return drainSeconds === undefined ? ', nothing is committed' : `, drained in ${formatDuration(drainSeconds * 1000)}`;
}

function missed({ name, standing, lagSeconds }: VolumeReport): string[] {
  if (standing?.targetMissed !== true) return [];
  const [target, age] = [standing.rpoSeconds, lagSeconds].map((seconds) => formatDuration(seconds * 1000));
  return [`${name}: the target of ${target ?? ''} is missed: the oldest write that no version has is ${age ?? ''} old`];
}

/** Mode and state, as far as that is known. */
function modeAndState({ replication, standing }: VolumeReport): string {
  return standing === undefined ? replication : `${replication}, ${standing.state}`;
}

function standingOf({ state, rpoSeconds, targetMissed }: StandingReport): string {
  return `${state}; target ${formatDuration(rpoSeconds * 1000)}${targetMissed ? ', missed' : ''}`;
}

/** Below it nothing is told but an expected end within the day. */
const TOLD_SHARE = 0.25;
const TOLD_SECONDS = 86_400;

/** How near the cache is to being full of what the cloud does not have. */
function pressure({
  dirtyShare,
  secondsUntilFull,
  writeDelayMs,
  waitingWrites,
  busyWrites,
}: GatewayReport['cache']): string[] {
  const isNear = secondsUntilFull !== undefined && secondsUntilFull < TOLD_SECONDS;
  if (dirtyShare < TOLD_SHARE && !isNear) return [];
  const until = isNear ? `, ${whenFull(secondsUntilFull)}` : '';
  const slowed = writeDelayMs < 1 ? '' : `; writes are held back by ${formatDuration(writeDelayMs)}`;
  const waiting = waitingWrites === 0 ? '' : `; ${waitingWrites} wait now`;
  const told = busyWrites === 0 ? '' : `; ${busyWrites} writes were told BUSY since the start`;
  return [
    `pressure  ${Math.round(dirtyShare * 100)} % of the cache waits for the cloud${until}${slowed}${waiting}${told}`,
  ];
}

function whenFull(seconds: number): string {
  return seconds === 0 ? 'it is full' : `full in ${formatDuration(seconds * 1000)} if it goes on like this`;
}
