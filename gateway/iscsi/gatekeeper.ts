import type { Log } from '../base/log.ts';
import type { Random } from '../base/clock.ts';
import type { ChallengeBook } from './chap.ts';
import { LOGIN_STATUS } from './constants.ts';
import type { Claim, Identity, LoginPolicy } from './login-identity.ts';
import { RefusalReport } from './refusals.ts';
import type { Session } from './session.ts';
import { LOGOUT } from './session.ts';
import type { ChapRequirement, IscsiTarget, Proof, TargetRegistry } from './target-registry.ts';

/** Where a connection comes from, and by which portal. */
export interface Peer {
  /** Normalised. */
  readonly address: string;
  readonly port: number;
  /** Normalised local address. */
  readonly portal: string;
}

/** On what a session was let in. */
export interface Admission {
  readonly identity: Identity;
  readonly proof: Proof;
  /** What had to be proved. */
  readonly proved: ChapRequirement | undefined;
}

export type Verdict =
  | { readonly kind: 'granted'; readonly target: IscsiTarget | undefined }
  | { readonly kind: 'refused'; readonly status: number; readonly reason: string };

interface GatekeeperDeps {
  readonly log: Log;
  readonly random: Random;
  readonly targets: TargetRegistry;
}

/** The challenges of one connection, until it is closed. */
export interface OwnChallenges extends ChallengeBook {
  close(): void;
}

/** Between logins and the registry: who may come in, whether they may stay, and word of both to the audit log. */
export class Gatekeeper {
  readonly #deps: GatekeeperDeps;
  readonly #refusals: RefusalReport;
  /** Challenges of all connections: one that comes back as a peer's own is a reflection (RFC 7143 9.2.1). */
  readonly #outstanding = new Set<string>();

  constructor(deps: GatekeeperDeps) {
    this.#deps = deps;
    this.#refusals = new RefusalReport((event) => {
      const { initiator, target, status, reason, count } = event;
      deps.log.info(
        { peer: initiator.address, initiator: initiator.name, target, status, reason, count },
        'login refused',
      );
      deps.targets.onEvent(event);
    });
  }

  challengesOf(): OwnChallenges {
    const own = new Set<string>();
    return {
      random: this.#deps.random,
      issue: (challenge) => {
        const key = challenge.toString('hex');
        own.add(key);
        this.#outstanding.add(key);
      },
      isOutstanding: (challenge) => this.#outstanding.has(challenge.toString('hex')),
      close: () => {
        for (const key of own) this.#outstanding.delete(key);
      },
    };
  }

  policyFor({ address, portal }: Peer, challenges: ChallengeBook, sessionOf: LoginPolicy['sessionOf']): LoginPolicy {
    const { targets } = this.#deps;
    return {
      authorize: (targetName, name) => targets.authorize(targetName, { name, address }, portal),
      refusesAlike: () => targets.demandsProof?.() ?? false,
      discoveryChap: (name) => targets.discoveryChap({ name, address }),
      sessionOf,
      challenges,
    };
  }

  /**
   * Whether a login that was let in on these terms would be let in now. Credentials that have changed since are no
   * proof any more: whoever has the old ones must not stay.
   */
  judge({ identity, proved }: Admission, { address, portal }: Peer): Verdict {
    const { targets } = this.#deps;
    const initiator = { name: identity.initiatorName, address };
    if (identity.sessionType === 'discovery')
      return isProved(targets.discoveryChap(initiator), proved) ? { kind: 'granted', target: undefined } : UNPROVED;
    const answer = targets.authorize(identity.targetName, initiator, portal);
    switch (answer.kind) {
      case 'not-found':
        return { kind: 'refused', status: LOGIN_STATUS.notFound, reason: 'the initiator has lost the target' };
      case 'unavailable':
        return {
          kind: 'refused',
          status: LOGIN_STATUS.serviceUnavailable,
          reason: 'the volumes of the target are closed',
        };
      case 'forbidden':
        return { kind: 'refused', status: LOGIN_STATUS.authorizationFailure, reason: answer.reason };
      case 'allowed':
        return isProved(answer.chap, proved) ? { kind: 'granted', target: answer.target } : UNPROVED;
    }
  }

  refused(peer: Peer, claim: Claim, status: number, reason: string): void {
    this.#refusals.add({
      kind: 'login-refused',
      initiator: { name: claim.initiatorName, address: peer.address },
      target: claim.targetName,
      portal: peer.portal,
      status: status.toString(16).padStart(4, '0'),
      reason,
    });
  }

  loggedIn(peer: Peer, session: Session, proof: Proof): void {
    this.#deps.targets.onEvent({ kind: 'login', ...eventCore(peer, session), proof });
  }

  ended(peer: Peer, session: Session, reason: string): void {
    const core = eventCore(peer, session);
    this.#deps.targets.onEvent(
      reason === LOGOUT ? { kind: 'logout', ...core } : { kind: 'session-ended', ...core, reason },
    );
  }

  /** Once a second. */
  tick(): void {
    this.#refusals.tick();
  }

  end(): void {
    this.#refusals.end();
  }
}

const UNPROVED: Verdict = {
  kind: 'refused',
  status: LOGIN_STATUS.authenticationFailure,
  reason: 'the credentials have changed',
};

function isProved(required: ChapRequirement | undefined, proved: ChapRequirement | undefined): boolean {
  if (required === undefined) return true;
  const { user, secret } = required.initiator;
  return proved?.initiator.user === user && proved.initiator.secret.equals(secret);
}

function eventCore({ address, portal }: Peer, { identity, tsih, target }: Session) {
  return {
    initiator: { name: identity.initiatorName, address },
    target: target?.name,
    portal,
    tsih,
    discovery: identity.sessionType === 'discovery',
  };
}
