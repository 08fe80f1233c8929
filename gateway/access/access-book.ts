import { decodeChecked, encodeChecked } from '../base/checked-json.ts';
import { type Disk, readWhole, replaceFile } from '../base/disk.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import { type AuditLog, type ChangeEntry, changeFailed } from './audit-log.ts';
import { settleChanges, OF_DOCUMENT } from './unfinished-changes.ts';
import { setUnitState } from './operations.ts';
import { type AccessDocument, documentSchema, EMPTY_DOCUMENT } from './document.ts';
import { MAX_ACCESS_BYTES } from '../cloud/version-log.ts';
import { bodyOf, encodeBody, restamp } from './part.ts';

const FILE = 'access.json';
const MAX_BYTES = 64 * MIB;

export interface BookDeps {
  readonly disk: Disk;
  readonly audit: AuditLog;
  /** The epoch this gateway holds a volume under (by identifier); undefined while it is not open. */
  readonly epochOf: (volume: string) => number | undefined;
}

/** A change that was worked out and may be made: the document after it, what to tell, and what the audit log says of it. */
export interface Change<T> {
  readonly document: AccessDocument;
  readonly result: T;
  /** undefined: no administrator's doing (a reservation, a mirror brought up to date). */
  readonly audit: ChangeEntry | undefined;
}

/**
 * The gateway's access document: `access.json` of the state directory, replaced atomically. A change is worked out, entered in the audit log,
 * saved, and only then seen by anybody: what was answered survives a power cut, and what could not be written was not done.
 */
export class AccessBook {
  readonly #deps: BookDeps;
  readonly #listeners: ((document: AccessDocument) => void)[] = [];
  #document: AccessDocument;
  #tail: Promise<unknown> = Promise.resolve();

  private constructor(deps: BookDeps, document: AccessDocument) {
    this.#deps = deps;
    this.#document = document;
  }

  /**
   * Rejects with `damaged` when the file cannot be understood: nobody is let in by a guess. A change that the last process entered in the audit
   * log and did not live to make is taken back there.
   */
  static async open(deps: BookDeps): Promise<AccessBook> {
    const document = await AccessBook.#read(deps.disk);
    await settleChanges(deps, document);
    return new AccessBook(deps, document ?? EMPTY_DOCUMENT);
  }

  static async #read(disk: Disk): Promise<AccessDocument | undefined> {
    // What the last process did may be visible and not durable yet.
    await disk.syncDirectory('');
    const content = await readWhole(disk, FILE, MAX_BYTES);
    if (content === undefined) return undefined;
    try {
      return documentSchema.parse(decodeChecked(content));
    } catch (error) {
      throw new FarshoreError(
        'damaged',
        `${FILE} in the state directory cannot be understood (${describeError(error).split('\n')[0] ?? ''}); move it aside and start again: what belongs to the volumes comes back from the table, and farshore access report shows it`,
        { cause: error },
      );
    }
  }

  get document(): AccessDocument {
    return this.#document;
  }

  /** Called after every change, in the same turn in which it takes effect. */
  onChange(listener: (document: AccessDocument) => void): void {
    this.#listeners.push(listener);
  }

  /** One change after the other. Rejects with what `work` throws, or with the disk's failure; nothing has changed then. */
  change<T>(work: (document: AccessDocument) => Change<T> | Promise<Change<T>>): Promise<T> {
    const mine = this.#tail.then(() => this.#make(work));
    this.#tail = mine.catch(() => undefined);
    return mine;
  }

  /** See AccessInForce. */
  saveUnitState(volume: string, state: string): Promise<void> {
    return this.change((document) => ({
      document: setUnitState(document, volume, state),
      result: undefined,
      audit: undefined,
    }));
  }

  async #make<T>(work: (document: AccessDocument) => Change<T> | Promise<Change<T>>): Promise<T> {
    const { audit, disk, epochOf } = this.#deps;
    const before = this.#document;
    const { document, result, audit: entry } = await work(before);
    const stamped = restamp(before, document, epochOf);
    requireRoom(before, stamped);
    const isChange = document !== before;
    const seq = entry === undefined ? undefined : await audit.change(isChange ? { ...entry, of: OF_DOCUMENT } : entry);
    if (!isChange) return result;
    const after = seq === undefined ? stamped : { ...stamped, audited: seq };
    try {
      await replaceFile(disk, FILE, encodeChecked(after, 0));
    } catch (error) {
      if (entry !== undefined && seq !== undefined) {
        audit.note(changeFailed({ ...entry, seq }, describeError(error)));
      }
      throw error;
    }
    this.#document = after;
    for (const listener of this.#listeners) listener(after);
    return result;
  }
}

/** What would not fit the table is not begun with. */
function requireRoom(before: AccessDocument, after: AccessDocument): void {
  for (const part of after.volumes) {
    if (before.volumes.includes(part)) continue;
    const { length } = encodeBody(bodyOf(after, part));
    if (length <= MAX_ACCESS_BYTES) continue;
    throw new FarshoreError(
      'input',
      `the access control of volume ${part.name} would have ${length} bytes, more than the ${MAX_ACCESS_BYTES} the table keeps of it; unmap what is not needed`,
    );
  }
}
