import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { cutToBytes } from '../base/text.ts';
import { normalizeName } from '../iscsi/names.ts';
import type { AccessEvent } from '../iscsi/target-registry.ts';
import { AuditAllowance, seriesOf } from './audit-allowance.ts';
import { entryLine } from './audit-entry.ts';
import { ALL_SERIES, AUDIT_DIRECTORY, AuditFiles, lastSeq, type Series } from './audit-files.ts';

/** Entries of one series that wait for the disk; more are counted only. */
const MAX_WAITING = 4096;
/** Entries about sessions are on stable storage after this long; those about changes at once. */
const SYNC_AFTER_MS = 2_000;
/** Longest iSCSI name (RFC 7143 4.2.7.1): what somebody gives as one is cut to it. */
const MAX_CLAIM_BYTES = 223;

/** What an administrator did or tried to do, or what became of access without one (a restore that brings it back). */
export interface ChangeEntry {
  readonly event: string;
  /** `cli:root`: the user the command line says it is; `gateway`: the gateway itself. */
  readonly by: string;
  readonly [detail: string]: unknown;
}

export interface AuditDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  readonly fileBytes?: number;
}

type Entry = Readonly<Record<string, unknown>> & { readonly event: string };

interface Part {
  readonly files: AuditFiles;
  /** Entries that wait for the disk. */
  waiting: number;
  /** Entries that could not be written, by event. */
  suppressed: Map<string, number>;
}

/**
 * The audit log: append-only JSON lines in `audit/` of the state directory, numbered through. Entries about changes are durable before the
 * change is made; entries about sessions follow within seconds, are bounded in number and bytes, and are counted where they could not be
 * written. Each series has files of its own (SERIES): what strangers cause displaces nothing that others did.
 */
export class AuditLog {
  readonly #deps: AuditDeps;
  readonly #parts: Readonly<Record<Series, Part>>;
  readonly #allowance = new AuditAllowance();
  #seq: number;
  #tail: Promise<void> = Promise.resolve();
  #cancelSync: CancelTimer | undefined;
  #problem: string | undefined;
  #closed = false;

  private constructor(deps: AuditDeps, seq: number) {
    this.#deps = deps;
    this.#seq = seq;
    const part = (series: Series): Part => ({
      files: new AuditFiles(deps.disk, series, deps.fileBytes),
      waiting: 0,
      suppressed: new Map(),
    });
    this.#parts = { changes: part('changes'), logins: part('logins'), noise: part('noise') };
  }

  /** Goes on where the last process stopped; a line that was torn then stays as it is, on a line of its own. */
  static async open(deps: AuditDeps): Promise<AuditLog> {
    await deps.disk.makeDirectory(AUDIT_DIRECTORY);
    await deps.disk.syncDirectory('');
    let seq = 0;
    for (const series of ALL_SERIES) seq = Math.max(seq, await lastSeq(deps.disk, series));
    const audit = new AuditLog(deps, seq);
    try {
      for (const series of ALL_SERIES) await audit.#parts[series].files.open();
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

  /** Durable when it resolves, with the entry's number. Rejects with the disk's failure: the change must not be made then. */
  async change(entry: ChangeEntry): Promise<number> {
    let seq = 0;
    try {
      await this.#enqueue(async () => {
        await this.#append('changes', entry);
        seq = this.#seq;
        await this.#parts.changes.files.sync();
      });
      return seq;
    } catch (error) {
      // It may be found there after all.
      if (seq !== 0) this.note(changeFailed({ ...entry, seq }, 'it could not be made durable in the audit log'));
      const kind = error instanceof FarshoreError ? error.kind : 'stopped';
      throw new FarshoreError(
        kind,
        `nothing was changed, because it cannot be written to the audit log: ${describeError(error)}`,
        { cause: error },
      );
    }
  }

  /** About something that has happened already: written when it can be, and never a reason to fail. */
  note(entry: ChangeEntry, series: Series = 'changes'): void {
    if (this.#parts[series].waiting >= MAX_WAITING) this.#suppress(series, entry.event);
    else this.#later(series, entry);
  }

  /** What the target server tells. A name that somebody claims and that is none is entered as such, and cut. */
  session(event: AccessEvent, detail: Readonly<Record<string, unknown>> = {}): void {
    const series = seriesOf(event);
    let entry: Entry = { event: event.kind };
    const bytes = (): number => {
      entry = { ...entryOf(event), ...detail };
      return Buffer.byteLength(JSON.stringify(entry));
    };
    const isFull = this.#parts[series].waiting >= MAX_WAITING;
    if (!isFull && this.#allowance.take(event, bytes, this.#deps.clock.monotonicMs())) this.#later(series, entry);
    else this.#suppress(series, event.kind);
  }

  /** So many entries of this event were not told to this log: whoever had them has counted them (another thread, when there were too many). */
  missed(series: Series, event: string, count: number): void {
    this.#suppress(series, event, count);
  }

  /** Writes and syncs what waits. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelSync?.();
    for (const series of ALL_SERIES) {
      const { files } = this.#parts[series];
      await this.#enqueue(async () => {
        await this.#sumUp(series);
        await files.sync();
      }).catch((error: unknown) => {
        this.#deps.log.error({ error: describeError(error) }, 'the end of the audit log could not be written');
      });
      await files.close();
    }
  }

  #suppress(series: Series, event: string, count = 1): void {
    const { suppressed } = this.#parts[series];
    suppressed.set(event, (suppressed.get(event) ?? 0) + count);
    this.#syncLater();
  }

  #later(series: Series, entry: Entry): void {
    if (this.#closed) return;
    const part = this.#parts[series];
    part.waiting += 1;
    this.#enqueue(() => this.#append(series, entry)).then(
      () => {
        part.waiting -= 1;
        this.#syncLater();
      },
      () => {
        // The problem is in the status; how many entries it cost will be in the log.
        part.waiting -= 1;
        this.#suppress(series, entry.event);
      },
    );
  }

  #syncLater(): void {
    if (this.#cancelSync !== undefined || this.#closed) return;
    this.#cancelSync = this.#deps.clock.startTimer(SYNC_AFTER_MS, () => {
      this.#cancelSync = undefined;
      const isQuiet = this.#allowance.isOver(this.#deps.clock.monotonicMs()) || this.#problem !== undefined;
      const all = ALL_SERIES.map((series) =>
        this.#enqueue(async () => {
          if (isQuiet) await this.#sumUp(series);
          await this.#parts[series].files.sync();
        }).catch((error: unknown) => {
          this.#deps.log.warn({ error: describeError(error) }, 'the audit log cannot be written');
        }),
      );
      void Promise.all(all).then(() => {
        if (ALL_SERIES.some((series) => this.#parts[series].suppressed.size > 0)) this.#syncLater();
      });
    });
  }

  /** Enters how many entries could not be written. */
  async #sumUp(series: Series): Promise<void> {
    const part = this.#parts[series];
    const { suppressed } = part;
    if (suppressed.size === 0) return;
    part.suppressed = new Map();
    try {
      await this.#append(series, { event: 'not-written', counts: Object.fromEntries(suppressed) });
    } catch (error) {
      for (const [event, count] of part.suppressed) suppressed.set(event, (suppressed.get(event) ?? 0) + count);
      part.suppressed = suppressed;
      throw error;
    }
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

  async #append(series: Series, entry: Entry): Promise<void> {
    const seq = this.#seq + 1;
    const at = new Date(this.#deps.clock.now()).toISOString();
    await this.#parts[series].files.append(entryLine({ seq, at, ...entry }));
    this.#seq = seq;
  }
}

function entryOf({ kind, initiator, target, portal, ...rest }: AccessEvent): Entry {
  const isName = target === undefined || normalizeName(target) === target;
  return {
    event: kind,
    initiator: initiator.name ?? null,
    address: initiator.address,
    target: isName ? (target ?? null) : null,
    ...(isName ? {} : { noTargetName: cutToBytes(target, MAX_CLAIM_BYTES) }),
    portal,
    ...rest,
  };
}

/** What takes a change back that is in the log and was not made. */
export function changeFailed(
  change: ChangeEntry & { readonly seq: number },
  reason: string,
  by = change.by,
): ChangeEntry {
  return { event: 'change-failed', by, change: change.event, entry: change.seq, reason };
}
