import type { BlockDevice } from '../base/block-device.ts';
import type { Random } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  isLoopbackAddress,
  type AccessEvent,
  type Authorization,
  type ChapRequirement,
  type Initiator,
  type IscsiTarget,
  type MappedLun,
  type OpenPortal,
  type ReachedLun,
  type TargetRegistry,
} from '../iscsi/target-registry.ts';
import type { UnitStateStore } from '../scsi/unit-state.ts';
import { addressMatcher } from './address.ts';
import type { AuditLog } from './audit-log.ts';
import type { AccessDocument, Chap } from './document.ts';
import type { AdoptedVolume } from './part.ts';
import { accessProblems } from './problems.ts';
import { reachedLuns } from './reach.ts';
import { ANY_INITIATOR, chapFor, DISCOVERY, hasCredentials, isSameAccess, type Shadowed } from './resolve.ts';
import { type Offer, type ResolvedTarget, resolveTargets, whyRefused } from './resolved-targets.ts';
import type { SecretBox } from './secret-box.ts';

/** What access control asks of the target server. */
export interface SessionKeeper {
  sessions(): readonly LiveSession[];
  /** The volume is offered from now on: what its logical unit has under way goes on, whether an initiator comes or not. */
  offered(lun: MappedLun): void;
  /**
   * Every session is judged again; resolves when no command can reach a LUN any more that its initiator has lost, and nothing of those
   * `mapped` is reserved by one who reaches it no more.
   */
  accessChanged(mapped?: readonly ReachedLun[]): Promise<void>;
}

interface LiveSession {
  readonly initiatorName: string;
  readonly targetName: string | undefined;
  /** address:port */
  readonly peer: string;
  /** Normalised address of the portal it came by. */
  readonly portal: string;
  readonly tsih: number;
}

/** The document that is in force, where access is decided: the gateway's own (AccessBook), or another thread's copy of it. */
export interface AccessInForce {
  readonly document: AccessDocument;
  /** Called after every change, in the same turn in which it takes effect. */
  onChange(listener: (document: AccessDocument) => void): void;
  /** What the logical unit of the volume (by identifier) keeps; durable when it resolves. See UnitStateStore.save. */
  saveUnitState(volume: string, state: string): Promise<void>;
}

export interface AccessControlDeps {
  readonly book: AccessInForce;
  readonly secrets: Pick<SecretBox, 'canUnwrap' | 'unwrap'>;
  readonly audit: Pick<AuditLog, 'note' | 'session'>;
  readonly log: Log;
  readonly random: Random;
  /** Resolves when the table has what is in force of the volume (by identifier), see AccessSync; without it nobody waits for that. */
  readonly mirrored?: (volume: string) => Promise<void>;
}

const NOTHING: ReadonlyMap<number, MappedLun> = new Map();
const NO_PORTALS: readonly OpenPortal[] = [];

/**
 * Who may use what: answers the target server from memory. A volume is open to everybody on loopback portals until the first map; from then
 * on only its maps count. What is not mapped for an initiator does not exist for it.
 */
export class AccessControl implements TargetRegistry {
  readonly #deps: AccessControlDeps;
  readonly #offers = new Map<string, Offer>();
  /** Volumes that are being opened. */
  readonly #expected = new Set<string>();
  /** One object a target and kind of portal, for as long as this gateway runs; bounded by the names that ever had a LUN. */
  readonly #targets = new Map<string, MaskedTarget>();
  #resolved: ReadonlyMap<string, ResolvedTarget> = new Map();
  #contested: readonly Shadowed[] = [];
  #apart: readonly Shadowed[] = [];
  /** Where other threads serve their volumes. */
  readonly #portals = new Map<number, readonly OpenPortal[]>();
  #requirements = new Map<Chap, ChapRequirement | { readonly problem: string }>();
  #document: AccessDocument;
  #demandsProof: boolean;
  #keeper: SessionKeeper | undefined;
  #judging: Promise<unknown> = Promise.resolve();
  generation = 0;

  constructor(deps: AccessControlDeps) {
    this.#deps = deps;
    this.#document = deps.book.document;
    this.#demandsProof = hasCredentials(this.#document);
    deps.book.onChange((document) => {
      this.#documentChanged(document);
    });
  }

  /** The server is made from the registry, so it is told afterwards. */
  servedBy(keeper: SessionKeeper): void {
    this.#keeper = keeper;
  }

  /** The volume is being opened, until the answer is called. */
  expect(volume: string): () => void {
    this.#expected.add(volume);
    return () => {
      this.#expected.delete(volume);
    };
  }

  /** From now on initiators see the volume, as far as they may. */
  offer(volume: AdoptedVolume, device: BlockDevice): void {
    const before = this.#seenBySessions();
    const state = this.#unitState(volume.volume);
    const writable = { device, readOnly: false, state };
    const luns = { writable, readOnly: { device, readOnly: true, state } };
    this.#offers.set(volume.volume, { volume, thread: undefined, luns });
    this.#keeper?.offered(writable);
    this.#follow(before);
    this.#judgeAgain();
  }

  /** The same for a volume whose device another thread has: its initiators are told to go there. */
  offerElsewhere(volume: AdoptedVolume, thread: number): void {
    const before = this.#seenBySessions();
    this.#offers.set(volume.volume, { volume, thread, luns: undefined });
    this.#follow(before);
    this.#judgeAgain();
  }

  /** Where that thread serves its volumes, from now on. */
  servedAt(thread: number, portals: readonly OpenPortal[]): void {
    this.#portals.set(thread, portals);
  }

  /** An offered volume of this thread, by its name. */
  offered(name: string): MappedLun | undefined {
    return [...this.#offers.values()].find(({ volume }) => volume.name === name)?.luns?.writable;
  }

  /** Takes it away; resolves when no write of an initiator can land in it any more. */
  async withdraw(volume: string): Promise<void> {
    const before = this.#seenBySessions();
    if (!this.#offers.delete(volume)) return;
    this.#follow(before);
    await this.#keeper?.accessChanged();
  }

  /** Resolves when no write can land any more that what has been changed so far does not allow. */
  async enforced(): Promise<void> {
    await this.#judging;
  }

  /** Sessions that see the volume. */
  sessions(volume: string): number {
    return (this.#keeper?.sessions() ?? []).filter((session) => this.volumesOf(session).includes(volume)).length;
  }

  /** Identifiers of the volumes a session sees. */
  volumesOf({ initiatorName, targetName, peer, portal }: LiveSession): readonly string[] {
    if (targetName === undefined) return [];
    return this.#volumesAt(targetName, { name: initiatorName, address: addressOf(peer) }, portal);
  }

  /** At most one a LUN. */
  #volumesAt(targetName: string, initiator: Initiator, portalAddress: string): readonly string[] {
    const target = this.#resolved.get(targetName);
    const mapped = (target?.byInitiator.get(initiator.name) ?? []).filter((map) => map.matches(initiator.address));
    const volumes = mapped.map((map) => map.part.volume);
    const { open } = target ?? {};
    const seesOpen = isLoopbackAddress(portalAddress) && !mapped.some((map) => map.lun === 0);
    return open === undefined || !seesOpen ? volumes : [...volumes, open.volume.volume];
  }

  authorize(targetName: string, initiator: Initiator, portalAddress: string): Authorization {
    const target = this.#visible(targetName, initiator, portalAddress);
    const expected =
      target === undefined ? this.#expectedWith(targetName, initiator, portalAddress) : { chap: undefined };
    if (expected === undefined) return { kind: 'not-found' };
    const chap = target === undefined ? expected.chap : this.#requirement(initiator, targetName);
    const requirement = chap === undefined ? undefined : this.#unwrapped(chap.chap, initiator.name, chap.boundTo);
    if (requirement !== undefined && 'problem' in requirement)
      return { kind: 'forbidden', reason: requirement.problem };
    return target === undefined
      ? { kind: 'unavailable', chap: requirement }
      : { kind: 'allowed', target, chap: requirement };
  }

  demandsProof(): boolean {
    return this.#demandsProof;
  }

  *discover(initiator: Initiator, portalAddress: string): Iterable<IscsiTarget> {
    for (const name of this.#resolved.keys()) {
      const target = this.#visible(name, initiator, portalAddress);
      if (target !== undefined) yield target;
    }
  }

  discoveryChap(initiator: Initiator): ChapRequirement | undefined {
    const { discovery } = this.#document;
    const entry =
      discovery.find((each) => each.initiator === initiator.name) ??
      discovery.find((each) => each.initiator === undefined);
    if (entry === undefined) return undefined;
    const requirement = this.#unwrapped(entry.chap, entry.initiator ?? ANY_INITIATOR, DISCOVERY);
    if (!('problem' in requirement)) return requirement;
    // What nobody knows nobody can prove.
    this.#deps.log.error({ problem: requirement.problem }, 'no discovery session can authenticate');
    return { initiator: { user: entry.chap.user, secret: this.#deps.random.bytes(32) }, target: undefined };
  }

  onEvent(event: AccessEvent): void {
    const { audit } = this.#deps;
    if (event.kind === 'login' && event.target !== undefined && event.initiator.name !== undefined) {
      const { name, address } = event.initiator;
      const ids = this.#volumesAt(event.target, { name, address }, event.portal);
      audit.session(event, { volumes: ids.map((id) => this.#nameOf(id)), ids });
      return;
    }
    const why = event.kind === 'login-refused' ? whyRefused(this.#document, this.#resolved, event) : undefined;
    audit.session(event, why === undefined ? {} : { why });
  }

  /** Names of the targets that have something open at this moment that somebody may use at portals of this kind. */
  *announced(loopback: boolean): Iterable<string> {
    for (const [name, { byInitiator }] of this.#resolved) if (loopback || byInitiator.size > 0) yield name;
  }

  /** What this initiator sees at a target through portals of a kind. */
  lunsOf(name: string, loopback: boolean, initiator: Initiator): ReadonlyMap<number, MappedLun> {
    const target = this.#resolved.get(name);
    if (target === undefined) return NOTHING;
    const luns = new Map<number, MappedLun>();
    const open = loopback ? target.open?.luns : undefined;
    if (open !== undefined) luns.set(0, open.writable);
    for (const { mapped, lun, matches } of target.byInitiator.get(initiator.name) ?? []) {
      if (mapped !== undefined && matches(initiator.address)) luns.set(lun, mapped);
    }
    return luns;
  }

  /** Where another thread serves the target; undefined: it is served here. */
  portalsOf(name: string): readonly OpenPortal[] | undefined {
    const thread = this.#resolved.get(name)?.thread;
    return thread === undefined ? undefined : (this.#portals.get(thread) ?? NO_PORTALS);
  }

  /** Sentences about what keeps somebody out, for status and doctor. */
  problems(): readonly string[] {
    return accessProblems(this.#document, this.#deps.secrets, this.#contested, this.#apart);
  }

  /** Maps that do not count at present, because a volume that was here before asks for another credential at their target. */
  contested(): readonly Shadowed[] {
    return this.#contested;
  }

  /** Maps that do not count at present, because their target is served by another thread than their volume's. */
  apart(): readonly Shadowed[] {
    return this.#apart;
  }

  /** Keys were imported: what could not be read may be now. */
  keysChanged(): void {
    this.#requirements = new Map();
    this.#judgeAgain();
  }

  #visible(name: string, initiator: Initiator, portalAddress: string): MaskedTarget | undefined {
    const resolved = this.#resolved.get(name);
    if (resolved === undefined) return undefined;
    const loopback = isLoopbackAddress(portalAddress);
    const isSeen =
      (loopback && resolved.open !== undefined) ||
      resolved.byInitiator.get(initiator.name)?.some((map) => map.matches(initiator.address)) === true;
    return isSeen ? this.#target(name, loopback) : undefined;
  }

  /** The credential it will take, if the initiator will see the target once the volumes that are being opened are open. */
  #expectedWith(
    name: string,
    initiator: Initiator,
    portalAddress: string,
  ): { readonly chap: ReturnType<typeof chapFor> } | undefined {
    const parts = this.#document.volumes.filter((part) => this.#expected.has(part.volume));
    const mapped = parts.find(
      (part) =>
        part.mode === 'mapped' &&
        part.maps.some(
          (map) =>
            map.target === name && map.initiator === initiator.name && addressMatcher(map.addresses)(initiator.address),
        ),
    );
    if (mapped !== undefined) return { chap: chapFor(this.#document, initiator.name, name, mapped) };
    const isOpen = parts.some(
      (part) => part.mode === 'open' && part.target === name && isLoopbackAddress(portalAddress),
    );
    return isOpen ? { chap: undefined } : undefined;
  }

  #target(name: string, loopback: boolean): MaskedTarget {
    const key = `${loopback ? 'loopback' : 'network'} ${name}`;
    let target = this.#targets.get(key);
    if (target === undefined) {
      target = new MaskedTarget(this, name, loopback);
      this.#targets.set(key, target);
    }
    return target;
  }

  /** A credential belongs to what is mapped: an open volume asks nobody for one. */
  #requirement(initiator: Initiator, target: string): ReturnType<typeof chapFor> {
    const maps = this.#resolved.get(target)?.byInitiator.get(initiator.name) ?? [];
    const map = maps.find((each) => each.matches(initiator.address));
    return map === undefined ? undefined : chapFor(this.#document, initiator.name, target, map.part);
  }

  #unwrapped(chap: Chap, initiator: string, target: string): ChapRequirement | { readonly problem: string } {
    const known = this.#requirements.get(chap);
    if (known !== undefined) return known;
    const { secrets } = this.#deps;
    let found: ChapRequirement | { readonly problem: string };
    try {
      const { user, mutual } = chap;
      found = {
        initiator: { user, secret: secrets.unwrap(chap.secret, { role: 'initiator', initiator, target, user }) },
        target:
          mutual === undefined
            ? undefined
            : {
                user: mutual.user,
                secret: secrets.unwrap(mutual.secret, { role: 'target', initiator, target, user: mutual.user }),
              },
      };
    } catch (error) {
      found = { problem: describeError(error) };
    }
    this.#requirements.set(chap, found);
    return found;
  }

  #documentChanged(document: AccessDocument): void {
    const before = this.#document;
    const seen = this.#seenBySessions();
    this.#document = document;
    this.#demandsProof = hasCredentials(document);
    if (isSameAccess(before, document)) return;
    this.#requirements = new Map();
    this.#follow(seen);
    this.#judgeAgain();
  }

  #judgeAgain(): void {
    const mapped = reachedLuns(this.#document, (volume) => this.#offers.get(volume)?.luns?.writable);
    const judged = this.#keeper?.accessChanged(mapped).catch((error: unknown) => {
      this.#deps.log.error({ error: describeError(error) }, 'live sessions could not be judged again');
    });
    // The one before too: it may still wait for a write that this one knows nothing of.
    this.#judging = Promise.all([this.#judging, judged]);
  }

  #nameOf(volume: string): string {
    return this.#offers.get(volume)?.volume.name ?? volume;
  }

  /** The volumes each live session sees: names by identifiers. */
  #seenBySessions(): ReadonlyMap<number, ReadonlyMap<string, string>> {
    return new Map(
      (this.#keeper?.sessions() ?? []).map((session) => [
        session.tsih,
        new Map(this.volumesOf(session).map((id) => [id, this.#nameOf(id)])),
      ]),
    );
  }

  /** Works out anew who sees what, and enters in the audit log which live sessions gained or lost a volume without a login. */
  #follow(before: ReadonlyMap<number, ReadonlyMap<string, string>>): void {
    this.#rebuild();
    const after = this.#seenBySessions();
    for (const { tsih, initiatorName, targetName, peer } of this.#keeper?.sessions() ?? []) {
      const [had, has] = [before.get(tsih), after.get(tsih)];
      const gained = [...(has ?? [])].filter(([id]) => had?.has(id) !== true);
      const lost = [...(had ?? [])].filter(([id]) => has?.has(id) !== true);
      if (gained.length === 0 && lost.length === 0) continue;
      const entry = {
        event: 'session-access',
        by: 'gateway',
        initiator: initiatorName,
        address: addressOf(peer),
        target: targetName,
        tsih,
        gained: gained.map(([, name]) => name),
        gainedIds: gained.map(([id]) => id),
        lost: lost.map(([, name]) => name),
        lostIds: lost.map(([id]) => id),
      };
      this.#deps.audit.note(entry, 'logins');
    }
  }

  #rebuild(): void {
    const { targets, contested, apart } = resolveTargets(this.#document, this.#offers);
    this.#contested = contested;
    this.#apart = apart;
    this.#resolved = targets;
    this.generation += 1;
  }

  #unitState(volume: string): UnitStateStore {
    const { book, mirrored } = this.#deps;
    return {
      mirrored: () => mirrored?.(volume) ?? Promise.resolve(),
      load: () => book.document.volumes.find((part) => part.volume === volume)?.unitState,
      save: (state) => book.saveUnitState(volume, state),
    };
  }
}

/** A target as it looks through portals of one kind; what was worked out for an initiator is kept until access changes. */
class MaskedTarget implements IscsiTarget {
  readonly name: string;
  readonly #control: AccessControl;
  readonly #loopback: boolean;
  #generation = -1;
  #known = new WeakMap<Initiator, ReadonlyMap<number, MappedLun>>();

  constructor(control: AccessControl, name: string, loopback: boolean) {
    this.#control = control;
    this.name = name;
    this.#loopback = loopback;
  }

  get portals(): readonly OpenPortal[] | undefined {
    return this.#control.portalsOf(this.name);
  }

  luns(initiator: Initiator): ReadonlyMap<number, MappedLun> {
    if (this.#generation !== this.#control.generation) {
      this.#generation = this.#control.generation;
      this.#known = new WeakMap();
    }
    let luns = this.#known.get(initiator);
    if (luns === undefined) {
      luns = this.#control.lunsOf(this.name, this.#loopback, initiator);
      this.#known.set(initiator, luns);
    }
    return luns;
  }
}

/** Of address:port, as sessions tell it. */
function addressOf(peer: string): string {
  return peer.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}
