import { z } from 'zod';
import { decodeChecked, encodeChecked } from '../base/checked-json.ts';
import { type Disk, readWhole, replaceFile } from '../base/disk.ts';
import { FarshoreError } from '../base/errors.ts';
import { importPath } from './salvage-files.ts';

const MAX_BYTES = 64 * 1024;

const schema = z.strictObject({
  format: z.literal(1),
  /** The name it is to have, and the identifier of the volume that is made for it. */
  name: z.string(),
  volume: z.string(),
  /** Stands for the writes in the version log of that volume: who finds them there need not import them again. */
  logId: z.string(),
  /** See CloneRequest. */
  attempt: z.number().int().positive(),
  isDone: z.boolean(),
});

/** What became of a salvage file: an import is repeated until it is done, and then found to be done. */
export type ImportJournal = Readonly<z.infer<typeof schema>>;

/** undefined when the file was never imported. */
export async function loadImport(disk: Disk, file: string): Promise<ImportJournal | undefined> {
  const path = importPath(file);
  const content = await readWhole(disk, path, MAX_BYTES);
  if (content === undefined) return undefined;
  try {
    return schema.parse(decodeChecked(content));
  } catch (error) {
    throw new FarshoreError(
      'damaged',
      `${path} in the state directory cannot be understood; remove it, look with farshore volume list whether there is a half-made volume, and purge that`,
      { cause: error },
    );
  }
}

/** Durable when it resolves. */
export async function saveImport(disk: Disk, file: string, journal: ImportJournal): Promise<void> {
  await replaceFile(disk, importPath(file), encodeChecked(journal));
}
