import { CHAP_KEYS, chapStep } from './chap.ts';
import type { ChapState } from './chap.ts';
import { LOGIN_STATUS, MAX_LOGIN_BYTES, MAX_LOGIN_REQUESTS, MAX_RECV_BYTES, MAX_TEXT_BYTES } from './constants.ts';
import { PORTAL_GROUP_TAG } from './constants.ts';
import { agrees, claimOf, identify } from './login-identity.ts';
import type { Claim, Grant, Identity, LoginPolicy } from './login-identity.ts';
import type { LoginRequest } from './requests.ts';
import type { ChapRequirement, Proof } from './target-registry.ts';
import { parseText } from './text.ts';
import type { KeyValue } from './text.ts';
import { DEFAULT_PARAMETERS, REJECTED, negotiateKey, reconcile } from './text-keys.ts';
import type { SessionParameters } from './text-keys.ts';

/** Stages of a login (RFC 7143 6.3). */
const SECURITY = 0;
const OPERATIONAL = 1;
const FULL_FEATURE = 3;

/** What has been agreed on of authentication: nothing yet, that there is none, or CHAP and how far it is. */
type Authentication =
  { readonly kind: 'open' } | { readonly kind: 'none' } | { readonly kind: 'chap'; readonly exchange: ChapState };

/** Where a login stands between two requests. */
export interface LoginState {
  readonly requests: number;
  readonly bytes: number;
  readonly stage: number;
  readonly grant: Grant | undefined;
  readonly authentication: Authentication;
  readonly parameters: SessionParameters;
  readonly seenKeys: ReadonlySet<string>;
  readonly maxRecvDeclared: boolean;
  /** Text of requests with the C bit, waiting for the rest. */
  readonly pendingText: Buffer;
}

export const INITIAL_LOGIN: LoginState = {
  requests: 0,
  bytes: 0,
  stage: SECURITY,
  grant: undefined,
  authentication: { kind: 'open' },
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
      readonly proof: Proof;
      /** What was proved; undefined when nothing had to be. */
      readonly proved: ChapRequirement | undefined;
      readonly reply: LoginReply;
    }
  | {
      readonly kind: 'refuse';
      readonly reply: LoginReply;
      /** For the log; the peer learns no more than the status. */
      readonly reason: string;
      readonly claim: Claim;
      /** The peer gave a wrong proof of itself. */
      readonly guess: boolean;
    };

type Refusal = Extract<LoginStep, { kind: 'refuse' }>;

/** Whether the next request may be the answer to a challenge: the moment at which guessing is slowed down. */
export function awaitsProof(state: LoginState): boolean {
  return state.authentication.kind === 'chap' && state.authentication.exchange.kind === 'challenged';
}

/**
 * One request of a login (RFC 7143 6.3, 11.12). The next state and the reply follow from the arguments alone, but for
 * the challenges.
 */
export function loginStep(state: LoginState, request: LoginRequest, data: Buffer, policy: LoginPolicy): LoginStep {
  const malformed = findMalformed(state, request, data.length);
  if (malformed !== undefined) return refuse(state, request, malformed.status, malformed.reason);
  const gathered = state.pendingText.length === 0 ? data : Buffer.concat([state.pendingText, data]);
  const counted = { ...state, requests: state.requests + 1, bytes: state.bytes + data.length };
  if (request.continued) {
    const next = { ...counted, stage: request.currentStage, pendingText: Buffer.from(gathered) };
    return { kind: 'continue', state: next, reply: reply(request, false, []) };
  }
  const pairs = parseText(gathered);
  if (pairs === undefined) return refuse(state, request, LOGIN_STATUS.initiatorError, 'the login text is malformed');
  const keys = new Map(pairs);
  const { grant } = state;
  if (grant !== undefined) {
    return agrees(grant.identity, request, keys)
      ? negotiate(counted, request, pairs, grant, policy)
      : refuse(state, request, LOGIN_STATUS.initiatorError, 'the names or the TSIH changed during the login');
  }
  const identified = identify(request, keys, mayProve(request, keys.get('AuthMethod'), policy), policy);
  if (identified.kind === 'refused')
    return refuse(state, request, identified.status, identified.reason, identified.claim);
  return negotiate(
    { ...counted, parameters: parametersOf(identified.grant.identity, policy) },
    request,
    pairs,
    identified.grant,
    policy,
  );
}

/** What holds before anything is negotiated: of a session that goes on, all that is not its connection's own. */
function parametersOf({ reinstates, initiatorName, isid }: Identity, policy: LoginPolicy): SessionParameters {
  const session = reinstates === 0 ? undefined : policy.sessionOf(reinstates, initiatorName, isid);
  const { headerDigest, dataDigest, initiatorMaxRecvBytes } = DEFAULT_PARAMETERS;
  return session === undefined
    ? DEFAULT_PARAMETERS
    : { ...session.parameters, headerDigest, dataDigest, initiatorMaxRecvBytes };
}

/** What is wrong with the fixed fields of the request, if anything. */
function findMalformed(
  state: LoginState,
  request: LoginRequest,
  bytes: number,
): { readonly status: number; readonly reason: string } | undefined {
  const { currentStage, nextStage, transit, continued } = request;
  const wrong = (reason: string, status: number = LOGIN_STATUS.initiatorError) => ({ status, reason });
  if (request.versionMin > 0) return wrong('no common version', LOGIN_STATUS.unsupportedVersion);
  if (state.requests >= MAX_LOGIN_REQUESTS || state.bytes + bytes > MAX_LOGIN_BYTES)
    return wrong('the login does not come to an end');
  if (currentStage !== SECURITY && currentStage !== OPERATIONAL) return wrong('the current stage is invalid');
  // A login may start in either stage, stays in it or goes on, never back.
  if (state.requests > 0 && currentStage !== state.stage) return wrong('the stage is not the agreed one');
  if (transit && continued) return wrong('a continued request cannot transit');
  if (transit && !(nextStage > currentStage && (nextStage === OPERATIONAL || nextStage === FULL_FEATURE)))
    return wrong('the next stage is invalid');
  const identity = state.grant?.identity;
  if (identity !== undefined && (identity.isid !== request.isid || identity.connectionId !== request.connectionId))
    return wrong('the ISID or CID changed during the login');
  if (state.pendingText.length + bytes > MAX_TEXT_BYTES) return wrong('the login text is too long');
  return undefined;
}

/** Keys that are read elsewhere, or mere information. */
const UNANSWERED_KEYS: ReadonlySet<string> = new Set(['InitiatorName', 'InitiatorAlias', 'TargetName', 'SessionType']);

/** Answers every offered key, and transits when asked to and when the peer has proved what it must. */
function negotiate(
  state: LoginState,
  request: LoginRequest,
  pairs: readonly KeyValue[],
  grant: Grant,
  policy: LoginPolicy,
): LoginStep {
  const { identity } = grant;
  const refused = (status: number, reason: string, guess = false): Refusal =>
    refuse(state, request, status, reason, claimOf(identity), guess);
  const authenticated = authenticate(state, request, new Map(pairs), grant, policy);
  if (authenticated.kind === 'refused') return refused(authenticated.status, authenticated.reason, authenticated.guess);
  const { authentication } = authenticated;

  const phase = identity.sessionType === 'discovery' ? 'discovery-login' : 'login';
  const seenKeys = new Set(state.seenKeys);
  const text: KeyValue[] = [];
  let parameters = state.parameters;
  if (state.grant === undefined && identity.sessionType === 'normal')
    text.push(['TargetPortalGroupTag', String(PORTAL_GROUP_TAG)]); // in the first response: EFI clients insist
  text.push(...authenticated.text);
  for (const [key, value] of pairs) {
    // libiscsi says who it is in each stage; that this does not change is seen to elsewhere.
    if (UNANSWERED_KEYS.has(key) || CHAP_KEYS.has(key)) continue;
    if (seenKeys.has(key)) return refused(LOGIN_STATUS.initiatorError, `${key} is negotiated twice`);
    seenKeys.add(key);
    if (key === 'AuthMethod') continue;
    const outcome = negotiateKey(key, value, phase);
    if (key === 'MaxRecvDataSegmentLength' && outcome.reply !== undefined)
      return refused(LOGIN_STATUS.initiatorError, `${key} is out of range`);
    parameters = { ...parameters, ...outcome.settled };
    if (outcome.reply !== undefined) text.push([key, outcome.reply]);
  }
  const declares = request.currentStage === OPERATIONAL && !state.maxRecvDeclared;
  if (declares) text.push(['MaxRecvDataSegmentLength', String(MAX_RECV_BYTES)]);
  // While something remains to be proved the target keeps the stage (RFC 7143 6.3.2).
  const proof = proofOf(authentication, grant);
  const transit = request.transit && proof !== undefined;
  const answer = reply(request, transit, text);
  if (transit && request.nextStage === FULL_FEATURE)
    return {
      kind: 'complete',
      identity,
      parameters: reconcile(parameters),
      proof,
      proved: grant.chap,
      reply: answer,
    };
  return {
    kind: 'continue',
    reply: answer,
    state: {
      ...state,
      stage: transit ? request.nextStage : request.currentStage,
      grant,
      authentication,
      parameters,
      seenKeys,
      maxRecvDeclared: state.maxRecvDeclared || declares,
      pendingText: Buffer.alloc(0),
    },
  };
}

type Authenticated =
  | { readonly kind: 'went-on'; readonly authentication: Authentication; readonly text: readonly KeyValue[] }
  | { readonly kind: 'refused'; readonly status: number; readonly reason: string; readonly guess: boolean };

/** AuthMethod (RFC 7143 12.1) and the keys of CHAP. */
function authenticate(
  state: LoginState,
  request: LoginRequest,
  keys: ReadonlyMap<string, string>,
  grant: Grant,
  policy: LoginPolicy,
): Authenticated {
  const text: KeyValue[] = [];
  const method = keys.get('AuthMethod');
  let { authentication } = state;
  const inSecurity = request.currentStage === SECURITY;
  if (method !== undefined && !inSecurity) {
    text.push(['AuthMethod', REJECTED]);
  } else if (method !== undefined && authentication.kind === 'open') {
    const chosen = grant.chap === undefined ? 'None' : 'CHAP';
    if (!method.split(',').includes(chosen))
      return unproved(grant, `the initiator does not offer AuthMethod ${chosen}`);
    authentication = chosen === 'None' ? { kind: 'none' } : { kind: 'chap', exchange: { kind: 'start' } };
    text.push(['AuthMethod', chosen]);
  }
  if ([...CHAP_KEYS].some((key) => keys.has(key))) {
    if (authentication.kind !== 'chap' || grant.chap === undefined || !inSecurity) {
      const reason = 'CHAP keys came where CHAP was not agreed on';
      return { kind: 'refused', status: LOGIN_STATUS.initiatorError, reason, guess: false };
    }
    const step = chapStep(authentication.exchange, keys, grant.chap, policy.challenges);
    if (step.kind === 'failed') {
      const reason = grant.conceals ?? step.reason;
      return { kind: 'refused', status: LOGIN_STATUS.authenticationFailure, reason, guess: step.guess };
    }
    authentication = { kind: 'chap', exchange: step.state };
    text.push(...step.text);
  } else if (authentication.kind === 'chap' && authentication.exchange.kind === 'challenged') {
    return unproved(grant, 'the challenge was not answered');
  }
  const avoids = !inSecurity || (request.transit && authentication.kind !== 'chap');
  if (avoids && proofOf(authentication, grant) === undefined)
    return unproved(grant, 'the initiator goes on without the authentication it needs');
  return { kind: 'went-on', authentication, text };
}

/** What the initiator has proved, once that is enough. */
function proofOf(authentication: Authentication, { chap }: Grant): Proof | undefined {
  if (chap === undefined) return { kind: 'none' };
  if (authentication.kind !== 'chap' || authentication.exchange.kind !== 'proved') return undefined;
  const { mutual, user } = authentication.exchange;
  return { kind: mutual ? 'mutual-chap' : 'chap', user };
}

/** One that offered CHAP to a target that is not there, and then goes on without, is told what all others are. */
function unproved({ conceals }: Grant, reason: string): Authenticated {
  return { kind: 'refused', status: LOGIN_STATUS.authenticationFailure, reason: conceals ?? reason, guess: false };
}

/** Whether CHAP may come; who leaves AuthMethod out at first must not learn any more from that either. */
function mayProve(request: LoginRequest, method: string | undefined, policy: LoginPolicy): boolean {
  if (request.currentStage !== SECURITY) return false;
  return method === undefined ? !request.transit && policy.refusesAlike() : offersChap(method);
}

function offersChap(method: string): boolean {
  return method.split(',').includes('CHAP');
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

const NOBODY: Claim = { initiatorName: undefined, targetName: undefined };

function refuse(
  state: LoginState,
  request: LoginRequest,
  status: number,
  reason: string,
  claim: Claim = state.grant === undefined ? NOBODY : claimOf(state.grant.identity),
  guess = false,
): Refusal {
  const { currentStage, nextStage } = request;
  return {
    kind: 'refuse',
    reason,
    claim,
    guess,
    reply: { status, transit: false, currentStage, nextStage, text: [] },
  };
}
