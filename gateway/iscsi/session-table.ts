import type { Identity } from './login-identity.ts';
import type { Session } from './session.ts';

const LAST_TSIH = 0xffff;

/** A session and how to cut its connection. */
interface Entry {
  readonly session: Session;
  readonly cut: (reason: string) => void;
}

/**
 * All sessions in full feature phase, and those that have ended but still have a write in a device. At most one
 * session a nexus: a login with the name and ISID of another one replaces it (RFC 7143 6.3.5).
 */
export class SessionTable {
  readonly #byTsih = new Map<number, Entry>();
  readonly #byNexus = new Map<string, Entry>();
  #lastTsih = 0;

  get size(): number {
    return this.#byTsih.size;
  }

  /** Whether there is a session of this handle; with a name and an ISID, one of that initiator port. */
  has(tsih: number, initiatorName?: string, isid?: string): boolean {
    const identity = this.#byTsih.get(tsih)?.session.identity;
    if (identity === undefined) return false;
    return initiatorName === undefined || (identity.initiatorName === initiatorName && identity.isid === isid);
  }

  find(tsih: number): Session | undefined {
    return this.#byTsih.get(tsih)?.session;
  }

  *sessions(): IterableIterator<Session> {
    for (const entry of this.#byTsih.values()) yield entry.session;
  }

  /**
   * Ends the session this login replaces, if there is one, waits until none of its writes can land any more, and then
   * calls `join` with a free TSIH, in the same turn in which the way was found free. Undefined: no TSIH is left. A login
   * that is not `wanted` any more replaces nobody: another one of the same name may have come in the meantime.
   */
  async makeWay(identity: Identity, wanted: () => boolean, join: (tsih: number | undefined) => void): Promise<void> {
    const key = nexusKey(identity);
    while (wanted()) {
      const old = key === undefined ? undefined : this.#byNexus.get(key);
      if (old === undefined) {
        join(this.#freeTsih());
        return;
      }
      old.cut('replaced by a new login of the same initiator port');
      await old.session.end();
      this.#remove(old);
    }
  }

  add(session: Session, cut: (reason: string) => void): void {
    const entry = { session, cut };
    this.#byTsih.set(session.tsih, entry);
    const key = nexusKey(session.identity);
    if (key !== undefined) this.#byNexus.set(key, entry);
  }

  /** Ends a session whose connection is gone; it stays in the table until its last write has left the device. */
  async retire(session: Session): Promise<void> {
    await session.end();
    const entry = this.#byTsih.get(session.tsih);
    if (entry?.session === session) this.#remove(entry);
  }

  /** Cuts the connections of the sessions that match and waits until they have ended. */
  async end(matches: (session: Session) => boolean, reason: string): Promise<void> {
    const chosen = [...this.#byTsih.values()].filter(({ session }) => matches(session));
    for (const { cut } of chosen) cut(reason);
    await Promise.all(chosen.map(({ session }) => this.retire(session)));
  }

  #remove(entry: Entry): void {
    const { session } = entry;
    if (this.#byTsih.get(session.tsih) === entry) this.#byTsih.delete(session.tsih);
    const key = nexusKey(session.identity);
    if (key !== undefined && this.#byNexus.get(key) === entry) this.#byNexus.delete(key);
  }

  #freeTsih(): number | undefined {
    for (let tries = 0; tries < LAST_TSIH; tries += 1) {
      this.#lastTsih = this.#lastTsih === LAST_TSIH ? 1 : this.#lastTsih + 1;
      if (!this.#byTsih.has(this.#lastTsih)) return this.#lastTsih;
    }
    return undefined;
  }
}

/** Discovery sessions are no nexus: any number of them may exist. */
function nexusKey(identity: Identity): string | undefined {
  if (identity.sessionType === 'discovery') return undefined;
  return `${identity.initiatorName}\n${identity.isid}\n${identity.targetName}`;
}
