import { type Disk, parentOf } from '../base/disk.ts';
import { describeError, FarshoreError, isKind } from '../base/errors.ts';
import type { BlockCount, ByteCount, Epoch } from '../base/units.ts';
import { MAX_THREADS } from '../threads/io-thread.ts';
import { THREADS_DIRECTORY } from '../threads/retired-threads.ts';
import { SALVAGE_DIRECTORY } from '../volume/salvage.ts';
import { SalvageFile } from '../volume/salvage-reader.ts';

/** Writes of a volume that are in no version of it, kept by this gateway. */
export interface SalvageReport {
  /** Under the state directory. */
  readonly file: string;
  /** Identifier of the volume; undefined when the file can't be read. */
  readonly volume: string | undefined;
  /** As this gateway knows it. */
  readonly name: string | undefined;
  /** In which they were written; undefined where nobody knows. */
  readonly epoch: Epoch | undefined;
  readonly writes: number | undefined;
  readonly blocks: BlockCount | undefined;
  readonly bytes: ByteCount;
  readonly problem: string | undefined;
}

const SUFFIX = '.fsv';
/** Files that are told of; a gateway that has more has other troubles. */
const MAX_FILES = 1000;

/** Every salvage file of the state directory, those of other threads included. `nameOf` a volume that is known here. */
export async function listSalvage(
  disk: Disk,
  nameOf: (volume: string) => string | undefined,
): Promise<readonly SalvageReport[]> {
  const reports: SalvageReport[] = [];
  for (const path of await salvagePaths(disk)) {
    try {
      reports.push(await reportOf(disk, path, nameOf));
    } catch (error) {
      if (isKind(error, 'not-found')) continue; // removed meanwhile
      const unknown = { volume: undefined, name: undefined, epoch: undefined, writes: undefined, blocks: undefined };
      reports.push({ file: path, ...unknown, bytes: 0, problem: describeError(error) });
    }
  }
  return reports;
}

async function salvagePaths(disk: Disk): Promise<readonly string[]> {
  const directories = [SALVAGE_DIRECTORY];
  const threads = (await disk.list(THREADS_DIRECTORY)).filter((name) => /^\d+$/.test(name));
  for (const thread of threads.map(Number).sort((a, b) => a - b))
    if (thread < MAX_THREADS) directories.push(`${THREADS_DIRECTORY}/${thread}/${SALVAGE_DIRECTORY}`);
  const paths: string[] = [];
  for (const directory of directories) {
    const names = (await disk.list(directory)).filter((name) => name.endsWith(SUFFIX)).sort();
    paths.push(...names.map((name) => `${directory}/${name}`));
  }
  return paths.slice(0, MAX_FILES);
}

async function reportOf(
  disk: Disk,
  path: string,
  nameOf: (volume: string) => string | undefined,
): Promise<SalvageReport> {
  const file = await SalvageFile.open(disk, path);
  try {
    const { volume, epoch, logId } = file.header;
    const known = { file: path, volume, name: nameOf(volume), epoch: logId === 'unknown' ? undefined : epoch };
    try {
      const { operations: writes, blocks, bytes } = await file.summary();
      return { ...known, writes, blocks, bytes, problem: undefined };
    } catch (error) {
      if (!isKind(error, 'damaged')) throw error;
      return { ...known, writes: undefined, blocks: undefined, bytes: file.bytes, problem: error.message };
    }
  } finally {
    await file.close();
  }
}

/** The one file of the volume that is meant. Rejects with `not-found`, `input` when there are several and none is named. */
export function chooseFile(name: string, files: readonly SalvageReport[], asked: string | undefined): SalvageReport {
  if (asked !== undefined) {
    const found = files.find(({ file }) => file === asked || file.endsWith(`/${asked}`));
    if (found !== undefined) return found;
    throw new FarshoreError(
      'not-found',
      `there is no salvage file ${asked} of volume ${name}; farshore salvage list shows them`,
    );
  }
  const [only, another] = files;
  if (only === undefined)
    throw new FarshoreError('not-found', `this gateway keeps no writes of volume ${name} that are in no version`);
  if (another === undefined) return only;
  throw new FarshoreError(
    'input',
    `there are ${files.length} salvage files of volume ${name}; say which with --file: ${files.map(({ file }) => file).join(', ')}`,
  );
}

/** Durably, with what is remembered of its import. */
export async function removeSalvage(disk: Disk, path: string): Promise<void> {
  await disk.remove(path);
  await disk.remove(importPath(path));
  await disk.syncDirectory(parentOf(path));
}

/** Where it is remembered what a file is being imported as. */
export function importPath(path: string): string {
  return `${path.slice(0, -SUFFIX.length)}.import.json`;
}
