import { createHash, timingSafeEqual } from 'node:crypto';
import type { Random } from '../base/clock.ts';
import { chapResponse, chooseAlgorithm, decodeBinary, encodeBinary } from './chap-values.ts';
import type { ChapAlgorithm } from './chap-values.ts';
import type { ChapRequirement } from './target-registry.ts';
import { parseNumber } from './text.ts';
import type { KeyValue } from './text.ts';

/** Longest CHAP_N (RFC 7143 6.1: a text value has at most 255 bytes). */
const MAX_USER_BYTES = 255;
/** Length of a secret nobody has. */
const DECOY_BYTES = 16;

export const CHAP_KEYS: ReadonlySet<string> = new Set(['CHAP_A', 'CHAP_I', 'CHAP_C', 'CHAP_N', 'CHAP_R']);

/** Where one exchange stands. */
export type ChapState =
  | { readonly kind: 'start' }
  | {
      readonly kind: 'challenged';
      readonly algorithm: ChapAlgorithm;
      readonly identifier: number;
      readonly challenge: Buffer;
    }
  | { readonly kind: 'proved'; readonly mutual: boolean; readonly user: string };

export type ChapStep =
  | { readonly kind: 'went-on'; readonly state: ChapState; readonly text: readonly KeyValue[] }
  /** `guess`: the peer has tried to prove something, and could not. */
  | { readonly kind: 'failed'; readonly reason: string; readonly guess: boolean };

/** The challenges that wait for their responses, over all connections. */
export interface ChallengeBook {
  readonly random: Random;
  issue(challenge: Buffer): void;
  isOutstanding(challenge: Buffer): boolean;
}

/** What nobody can prove: for names that are unknown, so that they are found out as slowly as wrong secrets. */
export function unprovable(random: Random): ChapRequirement {
  return { initiator: { user: '', secret: random.bytes(DECOY_BYTES) }, target: undefined };
}

/**
 * The target's half of CHAP (RFC 7143 12.1.3, RFC 1994): the keys of one login request, and what they lead to. A
 * challenge is good for one answer; the connection ends with a wrong one.
 */
export function chapStep(
  state: ChapState,
  keys: ReadonlyMap<string, string>,
  required: ChapRequirement,
  book: ChallengeBook,
): ChapStep {
  switch (state.kind) {
    case 'start':
      return challengePeer(keys, book);
    case 'challenged':
      return checkAnswer(state, keys, required, book);
    case 'proved':
      return failed('CHAP keys came after CHAP had ended');
  }
}

function challengePeer(keys: ReadonlyMap<string, string>, book: ChallengeBook): ChapStep {
  const offer = keys.get('CHAP_A');
  if (offer === undefined || chapKeyCount(keys) !== 1) return failed('CHAP did not begin with CHAP_A alone');
  const algorithm = chooseAlgorithm(offer);
  if (algorithm === undefined) return failed('none of the CHAP algorithms offered is known');
  const identifier = book.random.bytes(1).readUInt8(0);
  const challenge = book.random.bytes(algorithm.bytes);
  book.issue(challenge);
  return {
    kind: 'went-on',
    state: { kind: 'challenged', algorithm, identifier, challenge },
    text: [
      ['CHAP_A', String(algorithm.number)],
      ['CHAP_I', String(identifier)],
      ['CHAP_C', encodeBinary(challenge, 'hex')],
    ],
  };
}

/** Name and response are compared in full whatever is wrong with either: the answer takes as long. */
function checkAnswer(
  { algorithm, identifier, challenge }: Extract<ChapState, { kind: 'challenged' }>,
  keys: ReadonlyMap<string, string>,
  required: ChapRequirement,
  book: ChallengeBook,
): ChapStep {
  const user = keys.get('CHAP_N');
  const response = decodeBinary(keys.get('CHAP_R') ?? '');
  if (user === undefined || response === undefined || keys.has('CHAP_A'))
    return failed('the challenge was not answered with CHAP_N and CHAP_R');
  if (Buffer.byteLength(user) > MAX_USER_BYTES) return failed('CHAP_N is too long');
  const expected = chapResponse(algorithm, identifier, required.initiator.secret, challenge);
  const rightUser = sameBytes(Buffer.from(user), Buffer.from(required.initiator.user));
  const rightResponse = sameBytes(response.bytes, expected);
  if (!rightUser || !rightResponse || required.initiator.secret.length === 0) {
    const what = rightUser ? 'the CHAP secret is wrong' : 'the CHAP name is unknown';
    return { kind: 'failed', reason: what, guess: true };
  }
  const { target } = required;
  // RFC 7143 9.2.1: with one secret in both directions a peer could have us answer our own challenges.
  if (target !== undefined && sameBytes(target.secret, required.initiator.secret))
    return failed('initiator and target have the same CHAP secret; set another one for one of them');
  const theirIdentifier = keys.get('CHAP_I');
  const theirChallenge = keys.get('CHAP_C');
  if (theirIdentifier === undefined && theirChallenge === undefined)
    return { kind: 'went-on', state: { kind: 'proved', mutual: false, user }, text: [] };
  if (target === undefined || target.secret.length === 0)
    return failed('the initiator wants proof of the target, which has no CHAP secret for it');
  return proveOurselves({ algorithm, challenge, user }, theirIdentifier ?? '', theirChallenge ?? '', target, book);
}

function proveOurselves(
  own: { readonly algorithm: ChapAlgorithm; readonly challenge: Buffer; readonly user: string },
  theirIdentifier: string,
  theirChallenge: string,
  target: { readonly user: string; readonly secret: Buffer },
  book: ChallengeBook,
): ChapStep {
  const identifier = parseNumber(theirIdentifier, 0, 255);
  const challenge = decodeBinary(theirChallenge);
  if (identifier === undefined || challenge === undefined) return failed('the challenge of the initiator is malformed');
  // RFC 7143 9.2.1: "Responders MUST check for this condition and close the iSCSI TCP connection if it occurs."
  if (sameBytes(challenge.bytes, own.challenge) || book.isOutstanding(challenge.bytes))
    return { kind: 'failed', reason: 'the initiator sent a challenge of ours back', guess: true };
  const response = chapResponse(own.algorithm, identifier, target.secret, challenge.bytes);
  return {
    kind: 'went-on',
    state: { kind: 'proved', mutual: true, user: own.user },
    text: [
      ['CHAP_N', target.user],
      ['CHAP_R', encodeBinary(response, challenge.form)],
    ],
  };
}

function chapKeyCount(keys: ReadonlyMap<string, string>): number {
  return [...keys.keys()].filter((key) => CHAP_KEYS.has(key)).length;
}

/** In a time that says nothing about where, or in what length, they differ. */
function sameBytes(a: Buffer, b: Buffer): boolean {
  return timingSafeEqual(createHash('sha256').update(a).digest(), createHash('sha256').update(b).digest());
}

function failed(reason: string): ChapStep {
  return { kind: 'failed', reason, guess: false };
}
