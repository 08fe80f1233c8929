import { MIB } from '../base/units.ts';
import type { ByteCount } from '../base/units.ts';

/** How the target behaves; plain data. */
export interface IscsiSettings {
  /** Connections with a session of a target; a login beyond this is refused with "out of resources". */
  readonly maxConnections: number;
  /** The same for one IPv4 address or one IPv6 network of 64 bits. */
  readonly maxConnectionsPerAddress: number;
  /** Connections that have none, since they log in, discover or close: beyond this the oldest is closed (Places). */
  readonly maxLogins: number;
  readonly maxLoginsPerAddress: number;
  /** Logins beyond this are refused with "out of resources". */
  readonly maxSessionsPerInitiator: number;
  /** Commands one session may have outstanding. */
  readonly queueDepth: number;
  /** Write data in memory over all sessions, and read data not yet sent. */
  readonly writeBytesInFlight: ByteCount;
  readonly readBytesInFlight: ByteCount;
  /** The share of one session in either. */
  readonly sessionWriteBytes: ByteCount;
  readonly sessionReadBytes: ByteCount;
  readonly loginTimeoutSeconds: number;
  /** Silence after which a peer is pinged, and how long after that it is given up: one that sleeps for a minute is alive. */
  readonly pingAfterSeconds: number;
  readonly pingTimeoutSeconds: number;
  /** How long a peer may leave what we send untouched. */
  readonly stallTimeoutSeconds: number;
  /**
   * How long a peer may owe us the data of a write without sending any of it, leave out a command whose successors it has
   * sent, or take over a single PDU.
   */
  readonly dataTimeoutSeconds: number;
  /** How long sessions have to log out when the gateway stops. */
  readonly logoutGraceSeconds: number;
  /** Whether the thread may stay awake for the next command (see BusyPoll); not where others need the processor. */
  readonly mayPoll: boolean;
}

export const DEFAULT_ISCSI_SETTINGS: IscsiSettings = {
  maxConnections: 512,
  maxConnectionsPerAddress: 256,
  maxLogins: 512,
  maxLoginsPerAddress: 128,
  maxSessionsPerInitiator: 128,
  queueDepth: 128,
  writeBytesInFlight: 256 * MIB,
  readBytesInFlight: 256 * MIB,
  sessionWriteBytes: 32 * MIB,
  sessionReadBytes: 8 * MIB,
  loginTimeoutSeconds: 15,
  pingAfterSeconds: 20,
  pingTimeoutSeconds: 45,
  stallTimeoutSeconds: 60,
  dataTimeoutSeconds: 60,
  logoutGraceSeconds: 5,
  mayPoll: true,
};
