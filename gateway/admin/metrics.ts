import { REQUEST_KINDS } from '../cost.ts';
import { REPLICATION_STATES } from '../replication-standing.ts';
import { SCRUB_SIDES, lastCompleted } from '../volume/scrub-pass.ts';
import type { CircuitReport } from '../cloud/circuit.ts';
import type { GatewayReport, VolumeReport } from './gateway-api.ts';

type Kind = 'counter' | 'gauge';
interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  /** undefined: not known now, and left out. */
  readonly value: number | undefined;
}

/**
 * A status as Prometheus reads it (text format 0.0.4). Base units (seconds, bytes); counters end in `_total`, count from the start of the gateway
 * (those of a volume from when it was opened) and begin anew with it.
 */
export function metricsText(report: GatewayReport): string {
  return [
    ...gatewayMetrics(report),
    ...volumeMetrics(report.volumes),
    ...replicationMetrics(report.volumes),
    ...scrubMetrics(report.volumes),
  ].join('');
}

function gatewayMetrics({ gateway, version, startedAt, cache, cloud }: GatewayReport): string[] {
  const { counts } = cache;
  const ahead = counts.readAhead;
  const lines = [['upload', cloud.uploads] as const, ['download', cloud.downloads] as const];
  return [
    family('info', 'gauge', 'This gateway; always 1.', [{ labels: { gateway, version }, value: 1 }]),
    single('start_time_seconds', 'gauge', 'When it was started, since 1970.', startedAt / 1000),
    single('cache_size_bytes', 'gauge', 'What the cache may grow to.', cache.bytes),
    single('cache_used_bytes', 'gauge', 'Blocks in the cache.', cache.usedBytes),
    single('cache_dirty_bytes', 'gauge', 'Blocks in the cache that no version has.', cache.dirtyBytes),
    single(
      'cache_dirty_ratio',
      'gauge',
      'How much of the cache waits for the cloud; at 1 writes get BUSY.',
      cache.dirtyShare,
    ),
    single('cache_write_delay_seconds', 'gauge', 'How long a write is held back now.', cache.writeDelayMs / 1000),
    single('cache_waiting_writes', 'gauge', 'Writes held back, or waiting for room.', cache.waitingWrites),
    single('cache_busy_writes_total', 'counter', 'Writes that were told BUSY.', cache.busyWrites),
    single('cache_filled_blocks_total', 'counter', 'Blocks fetched and placed in the log.', counts.fills),
    single('cache_moved_blocks_total', 'counter', 'Used blocks that outlived their chunk.', counts.moved),
    single('cache_evicted_blocks_total', 'counter', 'Blocks that left the log with their chunk.', counts.evicted),
    single('cache_reclaimed_chunks_total', 'counter', 'Chunks of the log that were reused.', counts.reclaimedChunks),
    single('read_ahead_fetched_blocks_total', 'counter', 'Blocks fetched before anybody asked.', ahead.fetched),
    single('read_ahead_used_blocks_total', 'counter', 'Those that met a reader in RAM or on their way.', ahead.used),
    single('read_ahead_unused_blocks_total', 'counter', 'Those that left RAM unread.', ahead.wasted),
    single('cloud_reachable', 'gauge', 'Whether the cloud answered last.', flag(cloud.reachable)),
    family(
      'line_limit_bits_per_second',
      'gauge',
      'What all volumes may upload and download now; 0: paused; absent: no limit.',
      lines.map(([direction, { limit }]) => ({ labels: { direction }, value: limit })),
    ),
    family(
      'line_waiting_transfers',
      'gauge',
      'Transfers that wait for that.',
      lines.map(([direction, { waiting }]) => ({ labels: { direction }, value: waiting })),
    ),
    ...circuitMetrics(cloud.circuits),
  ];
}

function circuitMetrics(circuits: GatewayReport['cloud']['circuits']): string[] {
  if (circuits === undefined) return [];
  const each = (value: (circuit: CircuitReport) => number | undefined): Sample[] =>
    (['s3', 'dynamodb'] as const).map((service) => ({ labels: { service }, value: value(circuits[service]) }));
  return [
    family(
      'cloud_circuit_open',
      'gauge',
      'Whether only probes are sent to the service, because nothing succeeds there.',
      each(({ state }) => flag(state !== 'closed')),
    ),
    family(
      'cloud_circuit_since_seconds',
      'gauge',
      'Since when it is open or closed, since 1970.',
      each(({ since }) => since / 1000),
    ),
    family(
      'cloud_circuit_openings_total',
      'counter',
      'How often it has opened.',
      each(({ openings }) => openings),
    ),
    family(
      'cloud_failed_attempts_total',
      'counter',
      'Attempts of requests that failed, repeated or not.',
      each(({ failures }) => failures),
    ),
  ];
}

function volumeMetrics(volumes: readonly VolumeReport[]): string[] {
  const each = (value: (volume: VolumeReport) => number | undefined): Sample[] =>
    volumes.map((volume) => ({ labels: { volume: volume.name }, value: value(volume) }));
  const open = (value: (volume: VolumeReport) => number | undefined): Sample[] =>
    each((volume) => (volume.reads === undefined ? undefined : value(volume)));
  const reads = volumes.flatMap(({ name, reads: counts }) =>
    (['ram', 'log', 'missed'] as const).map((source) => ({
      labels: { volume: name, source },
      value: counts?.[source],
    })),
  );
  return [
    family(
      'volume_serving',
      'gauge',
      'Whether initiators can use the volume.',
      each(({ state }) => flag(state === 'serving')),
    ),
    family(
      'volume_alarm',
      'gauge',
      'Whether status has something to say of it.',
      each(({ reason, standing }) => flag(reason !== undefined || standing?.targetMissed === true)),
    ),
    family(
      'volume_size_bytes',
      'gauge',
      'Size of the volume.',
      open(({ bytes }) => bytes),
    ),
    family(
      'volume_quota_bytes',
      'gauge',
      'The most that may be mapped.',
      open(({ quota }) => quota?.bytes),
    ),
    family(
      'volume_mapped_bytes',
      'gauge',
      'What is mapped at most, of volumes with a quota.',
      open(({ quota }) => quota?.mappedBytes),
    ),
    family(
      'volume_lag_seconds',
      'gauge',
      'Age of the oldest write that no version has.',
      open(({ lagSeconds }) => lagSeconds),
    ),
    family(
      'volume_lag_bytes',
      'gauge',
      'What no version has.',
      open(({ lagBytes }) => lagBytes),
    ),
    family(
      'volume_committed_version',
      'gauge',
      'Newest committed version.',
      open(({ committedN }) => committedN),
    ),
    family(
      'volume_sessions',
      'gauge',
      'iSCSI sessions that see it.',
      open(({ sessions }) => sessions),
    ),
    family(
      'volume_read_blocks_total',
      'counter',
      'Blocks that were read, by where they were: in RAM, in the log on disk, or neither (missed).',
      reads,
    ),
  ];
}

function scrubMetrics(volumes: readonly VolumeReport[]): string[] {
  type Scrub = NonNullable<VolumeReport['scrub']>;
  type Side = (typeof SCRUB_SIDES)[number];
  const each = (value: (scrub: Scrub, side: Side) => number | undefined): Sample[] =>
    volumes.flatMap(({ name, scrub }) =>
      scrub === undefined
        ? []
        : SCRUB_SIDES.map((side) => ({ labels: { volume: name, side }, value: value(scrub, side) })),
    );
  const totals = (what: keyof Scrub['sinceOpen']['local'], help: string): string =>
    family(
      `scrub_${what}_blocks_total`,
      'counter',
      help,
      each(({ sinceOpen }, side) => sinceOpen[side][what]),
    );
  const seconds = (millis: number | null | undefined): number | undefined =>
    millis === null || millis === undefined ? undefined : millis / 1000;
  return [
    totals('checked', 'Blocks looked at in the cache (local) or S3 (remote).'),
    totals('found', 'Blocks that did not hold what they should.'),
    totals('repaired', 'Those that were mended.'),
    totals('unrepairable', 'Those that nothing could be done for.'),
    family(
      'scrub_unrepairable_blocks',
      'gauge',
      'Those of the last pass, finished or not.',
      each((scrub, side) => scrub[side]?.unrepairable),
    ),
    family(
      'scrub_last_complete_timestamp_seconds',
      'gauge',
      'When the last pass from beginning to end has ended, since 1970; absent: never.',
      each((scrub, side) => {
        const pass = scrub[side];
        return pass === null ? undefined : seconds(lastCompleted(pass));
      }),
    ),
    family(
      'scrub_running',
      'gauge',
      'Whether a pass runs.',
      each(({ running }, side) => flag(running === side)),
    ),
    family(
      'scrub_bytes_per_second',
      'gauge',
      'How fast the pass that runs reads, over the last minute.',
      each(({ running, bytesPerSecond }, side) => (running === side ? bytesPerSecond : 0)),
    ),
  ];
}

/** Of volumes that are open. */
function replicationMetrics(volumes: readonly VolumeReport[]): string[] {
  type Standing = NonNullable<VolumeReport['standing']>;
  type Usage = NonNullable<VolumeReport['usage']>;
  const standings = (value: (standing: Standing) => number | undefined): Sample[] =>
    volumes.flatMap(({ name, standing }) =>
      standing === undefined ? [] : [{ labels: { volume: name }, value: value(standing) }],
    );
  const usages = (value: (usage: Usage) => number | undefined): Sample[] =>
    volumes.flatMap(({ name, usage }) =>
      usage === undefined ? [] : [{ labels: { volume: name }, value: value(usage) }],
    );
  const states = volumes.flatMap(({ name, replication, standing }) =>
    standing === undefined
      ? []
      : REPLICATION_STATES.map((state) => ({
          labels: { volume: name, mode: replication, state },
          value: flag(standing.state === state),
        })),
  );
  const requests = volumes.flatMap(({ name, usage }) =>
    usage === undefined
      ? []
      : REQUEST_KINDS.map((kind) => ({ labels: { volume: name, kind }, value: usage.requests[kind] })),
  );
  return [
    family('volume_replication_state', 'gauge', 'How its replication stands: 1 for the state it is in.', states),
    family(
      'volume_target_seconds',
      'gauge',
      'The most that the loss of the site may cost, by age.',
      standings(({ rpoSeconds }) => rpoSeconds),
    ),
    family(
      'volume_target_missed',
      'gauge',
      'Whether it would cost more now.',
      standings(({ targetMissed }) => flag(targetMissed)),
    ),
    family(
      'volume_drain_seconds',
      'gauge',
      'Until what lags is in a version, at the pace of the last minute; absent: nothing is committed.',
      standings(({ drainSeconds }) => drainSeconds),
    ),
    family(
      'volume_written_bytes_total',
      'counter',
      'Written by initiators, in whole blocks.',
      usages(({ writtenBytes }) => writtenBytes),
    ),
    family(
      'volume_sent_bytes_total',
      'counter',
      'Uploaded: segments, data inside versions, maps.',
      usages(({ sentBytes }) => sentBytes),
    ),
    family(
      'volume_fetched_bytes_total',
      'counter',
      'Downloaded.',
      usages(({ fetchedBytes }) => fetchedBytes),
    ),
    family(
      'volume_coalescing_ratio',
      'gauge',
      'Written by sent over the last day.',
      usages(({ day }) => day.coalescing),
    ),
    family('volume_cloud_requests_total', 'counter', 'Requests made for it.', requests),
    family(
      'volume_stored_bytes',
      'gauge',
      'What S3 has of it, history included, as counted once a day.',
      usages(({ storedBytes }) => storedBytes),
    ),
    family(
      'volume_monthly_cost_dollars',
      'gauge',
      'What a month like the last day would cost, at list prices.',
      usages(({ monthlyCost }) => monthlyCost?.total),
    ),
  ];
}

function single(name: string, kind: Kind, help: string, value: number | undefined): string {
  return family(name, kind, help, [{ value }]);
}

function family(name: string, kind: Kind, help: string, samples: readonly Sample[]): string {
  const full = `farshore_${name}`;
  const lines = samples.flatMap(({ labels, value }) =>
    value === undefined ? [] : [`${full}${labels === undefined ? '' : labelText(labels)} ${value}\n`],
  );
  return lines.length === 0 ? '' : `# HELP ${full} ${help}\n# TYPE ${full} ${kind}\n${lines.join('')}`;
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const escape = (value: string): string =>
    value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  return `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${escape(value)}"`)
    .join(',')}}`;
}

function flag(value: boolean | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}
