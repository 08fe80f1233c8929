import type { AccessControl } from './access/access-control.ts';
import { FarshoreError } from './base/errors.ts';
import type { EndedSession, IscsiTargetServer, SessionInfo } from './iscsi/server.ts';
import type { LogicalUnit } from './scsi/logical-unit.ts';
import type { ReservationReport } from './scsi/reservations/report.ts';

/** A session, with the identifiers of the volumes it sees. */
export interface SeenSession extends SessionInfo {
  readonly volumes: readonly string[];
}

/** What is asked of the sessions of initiators, and of what they hold, by whoever administers them: plain data only. */
export interface SessionsControl {
  sessions(): Promise<readonly SeenSession[]>;
  /** The session of this handle; undefined when there is none. */
  session(tsih: number): Promise<SeenSession | undefined>;
  /** See IscsiTargetServer.endSession: undefined when there is no such session, and in bounded time. */
  endSession(tsih: number, reason?: string): Promise<EndedSession | undefined>;
  /** What initiators have reserved of the volume of this name; rejects with `not-found` when it is not open here. */
  reservations(name: string): Promise<ReservationReport>;
  /** See Reservations.clear; rejects as `reservations` does. */
  clearReservations(name: string): Promise<void>;
}

/** Of one target server. */
export function sessionsHere(server: IscsiTargetServer, control: AccessControl): SessionsControl {
  const unitOf = (name: string): LogicalUnit => {
    const volume = control.offered(name);
    if (volume !== undefined) return server.unitOf(volume);
    throw new FarshoreError('not-found', `volume ${name} is not open on this gateway; farshore status shows which are`);
  };
  const seen = (): readonly SeenSession[] =>
    server.sessions().map((session) => ({ ...session, volumes: control.volumesOf(session) }));
  return {
    sessions: () => Promise.resolve(seen()),
    session: (tsih) => Promise.resolve(seen().find((session) => session.tsih === tsih)),
    endSession: (tsih, reason) => server.endSession(tsih, reason),
    reservations: (name) => Promise.resolve().then(() => unitOf(name).reservations.report()),
    clearReservations: async (name) => {
      await unitOf(name).reservations.clear();
    },
  };
}
