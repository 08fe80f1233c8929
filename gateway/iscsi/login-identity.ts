import { LOGIN_STATUS } from './constants.ts';
import { unprovable } from './chap.ts';
import type { ChallengeBook } from './chap.ts';
import { normalizeName } from './names.ts';
import type { LoginRequest } from './requests.ts';
import type { Authorization, ChapRequirement } from './target-registry.ts';
import type { SessionParameters } from './text-keys.ts';

/** Who logs in, to what. */
export type Identity = DiscoveryIdentity | NormalIdentity;

interface IdentityCore {
  /** Normalised. */
  readonly initiatorName: string;
  readonly isid: string;
  readonly connectionId: number;
  /** The handle of the session whose connection this one takes the place of (RFC 7143 6.3.4); 0: a session of its own. */
  readonly reinstates: number;
}

/** A session as the login that continues it must know it. */
interface LiveSession {
  readonly connectionId: number;
  readonly parameters: SessionParameters;
}

interface DiscoveryIdentity extends IdentityCore {
  readonly sessionType: 'discovery';
}

interface NormalIdentity extends IdentityCore {
  readonly sessionType: 'normal';
  /** As the target registry spells it. */
  readonly targetName: string;
}

/** What a login needs to know of the rest of the gateway. */
export interface LoginPolicy {
  /** Whether this initiator may use the target through the portal the connection came in by, and what it must prove. */
  authorize(targetName: string, initiatorName: string): Authorization;
  /** Whether those that do not offer CHAP are refused alike, whatever they name. */
  refusesAlike(): boolean;
  discoveryChap(initiatorName: string): ChapRequirement | undefined;
  /** The session of this handle, if the initiator has it with this ISID. */
  sessionOf(tsih: number, initiatorName: string, isid: string): LiveSession | undefined;
  readonly challenges: ChallengeBook;
}

/** Who a login says it is; only what has the form of a name. */
export interface Claim {
  readonly initiatorName: string | undefined;
  readonly targetName: string | undefined;
}

/** What the first request of a login asks for, and on which conditions it may have it. */
export interface Grant {
  readonly identity: Identity;
  readonly chap: ChapRequirement | undefined;
  /**
   * Why it cannot succeed, for the log: there is no such target for this initiator, or its secret cannot be read. One that
   * wants to prove itself finds that out no sooner than one with a wrong secret: it could otherwise learn names of targets
   * and initiators by trying.
   */
  readonly conceals: string | undefined;
}

export type Identified =
  | { readonly kind: 'granted'; readonly grant: Grant }
  | { readonly kind: 'refused'; readonly status: number; readonly reason: string; readonly claim: Claim };

/** The keys that say who logs in to what; all of them come with the first request (RFC 7143 6.3). */
export function identify(
  request: LoginRequest,
  keys: ReadonlyMap<string, string>,
  mayProve: boolean,
  policy: LoginPolicy,
): Identified {
  const initiatorName = normalizeName(keys.get('InitiatorName') ?? '');
  const claim = { initiatorName, targetName: normalizeName(keys.get('TargetName') ?? '') };
  const refused = (status: number, reason: string): Identified => ({ kind: 'refused', status, reason, claim });
  if (!keys.has('InitiatorName')) return refused(LOGIN_STATUS.missingParameter, 'InitiatorName is missing');
  if (initiatorName === undefined) return refused(LOGIN_STATUS.initiatorError, 'InitiatorName is no iSCSI name');
  const { isid, connectionId, tsih: reinstates } = request;
  // Where anybody has to prove anything it is not said whose sessions there are, before that is done.
  if (reinstates !== 0 && !policy.refusesAlike()) {
    const unfit = whyNotReinstated(policy.sessionOf(reinstates, initiatorName, isid), connectionId);
    if (unfit !== undefined) return refused(unfit.status, unfit.reason);
  }
  const core = { initiatorName, isid, connectionId, reinstates };
  const sessionType = keys.get('SessionType') ?? 'Normal';
  if (sessionType === 'Discovery') {
    const chap = policy.discoveryChap(initiatorName);
    return { kind: 'granted', grant: { identity: { ...core, sessionType: 'discovery' }, chap, conceals: undefined } };
  }
  if (sessionType !== 'Normal') return refused(LOGIN_STATUS.sessionTypeNotSupported, 'the session type is unknown');
  const given = keys.get('TargetName');
  if (given === undefined) return refused(LOGIN_STATUS.missingParameter, 'TargetName is missing');
  const targetName = claim.targetName ?? given;
  const answer = policy.authorize(targetName, initiatorName);
  const granted = (chap: ChapRequirement | undefined, name = targetName, conceals?: string): Identified => ({
    kind: 'granted',
    grant: { identity: { ...core, sessionType: 'normal', targetName: name }, chap, conceals },
  });
  const denied = (status: number, reason: string): Identified => {
    if (mayProve) return granted(unprovable(policy.challenges.random), targetName, reason);
    return refused(policy.refusesAlike() ? LOGIN_STATUS.authenticationFailure : status, reason);
  };
  switch (answer.kind) {
    case 'forbidden':
      return denied(LOGIN_STATUS.authorizationFailure, answer.reason);
    case 'unavailable':
      // Told at the end of the login, when what must be proved is proved.
      if (answer.chap !== undefined) return granted(answer.chap);
      return refused(LOGIN_STATUS.serviceUnavailable, 'the volumes of the target are not open yet');
    case 'not-found':
      return denied(LOGIN_STATUS.notFound, NO_SUCH_TARGET);
    case 'allowed':
      return granted(answer.chap, answer.target.name);
  }
}

/**
 * Why a login cannot take the place of the session's connection (RFC 7143 6.3.4), if it cannot: there is no such session, or it
 * would be a second connection.
 */
export function whyNotReinstated(
  session: Pick<LiveSession, 'connectionId'> | undefined,
  connectionId: number,
): { readonly status: number; readonly reason: string } | undefined {
  if (session === undefined)
    return { status: LOGIN_STATUS.sessionDoesNotExist, reason: 'the initiator has no session with this TSIH' };
  if (session.connectionId !== connectionId)
    return { status: LOGIN_STATUS.tooManyConnections, reason: 'sessions have one connection' };
  return undefined;
}

/** For the log; the peer gets the status. */
export const NO_SUCH_TARGET = 'no such target, or not for this initiator';

/** Whether what a later request says again (libiscsi does) is what the first one has said. */
export function agrees(identity: Identity, request: LoginRequest, keys: ReadonlyMap<string, string>): boolean {
  const initiatorName = keys.get('InitiatorName');
  const targetName = keys.get('TargetName');
  const sessionType = keys.get('SessionType');
  if (request.tsih !== identity.reinstates) return false;
  if (initiatorName !== undefined && normalizeName(initiatorName) !== identity.initiatorName) return false;
  if (sessionType !== undefined && sessionType.toLowerCase() !== identity.sessionType) return false;
  if (targetName === undefined || identity.sessionType === 'discovery') return true;
  return (normalizeName(targetName) ?? targetName) === identity.targetName;
}

export function claimOf(identity: Identity): Claim {
  const { initiatorName } = identity;
  return { initiatorName, targetName: identity.sessionType === 'normal' ? identity.targetName : undefined };
}
