import type { Disk } from '../base/disk.ts';
import { FarshoreError } from '../base/errors.ts';
import type { VersionNumber } from '../base/units.ts';
import type { VolumeItem } from '../cloud/version-log.ts';
import { defaultTarget, newNaa } from '../naming.ts';
import { cloneVolume } from '../maintenance/clone.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import { loadPastMap } from '../maintenance/past-map.ts';
import type { RemoteVolume } from '../replication/remote-volume.ts';
import type { SalvageFile } from '../volume/salvage-reader.ts';
import { claimName, unlessFenced } from '../volume-lookup.ts';
import { committedThrough } from './common-version.ts';
import { commitTail, type TailOutcome } from './commit-tail.ts';
import { loadImport, saveImport, type ImportJournal } from './import-journal.ts';

export interface ImportDeps {
  readonly maintenance: MaintenanceDeps;
  readonly gateway: string;
  readonly iqn: string;
  /** Of the state directory. */
  readonly disk: Disk;
  /** The remote half of a volume, not opened yet. */
  readonly openRemote: () => RemoteVolume;
  /** Whether a target made by hand has this name already. */
  readonly isTaken: (targetName: string) => boolean;
  /** Whether this gateway's catalogue has the volume. */
  readonly isHere: (volume: string) => boolean;
}

export interface ImportRequest {
  readonly file: SalvageFile;
  readonly passOverDamage: boolean;
  readonly source: VolumeItem;
  /** The version that the writes follow. */
  readonly n: VersionNumber;
  /** Name of the volume that is to be made. */
  readonly as: string;
  readonly signal: AbortSignal;
  readonly onProgress: (phase: string, done: number) => void;
}

export interface Imported {
  readonly item: VolumeItem;
  /** undefined: an earlier call had done it already. */
  readonly outcome: TailOutcome | undefined;
}

/**
 * Makes a volume of the writes in a salvage file: a clone of the version they follow, and one version with all of them. Until it is whole it is marked as
 * deleted: nobody opens it, and one that is never finished can be purged. The import goes on where it was when it is repeated; what was thought through:
 *
 * - a crash before the clone's item is there: the name is bound to nothing; the repeated call binds it again, and makes the clone anew
 * - after it: the clone is found, and the writes are uploaded again; what was uploaded before is in no version
 * - after the version with the writes: it is found by the identity of its log
 * - after the mark was taken away: it is this gateway's, and not in its catalogue yet; nothing is left but that
 *
 * Rejects with `in-use` (the name is another volume's, or an import of the same file as something else is under way), `input`, `damaged` (the salvage
 * file), `retry`, `fenced` (somebody else has opened the volume), `stopped`.
 */
export async function importTail(deps: ImportDeps, request: ImportRequest): Promise<Imported> {
  const { versions } = deps.maintenance;
  const { file, as } = request;
  // All of it is read before anything is made of it.
  await file.read(() => undefined, request);
  const journal = await beginImport(deps, request);
  const ref = { lineage: request.source.lineage, volume: journal.volume };
  await claimName(versions, as, ref);
  let item = await versions.getVolume(ref);
  if (journal.isDone && item !== undefined) return { item, outcome: undefined };
  if (item !== undefined && item.deletedAt === undefined) {
    if (item.owner !== deps.gateway || deps.isHere(item.volume)) throw openedElsewhere(item);
    await saveImport(deps.disk, file.path, { ...journal, isDone: true });
    return { item, outcome: undefined };
  }
  item ??= await makeClone(deps, request, journal);
  const { outcome, epoch } = await addWrites(deps, request, journal, item);
  // Somebody may have bound the name to a volume of their own before ours was in the table.
  await claimName(versions, as, ref);
  await unlessFenced(versions.changeVolume(ref, epoch, { deletedAt: null }), as);
  await saveImport(deps.disk, file.path, { ...journal, isDone: true });
  const whole = await versions.getVolume(ref);
  if (whole === undefined) throw new FarshoreError('not-found', `volume ${as} was removed while it was being made`);
  return { item: whole, outcome };
}

/** Durable: what this import makes, and under which identifier, before any of it is there. */
async function beginImport(deps: ImportDeps, { file, as }: ImportRequest): Promise<ImportJournal> {
  const { disk, maintenance, isTaken, iqn } = deps;
  const { versions, random } = maintenance;
  const before = await loadImport(disk, file.path);
  if (before !== undefined && !before.isDone && before.name !== as) {
    throw new FarshoreError(
      'in-use',
      `the import of ${file.path} as ${before.name} was not finished; finish it with --as ${before.name}, or forget it: farshore volume delete ${before.name} --purge --confirm ${before.name}, then remove its .import.json`,
    );
  }
  const bound = await versions.resolveName(as);
  const isOurs = before?.name === as && (bound === undefined || bound.volume === before.volume);
  if (isOurs && before.isDone && bound !== undefined) return before;
  if (isOurs && !before.isDone) {
    const again = { ...before, attempt: before.attempt + 1 };
    await saveImport(disk, file.path, again);
    return again;
  }
  const targetName = defaultTarget(iqn, as);
  if (isTaken(targetName))
    throw new FarshoreError('in-use', `there is a target ${targetName} already; choose another name for the volume`);
  const id = () => random.bytes(8).toString('hex');
  const logId = random.bytes(16).toString('hex');
  const journal = { format: 1 as const, name: as, volume: id(), logId, attempt: 1, isDone: false };
  await saveImport(disk, file.path, journal);
  return journal;
}

function makeClone(
  { maintenance, gateway, iqn }: ImportDeps,
  { source, n, as, signal, onProgress }: ImportRequest,
  { volume, attempt }: ImportJournal,
): Promise<VolumeItem> {
  const createdAt = maintenance.clock.now();
  const targetName = defaultTarget(iqn, as);
  const naa = newNaa(maintenance.random);
  const clone = { volume, name: as, targetName, naa, createdAt, deletedAt: createdAt, owner: gateway };
  return cloneVolume(maintenance, {
    ...{ source, n, clone, attempt, signal },
    onProgress: (shards) => {
      onProgress('cloning the map', shards);
    },
  });
}

async function addWrites(
  { maintenance, gateway, openRemote }: ImportDeps,
  { file, passOverDamage, source, n, onProgress }: ImportRequest,
  { logId }: ImportJournal,
  clone: VolumeItem,
): Promise<{ readonly outcome: TailOutcome | undefined; readonly epoch: number }> {
  const { end } = await loadPastMap(maintenance, source, n);
  if (end === undefined) throw new FarshoreError('input', `volume ${source.name} has no version ${n}`);
  const remote = openRemote();
  const ref = { lineage: clone.lineage, volume: clone.volume };
  try {
    const opened = await remote.open({ ref, gateway, takeover: false, lastEpoch: 0, logId, isUnfinished: true });
    if (opened.lastData?.logId === logId) return { outcome: undefined, epoch: opened.epoch };
    const outcome = await commitTail(remote, {
      ...{ file, passOverDamage, after: committedThrough(file.header, end), volumeBytes: opened.item.bytes },
      onProgress: (blocks) => {
        onProgress('adding the salvaged writes', blocks);
      },
    });
    return { outcome, epoch: opened.epoch };
  } finally {
    await remote.close();
  }
}

function openedElsewhere({ name }: VolumeItem): FarshoreError {
  return new FarshoreError(
    'in-use',
    `volume ${name} was brought back and opened before the salvaged writes were in it; import them under another name`,
  );
}
