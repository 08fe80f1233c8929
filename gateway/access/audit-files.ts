import { type Disk, type DiskFile, readWhole } from '../base/disk.ts';
import { FarshoreError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import { type AuditEntry, parseEntry } from './audit-entry.ts';

export const AUDIT_DIRECTORY = 'audit';
export const AUDIT_FILE_BYTES = 8 * MIB;

/**
 * Entries are kept by who causes them, each kind in files of its own, so that nobody pushes out what those with more say have done:
 * administrators (`changes`), initiators with a right (`logins`), and whoever reaches a portal (`noise`).
 */
export const SERIES = {
  changes: { name: 'audit', files: 16 },
  logins: { name: 'logins', files: 16 },
  noise: { name: 'refused', files: 4 },
} as const;
export type Series = keyof typeof SERIES;
export const ALL_SERIES: readonly Series[] = ['changes', 'logins', 'noise'];

/** `audit/NAME.jsonl`; `audit/NAME.1.jsonl` is the newest of the old ones. */
export function auditPath(series: Series, index = 0): string {
  const { name } = SERIES[series];
  return `${AUDIT_DIRECTORY}/${name}${index === 0 ? '' : `.${index}`}.jsonl`;
}

/** The files of one series, appended to. Calls follow one another. */
export class AuditFiles {
  readonly #disk: Disk;
  readonly #series: Series;
  readonly #fileBytes: number;
  #file: DiskFile | undefined;
  #at = 0;
  #unsynced = false;

  constructor(disk: Disk, series: Series, fileBytes = AUDIT_FILE_BYTES) {
    this.#disk = disk;
    this.#series = series;
    this.#fileBytes = fileBytes;
  }

  /** Ends a line that a power cut or a full disk has torn: what is appended to it could not be read. */
  async open(): Promise<DiskFile> {
    const path = auditPath(this.#series);
    let file: DiskFile;
    try {
      file = await this.#disk.open(path, 'write');
    } catch (error) {
      if (!(error instanceof FarshoreError) || error.kind !== 'not-found') throw error;
      file = await this.#disk.open(path, 'create');
      await this.#disk.syncDirectory(AUDIT_DIRECTORY);
    }
    try {
      this.#at = await endOf(file);
    } catch (error) {
      await file.close();
      throw error;
    }
    this.#file = file;
    return file;
  }

  async append(lines: string): Promise<void> {
    if (this.#at >= this.#fileBytes) await this.#rotate();
    const file = this.#file ?? (await this.open());
    const bytes = Buffer.from(lines);
    // A write that failed half-way is written over by the next one.
    await file.write([bytes], this.#at);
    this.#at += bytes.length;
    this.#unsynced = true;
  }

  async sync(): Promise<void> {
    if (!this.#unsynced) return;
    const file = this.#file ?? (await this.open());
    try {
      await file.sync();
      this.#unsynced = false;
    } catch (error) {
      // Nothing of a file whose fsync failed may be trusted to be synced later: the next entry begins another one.
      this.#unsynced = false;
      await this.#rotate();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  async #rotate(): Promise<void> {
    // No later fsync reaches what is in this file.
    const unsynced = this.#unsynced ? this.#file : undefined;
    this.#unsynced = false;
    await unsynced?.sync();
    await this.close();
    for (let index = SERIES[this.#series].files - 1; index >= 1; index--) {
      const younger = auditPath(this.#series, index - 1);
      if (await isThere(this.#disk, younger)) await this.#disk.rename(younger, auditPath(this.#series, index));
    }
    await this.#disk.syncDirectory(AUDIT_DIRECTORY);
    await this.open();
  }
}

/** The number of the last entry of the series, 0 when there is none. */
export async function lastSeq(disk: Disk, series: Series): Promise<number> {
  for (let index = 0; index < SERIES[series].files; index++) {
    const content = await readFile(disk, series, index);
    let end = content?.length ?? 0;
    while (content !== undefined && end > 0) {
      const start = content.lastIndexOf(0x0a, end - 2) + 1;
      const entry = parseEntry(content.toString('utf8', start, end));
      if (entry !== undefined) return entry.seq;
      end = start;
    }
  }
  return 0;
}

export interface AuditReading {
  /** Lines that are no entry (torn by a power cut). */
  readonly unreadable: number;
  /** When the oldest entry of each series was made; undefined where there is none. */
  readonly since: Readonly<Record<Series, string | undefined>>;
}

/**
 * Every entry that is there, oldest first. Lines that are none are counted, not guessed at. Files are small enough to be read one at a time.
 * `newest`: only so many files of each series.
 */
export async function readAudit(
  disk: Disk,
  visit: (entry: AuditEntry) => void,
  wanted: (line: string) => boolean = () => true,
  { series = ALL_SERIES, newest }: { readonly series?: readonly Series[]; readonly newest?: number } = {},
): Promise<AuditReading> {
  const cursors = series.map((each) => new Cursor(disk, each, wanted, newest));
  for (;;) {
    let oldest: Cursor | undefined;
    for (const cursor of cursors) {
      await cursor.fill();
      const { head } = cursor;
      if (head !== undefined && (oldest?.head === undefined || head.seq < oldest.head.seq)) oldest = cursor;
    }
    const entry = oldest?.take();
    if (entry === undefined) break;
    visit(entry);
  }
  const since = { changes: undefined, logins: undefined, noise: undefined };
  return {
    unreadable: cursors.reduce((sum, cursor) => sum + cursor.unreadable, 0),
    since: { ...since, ...Object.fromEntries(cursors.map((cursor) => [cursor.series, cursor.since])) },
  };
}

/** Goes through one series, file by file. */
class Cursor {
  readonly series: Series;
  readonly #disk: Disk;
  readonly #wanted: (line: string) => boolean;
  #next: number;
  #entries: readonly AuditEntry[] = [];
  #at = 0;
  unreadable = 0;
  since: string | undefined;

  constructor(disk: Disk, series: Series, wanted: (line: string) => boolean, newest: number = SERIES[series].files) {
    this.series = series;
    this.#disk = disk;
    this.#wanted = wanted;
    this.#next = newest - 1;
  }

  get head(): AuditEntry | undefined {
    return this.#entries[this.#at];
  }

  take(): AuditEntry | undefined {
    const { head } = this;
    this.#at += 1;
    return head;
  }

  /** Reads on until there is a head, or no file any more. */
  async fill(): Promise<void> {
    while (this.head === undefined && this.#next >= 0) {
      const content = await readFile(this.#disk, this.series, this.#next);
      this.#next -= 1;
      this.#at = 0;
      this.#entries = content === undefined ? [] : this.#parse(content.toString('utf8'));
    }
  }

  #parse(text: string): AuditEntry[] {
    const entries: AuditEntry[] = [];
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const isWanted = this.#wanted(line);
      if (!isWanted && this.since !== undefined) continue;
      const entry = parseEntry(line);
      this.since ??= entry?.at;
      if (!isWanted) continue;
      if (entry === undefined) this.unreadable += 1;
      else entries.push(entry);
    }
    return entries;
  }
}

function readFile(disk: Disk, series: Series, index: number): Promise<Buffer | undefined> {
  return readWhole(disk, auditPath(series, index), 2 * AUDIT_FILE_BYTES);
}

/** Where the next entry goes: behind the last line, which is ended first if a power cut or a full disk has torn it. */
async function endOf(file: DiskFile): Promise<number> {
  const size = await file.size();
  if (size === 0) return 0;
  const last = Buffer.alloc(1);
  await file.read(last, size - 1);
  if (last[0] === 0x0a) return size;
  await file.write([Buffer.from('\n')], size);
  return size + 1;
}

async function isThere(disk: Disk, path: string): Promise<boolean> {
  try {
    await (await disk.open(path, 'read')).close();
    return true;
  } catch (error) {
    if (error instanceof FarshoreError && error.kind === 'not-found') return false;
    throw error;
  }
}
