import type { ArgumentsOf, VolumeReport } from './admin/gateway-api.ts';
import { FarshoreError } from './base/errors.ts';
import type { VersionLog } from './cloud/version-log.ts';
import type { ServedVolume } from './served-volume.ts';
import { unlessFenced } from './volume-lookup.ts';
import type { Replication, ReplicationReport } from './volume/replication-control.ts';

/**
 * `volume set`: what acks mean from now on. In the table first: whoever opens the volume next goes by what was asked for last. Rejects with
 * `input`, `fenced`, `busy`, and with `retry` when the outcome is not known: the volume goes on as it was, and what the table says holds after its next
 * start, or when the command was repeated.
 */
export async function changeReplication(
  table: VersionLog,
  served: ServedVolume,
  { replication, onRemoteLoss }: Pick<ArgumentsOf<'volume-set'>, 'replication' | 'onRemoteLoss'>,
): Promise<VolumeReport> {
  if (replication === undefined && onRemoteLoss === undefined)
    throw new FarshoreError('input', 'nothing is to be set; name --replication or --on-remote-loss');
  const volume = served.serving();
  const { replication: now, stored } = await volume.status();
  const wanted: Replication = { mode: replication ?? now.mode, onRemoteLoss: onRemoteLoss ?? now.onRemoteLoss };
  // It would be degraded until then, and nobody asks for that.
  if (wanted.mode !== 'async' && stored?.catchUp !== undefined)
    throw new FarshoreError(
      'busy',
      `what is in the image of volume ${served.entry.name} is being replicated as one version, and nothing was changed; ask for ${wanted.mode} when that is done`,
    );
  const changes = { replication: wanted.mode, onRemoteLoss: wanted.onRemoteLoss };
  await unlessFenced(table.changeVolume(volume.item, volume.epoch, changes), served.entry.name);
  await volume.setReplication(wanted);
  return served.report();
}

/** What somebody has to know of acks that do not mean, or do not get, what the mode says; undefined: nothing. */
export function replicationAlarm({ mode, standing }: ReplicationReport): string | undefined {
  switch (standing) {
    case 'in-force':
      return undefined;
    case 'catching-up':
      return `what was acked before is not all replicated yet; ${mode} is in force when it is`;
    case 'blocked':
      return `the cloud does not answer, and ${waitersOf(mode)} wait for it (--on-remote-loss block)`;
    case 'failing':
      return `the cloud does not answer, and ${waitersOf(mode)} fail (--on-remote-loss fail)`;
    case 'degraded':
      return `DEGRADED: the cloud did not answer, and what is acked is on this machine alone until it has caught up (--on-remote-loss degrade)`;
  }
}

const waitersOf = (mode: Replication['mode']): string => (mode === 'sync' ? 'writes' : 'flushes');
