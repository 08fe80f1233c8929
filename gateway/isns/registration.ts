/**
 * Registration of this gateway's targets with an iSNS server (RFC 4171), so that initiators find them without being told the portals.
 *
 * To wire it: `startIsnsRegistration({ clock, random, log, server, connect: connectOverTcp({ host, port }, clock), entity, groupTag,
 * targets, portals })` once the portals are open; `changed()` whenever a target or portal came, went or got another alias (cheap, any
 * number of times); `state()` for the status; `close()` before the portals close: it removes the registration, in CLOSE_LIMIT_MS at most,
 * and never rejects.
 * - `entity` must be unique on the server and the same over restarts, at most 255 bytes, not beginning with "isns:": the configured
 *   iSCSI name of the gateway does. `groupTag` is the portal group tag that logins answer with.
 * - `targets()` and `portals()` are asked at each refresh. Portals are addresses as initiators reach them (the advertised ones, where
 *   configured); a wildcard becomes the address we reach the server from; loopback addresses are told to a server on loopback only;
 *   host names are left out, because iSNS has addresses only. A target that says its portals is registered as reached through those alone;
 *   they must be among `portals()`.
 * - What is registered is shown by the server to everybody it wants to: names, aliases and addresses, so nothing secret belongs there.
 *   A name gives no access: that is decided at login.
 *
 * A server that is away, slow or hostile costs a connection attempt now and then and a warning when it begins; nothing waits for it.
 * Not supported: authentication blocks, which RFC 4171 5.5 defines for multicast and broadcast and some servers offer; ESI and SCN.
 */
import { isIP } from 'node:net';
import type { Clock, Random } from '../base/clock.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { WallMillis } from '../base/units.ts';
import { type ConnectIsns, IsnsConnection } from './connection.ts';
import type { IsnsPortal, IsnsTarget } from './messages.ts';
import { Registrar, type Wanted } from './registrar.ts';

export interface IsnsDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The server as people call it. */
  readonly server: string;
  readonly connect: ConnectIsns;
  readonly entity: string;
  readonly groupTag: number;
  targets(): Iterable<IsnsTarget>;
  portals(): Iterable<IsnsPortal>;
}

export interface IsnsState {
  readonly server: string;
  /** `idle`: there is no target, or no portal that could be told. */
  readonly state: 'connecting' | 'registered' | 'idle' | 'failing' | 'closed';
  /** Targets that the server has accepted. */
  readonly targets: number;
  /** When it last confirmed the registration. */
  readonly confirmedAt: WallMillis | undefined;
  /** Why it is failing, or which targets are refused. */
  readonly problem: string | undefined;
}

export interface IsnsRegistration {
  changed(): void;
  state(): IsnsState;
  close(): Promise<void>;
}

export function startIsnsRegistration(deps: IsnsDeps): IsnsRegistration {
  return new RegistrationLoop(deps);
}

/** Pauses between connections, doubled from the one to the other. */
const MIN_BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 60_000;
/** A connection that lived this long was a good one: the next pause is short again. */
const STABLE_MS = 60_000;
/** How long a shutdown waits for the server. */
export const CLOSE_LIMIT_MS = 3_000;
/** Refused targets named in the state. */
const MAX_NAMED = 4;

class RegistrationLoop implements IsnsRegistration {
  readonly #deps: IsnsDeps;
  readonly #registrar: Registrar;
  readonly #closing = new AbortController();
  /** The time of a shutdown is over. */
  readonly #enough = new AbortController();
  readonly #done: Promise<void>;
  #state: IsnsState['state'] = 'connecting';
  #confirmedAt: WallMillis | undefined;
  #problem: string | undefined;
  /** What was last said in the log about the server. */
  #said: 'nothing' | 'well' | 'failing' = 'nothing';
  readonly #saidRefused = new Set<string>();
  #isDirty = false;
  #wake: () => void = () => undefined;
  #connection: IsnsConnection | undefined;

  constructor(deps: IsnsDeps) {
    this.#deps = deps;
    this.#registrar = new Registrar(deps.entity, deps.groupTag);
    this.#done = this.#run();
  }

  changed(): void {
    this.#isDirty = true;
    this.#wake();
  }

  state(): IsnsState {
    const refused = [...this.#registrar.refused()];
    const named = refused.slice(0, MAX_NAMED).map(([name, reason]) => `${name} is refused: ${reason}`);
    if (refused.length > MAX_NAMED) named.push(`and ${refused.length - MAX_NAMED} more`);
    return {
      server: this.#deps.server,
      state: this.#state,
      targets: this.#registrar.registered(),
      confirmedAt: this.#confirmedAt,
      problem: this.#problem ?? (named.length > 0 ? named.join('; ') : undefined),
    };
  }

  async close(): Promise<void> {
    if (!this.#isClosing()) {
      this.#closing.abort();
      this.#wake();
      const cancel = this.#deps.clock.startTimer(CLOSE_LIMIT_MS, () => {
        this.#enough.abort();
        this.#connection?.destroy(new FarshoreError('retry', 'the iSNS server did not answer in time'));
      });
      void this.#done.then(cancel);
    }
    await this.#done;
  }

  #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  async #run(): Promise<void> {
    let attempt = 0;
    while (!this.#isClosing()) {
      const startedMs = this.#deps.clock.monotonicMs();
      try {
        await this.#serve(await this.#open(this.#closing.signal));
      } catch (error) {
        // Everything, also a bug of ours: a directory service is not worth a gateway.
        if (!this.#isClosing()) this.#fail(error);
      }
      if (this.#isClosing()) break;
      this.#connection?.destroy(new FarshoreError('stopped', 'the connection was given up'));
      if (this.#deps.clock.monotonicMs() - startedMs >= STABLE_MS) attempt = 0;
      const pauseMs = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** Math.min(attempt, 16));
      attempt += 1;
      await this.#pause(pauseMs * (0.5 + this.#deps.random.fraction() / 2), () => false);
    }
    await this.#sayGoodbye();
    this.#state = 'closed';
  }

  async #open(signal: AbortSignal): Promise<IsnsConnection> {
    const connection = new IsnsConnection(await this.#deps.connect(signal), this.#deps.clock);
    this.#connection = connection;
    void connection.ended.then(() => {
      this.#wake();
    });
    return connection;
  }

  /** Keeps the registration as long as the connection lives; returns when we are closing. */
  async #serve(connection: IsnsConnection): Promise<void> {
    while (!this.#isClosing()) {
      this.#isDirty = false;
      const wanted = this.#wanted(connection.localAddress());
      await this.#registrar.bring(connection, wanted, () => {
        if (this.#isClosing()) throw new FarshoreError('stopped', 'the registration is being closed');
      });
      this.#succeed(wanted);
      await this.#pause(this.#registrar.refreshMs(), () => this.#isDirty || connection.failure() !== undefined);
      const failure = connection.failure();
      if (failure !== undefined) throw failure;
    }
  }

  /** Until the time is over, or the gateway closes, or `isOver` says so when somebody wakes us. */
  #pause(delayMs: number, isOver: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        cancel();
        this.#wake = () => undefined;
        resolve();
      };
      const cancel = this.#deps.clock.startTimer(delayMs, finish);
      this.#wake = () => {
        if (this.#isClosing() || isOver()) finish();
      };
      this.#wake();
    });
  }

  /** Each target once, each portal once, portals as the server's clients can use them. */
  #wanted(localAddress: string | undefined): Wanted {
    const local = plain(localAddress ?? '');
    const targets = new Map<string, IsnsTarget>();
    for (const target of this.#deps.targets()) {
      const portals = target.portals === undefined ? undefined : usable(target.portals, local);
      // The thread that serves it is not open to initiators yet, say.
      if (portals?.length === 0) targets.delete(target.name);
      else targets.set(target.name, { ...target, portals });
    }
    return { targets: [...targets.values()], portals: usable(this.#deps.portals(), local) };
  }

  #succeed(wanted: Wanted): void {
    const { log, clock, server } = this.#deps;
    this.#problem = undefined;
    this.#confirmedAt = clock.now();
    this.#state = this.#registrar.registered() > 0 ? 'registered' : 'idle';
    if (wanted.targets.length > 0 && wanted.portals.length === 0)
      this.#problem = 'no portal has an address that other machines could use; set the advertised address';
    if (this.#state === 'registered' && this.#said !== 'well')
      log.info({ server, targets: this.#registrar.registered() }, 'registered with iSNS');
    this.#said = this.#state === 'registered' ? 'well' : 'nothing';
    const refused = this.#registrar.refused();
    for (const [target, reason] of refused) {
      if (!this.#saidRefused.has(target)) log.warn({ server, target, reason }, 'the iSNS server refuses a target');
      this.#saidRefused.add(target);
    }
    for (const target of this.#saidRefused) if (!refused.has(target)) this.#saidRefused.delete(target);
  }

  /** Said once, however long it lasts. */
  #fail(error: unknown): void {
    const { log, server } = this.#deps;
    this.#state = 'failing';
    this.#problem = describeError(error);
    const fields = { server, err: error };
    if (this.#said !== 'failing')
      log.warn(fields, 'iSNS registration does not work; targets are served all the same, and it is tried on');
    this.#said = 'failing';
  }

  async #sayGoodbye(): Promise<void> {
    const { log, server } = this.#deps;
    try {
      if (!this.#registrar.mayBeThere()) return;
      const usable = this.#connection?.failure() === undefined ? this.#connection : undefined;
      await this.#registrar.removeAll(usable ?? (await this.#open(this.#enough.signal)));
    } catch (error) {
      const period = 'the targets stay registered there until their registration period is over';
      log.warn({ server, err: error }, `could not deregister from iSNS; ${period}`);
    } finally {
      this.#connection?.destroy(new FarshoreError('stopped', 'the registration is closed'));
    }
  }
}

/** Each once, as clients of a server that we reach from this address can use them. */
function usable(portals: Iterable<IsnsPortal>, local: string): IsnsPortal[] {
  const found = new Map<string, IsnsPortal>();
  for (const { host, port } of portals) {
    const told = isWildcard(host) ? local : plain(host);
    if (isIP(told) === 0 || (isLoopback(told) && !isLoopback(local))) continue;
    found.set(`${told} ${port}`, { host: told, port });
  }
  return [...found.values()];
}

const plain = (address: string): string => {
  const withoutZone = address.replace(/%.*$/, '').toLowerCase();
  return withoutZone.startsWith('::ffff:') && withoutZone.includes('.') ? withoutZone.slice(7) : withoutZone;
};
const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::' || host === '';
const isLoopback = (host: string): boolean => host === '::1' || host.startsWith('127.');
