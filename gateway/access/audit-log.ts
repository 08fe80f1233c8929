import type { CancelTimer, Clock } from '../base/clock.ts';
import { type Disk, type DiskFile, readWhole } from '../base/disk.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { KIB, MIB } from '../base/units.ts';
import type { AccessEvent } from '../iscsi/target-registry.ts';

const DIRECTORY = 'audit';
const FILE = `${DIRECTORY}/audit.jsonl`;
export const AUDIT_FILE_BYTES = 8 * MIB;
/** `audit.jsonl` and `audit.1.jsonl` (the newest of the old ones) to `audit.15.jsonl`. */
export const AUDIT_FILES = 16;
/** An entry is cut to it; what initiators call themselves and reasons are far shorter. */
const MAX_ENTRY_BYTES = 16 * KIB;
/** Entries about sessions that wait for the disk; more are counted only. */
const MAX_WAITING = 4096;
/** Entries about sessions in one minute, so that no peer can push an administrator's entries out by making noise. */
const MAX_REFUSALS_PER_MINUTE = 120;
const MAX_SESSION_ENTRIES_PER_MINUTE = 1200;
const MINUTE_MS = 60_000;
/** Entries about sessions are on stable storage after this long; those about changes at once. */
const SYNC_AFTER_MS = 2_000;

/** What an administrator did or tried to do, or what became of access without one (a restore that brings it back). */
export interface ChangeEntry {
  readonly event: string;
  /** `cli:root`: the user the command line says it is; `gateway`: the gateway itself. */
  readonly by: string;
  readonly [detail: string]: unknown;
}

/** One line of the log. */
export type AuditEntry = { readonly seq: number; readonly at: string; readonly event: string } & Readonly<
  Record<string, unknown>
>;

export interface AuditDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  readonly fileBytes?: number;
}

/**
 * The audit log: append-only JSON lines in `audit/` of the state directory. Entries about changes are durable before the change is made;
 * entries about sessions follow within seconds, are bounded in number, and are counted where they could not be written.
 */
export class AuditLog {
  readonly #deps: AuditDeps;
  #file: DiskFile | undefined;
  #at = 0;
  #seq: number;
  #tail: Promise<void> = Promise.resolve();
  #waiting = 0;
  #unsynced = false;
  #cancelSync: CancelTimer | undefined;
  #minute = { endsAt: 0, refusals: 0, sessions: 0 };
  #suppressed = new Map<string, number>();
  #problem: string | undefined;
  #closed = false;

  private constructor(deps: AuditDeps, seq: number) {
    this.#deps = deps;
    this.#seq = seq;
  }

  /** Goes on where the last process stopped; a line that was torn then stays as it is, on a line of its own. */
  static async open(deps: AuditDeps): Promise<AuditLog> {
    await deps.disk.makeDirectory(DIRECTORY);
    await deps.disk.syncDirectory('');
    let seq = 0;
    for (let index = 0; index < AUDIT_FILES && seq === 0; index++) seq = await lastSeq(deps.disk, pathOf(index));
    const audit = new AuditLog(deps, seq);
    try {
      await audit.#openFile();
    } catch (error) {
      // A full disk is no reason not to serve: only changes are refused, until there is room.
      audit.#problem = describeError(error);
      deps.log.error({ error: audit.#problem }, 'the audit log cannot be written');
    }
    return audit;
  }

  /** Why entries cannot be written at present; undefined when they can. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Durable when it resolves. Rejects with the disk's failure: the change must not be made then. */
  async change(entry: ChangeEntry): Promise<void> {
    try {
      await this.#enqueue(async () => {
        await this.#append([entry]);
        await this.#sync();
      });
    } catch (error) {
      const kind = error instanceof FarshoreError ? error.kind : 'stopped';
      throw new FarshoreError(
        kind,
        `nothing was changed, because it cannot be written to the audit log: ${describeError(error)}`,
        { cause: error },
      );
    }
  }

  /** About something that has happened already: written when it can be, and never a reason to fail. */
  note(entry: ChangeEntry): void {
    this.#later(entry);
  }

  /** What the target server tells. */
  session(event: AccessEvent, detail: Readonly<Record<string, unknown>> = {}): void {
    const { kind, initiator, target, portal, ...rest } = event;
    if (!this.#mayWrite(kind)) return;
    this.#later({
      event: kind,
      initiator: initiator.name ?? null,
      address: initiator.address,
      target: target ?? null,
      portal,
      ...rest,
      ...detail,
    });
  }

  /** Writes and syncs what waits. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelSync?.();
    await this.#enqueue(async () => {
      const summary = this.#takeSuppressed();
      if (summary !== undefined) await this.#append([summary]);
      await this.#sync();
    }).catch((error: unknown) => {
      this.#deps.log.error({ error: describeError(error) }, 'the end of the audit log could not be written');
    });
    await this.#file?.close();
    this.#file = undefined;
  }

  #mayWrite(kind: AccessEvent['kind']): boolean {
    const now = this.#deps.clock.monotonicMs();
    if (now >= this.#minute.endsAt) this.#minute = { endsAt: now + MINUTE_MS, refusals: 0, sessions: 0 };
    const isRefusal = kind === 'login-refused';
    if (isRefusal) this.#minute.refusals += 1;
    else this.#minute.sessions += 1;
    const isTooMany = isRefusal
      ? this.#minute.refusals > MAX_REFUSALS_PER_MINUTE
      : this.#minute.sessions > MAX_SESSION_ENTRIES_PER_MINUTE;
    if (isTooMany || this.#waiting >= MAX_WAITING) {
      this.#suppress(kind);
      return false;
    }
    return true;
  }

  #suppress(kind: string): void {
    this.#suppressed.set(kind, (this.#suppressed.get(kind) ?? 0) + 1);
    this.#syncLater();
  }

  #later(entry: Readonly<Record<string, unknown>> & { readonly event: string }): void {
    if (this.#closed) return;
    this.#waiting += 1;
    this.#enqueue(() => this.#append([entry])).then(
      () => {
        this.#waiting -= 1;
        this.#syncLater();
      },
      () => {
        // The problem is in the status; how many entries it cost will be in the log.
        this.#waiting -= 1;
        this.#suppress(entry.event);
      },
    );
  }

  #syncLater(): void {
    if (this.#cancelSync !== undefined || this.#closed) return;
    this.#cancelSync = this.#deps.clock.startTimer(SYNC_AFTER_MS, () => {
      this.#cancelSync = undefined;
      const isQuiet = this.#deps.clock.monotonicMs() >= this.#minute.endsAt;
      this.#enqueue(async () => {
        const summary = isQuiet || this.#problem !== undefined ? this.#takeSuppressed() : undefined;
        if (summary !== undefined) {
          try {
            await this.#append([summary]);
          } catch (error) {
            for (const [event, count] of Object.entries(summary.counts)) {
              this.#suppressed.set(event, (this.#suppressed.get(event) ?? 0) + count);
            }
            throw error;
          }
        }
        await this.#sync();
      })
        .catch((error: unknown) => {
          this.#deps.log.warn({ error: describeError(error) }, 'the audit log cannot be written');
        })
        .finally(() => {
          if (this.#suppressed.size > 0) this.#syncLater();
        });
    });
  }

  #takeSuppressed(): { event: string; counts: Record<string, number> } | undefined {
    if (this.#suppressed.size === 0) return undefined;
    const counts = Object.fromEntries(this.#suppressed);
    this.#suppressed = new Map();
    return { event: 'not-written', counts };
  }

  /** One thing at a time; a failure is its own, what follows is tried anew. */
  #enqueue(work: () => Promise<void>): Promise<void> {
    const result = this.#tail.then(async () => {
      try {
        await work();
        this.#problem = undefined;
      } catch (error) {
        this.#problem = describeError(error);
        throw error;
      }
    });
    this.#tail = result.catch(() => undefined);
    return result;
  }

  async #append(entries: readonly (Readonly<Record<string, unknown>> & { readonly event: string })[]): Promise<void> {
    if (this.#at >= (this.#deps.fileBytes ?? AUDIT_FILE_BYTES)) await this.#rotate();
    const file = this.#file ?? (await this.#openFile());
    let { seq } = { seq: this.#seq };
    const lines = entries.map((entry) => {
      seq += 1;
      return lineOf({ seq, at: new Date(this.#deps.clock.now()).toISOString(), ...entry });
    });
    const bytes = Buffer.from(lines.join(''));
    // A write that failed half-way is written over by the next one.
    await file.write([bytes], this.#at);
    this.#at += bytes.length;
    this.#seq = seq;
    this.#unsynced = true;
  }

  async #sync(): Promise<void> {
    if (!this.#unsynced) return;
    const file = this.#file ?? (await this.#openFile());
    try {
      await file.sync();
      this.#unsynced = false;
    } catch (error) {
      // Nothing of a file whose fsync failed may be trusted to be synced later: the next entry begins another one.
      await this.#rotate();
      throw error;
    }
  }

  async #rotate(): Promise<void> {
    const { disk } = this.#deps;
    await this.#file?.close();
    this.#file = undefined;
    for (let index = AUDIT_FILES - 1; index >= 1; index--) {
      const present = await readable(disk, pathOf(index - 1));
      if (present) await disk.rename(pathOf(index - 1), pathOf(index));
    }
    await disk.syncDirectory(DIRECTORY);
    await this.#openFile();
  }

  async #openFile(): Promise<DiskFile> {
    const { disk } = this.#deps;
    let file: DiskFile;
    try {
      file = await disk.open(FILE, 'write');
    } catch (error) {
      if (!(error instanceof FarshoreError) || error.kind !== 'not-found') throw error;
      file = await disk.open(FILE, 'create');
      await disk.syncDirectory(DIRECTORY);
    }
    try {
      this.#at = await endOf(file);
    } catch (error) {
      await file.close();
      throw error;
    }
    // Only now: what is appended to a torn line cannot be read.
    this.#file = file;
    return file;
  }
}

/**
 * Every entry that is there, oldest first. Lines that are none (torn by a power cut) are counted, not guessed at. Files are small enough to
 * be read one at a time.
 */
export async function readAudit(
  disk: Disk,
  visit: (entry: AuditEntry) => void,
  wanted: (line: string) => boolean = () => true,
): Promise<{ readonly unreadable: number }> {
  let unreadable = 0;
  for (let index = AUDIT_FILES - 1; index >= 0; index--) {
    const content = await readWhole(disk, pathOf(index), 2 * AUDIT_FILE_BYTES);
    if (content === undefined) continue;
    for (const line of content.toString('utf8').split('\n')) {
      if (line === '' || !wanted(line)) continue;
      const entry = parseLine(line);
      if (entry === undefined) unreadable += 1;
      else visit(entry);
    }
  }
  return { unreadable };
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

function pathOf(index: number): string {
  return index === 0 ? FILE : `${DIRECTORY}/audit.${index}.jsonl`;
}

function lineOf(entry: AuditEntry): string {
  const line = `${JSON.stringify(entry)}\n`;
  if (Buffer.byteLength(line) <= MAX_ENTRY_BYTES) return line;
  const { seq, at, event } = entry;
  const by = typeof entry['by'] === 'string' ? { by: entry['by'].slice(0, 256) } : {};
  return `${JSON.stringify({ seq, at, event, ...by, cut: true, text: line.slice(0, MAX_ENTRY_BYTES / 4) })}\n`;
}

function parseLine(line: string): AuditEntry | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== 'object' || value === null) return undefined;
    const { seq, at, event } = value as Readonly<Record<string, unknown>>;
    if (typeof seq !== 'number' || typeof at !== 'string' || typeof event !== 'string') return undefined;
    return { ...value, seq, at, event };
  } catch {
    return undefined;
  }
}

/** The number of the last entry of the file, 0 when there is none. */
async function lastSeq(disk: Disk, path: string): Promise<number> {
  const content = await readWhole(disk, path, 2 * AUDIT_FILE_BYTES);
  if (content === undefined) return 0;
  let end = content.length;
  while (end > 0) {
    const start = content.lastIndexOf(0x0a, end - 2) + 1;
    const entry = parseLine(content.toString('utf8', start, end));
    if (entry !== undefined) return entry.seq;
    end = start;
  }
  return 0;
}

async function readable(disk: Disk, path: string): Promise<boolean> {
  try {
    await (await disk.open(path, 'read')).close();
    return true;
  } catch (error) {
    if (error instanceof FarshoreError && error.kind === 'not-found') return false;
    throw error;
  }
}
