import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { CancelTimer, Clock, Random } from '../base/clock.ts';
import { FarshoreError, describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { WallMillis } from '../base/units.ts';
import { LogicalUnits } from '../scsi/logical-unit.ts';
import { SENSE } from '../scsi/sense.ts';
import { ByteBudget } from './budget.ts';
import { Connection } from './connection.ts';
import type { Joining } from './connection.ts';
import { LOGIN_STATUS } from './constants.ts';
import { sendTargets } from './discovery.ts';
import type { PortalAddress } from './discovery.ts';
import type { Access } from './login.ts';
import { Session } from './session.ts';
import { SessionTable } from './session-table.ts';
import type { IscsiSettings } from './settings.ts';
import { TaskOrder } from './task-order.ts';
import { normalizeAddress } from './target-registry.ts';
import type { Initiator, IscsiTarget, TargetRegistry } from './target-registry.ts';

export interface IscsiServerDeps {
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  readonly targets: TargetRegistry;
  readonly settings: IscsiSettings;
}

/** A session as people see it. */
export interface SessionInfo {
  readonly initiatorName: string;
  readonly targetName: string | undefined;
  readonly isid: string;
  readonly tsih: number;
  readonly peer: string;
  readonly since: WallMillis;
  readonly outstandingTasks: number;
}

const TICK_MS = 1000;

/** Above this share of the write budget windows narrow, so that initiators slow down before they are told TASK SET FULL. */
const NARROW_WINDOW_ABOVE = 0.5;
const NARROW_WINDOW = 8;

/** The iSCSI target: portals, connections, sessions. */
export class IscsiTargetServer {
  readonly #deps: IscsiServerDeps;
  readonly #servers: Server[] = [];
  #portals: PortalAddress[] = [];
  readonly #connections = new Set<Connection>();
  readonly #sessions = new SessionTable();
  readonly #units = new LogicalUnits();
  readonly #order = new TaskOrder();
  readonly #writeBudget: ByteBudget;
  readonly #readBudget: ByteBudget;
  readonly #details = new Map<Session, { readonly peer: string; readonly since: WallMillis }>();
  #cancelTick: CancelTimer | undefined;
  #closing = false;
  #onConnectionGone: () => void = () => undefined;

  constructor(deps: IscsiServerDeps) {
    this.#deps = deps;
    this.#writeBudget = new ByteBudget(deps.settings.writeBytesInFlight);
    this.#readBudget = new ByteBudget(deps.settings.readBytesInFlight);
  }

  /**
   * Opens the portals (port 0: any free one) and resolves with where they really are. All or none: `in-use` when one
   * cannot be opened.
   */
  async listen(portals: readonly PortalAddress[]): Promise<readonly PortalAddress[]> {
    try {
      for (const portal of portals) this.#portals.push(await this.#open(portal));
    } catch (error) {
      await this.close(false);
      throw error;
    }
    this.#tickLater();
    return this.#portals;
  }

  #open(portal: PortalAddress): Promise<PortalAddress> {
    const server = createServer({ noDelay: true, keepAlive: true }, (socket) => {
      this.#accept(socket);
    });
    this.#servers.push(server);
    const where = `${portal.host}:${portal.port}`;
    // Later errors are about connections that could not be accepted, for want of file descriptors for example.
    server.on('error', (error) => {
      this.#deps.log.warn({ portal: where, error: describeError(error) }, 'iSCSI portal failure');
    });
    return new Promise((resolve, reject) => {
      server.once('error', (error) => {
        reject(new FarshoreError('in-use', `The iSCSI portal ${where} cannot be opened: ${describeError(error)}.`));
      });
      server.listen(portal.port, portal.host, () => {
        const address = server.address() as AddressInfo; // a TCP server that listens has one
        resolve({ host: portal.host, port: address.port });
      });
    });
  }

  #accept(socket: Socket): void {
    const { settings, log } = this.#deps;
    const excess = this.#connections.size - settings.maxConnections;
    if (this.#closing || excess >= settings.maxConnections) {
      socket.destroy();
      return;
    }
    const address = normalizeAddress(socket.remoteAddress ?? '');
    const peer = `${address}:${socket.remotePort ?? 0}`;
    const local = { host: normalizeAddress(socket.localAddress ?? ''), port: socket.localPort ?? 0 };
    const connectionLog = log.child({ peer });
    const connection: Connection = new Connection({
      socket,
      settings,
      log: connectionLog,
      overLimit: excess >= 0,
      policy: {
        authorize: (targetName, name) => this.#authorize(targetName, { name, address }, local.host),
        sessionExists: (tsih) => this.#sessions.has(tsih),
      },
      queueDepth: () => this.#queueDepth(),
      join: (joining, joined) => {
        void this.#sessions.makeWay(joining.identity, joining.wanted, (tsih) => {
          if (tsih === undefined || this.#closing) {
            joined(LOGIN_STATUS.outOfResources);
            return;
          }
          const session = this.#makeSession(joining, tsih, { local, address }, connectionLog);
          if (typeof session !== 'number') {
            this.#sessions.add(session, joining.cut);
            this.#details.set(session, { peer, since: this.#deps.clock.now() });
          }
          joined(session);
        });
      },
      sessionOver: (session) => {
        this.#details.delete(session);
        void this.#sessions.retire(session);
      },
      gone: () => {
        if (this.#connections.delete(connection)) this.#onConnectionGone();
      },
    });
    this.#connections.add(connection);
  }

  #authorize(targetName: string, initiator: Initiator, portalAddress: string): Access {
    const answer = this.#deps.targets.authorize(targetName, initiator, portalAddress);
    return answer.kind === 'allowed' ? { kind: 'allowed', targetName: answer.target.name } : answer;
  }

  /** The session, or a login status: the target may have gone while the login waited. */
  #makeSession(
    joining: Joining,
    tsih: number,
    { local, address }: { local: PortalAddress; address: string },
    log: Log,
  ): Session | number {
    const { identity } = joining;
    const { targets } = this.#deps;
    const initiator = { name: identity.initiatorName, address };
    let target: IscsiTarget | undefined;
    if (identity.sessionType === 'normal') {
      const answer = targets.authorize(identity.targetName, initiator, local.host);
      if (answer.kind !== 'allowed') return LOGIN_STATUS.notFound;
      target = answer.target;
    }
    log.info({ initiator: identity.initiatorName, target: target?.name, tsih }, 'logged in');
    return new Session({
      ...joining,
      initiator,
      tsih,
      target,
      settings: this.#deps.settings,
      units: this.#units,
      order: this.#order,
      writeBudget: this.#writeBudget,
      readBudget: this.#readBudget,
      log,
      sessions: () => this.#sessions.sessions(),
      sendTargets: (request) =>
        sendTargets(request, {
          targets: targets.discover(initiator, local.host),
          portals: this.#deps.settings.advertise ?? this.#portals,
          local,
        }),
    });
  }

  #queueDepth(): number {
    const { queueDepth } = this.#deps.settings;
    return this.#writeBudget.fraction > NARROW_WINDOW_ABOVE ? Math.min(NARROW_WINDOW, queueDepth) : queueDepth;
  }

  #tickLater(): void {
    this.#cancelTick = this.#deps.clock.startTimer(TICK_MS, () => {
      for (const connection of this.#connections) connection.tick();
      this.#tickLater();
    });
  }

  /** Who is logged in. */
  sessions(): readonly SessionInfo[] {
    const infos: SessionInfo[] = [];
    for (const [session, { peer, since }] of this.#details) {
      const { identity, tsih, target, tasks } = session;
      const { initiatorName, isid } = identity;
      infos.push({ initiatorName, targetName: target?.name, isid, tsih, peer, since, outstandingTasks: tasks.size });
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

  /** Ends the sessions of a target that is going away; resolves when none of their writes can land any more. */
  endSessions(targetName: string): Promise<void> {
    return this.#sessions.end((session) => session.target?.name === targetName, `target ${targetName} is gone`);
  }

  /** LUNs were mapped or unmapped in the target: its initiators are told to look again. */
  lunsChanged(targetName: string): void {
    for (const session of this.#sessions.sessions()) {
      if (session.target?.name !== targetName) continue;
      for (const nexus of session.tasks.nexuses()) nexus.raise(SENSE.lunsChanged);
    }
  }

  /**
   * Stops listening. Gracefully: asks every initiator to log out, and waits for those that do. Resolves when every
   * connection is closed and no write is in a device any more.
   */
  async close(graceful: boolean): Promise<void> {
    this.#closing = true;
    for (const server of this.#servers) server.close();
    if (graceful) await this.#askForLogouts();
    this.#cancelTick?.();
    for (const connection of [...this.#connections]) connection.close('the gateway stops');
    await this.#sessions.end(() => true, 'the gateway stops');
    this.#portals = [];
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
