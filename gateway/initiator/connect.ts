import type { Clock, Random } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import type { ChapOptions } from './chap.ts';
import { Connection, TargetMoved } from './connection.ts';
import type { Endpoint } from './connection.ts';
import { DEFAULT_OFFER } from './negotiation.ts';
import type { NegotiationOffer } from './negotiation.ts';
import { Session } from './session.ts';

export const DEFAULT_INITIATOR_NAME = 'iqn.2026-11.dev.farshore:initiator';
const DEFAULT_LOGIN_TIMEOUT_MS = 15_000;
const DEFAULT_COMMAND_TIMEOUT_MS = 60_000;
/** Redirections followed before it is called a loop. */
const MAX_REDIRECTIONS = 4;

export interface ConnectOptions extends Endpoint {
  readonly clock: Clock;
  readonly random: Random;
  readonly initiatorName?: string;
  readonly lun?: number;
  /** Credentials, for a target or for discovery; without them there is no authentication. */
  readonly chap?: ChapOptions;
  readonly loginTimeoutMs?: number;
  readonly commandTimeoutMs?: number;
  /** Overrides of what we propose; see DEFAULT_OFFER. */
  readonly negotiation?: Partial<NegotiationOffer>;
  /** Six bytes; by default a random one (RFC 7143 11.12.5). The same again reinstates the session. */
  readonly isid?: Buffer;
}

/**
 * Logs in and returns the session: the low level, without retries, for load generators and protocol tests. No `target`
 * makes it a discovery session. Rejects with LoginError, `retry` or `damaged`.
 */
export async function openSession(options: ConnectOptions, target: string | undefined): Promise<Session> {
  let endpoint: Endpoint = { host: options.host, port: options.port };
  for (let redirections = 0; redirections < MAX_REDIRECTIONS; redirections += 1) {
    try {
      return await logIn(options, endpoint, target);
    } catch (error) {
      if (!(error instanceof TargetMoved)) throw error;
      endpoint = error.endpoint;
    }
  }
  throw new FarshoreError('retry', `the target moved more than ${MAX_REDIRECTIONS} times`);
}

async function logIn(options: ConnectOptions, endpoint: Endpoint, target: string | undefined): Promise<Session> {
  let session: Session | undefined;
  await Connection.open({
    ...endpoint,
    clock: options.clock,
    loginTimeoutMs: options.loginTimeoutMs ?? DEFAULT_LOGIN_TIMEOUT_MS,
    login: {
      initiatorName: options.initiatorName ?? DEFAULT_INITIATOR_NAME,
      targetName: target,
      isid: options.isid ?? randomIsid(options.random),
      offer: { ...DEFAULT_OFFER, ...options.negotiation },
      chap: options.chap,
      random: options.random,
    },
    attach: (connection, login) => {
      session = new Session(connection, login, {
        clock: options.clock,
        lun: options.lun ?? 0,
        commandTimeoutMs: options.commandTimeoutMs ?? DEFAULT_COMMAND_TIMEOUT_MS,
      });
      return session;
    },
  });
  if (session === undefined) throw new FarshoreError('bug', 'a login succeeded without a session');
  return session;
}

/** Ends a session in an orderly way; that the target closes first, or refuses, is no matter. */
export async function closeSession(session: Session): Promise<void> {
  try {
    if (session.failed() === undefined) await session.control.logout();
  } catch (error) {
    if (!(error instanceof FarshoreError) || error.kind === 'bug') throw error;
  }
  session.destroy(new FarshoreError('stopped', 'the session was closed'));
}

/** Type "random" (10b), 24 random bits, qualifier random too. */
function randomIsid(random: Random): Buffer {
  const isid = random.bytes(6);
  isid[0] = 0x80;
  return isid;
}
