import { FarshoreError } from '../base/errors.ts';
import type { Epoch, VersionNumber, WriteSeq } from '../base/units.ts';
import type { VersionLog, VolumeItem } from '../cloud/version-log.ts';
import { walkLogInto } from '../maintenance/walk.ts';
import type { PastEnd } from '../maintenance/past-map.ts';
import type { SalvageHeader } from '../volume/salvage-reader.ts';

/**
 * The last version of an epoch that is over: the one before the first record of a higher epoch, which is a takeover, and takeovers are never deleted.
 * What the fenced writer had committed is in it, all of it, and nothing of those that came after. Without a higher epoch it is the newest one.
 */
export async function lastVersionOf(log: VersionLog, item: VolumeItem, epoch: Epoch): Promise<VersionNumber> {
  const nothing = () => undefined;
  const { tail } = await walkLogInto(log, item, { onRestart: nothing, onRecord: nothing });
  if (tail.epoch <= epoch) return tail.n;
  // Epochs never fall along the history, and every record below its end is history: what is deleted is passed over.
  let takeover = tail.n;
  for (let low = 1, high = tail.n; low < high;) {
    const middle = Math.floor((low + high) / 2);
    const [next] = await log.listVersions(item.volume, middle, 1);
    if (next !== undefined && next.n < takeover && next.epoch <= epoch) low = next.n + 1;
    else {
      if (next !== undefined && next.n < takeover) takeover = next.n;
      high = middle;
    }
  }
  return takeover - 1;
}

/** The version that the writes in a salvage file follow. Rejects with `input` when nobody can tell. */
export async function commonVersion(
  log: VersionLog,
  item: VolumeItem,
  file: SalvageHeader,
  asked: VersionNumber | undefined,
): Promise<VersionNumber> {
  if (asked !== undefined) {
    const folded = item.checkpoint !== undefined && asked <= item.checkpoint.n;
    if (folded || (await log.getVersion(item.volume, asked)) !== undefined) return asked;
    throw new FarshoreError('input', `volume ${item.name} has no version ${asked}`);
  }
  if (file.logId === 'unknown') {
    throw new FarshoreError(
      'input',
      `nobody knows any more which version of ${item.name} these writes follow, because the state file of the volume was gone; say it with --version N, or export the writes alone with --out FILE --tail-only`,
    );
  }
  const n = await lastVersionOf(log, item, file.epoch);
  if (n >= 1) return n;
  throw new FarshoreError('input', `volume ${item.name} has no version that these writes could follow`);
}

/** Writes up to this one are in the common version already: what the gateway knew when it was fenced may be less than what had been committed. */
export function committedThrough(file: SalvageHeader, end: PastEnd): WriteSeq {
  const { lastData } = end;
  return lastData?.logId === file.logId ? Math.max(file.after, lastData.throughSeq) : file.after;
}
