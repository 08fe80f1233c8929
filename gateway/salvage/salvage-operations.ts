import type { ArgumentsOf, Operation, Progress, Results, SalvageOutcome } from '../admin/gateway-api.ts';
import type { Disk } from '../base/disk.ts';
import { FarshoreError } from '../base/errors.ts';
import type { ImageStore } from '../base/image.ts';
import type { Catalogue, CatalogueVolume } from '../catalogue.ts';
import type { VersionLog, VolumeItem, VolumeRef } from '../cloud/version-log.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import type { RemoteVolume } from '../replication/remote-volume.ts';
import type { ServedVolume } from '../served-volume.ts';
import type { IoThreads } from '../threads/io-threads.ts';
import { SalvageFile } from '../volume/salvage-reader.ts';
import { commonVersion } from './common-version.ts';
import type { TailOutcome } from './commit-tail.ts';
import { exportImage } from './export-image.ts';
import { importTail } from './import-tail.ts';
import { chooseFile, listSalvage, removeSalvage, type SalvageReport } from './salvage-files.ts';

export interface SalvageDeps {
  readonly maintenance: () => Promise<MaintenanceDeps>;
  readonly table: VersionLog;
  readonly catalogue: Catalogue;
  readonly iqn: string;
  /** Of the state directory, all of it. */
  readonly disk: Disk;
  /** Any directory of the machine. */
  readonly diskAt: (directory: string) => Disk;
  readonly images: ImageStore;
  readonly io: IoThreads;
  readonly openRemote: () => RemoteVolume;
  readonly isTaken: (targetName: string) => boolean;
}

/** What the gateway does with a volume of its own for it. */
export interface SalvageHooks {
  readonly served: (name: string) => ServedVolume | undefined;
  /** Serves the volume as this entry has it, from the beginning. */
  readonly reopen: (entry: CatalogueVolume) => ServedVolume;
  /** Aborts when the gateway is stopped. */
  readonly closing: AbortSignal;
}

type SalvageOperation = Extract<Operation, 'salvage-list' | 'salvage-export' | 'salvage-import' | 'salvage-remove'>;
type OnProgress = (progress: Progress) => void;
type SalvageHandlers = {
  readonly [Op in SalvageOperation]: (args: ArgumentsOf<Op>, onProgress: OnProgress) => Promise<Results[Op]>;
};

/**
 * What is done with writes that were acked here and are in no version, because another gateway had the volume by then: listed, exported as an image, made a
 * volume of their own, removed.
 */
export function salvageOperations(deps: SalvageDeps, hooks: SalvageHooks): SalvageHandlers {
  const list = () => salvageHere(deps);
  return {
    'salvage-list': list,
    'salvage-export': async ({ name, file, out, tailOnly, version, damaged }, onProgress) => {
      const { chosen, ref } = await choose(deps, hooks, name, file);
      return withFile(deps.disk, chosen.file, async (opened) => {
        const item = tailOnly ? undefined : await sourceOf(deps.table, name, ref);
        const base = item && { item, n: await commonVersion(deps.table, item, opened.header, version) };
        const { bytes, ...tail } = await exportImage(
          { maintenance: await deps.maintenance(), images: deps.images, diskAt: deps.diskAt },
          {
            ...{ file: opened, passOverDamage: damaged, base, out, signal: hooks.closing },
            onProgress: (phase, done) => {
              onProgress({ phase, done, total: 0, unit: 'blocks' });
            },
          },
        );
        return { ...outcomeOf(chosen, base?.n, tail), bytes };
      });
    },
    'salvage-import': async ({ name, file, as, version, thread, damaged }, onProgress) => {
      const { chosen, ref } = await choose(deps, hooks, name, file);
      return withFile(deps.disk, chosen.file, async (opened) => {
        const source = await sourceOf(deps.table, name, ref);
        const n = await commonVersion(deps.table, source, opened.header, version);
        // Before anything is made: a thread that there is not is a mistake to be told at once.
        deps.io.placeFor('', thread);
        const { item, outcome } = await importTail(
          {
            ...{
              maintenance: await deps.maintenance(),
              gateway: deps.catalogue.gateway,
              iqn: deps.iqn,
              disk: deps.disk,
            },
            openRemote: deps.openRemote,
            isTaken: deps.isTaken,
            isHere: (volume) => entryOf(deps.catalogue, (each) => each.volume === volume) !== undefined,
          },
          {
            ...{ file: opened, passOverDamage: damaged, source, n, as, signal: hooks.closing },
            onProgress: (phase, done) => {
              onProgress({ phase, done, total: 0, unit: phase === 'cloning the map' ? 'steps' : 'blocks' });
            },
          },
        );
        return { ...outcomeOf(chosen, n, outcome), volume: await serve(deps, hooks, item, thread) };
      });
    },
    'salvage-remove': async ({ name, file, confirm }) => {
      if (confirm !== name) {
        throw new FarshoreError(
          'input',
          `this removes writes that were acked and are nowhere else; repeat the name to say you mean it: --confirm ${name}`,
        );
      }
      const files = (await list()).filter((report) => report.name === name || report.volume === name);
      const chosen = file === undefined ? files : [chooseFile(name, files, file)];
      if (chosen.length === 0) chooseFile(name, files, undefined);
      for (const report of chosen) await removeSalvage(deps.disk, report.file);
      return { files: chosen.map((report) => report.file) };
    },
  };
}

/** All there is, with the names this gateway or the table knows. */
export async function salvageHere({ disk, catalogue }: Pick<SalvageDeps, 'disk' | 'catalogue'>) {
  return listSalvage(disk, (volume) => entryOf(catalogue, (each) => each.volume === volume)?.name);
}

/** The file that is meant. What a fenced volume still has in the cache log is copied into one first, and stays where it is. */
async function choose(
  deps: SalvageDeps,
  hooks: SalvageHooks,
  name: string,
  file: string | undefined,
): Promise<{ readonly chosen: SalvageReport; readonly ref: VolumeRef }> {
  const entry = entryOf(deps.catalogue, (each) => each.name === name);
  if (entry !== undefined) await copyOut(deps, hooks, entry);
  const bound = entry ?? (await deps.table.resolveName(name));
  // A volume that is gone has no name any more; its identifier is in the list.
  const volume = bound?.volume ?? name;
  const files = (await salvageHere(deps)).filter((report) => report.volume === volume);
  const chosen = chooseFile(name, files, file);
  return { chosen, ref: bound ?? { lineage: await lineageOf(deps.disk, chosen.file), volume } };
}

async function copyOut({ io }: SalvageDeps, { served, reopen }: SalvageHooks, entry: CatalogueVolume): Promise<void> {
  const volume = served(entry.name);
  if (volume?.isElsewhere() !== true) return;
  await volume.close();
  try {
    await io.of(entry).copyTail(entry);
  } finally {
    await reopen(entry).firstAttempt;
  }
}

async function lineageOf(disk: Disk, path: string): Promise<string> {
  return withFile(disk, path, ({ header }) => Promise.resolve(header.lineage));
}

async function sourceOf(table: VersionLog, name: string, ref: VolumeRef): Promise<VolumeItem> {
  const item = await table.getVolume(ref);
  if (item !== undefined) return item;
  throw new FarshoreError(
    'not-found',
    `volume ${name} is gone for ever, and so is the version that these writes follow; export the writes alone with --out FILE --tail-only`,
  );
}

async function serve(
  { catalogue, io }: SalvageDeps,
  { served, reopen }: SalvageHooks,
  { name, lineage, volume }: VolumeItem,
  thread: number | undefined,
): Promise<Results['salvage-import']['volume']> {
  const present = entryOf(catalogue, (each) => each.volume === volume);
  const there = served(name);
  if (present !== undefined && there !== undefined) return there.report();
  const entry = { name, lineage, volume, ...io.placeFor(volume, thread) };
  await catalogue.put(entry);
  const opened = reopen(entry);
  await opened.firstAttempt;
  return opened.report();
}

async function withFile<T>(disk: Disk, path: string, work: (file: SalvageFile) => Promise<T>): Promise<T> {
  const file = await SalvageFile.open(disk, path);
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

function entryOf(
  { volumes }: Pick<Catalogue, 'volumes'>,
  isIt: (entry: CatalogueVolume) => boolean,
): CatalogueVolume | undefined {
  return volumes.find(isIt);
}

function outcomeOf({ file }: SalvageReport, n: number | undefined, tail: TailOutcome | undefined): SalvageOutcome {
  if (tail === undefined) return { file, n, tail };
  const { lost, lostUnmaps, beyond } = tail;
  const warnings = [
    ...(lost.length === 0
      ? []
      : [
          `the content of ${lost.length} written blocks is lost: ${lost.slice(0, 20).join(', ')}${lost.length > 20 ? ', …' : ''}`,
        ]),
    ...(lostUnmaps === 0
      ? []
      : [`of ${lostUnmaps} unmaps nobody knows what they unmapped; it still has its old content`]),
    ...(beyond === 0 ? [] : [`${beyond} blocks lie beyond the end that the volume had, and were left out`]),
  ];
  return { file, n, tail, ...(warnings.length === 0 ? {} : { warnings }) };
}
