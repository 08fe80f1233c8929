import { LOGIN_STATUS } from './constants.ts';
import { whyNotReinstated } from './login-identity.ts';
import type { Identity } from './login-identity.ts';
import type { Session } from './session.ts';

/** The handles a table gives out; those of servers that are administered together do not overlap. */
export interface HandleRange {
  readonly first: number;
  readonly last: number;
}

/** Every TSIH there is; 0 is none (RFC 7143 11.13.4). */
export const ALL_HANDLES: HandleRange = { first: 1, last: 0xffff };

/** A session and how to cut its connection. */
interface Entry {
  readonly session: Session;
  readonly cut: (reason: string) => void;
}

/** What a login finds when its way is free. */
export type Way =
  | {
      readonly kind: 'free';
      readonly tsih: number;
      /** What the session that goes on expects; undefined: it is a new one. */
      readonly expCmdSn: number | undefined;
    }
  | { readonly kind: 'barred'; readonly status: number; readonly reason: string };

/**
 * All sessions in full feature phase, and those that have ended but still have a write in a device. At most one
 * session a nexus: a login with the name and ISID of another one replaces it (RFC 7143 6.3.5).
 */
export class SessionTable {
  readonly #byTsih = new Map<number, Entry>();
  readonly #byNexus = new Map<string, Entry>();
  readonly #range: HandleRange;
  #lastTsih: number;

  constructor(range: HandleRange) {
    this.#range = range;
    this.#lastTsih = range.last;
  }

  get size(): number {
    return this.#byTsih.size;
  }

  /** The session of this handle, if it is one of that initiator port. */
  of(tsih: number, initiatorName: string, isid: string): Session | undefined {
    const session = this.find(tsih);
    return session?.identity.initiatorName === initiatorName && session.identity.isid === isid ? session : undefined;
  }

  find(tsih: number): Session | undefined {
    return this.#byTsih.get(tsih)?.session;
  }

  *sessions(): IterableIterator<Session> {
    for (const entry of this.#byTsih.values()) yield entry.session;
  }

  /**
   * Ends the session this login replaces, if there is one, waits until none of its writes can land any more, and then
   * calls `join` with a free TSIH, in the same turn in which the way was found free. A login that is not `wanted` any more
   * replaces nobody: another one of the same name may have come in the meantime.
   *
   * One that reinstates the connection of a session finds it in the same way, since that has no other: its commands end as
   * well, and what goes on is the TSIH and the CmdSN (RFC 7143 6.3.4).
   */
  async makeWay(identity: Identity, wanted: () => boolean, join: (way: Way) => void): Promise<void> {
    const { reinstates, connectionId } = identity;
    const key = nexusKey(identity);
    let expCmdSn: number | undefined;
    while (wanted()) {
      const old = key === undefined ? undefined : this.#byNexus.get(key);
      if (reinstates !== 0 && expCmdSn === undefined) {
        const unfit = whyNotReinstated(old?.session.tsih === reinstates ? old.session : undefined, connectionId);
        if (unfit !== undefined) {
          join({ kind: 'barred', ...unfit });
          return;
        }
      }
      if (old === undefined) {
        join(this.#wayOf(reinstates, expCmdSn));
        return;
      }
      if (expCmdSn !== undefined) {
        // While its commands were leaving the devices another login has begun a new session in its place.
        join({ kind: 'barred', status: LOGIN_STATUS.sessionDoesNotExist, reason: 'the session has been replaced' });
        return;
      }
      if (reinstates !== 0) expCmdSn = old.session.expCmdSn;
      old.cut(
        reinstates === 0
          ? 'replaced by a new login of the same initiator port'
          : 'the initiator goes on by another connection',
      );
      await old.session.end();
      this.#remove(old);
    }
  }

  #wayOf(reinstates: number, expCmdSn: number | undefined): Way {
    const tsih = reinstates === 0 || this.#byTsih.has(reinstates) ? this.#freeTsih() : reinstates;
    if (tsih !== undefined) return { kind: 'free', tsih, expCmdSn };
    return { kind: 'barred', status: LOGIN_STATUS.outOfResources, reason: 'there is no session handle left' };
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
    const { first, last } = this.#range;
    for (let tries = first; tries <= last; tries += 1) {
      this.#lastTsih = this.#lastTsih === last ? first : this.#lastTsih + 1;
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
