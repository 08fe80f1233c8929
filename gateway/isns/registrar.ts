import { FarshoreError } from '../base/errors.ts';
import type { IsnsConnection } from './connection.ts';
import { STATUS, statusText } from './constants.ts';
import type { IsnsPortal, IsnsTarget, Removal, Request, Response, Seen } from './messages.ts';
import {
  deregisterRequest,
  periodIn,
  portalKeyOf,
  queryRequest,
  registerRequest,
  seenIn,
  standingOf,
} from './messages.ts';
import { MAX_SENT_PAYLOAD } from './pdu.ts';

/** What shall stand in the server's database. */
export interface Wanted {
  readonly targets: readonly IsnsTarget[];
  readonly portals: readonly IsnsPortal[];
}

/** A registration is refreshed three times within its period, so that one lost refresh doesn't cost it. */
const REFRESHES_PER_PERIOD = 3;
/** However short or long a period the server claims. */
const MIN_REFRESH_MS = 1_000;
const MAX_REFRESH_MS = 300_000;
/** Of a server that doesn't tell its period. */
const DEFAULT_REFRESH_MS = 60_000;

/**
 * Brings the server's database to what is wanted. Every step may be repeated, and a server that has lost everything is told
 * everything again: what is there is asked for each time, and only the difference is registered or removed, because each change
 * of an entry calls on initiators to look again.
 *
 * A target that the server refuses (while another gateway's registration of the same name has not expired, say) keeps no other from
 * being registered: what is refused as a batch is tried one by one. It is tried again with every refresh.
 */
export class Registrar {
  readonly #entity: string;
  #groupTag: number | undefined;
  /**
   * The first registration of a process replaces what an earlier one left. Later ones only add: replacing announces to all that
   * the targets are gone.
   */
  #replaceDue = true;
  /** Whose name we speak in: a target that is registered, or may be (RFC 4171 5.6.1). */
  #source: string | undefined;
  /** Targets the server has accepted, with what they were registered with (standingOf). */
  readonly #accepted = new Map<string, string>();
  readonly #refused = new Map<string, string>();
  #refreshMs = DEFAULT_REFRESH_MS;

  /** `groupTag`: the portal group tag that logins answer with. */
  constructor(entity: string, groupTag: number) {
    this.#entity = entity;
    this.#groupTag = groupTag;
  }

  /** After this long `bring` is due again. */
  refreshMs(): number {
    return this.#refreshMs;
  }

  registered(): number {
    return this.#accepted.size;
  }

  /** Whether the server may have something of us: also when its answer was lost. */
  mayBeThere(): boolean {
    return this.#source !== undefined;
  }

  /** Targets the server does not take, and its reason. */
  refused(): ReadonlyMap<string, string> {
    return this.#refused;
  }

  /**
   * Registers, refreshes and removes. `mayGoOn` is asked before each request. Rejects as requests do, and with `retry` when the server
   * refuses all of it; then nothing is known to be registered.
   */
  async bring(connection: IsnsConnection, wanted: Wanted, mayGoOn: () => void): Promise<void> {
    const ask = (request: Request): Promise<Response> => {
      mayGoOn();
      return connection.request(request);
    };
    const names = new Set(wanted.targets.map(({ name }) => name));
    for (const name of this.#refused.keys()) if (!names.has(name)) this.#refused.delete(name);
    if (wanted.targets.length === 0 || wanted.portals.length === 0) {
      await this.#removeEntity(ask);
      return;
    }
    const seen = await this.#look(ask);
    const portals = new Set(wanted.portals.map(portalKeyOf));
    const speaker = this.#source;
    if (seen === undefined || speaker === undefined || [...portals].some((key) => !seen.portals.has(key))) {
      await this.#registerAll(ask, wanted);
    } else {
      const isDue = (target: IsnsTarget): boolean =>
        !seen.targets.has(target.name) || this.#accepted.get(target.name) !== standingOf(target, wanted.portals);
      await this.#registerMore(ask, wanted, wanted.targets.filter(isDue), speaker);
    }
    await this.#removeOthers(ask, seen, names, portals);
  }

  /** Removes all that is registered (at shutdown). */
  async removeAll(connection: IsnsConnection): Promise<void> {
    await this.#removeEntity((request) => connection.request(request));
  }

  /** What the server shows of us; undefined when that is nothing (lost, expired, or not shown to us). */
  async #look(ask: Ask): Promise<Seen | undefined> {
    if (this.#replaceDue || this.#source === undefined) return undefined;
    const response = await ask(queryRequest(this.#entity, this.#source));
    if (response.status !== STATUS.successful) return undefined;
    this.#notePeriod(response);
    const seen = seenIn(response);
    return seen.targets.has(this.#source) ? seen : undefined;
  }

  /** The entity with its portals and one target that speaks for it, then the other targets. */
  async #registerAll(ask: Ask, wanted: Wanted): Promise<void> {
    const bySource = (target: IsnsTarget): number => (target.name === this.#source ? 0 : 1);
    const inOrder = wanted.targets.toSorted((a, b) => bySource(a) - bySource(b) || (a.name < b.name ? -1 : 1));
    const earlier = this.#source;
    for (const [index, target] of inOrder.entries()) {
      this.#source = target.name;
      if (!(await this.#register(ask, wanted, [target], target.name, true))) continue;
      await this.#registerMore(ask, wanted, inOrder.slice(index + 1), target.name);
      return;
    }
    // What is there in an earlier name is in the way, perhaps; the next attempt begins anew.
    this.#source = earlier;
    const [name = '', reason = ''] = [...this.#refused][0] ?? [];
    await this.#removeEntity(ask).catch(() => undefined);
    this.#source = undefined;
    this.#accepted.clear();
    throw new FarshoreError('retry', `the iSNS server refuses to register ${name}: ${reason}`);
  }

  /** Targets of an entity that is registered, in messages of one PDU where that is possible. */
  async #registerMore(ask: Ask, wanted: Wanted, targets: readonly IsnsTarget[], source: string): Promise<void> {
    let batch: IsnsTarget[] = [];
    const send = async (): Promise<void> => {
      const sent = batch;
      batch = [];
      if (sent.length === 0 || (await this.#register(ask, wanted, sent, source, false)) || sent.length === 1) return;
      for (const target of sent) await this.#register(ask, wanted, [target], source, false);
    };
    for (const target of targets) {
      if (this.#request(wanted, [...batch, target], source, false).payload.length > MAX_SENT_PAYLOAD) await send();
      batch.push(target);
    }
    await send();
  }

  /** Whether the server took the targets: all or none. The first message brings the entity and the portals along. */
  async #register(
    ask: Ask,
    wanted: Wanted,
    targets: readonly IsnsTarget[],
    source: string,
    isFirst: boolean,
  ): Promise<boolean> {
    let response = await ask(this.#request(wanted, targets, source, isFirst));
    if (response.status === STATUS.featureNotSupported && this.#groupTag !== undefined) {
      // Explicit portal groups are the only feature we use that a server need not have (5.6.5.1).
      this.#groupTag = undefined;
      response = await ask(this.#request(wanted, targets, source, isFirst));
    }
    if (response.status !== STATUS.successful) {
      for (const { name } of targets) {
        this.#refused.set(name, statusText(response.status));
        this.#accepted.delete(name);
      }
      return false;
    }
    if (isFirst) this.#replaceDue = false;
    this.#notePeriod(response);
    for (const target of targets) {
      this.#refused.delete(target.name);
      this.#accepted.set(target.name, standingOf(target, wanted.portals));
    }
    return true;
  }

  #request(wanted: Wanted, targets: readonly IsnsTarget[], source: string, isFirst: boolean): Request {
    return registerRequest({
      entity: this.#entity,
      source,
      portals: wanted.portals,
      targets,
      withPortals: isFirst,
      replace: isFirst && this.#replaceDue,
      groupTag: this.#groupTag,
    });
  }

  /** Removes what is there of us and not wanted any more; in the name of a target that stays. */
  async #removeOthers(
    ask: Ask,
    seen: Seen | undefined,
    names: ReadonlySet<string>,
    portals: ReadonlySet<string>,
  ): Promise<void> {
    const source = [...this.#accepted.keys()].find((name) => names.has(name));
    if (source === undefined) {
      // All that is wanted is refused, and what was accepted is wanted no more.
      await this.#removeEntity(ask);
      return;
    }
    this.#source = names.has(this.#source ?? '') && this.#accepted.has(this.#source ?? '') ? this.#source : source;
    const surplus: Removal[] = [];
    for (const name of new Set([...this.#accepted.keys(), ...(seen?.targets ?? [])]))
      if (!names.has(name)) surplus.push({ kind: 'target', name });
    for (const key of seen?.portals ?? []) if (!portals.has(key)) surplus.push({ kind: 'portal', key });
    for (const removal of surplus) {
      // A refusal is no matter: what is still there is seen and tried again with the next refresh.
      await ask(deregisterRequest(this.#source ?? source, removal));
      if (removal.kind === 'target') this.#accepted.delete(removal.name);
    }
  }

  async #removeEntity(ask: Ask): Promise<void> {
    if (this.#source === undefined) return;
    const { status } = await ask(deregisterRequest(this.#source, { kind: 'entity', entity: this.#entity }));
    if (status !== STATUS.successful && status !== STATUS.noSuchEntry)
      throw new FarshoreError('retry', `the iSNS server refuses the deregistration: ${statusText(status)}`);
    this.#source = undefined;
    this.#accepted.clear();
  }

  #notePeriod(response: Response): void {
    const seconds = periodIn(response);
    if (seconds === undefined) return;
    // 0 is "does not expire" (6.2.6); we look all the same whether we are still there.
    const refreshMs = seconds === 0 ? MAX_REFRESH_MS : (seconds * 1000) / REFRESHES_PER_PERIOD;
    this.#refreshMs = Math.min(MAX_REFRESH_MS, Math.max(MIN_REFRESH_MS, refreshMs));
  }
}

type Ask = (request: Request) => Promise<Response>;
