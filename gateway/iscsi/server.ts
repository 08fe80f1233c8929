import type { Socket } from 'node:net';
import { sleep } from '../base/clock.ts';
import type { CancelTimer, Clock, Random } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { WallMillis } from '../base/units.ts';
import { LogicalUnits } from '../scsi/logical-unit.ts';
import type { LogicalUnit } from '../scsi/logical-unit.ts';
import { ByteBudget } from './budget.ts';
import { BusyPoll } from './busy-poll.ts';
import { Connection } from './connection.ts';
import type { Joined, Joining } from './connection.ts';
import { LOGIN_STATUS } from './constants.ts';
import { addressesOf, sendTargets } from './discovery.ts';
import { Gatekeeper } from './gatekeeper.ts';
import type { Admission, Peer, Verdict } from './gatekeeper.ts';
import type { Identity } from './login-identity.ts';
import { LoginThrottle, networkOf } from './login-throttle.ts';
import { Places } from './places.ts';
import { Portals } from './portals.ts';
import type { PortalSettings } from './portals.ts';
import { Session } from './session.ts';
import { ALL_HANDLES, SessionTable } from './session-table.ts';
import type { HandleRange, Way } from './session-table.ts';
import { abortTasksOf } from './task-management.ts';
import type { IscsiSettings } from './settings.ts';
import { TaskOrder } from './task-order.ts';
import { normalizeAddress } from './target-registry.ts';
import type {
  IscsiTarget,
  MappedLun,
  OpenPortal,
  PortalAddress,
  Proof,
  ReachedLun,
  TargetRegistry,
} from './target-registry.ts';

export interface IscsiServerDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  readonly targets: TargetRegistry;
  readonly settings: IscsiSettings;
  /** Of sessions; without it all there are. */
  readonly handles?: HandleRange;
}

/** A session as people see it. */
export interface SessionInfo {
  readonly initiatorName: string;
  readonly targetName: string | undefined;
  readonly isid: string;
  readonly tsih: number;
  /** address:port */
  readonly peer: string;
  /** Normalised address of the portal it came by. */
  readonly portal: string;
  readonly proof: Proof;
  readonly since: WallMillis;
  readonly outstandingTasks: number;
}

/** What is left of a session that was killed: commands in a device that does not answer, which may change a medium yet. */
export interface EndedSession {
  readonly unsettled: readonly { readonly lun: number; readonly command: string }[];
}

const TICK_MS = 1000;

/** So long a kill waits for writes that are in a device. */
const END_WITHIN_MS = 10_000;

/** Above this share of the write budget windows narrow, so that initiators slow down before they are told TASK SET FULL. */
const NARROW_WINDOW_ABOVE = 0.5;
const NARROW_WINDOW = 8;

/** How a session came about. */
interface Details extends Admission {
  readonly peer: Peer;
  readonly since: WallMillis;
}

/** The iSCSI target: portals, connections, sessions. */
export class IscsiTargetServer {
  readonly #deps: IscsiServerDeps;
  readonly #portals: Portals;
  readonly #gatekeeper: Gatekeeper;
  readonly #throttle: LoginThrottle;
  readonly #busyPoll: BusyPoll;
  readonly #connections = new Set<Connection>();
  readonly #places: Places<Connection>;
  readonly #sessions: SessionTable;
  readonly #units: LogicalUnits;
  readonly #order = new TaskOrder();
  readonly #writeBudget: ByteBudget;
  readonly #readBudget: ByteBudget;
  readonly #details = new Map<Session, Details>();
  /** Which sessions count together, also while one that is over has a write in a device. */
  readonly #kinds = new WeakMap<Session, string>();
  #cancelTick: CancelTimer | undefined;
  #closing = false;
  #onConnectionGone: () => void = () => undefined;

  constructor(deps: IscsiServerDeps) {
    this.#deps = deps;
    this.#sessions = new SessionTable(deps.handles ?? ALL_HANDLES);
    this.#portals = new Portals(deps.log, (socket) => {
      this.#accept(socket);
    });
    this.#places = new Places(deps.settings);
    this.#gatekeeper = new Gatekeeper(deps);
    this.#throttle = new LoginThrottle(deps.clock);
    this.#busyPoll = new BusyPoll(deps.clock, setImmediate, deps.settings.mayPoll ? undefined : 0);
    this.#units = new LogicalUnits(
      (concerns, except) => abortTasksOf(concerns, except, this.#sessions.sessions()),
      deps.clock,
    );
    this.#writeBudget = new ByteBudget(deps.settings.writeBytesInFlight);
    this.#readBudget = new ByteBudget(deps.settings.readBytesInFlight);
  }

  /**
   * Opens the portals (port 0: any free one) and resolves with where they really are. All or none: `in-use` when one
   * cannot be opened.
   */
  async listen(portals: readonly PortalSettings[]): Promise<readonly OpenPortal[]> {
    try {
      for (const portal of portals) await this.#portals.listen(portal);
    } catch (error) {
      await this.close(false);
      throw error;
    }
    this.#tickLater();
    return [...this.#portals.open];
  }

  #accept(socket: Socket): void {
    const { settings, log, clock } = this.#deps;
    if (this.#closing) {
      socket.destroy();
      return;
    }
    const address = normalizeAddress(socket.remoteAddress ?? '');
    const local = { host: normalizeAddress(socket.localAddress ?? ''), port: socket.localPort ?? 0 };
    const peer = { address, port: socket.remotePort ?? 0, portal: local.host };
    const connectionLog = log.child({ peer: `${address}:${peer.port}` });
    const challenges = this.#gatekeeper.challengesOf();
    const connection: Connection = new Connection({
      socket,
      settings,
      clock,
      throttle: this.#throttle,
      address,
      log: connectionLog,
      policy: this.#gatekeeper.policyFor(peer, challenges, (tsih, name, isid) => this.#sessions.of(tsih, name, isid)),
      queueDepth: () => this.#queueDepth(),
      join: (joining, joined) => {
        void this.#sessions.makeWay(joining.identity, joining.wanted, (way) => {
          joined(this.#join(connection, joining, way, peer, local, connectionLog));
        });
      },
      received: () => {
        this.#busyPoll.stir();
      },
      refused: (claim, status, reason) => {
        this.#gatekeeper.refused(peer, claim, status, reason);
      },
      sessionOver: (session, reason) => {
        this.#places.rise(connection);
        const details = this.#details.get(session);
        this.#details.delete(session);
        if (details !== undefined) this.#gatekeeper.ended(peer, session, reason);
        void this.#sessions.retire(session);
      },
      gone: () => {
        if (!this.#connections.delete(connection)) return;
        challenges.close();
        this.#places.leave(connection);
        this.#onConnectionGone();
      },
    });
    this.#connections.add(connection);
    this.#places.arrive(connection, networkOf(address))?.close('newer connections need the place');
  }

  /** The session; or why there is none, for access may have changed while the login was under way. */
  #join(connection: Connection, joining: Joining, way: Way, peer: Peer, local: PortalAddress, log: Log): Joined {
    const { identity, proof } = joining;
    const full = (reason: string): Joined => ({ kind: 'refused', status: LOGIN_STATUS.outOfResources, reason });
    if (this.#closing) return full('the gateway stops');
    if (way.kind === 'barred') return { ...way, kind: 'refused' };
    const { tsih, expCmdSn } = way;
    const kind = kindOf(identity, proof, peer);
    if (this.#sessionsOf(kind) >= this.#deps.settings.maxSessionsPerInitiator)
      return full('the initiator has too many sessions');
    const verdict = this.#gatekeeper.judge(joining, peer);
    if (verdict.kind === 'refused') return verdict;
    const { target } = verdict;
    const initiator = { name: identity.initiatorName, address: peer.address };
    const mayUse = ({ name }: IscsiTarget, portal: string): boolean =>
      this.#deps.targets.authorize(name, initiator, portal).kind === 'allowed';
    if (target?.portals !== undefined) {
      const [address] = addressesOf(target, target.portals, local, mayUse);
      return address === undefined ? full('the target is served at no portal of use') : { kind: 'moved', address };
    }
    const noSeat = target === undefined ? undefined : this.#places.sit(connection);
    if (noSeat !== undefined) return full(noSeat);
    if (expCmdSn !== undefined) joining.window.continueAt(expCmdSn);
    // A name that is proved is one wherever it comes from; any other is no more than its address.
    const origin = proof.kind === 'none' ? networkOf(peer.address) : `proved ${identity.initiatorName}`;
    const session = new Session({
      ...joining,
      initiator,
      tsih,
      target,
      settings: this.#deps.settings,
      units: this.#units,
      order: this.#order,
      writeBudget: this.#writeBudget.shareOf(origin, identity.initiatorName),
      readBudget: this.#readBudget.shareOf(origin, identity.initiatorName),
      log,
      sessions: () => this.#sessions.sessions(),
      sendTargets: (request) =>
        sendTargets(request, {
          targets: this.#deps.targets.discover(initiator, local.host),
          portals: this.#portals.open,
          local,
          mayUse,
        }),
    });
    log.info({ initiator: identity.initiatorName, target: target?.name, tsih, proof: proof.kind }, 'logged in');
    this.#sessions.add(session, joining.cut);
    this.#kinds.set(session, kind);
    this.#details.set(session, { identity, proof, proved: joining.proved, peer, since: this.#deps.clock.now() });
    this.#gatekeeper.loggedIn(peer, session, proof);
    return { kind: 'session', session };
  }

  #sessionsOf(kind: string): number {
    let count = 0;
    for (const session of this.#sessions.sessions()) if (this.#kinds.get(session) === kind) count += 1;
    return count;
  }

  #queueDepth(): number {
    const { queueDepth } = this.#deps.settings;
    return this.#writeBudget.fraction > NARROW_WINDOW_ABOVE ? Math.min(NARROW_WINDOW, queueDepth) : queueDepth;
  }

  #tickLater(): void {
    this.#cancelTick = this.#deps.clock.startTimer(TICK_MS, () => {
      for (const connection of this.#connections) connection.tick();
      this.#gatekeeper.tick();
      this.#tickLater();
    });
  }

  /** Who is logged in. */
  sessions(): readonly SessionInfo[] {
    const infos: SessionInfo[] = [];
    for (const [session, { peer, proof, since }] of this.#details) {
      const { identity, tsih, target, tasks } = session;
      infos.push({
        initiatorName: identity.initiatorName,
        targetName: target?.name,
        isid: identity.isid,
        tsih,
        peer: `${peer.address.includes(':') ? `[${peer.address}]` : peer.address}:${peer.port}`,
        portal: peer.portal,
        proof,
        since,
        outstandingTasks: tasks.size,
      });
    }
    return infos;
  }

  /** What is in use at the moment, for metrics; all zero when nobody is connected and no write is in a device. */
  usage(): { connections: number; sessions: number; writeBytes: number; readBytes: number } {
    return {
      connections: this.#connections.size,
      sessions: this.#sessions.size,
      writeBytes: this.#writeBudget.usedBytes,
      readBytes: this.#readBudget.usedBytes,
    };
  }

  /**
   * Kills the session with this handle; undefined when there is none. It is dead for its initiator at once. Resolves when
   * none of its writes can land any more, or after END_WITHIN_MS with those that still may.
   */
  async endSession(tsih: number, reason = 'ended by the administrator'): Promise<EndedSession | undefined> {
    const session = this.#sessions.find(tsih);
    if (session === undefined) return undefined;
    await this.#endWithin((each) => each === session, reason);
    return { unsettled: session.tasks.unsettled().map(({ lun, command }) => ({ lun, command: command.kind })) };
  }

  async #endWithin(matches: (session: Session) => boolean, reason: string): Promise<void> {
    const over = new AbortController();
    await Promise.race([this.#sessions.end(matches, reason), sleep(this.#deps.clock, END_WITHIN_MS, over.signal)]);
    over.abort();
  }

  /** The logical unit of a volume that is offered. */
  unitOf({ device, state }: MappedLun): LogicalUnit {
    return this.#units.of(device, state);
  }

  /** A volume that initiators may see from now on: its logical unit is made at once, with all that it has under way. */
  offered({ device, state }: MappedLun): void {
    this.#units.of(device, state);
  }

  /**
   * Judges every live session again, at once: one whose login would not be granted now is ended; others lose the LUNs
   * they may not use any more, and are told that there are others. What initiators have reserved that reach it no more
   * (`mapped`) ends. Resolves when no write can land any more that would not be allowed now.
   */
  async accessChanged(mapped: readonly ReachedLun[] = []): Promise<void> {
    const settling: Promise<void>[] = [];
    for (const [session, details] of [...this.#details]) {
      const verdict = this.#gatekeeper.judge(details, details.peer);
      const over = whyOver(verdict);
      settling.push(
        over === undefined
          ? session.accessChanged(verdict.kind === 'granted' ? verdict.target : undefined)
          : this.#sessions.end((each) => each === session, over),
      );
    }
    // Sessions that are over already may have left a write in a device.
    for (const session of this.#sessions.sessions())
      if (!this.#details.has(session)) settling.push(session.accessChanged(session.target));
    // Afterwards: what the sessions that have just been ended waited to reserve comes to nothing.
    for (const volume of mapped) settling.push(this.#endReservations(volume));
    await Promise.all(settling);
  }

  async #endReservations({ lun: { device, state }, reaches }: ReachedLun): Promise<void> {
    try {
      await this.#units.of(device, state).reservations.retain(reaches);
    } catch (error) {
      if (!(error instanceof FarshoreError)) throw error;
      this.#deps.log.error(
        { volume: device.identity.name, error: error.message },
        'what initiators that have lost the volume have reserved is still in force; farshore reservation clear ends it, and so does the next change of access',
      );
    }
  }

  /**
   * Stops listening. Gracefully: asks every initiator to log out, and waits for those that do. Resolves when every
   * connection is closed and no write is in a device any more, or after END_WITHIN_MS: what waits for a cloud that is away ends with its device.
   */
  async close(graceful: boolean): Promise<void> {
    this.#closing = true;
    this.#portals.close();
    if (graceful) await this.#askForLogouts();
    this.#cancelTick?.();
    for (const connection of [...this.#connections]) connection.close('the gateway stops');
    await this.#endWithin(() => true, 'the gateway stops');
    this.#gatekeeper.end();
  }

  async #askForLogouts(): Promise<void> {
    const { logoutGraceSeconds } = this.#deps.settings;
    for (const session of this.#sessions.sessions()) session.requestLogout(logoutGraceSeconds);
    for (const connection of [...this.#connections])
      if (connection.session === undefined) connection.close('the gateway stops');
    if (this.#connections.size === 0) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#deps.clock.startTimer(logoutGraceSeconds * 1000, resolve);
      this.#onConnectionGone = () => {
        if (this.#connections.size > 0) return;
        cancel();
        resolve();
      };
    });
  }
}

/** Why a live session cannot stay; its initiator will log in again, and be told where. */
function whyOver(verdict: Verdict): string | undefined {
  if (verdict.kind === 'refused') return `access changed: ${verdict.reason}`;
  return verdict.target?.portals === undefined ? undefined : 'the target is served at another portal now';
}

/**
 * What a session counts as towards those its initiator may have. Anybody can have unproved ones in another's name, and discovery sessions, whose
 * proof may be one for all: those count by where they come from, so that they take no place from the other one.
 */
function kindOf({ initiatorName, sessionType }: Identity, proof: Proof, { address }: Peer): string {
  const isItsOwn = sessionType !== 'discovery' && proof.kind !== 'none';
  return `${sessionType} ${isItsOwn ? 'proved' : networkOf(address)} ${initiatorName}`;
}
