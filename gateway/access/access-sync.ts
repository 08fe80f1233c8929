import type { Clock, Random } from '../base/clock.ts';
import { sleep } from '../base/clock.ts';
import { describeError, FarshoreError, isKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Epoch } from '../base/units.ts';
import type { AccessItem, VersionLog, VolumeRef } from '../cloud/version-log.ts';
import type { AccessBook, Change } from './access-book.ts';
import { credentialChanges } from './credentials.ts';
import type { AccessBody, AccessDocument, LunMap, Stamp, VolumePart } from './document.ts';
import {
  adoptVolume,
  type AdoptedVolume,
  bodyOf,
  compareStamps,
  decodeBody,
  encodeBody,
  withoutSanitize,
  withUnitStateOf,
} from './part.ts';

export interface SyncDeps {
  readonly table: Pick<VersionLog, 'getAccess' | 'putAccess'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** How a volume's access stands in the table. */
export interface AccessStatus {
  /** What is in force here is in the table too: a restore brings it back. */
  readonly inTable: boolean;
  /** Why not, if not merely for the moment. */
  readonly problem: string | undefined;
}

/** `waiting`: not there yet, or kept from it; `elsewhere`: another gateway has the volume; `not-open`: nothing is written, it is not open here. */
export type Standing = 'there' | 'waiting' | 'elsewhere' | 'not-open';

const FIRST_PAUSE_MS = 200;
/** The table is tried again at least this often, for as long as the volume is open. */
const LONGEST_PAUSE_MS = 30_000;

interface Entry {
  readonly ref: VolumeRef;
  readonly name: string;
  readonly epoch: Epoch;
  /** Revision that lies in the table as far as known. */
  revision: number;
  /** The body that lies there under our own epoch; undefined: not known to. */
  written: Buffer | undefined;
  pushing: Promise<void> | undefined;
  /** While the table is to be tried again after a pause: ends that. */
  pause: AbortController | undefined;
  problem: string | undefined;
  /** Nothing more is written: taken over by another gateway, not served here any more, or `failure`. */
  final: boolean;
  failure: FarshoreError | undefined;
  /** What lies in the table cannot be understood, and is left alone until somebody changes what this was. */
  heldAt: Stamp | undefined;
}

/**
 * Keeps each open volume's part of the access document in the table, in the background. The item is ours by epoch: a write of an older one is
 * refused by the table, and one whose answer was lost is found by reading back.
 */
export class AccessSync {
  readonly #deps: SyncDeps;
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new AbortController();
  #book: AccessBook | undefined;

  constructor(deps: SyncDeps) {
    this.#deps = deps;
  }

  /** The book asks for epochs, so it is made first. */
  follow(book: AccessBook): void {
    this.#book = book;
    book.onChange(() => {
      for (const entry of this.#entries.values()) this.#push(entry);
    });
  }

  /** The epoch an open volume is held under. */
  epochOf(volume: string): Epoch | undefined {
    return this.#entries.get(volume)?.epoch;
  }

  status(volume: string): AccessStatus {
    const entry = this.#entries.get(volume);
    if (entry === undefined) return { inTable: false, problem: undefined };
    return { inTable: entry.problem === undefined && this.#isWritten(entry), problem: entry.problem };
  }

  /**
   * A volume was opened under `epoch`: what the table holds of its access is taken over unless the mirror here is newer, and from now on what is
   * in force here is written there. Nobody may see the volume before this has resolved. Waits for the table as long as it takes; rejects
   * with `fenced` when another gateway has taken the volume meanwhile, `stopped` when `signal` aborts, and the disk's failures.
   * `isRolledBack`: the volume was just made what it was before, and a SANITIZE under way is not part of that.
   */
  async adopt(
    ref: VolumeRef,
    volume: AdoptedVolume,
    epoch: Epoch,
    signal: AbortSignal,
    { isRolledBack = false } = {},
  ): Promise<void> {
    const item = await this.#read(ref, volume.name, signal);
    if (item !== undefined && item.epoch > epoch) throw takenOver(volume.name);
    const entry: Entry = {
      ref,
      name: volume.name,
      epoch,
      revision: item?.revision ?? 0,
      written: item?.epoch === epoch ? item.body : undefined,
      pushing: undefined,
      pause: undefined,
      problem: undefined,
      final: false,
      failure: undefined,
      heldAt: undefined,
    };
    let body: AccessBody | undefined;
    try {
      body = item === undefined ? undefined : decodeBody(item.body, volume.name);
    } catch (error) {
      entry.problem = `${describeError(error)}; what is in force is the mirror of this gateway, and nobody where it has none: farshore map ${volume.name} sets it anew`;
      this.#deps.log.error({ volume: volume.name, error: describeError(error) }, 'access control could not be read');
    }
    const isUnreadable = entry.problem !== undefined;
    await this.#theBook().change((document) => {
      const change = isUnreadable ? closedUnlessKnown(document, volume) : adoption(document, volume, body, item?.epoch);
      return isRolledBack ? { ...change, document: withoutSanitize(change.document, volume.volume) } : change;
    });
    if (isUnreadable) entry.heldAt = this.#partOf(entry)?.stamp;
    this.forget(volume.volume);
    this.#entries.set(volume.volume, entry);
    // Also when nothing changed: under our epoch it is safe from whoever had the volume before.
    this.#push(entry);
  }

  /** The volume is not served here any more. */
  forget(volume: string): void {
    const entry = this.#entries.get(volume);
    if (entry !== undefined) entry.final = true;
    entry?.pause?.abort();
    this.#entries.delete(volume);
  }

  /**
   * How what is in force of the volume stands in the table: looked at when it is there, or can't get there any more, or after `withinMs`. A
   * pause before the next attempt is cut short.
   */
  async standing(volume: string, withinMs: number): Promise<Standing> {
    const entry = this.#entries.get(volume);
    if (entry === undefined) return 'not-open';
    entry.pause?.abort();
    const over = new AbortController();
    await Promise.race([this.settled(volume), sleep(this.#deps.clock, withinMs, over.signal)]);
    over.abort();
    if (this.#isWritten(entry)) return 'there';
    return this.isLost(volume) ? 'elsewhere' : 'waiting';
  }

  /** The table has said that another gateway has the volume. */
  isLost(volume: string): boolean {
    const entry = this.#entries.get(volume);
    return entry?.final === true && entry.failure === undefined;
  }

  /** Resolves when what is in force is in the table, or can't get there any more. */
  async settled(volume: string): Promise<void> {
    const entry = this.#entries.get(volume);
    while (entry?.pushing !== undefined) await entry.pushing;
  }

  /**
   * Resolves when whoever takes the volume over finds what is in force now, however long that takes; never before. Rejects when it can't be any
   * more under this opening: `fenced` by another gateway, `stopped` because the volume or the gateway is closed, or with why nothing is written.
   */
  async mirrored(volume: string): Promise<void> {
    const entry = this.#entries.get(volume);
    for (;;) {
      if (entry === undefined || this.#entries.get(volume) !== entry || this.#closing.signal.aborted)
        throw new FarshoreError('stopped', 'the volume is not served here any more');
      if (this.#isWritten(entry)) return;
      if (entry.final) throw entry.failure ?? takenOver(entry.name);
      this.#push(entry);
      await entry.pushing;
    }
  }

  close(): void {
    this.#closing.abort();
    for (const entry of this.#entries.values()) entry.pause?.abort();
  }

  async #read(ref: VolumeRef, name: string, signal: AbortSignal): Promise<AccessItem | undefined> {
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        return await this.#deps.table.getAccess(ref);
      } catch (error) {
        if (!isKind(error, 'retry', 'busy')) throw error;
        this.#deps.log.warn({ volume: name, error: error.message }, 'access control is read again soon');
      }
      await sleep(this.#deps.clock, this.#pauseMs(failures), signal);
    }
    throw new FarshoreError('stopped', `volume ${name} was closed before its access control was read`);
  }

  #push(entry: Entry): void {
    if (entry.pushing !== undefined || entry.final || this.#closing.signal.aborted || this.#isWritten(entry)) return;
    entry.pushing = this.#pushAll(entry)
      .catch((error: unknown) => {
        entry.final = true;
        entry.problem = describeError(error);
        entry.failure =
          error instanceof FarshoreError ? error : new FarshoreError('bug', entry.problem, { cause: error });
        this.#deps.log.error(
          { volume: entry.name, error: entry.problem },
          'access control is not written to the table',
        );
      })
      .then(() => {
        entry.pushing = undefined;
        // Something may have changed in the very last moment.
        this.#push(entry);
      });
  }

  async #pushAll(entry: Entry): Promise<void> {
    const { signal } = this.#closing;
    for (let failures = 0; !signal.aborted && !entry.final;) {
      const body = this.#bodyOf(entry);
      if (body === undefined || this.#isWritten(entry, body)) return;
      try {
        const unanswered = await this.#put(entry, body);
        if (unanswered === undefined) {
          if (!this.#isFinal(entry)) entry.problem = undefined;
          failures = 0;
          continue;
        }
        entry.problem = notYet(unanswered);
      } catch (error) {
        // Also what only a person mends, a permission that is missing for example: it may be mended while we run.
        if (!isKind(error, 'retry', 'busy', 'input')) throw error;
        entry.problem = notYet(error);
      }
      // Where somebody waits for it, it is tried as often as in the beginning.
      failures = (await this.#rest(entry, failures)) ? failures + 1 : 0;
    }
  }

  /** A pause before the next attempt; false when it was cut short. */
  async #rest(entry: Entry, failures: number): Promise<boolean> {
    const pause = new AbortController();
    if (this.#isFinal(entry) || this.#closing.signal.aborted) pause.abort();
    entry.pause = pause;
    await sleep(this.#deps.clock, this.#pauseMs(failures), pause.signal);
    entry.pause = undefined;
    return !pause.signal.aborted;
  }

  /** What kept the table from answering, where what it has now isn't what was sent. */
  async #put(entry: Entry, body: Buffer): Promise<FarshoreError | undefined> {
    const { table } = this.#deps;
    const item: AccessItem = { epoch: entry.epoch, revision: entry.revision + 1, body };
    let unanswered: FarshoreError | undefined;
    try {
      if ((await table.putAccess(entry.ref, item)) === 'ok') {
        entry.revision = item.revision;
        entry.written = body;
        return undefined;
      }
    } catch (error) {
      // Perhaps it landed, perhaps it lands later: then the revision it takes is found at the next attempt.
      if (!isKind(error, 'retry')) throw error;
      unanswered = error;
    }
    await this.#readBack(entry, item);
    return entry.final || entry.written?.equals(body) === true ? undefined : unanswered;
  }

  /** Changes behind an await. */
  #isFinal(entry: Entry): boolean {
    return entry.final;
  }

  async #readBack(entry: Entry, sent: AccessItem): Promise<void> {
    const present = await this.#deps.table.getAccess(entry.ref);
    if (present !== undefined && present.epoch > entry.epoch) {
      entry.final = true;
      entry.problem = takenOver(entry.name).message;
      return;
    }
    entry.revision = present?.revision ?? 0;
    entry.written = present?.epoch === entry.epoch ? present.body : undefined;
    if (present === undefined || present.body.equals(sent.body)) return;
    // By whoever had the volume before, in the moment before it learnt of us; or an older attempt of our own, which adopting does not change.
    const body = decodeBody(present.body, entry.name);
    const part = this.#partOf(entry);
    if (part === undefined) return;
    const { volume, name, target } = part;
    // The logical unit is in use already, with what it had: what somebody else's has kept since is not ours.
    await this.#theBook().change((document) => {
      const change = adoption(document, { volume, name, target }, body, present.epoch);
      return { ...change, document: withUnitStateOf(document, change.document, volume) };
    });
  }

  #isWritten(entry: Entry, body = this.#bodyOf(entry)): boolean {
    return body === undefined || entry.written?.equals(body) === true;
  }

  /** undefined when there is nothing to write. */
  #bodyOf(entry: Entry): Buffer | undefined {
    const part = this.#partOf(entry);
    if (part === undefined) return undefined;
    if (entry.heldAt !== undefined && compareStamps(part.stamp, entry.heldAt) === 0) return undefined;
    return encodeBody(bodyOf(this.#theBook().document, part));
  }

  #partOf(entry: Entry): VolumePart | undefined {
    return this.#theBook().document.volumes.find((each) => each.volume === entry.ref.volume);
  }

  #pauseMs(failures: number): number {
    const whole = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures, 20));
    return whole / 2 + (this.#deps.random.fraction() * whole) / 2;
  }

  #theBook(): AccessBook {
    if (this.#book === undefined) throw new FarshoreError('bug', 'access is synced before its book is open');
    return this.#book;
  }
}

function adoption(
  document: AccessDocument,
  volume: AdoptedVolume,
  body: AccessBody | undefined,
  heldUnder?: Epoch,
): Change<void> {
  const before = document.volumes.find((part) => part.volume === volume.volume);
  const adopted = adoptVolume(document, volume, body, heldUnder);
  if (adopted.outcome !== 'imported' || body === undefined)
    return { document: adopted.document, result: undefined, audit: undefined };
  const maps = before?.maps ?? [];
  const told = {
    gained: namesOf(adopted.part.maps, maps),
    lost: namesOf(maps, adopted.part.maps),
    // `user` null: nothing is asked for any more.
    credentials: credentialChanges(before === undefined ? undefined : bodyOf(document, before), body),
  };
  const isTold = Object.values(told).some((each) => each.length > 0);
  const audit = isTold ? { event: 'access-imported', by: 'gateway', volume: volume.name, ...told } : undefined;
  return { document: adopted.document, result: undefined, audit };
}

/** What nobody can read lets nobody in. */
function closedUnlessKnown(document: AccessDocument, volume: AdoptedVolume): Change<void> {
  const kept = adoption(document, volume, undefined);
  if (document.volumes.some((part) => part.volume === volume.volume)) return kept;
  const volumes = kept.document.volumes.map((part) =>
    part.volume === volume.volume ? { ...part, mode: 'mapped' as const } : part,
  );
  return { ...kept, document: { ...kept.document, volumes } };
}

function sameMaps(a: readonly LunMap[], b: readonly LunMap[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Those of `maps` that are not among `others`, in words of the audit log. */
function namesOf(maps: readonly LunMap[], others: readonly LunMap[]): readonly object[] {
  return maps
    .filter((map) => !others.some((other) => sameMaps([map], [other])))
    .map(({ initiator, target, lun, readOnly }) => ({ initiator, target, lun, readOnly }));
}

function notYet(error: FarshoreError): string {
  return `its access control is not in the table yet: ${error.message}`;
}

function takenOver(name: string): FarshoreError {
  return new FarshoreError(
    'fenced',
    `volume ${name} was taken over by another gateway; its access control is changed there`,
  );
}
