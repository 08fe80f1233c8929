import type { Disk } from '../base/disk.ts';
import type { AuditEntry } from './audit-entry.ts';
import { readAudit } from './audit-files.ts';
import { type AuditLog, changeFailed } from './audit-log.ts';
import type { AccessDocument } from './document.ts';

/** Marks the entries of changes to the access document (`of`). */
export const OF_DOCUMENT = 'access';
/** The two newest files: of one gateway's changes one is under way at a time, so it is the last entry. */
const NEWEST_FILES = 2;

/** Sees to it that the log does not tell of a change that is not in force, nor take back one that is. */
export async function settleChanges(
  { disk, audit }: { readonly disk: Disk; readonly audit: AuditLog },
  document: AccessDocument | undefined,
): Promise<void> {
  const { entries, fates } = await lastChanges(disk);
  // A document that no audited change has reached yet, or none: only a first change can have been lost, see below.
  const audited = document?.audited ?? 0;
  const missing = entries.filter((entry) => entry.seq > audited && fates.get(entry.seq) !== 'change-failed');
  const last = missing.at(-1);
  // The whole document is gone, or was written by an older release: what is in it was made some time ago, and says nothing of the log.
  const saysNothing = document?.audited === undefined && missing.length > 1;
  if (last !== undefined && !saysNothing) {
    const { seq, event } = last;
    audit.note(changeFailed({ event, by: 'gateway', seq }, 'the gateway ended before it was made'));
    if (missing.length > 1) {
      audit.note({
        event: 'access-rolled-back',
        by: 'gateway',
        entries: missing
          .slice(0, -1)
          .map((entry) => entry.seq)
          .slice(0, MAX_TOLD),
        count: missing.length - 1,
        reason: 'access.json in the state directory is older than these changes, which are not in force',
      });
    }
  }
  const made = entries.at(-1);
  if (made !== undefined && made.seq === audited && fates.get(made.seq) === 'change-failed') {
    // The rename was done, and only the answer to it failed.
    audit.note({ event: 'change-made', by: 'gateway', change: made.event, entry: made.seq });
  }
}

/** Rolled-back changes that are named one by one. */
const MAX_TOLD = 64;

async function lastChanges(
  disk: Disk,
): Promise<{ readonly entries: readonly AuditEntry[]; readonly fates: ReadonlyMap<number, string> }> {
  const entries: AuditEntry[] = [];
  const fates = new Map<number, string>();
  await readAudit(
    disk,
    (entry) => {
      if (entry['of'] === OF_DOCUMENT) entries.push(entry);
      const { entry: about, entries: more } = entry;
      if (typeof about === 'number') fates.set(about, entry.event);
      if (Array.isArray(more)) for (const each of more) fates.set(Number(each), 'change-failed');
    },
    (line) => line.includes('"of":"access"') || line.includes('"by":"gateway"') || line.includes('"change-failed"'),
    { series: ['changes'], newest: NEWEST_FILES },
  );
  return { entries, fates };
}
