import { LOGIN_STATUS, MAX_LOGIN_REQUESTS, MAX_RECV_BYTES, MAX_TEXT_BYTES, PORTAL_GROUP_TAG } from './constants.ts';
import { normalizeName } from './names.ts';
import type { LoginRequest } from './requests.ts';
import { parseText } from './text.ts';
import type { KeyValue } from './text.ts';
import { DEFAULT_PARAMETERS, REJECTED, negotiateKey, reconcile } from './text-keys.ts';
import type { SessionParameters } from './text-keys.ts';

/** Stages of a login (RFC 7143 6.3). */
const SECURITY = 0;
const OPERATIONAL = 1;
const FULL_FEATURE = 3;

/** Who logs in, to what. */
export type Identity = DiscoveryIdentity | NormalIdentity;

interface IdentityCore {
  /** Normalised. */
  readonly initiatorName: string;
  readonly isid: string;
  readonly connectionId: number;
}

export interface DiscoveryIdentity extends IdentityCore {
  readonly sessionType: 'discovery';
}

export interface NormalIdentity extends IdentityCore {
  readonly sessionType: 'normal';
  /** As the target registry spells it. */
  readonly targetName: string;
}

export type Access =
  | { readonly kind: 'allowed'; readonly targetName: string }
  | { readonly kind: 'not-found' }
  | { readonly kind: 'forbidden'; readonly reason: string };

/** What a login needs to know of the rest of the gateway; answers must not depend on time within one login. */
export interface LoginPolicy {
  /** Whether this initiator may use the target through the portal the connection came in by. */
  authorize(targetName: string, initiatorName: string): Access;
  sessionExists(tsih: number): boolean;
}

/** Where a login stands between two requests. */
export interface LoginState {
  readonly requests: number;
  readonly stage: number;
  readonly identity: Identity | undefined;
  readonly parameters: SessionParameters;
  readonly seenKeys: ReadonlySet<string>;
  readonly maxRecvDeclared: boolean;
  /** Text of requests with the C bit, waiting for the rest. */
  readonly pendingText: Buffer;
}

export const INITIAL_LOGIN: LoginState = {
  requests: 0,
  stage: SECURITY,
  identity: undefined,
  parameters: DEFAULT_PARAMETERS,
  seenKeys: new Set(),
  maxRecvDeclared: false,
  pendingText: Buffer.alloc(0),
};

export interface LoginReply {
  readonly status: number;
  readonly transit: boolean;
  readonly currentStage: number;
  readonly nextStage: number;
  readonly text: readonly KeyValue[];
}

/**
 * What a request leads to: `continue` and `complete` send the reply (a completed login first makes way for the session),
 * `refuse` sends it and drops the connection.
 */
export type LoginStep =
  | { readonly kind: 'continue'; readonly state: LoginState; readonly reply: LoginReply }
  | {
      readonly kind: 'complete';
      readonly identity: Identity;
      readonly parameters: SessionParameters;
      readonly reply: LoginReply;
    }
  | { readonly kind: 'refuse'; readonly reply: LoginReply; readonly reason: string };

/** One request of a login (RFC 7143 6.3, 11.12). Pure: the next state and the reply follow from the arguments alone. */
export function loginStep(state: LoginState, request: LoginRequest, data: Buffer, policy: LoginPolicy): LoginStep {
  const malformed = findMalformed(state, request);
  if (malformed !== undefined) return malformed;
  if (state.pendingText.length + data.length > MAX_TEXT_BYTES)
    return refuse(request, LOGIN_STATUS.initiatorError, 'the login text is too long');
  const gathered = state.pendingText.length === 0 ? data : Buffer.concat([state.pendingText, data]);
  if (request.continued) {
    const next = {
      ...state,
      requests: state.requests + 1,
      stage: request.currentStage,
      pendingText: Buffer.from(gathered),
    };
    return { kind: 'continue', state: next, reply: reply(request, false, []) };
  }
  const pairs = parseText(gathered);
  if (pairs === undefined) return refuse(request, LOGIN_STATUS.initiatorError, 'the login text is malformed');
  const identified = identify(state, request, pairs, policy);
  if (identified.kind === 'refuse') return identified;
  return negotiate(state, request, pairs, identified.identity);
}

/** What is wrong with the fixed fields of the request, if anything. */
function findMalformed(state: LoginState, request: LoginRequest): LoginStep | undefined {
  const { currentStage, nextStage, transit, continued } = request;
  const wrong = (reason: string, status: number = LOGIN_STATUS.initiatorError): LoginStep =>
    refuse(request, status, reason);
  if (request.versionMin > 0) return wrong('no common version', LOGIN_STATUS.unsupportedVersion);
  if (state.requests >= MAX_LOGIN_REQUESTS) return wrong('the login does not come to an end');
  if (currentStage !== SECURITY && currentStage !== OPERATIONAL) return wrong('the current stage is invalid');
  // A login may start in either stage, stays in it or goes on, never back.
  if (state.requests > 0 && currentStage !== state.stage) return wrong('the stage is not the agreed one');
  if (transit && continued) return wrong('a continued request cannot transit');
  if (transit && !(nextStage > currentStage && (nextStage === OPERATIONAL || nextStage === FULL_FEATURE)))
    return wrong('the next stage is invalid');
  const { identity } = state;
  if (identity !== undefined && (identity.isid !== request.isid || identity.connectionId !== request.connectionId))
    return wrong('the ISID or CID changed during the login');
  return undefined;
}

type Identified = { readonly kind: 'identified'; readonly identity: Identity } | Extract<LoginStep, { kind: 'refuse' }>;

/** The keys that say who logs in to what; all of them come with the first request (RFC 7143 6.3). */
function identify(
  state: LoginState,
  request: LoginRequest,
  pairs: readonly KeyValue[],
  policy: LoginPolicy,
): Identified {
  const keys = new Map(pairs);
  if (state.identity !== undefined) {
    return agrees(state.identity, keys)
      ? { kind: 'identified', identity: state.identity }
      : refuse(request, LOGIN_STATUS.initiatorError, 'the names changed during the login');
  }
  const given = keys.get('InitiatorName');
  if (given === undefined) return refuse(request, LOGIN_STATUS.missingParameter, 'InitiatorName is missing');
  const initiatorName = normalizeName(given);
  if (initiatorName === undefined)
    return refuse(request, LOGIN_STATUS.initiatorError, 'InitiatorName is no iSCSI name');
  if (request.tsih !== 0) {
    // One connection a session: a login into an existing one has no place left.
    return policy.sessionExists(request.tsih)
      ? refuse(request, LOGIN_STATUS.tooManyConnections, 'sessions have one connection')
      : refuse(request, LOGIN_STATUS.sessionDoesNotExist, 'no session has this TSIH');
  }
  const core = { initiatorName, isid: request.isid, connectionId: request.connectionId };
  const sessionType = keys.get('SessionType') ?? 'Normal';
  if (sessionType === 'Discovery') return { kind: 'identified', identity: { ...core, sessionType: 'discovery' } };
  if (sessionType !== 'Normal')
    return refuse(request, LOGIN_STATUS.sessionTypeNotSupported, 'the session type is unknown');
  const targetName = keys.get('TargetName');
  if (targetName === undefined) return refuse(request, LOGIN_STATUS.missingParameter, 'TargetName is missing');
  const access = policy.authorize(normalizeName(targetName) ?? targetName, initiatorName);
  if (access.kind === 'not-found') return refuse(request, LOGIN_STATUS.notFound, 'no such target');
  if (access.kind === 'forbidden')
    return refuse(request, LOGIN_STATUS.authorizationFailure, 'the initiator may not use the target here');
  return { kind: 'identified', identity: { ...core, sessionType: 'normal', targetName: access.targetName } };
}

/** Whether what a later request says again (libiscsi does) is what the first one has said. */
function agrees(identity: Identity, keys: ReadonlyMap<string, string>): boolean {
  const initiatorName = keys.get('InitiatorName');
  const targetName = keys.get('TargetName');
  const sessionType = keys.get('SessionType');
  if (initiatorName !== undefined && normalizeName(initiatorName) !== identity.initiatorName) return false;
  if (sessionType !== undefined && sessionType.toLowerCase() !== identity.sessionType) return false;
  if (targetName === undefined || identity.sessionType === 'discovery') return true;
  return (normalizeName(targetName) ?? targetName) === identity.targetName;
}

/** Keys that are read elsewhere, or mere information. */
const UNANSWERED_KEYS: ReadonlySet<string> = new Set(['InitiatorName', 'InitiatorAlias', 'TargetName', 'SessionType']);

/** Answers every offered key, and transits when asked to. */
function negotiate(
  state: LoginState,
  request: LoginRequest,
  pairs: readonly KeyValue[],
  identity: Identity,
): LoginStep {
  const phase = identity.sessionType === 'discovery' ? 'discovery-login' : 'login';
  const seenKeys = new Set(state.seenKeys);
  const text: KeyValue[] = [];
  let parameters = state.parameters;
  if (state.identity === undefined && identity.sessionType === 'normal')
    text.push(['TargetPortalGroupTag', String(PORTAL_GROUP_TAG)]); // in the first response: EFI clients insist
  for (const [key, value] of pairs) {
    // libiscsi says who it is in each stage; that this does not change is seen to elsewhere.
    if (UNANSWERED_KEYS.has(key)) continue;
    if (seenKeys.has(key)) return refuse(request, LOGIN_STATUS.initiatorError, `${key} is negotiated twice`);
    seenKeys.add(key);
    if (key === 'AuthMethod') {
      if (!value.split(',').includes('None'))
        return refuse(request, LOGIN_STATUS.authenticationFailure, 'no common authentication method');
      text.push([key, request.currentStage === SECURITY ? 'None' : REJECTED]);
      continue;
    }
    const outcome = negotiateKey(key, value, phase);
    if (key === 'MaxRecvDataSegmentLength' && outcome.reply !== undefined)
      return refuse(request, LOGIN_STATUS.initiatorError, `${key} is out of range`);
    parameters = { ...parameters, ...outcome.settled };
    if (outcome.reply !== undefined) text.push([key, outcome.reply]);
  }
  const declares = request.currentStage === OPERATIONAL && !state.maxRecvDeclared;
  if (declares) text.push(['MaxRecvDataSegmentLength', String(MAX_RECV_BYTES)]);
  const answer = reply(request, request.transit, text);
  if (request.transit && request.nextStage === FULL_FEATURE)
    return { kind: 'complete', identity, parameters: reconcile(parameters), reply: answer };
  return {
    kind: 'continue',
    reply: answer,
    state: {
      requests: state.requests + 1,
      stage: request.transit ? request.nextStage : request.currentStage,
      identity,
      parameters,
      seenKeys,
      maxRecvDeclared: state.maxRecvDeclared || declares,
      pendingText: Buffer.alloc(0),
    },
  };
}

function reply(request: LoginRequest, transit: boolean, text: readonly KeyValue[]): LoginReply {
  return {
    status: LOGIN_STATUS.success,
    transit,
    currentStage: request.currentStage,
    nextStage: request.nextStage,
    text,
  };
}

function refuse(request: LoginRequest, status: number, reason: string): Extract<LoginStep, { kind: 'refuse' }> {
  const { currentStage, nextStage } = request;
  return { kind: 'refuse', reason, reply: { status, transit: false, currentStage, nextStage, text: [] } };
}
