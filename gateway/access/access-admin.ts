import { type Clock, sleep } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import { FarshoreError } from '../base/errors.ts';
import { hasUnprintable } from '../base/text.ts';
import type { AccessBook, Change } from './access-book.ts';
import type { AccessControl } from './access-control.ts';
import { readAudit } from './audit-files.ts';
import type { AuditLog } from './audit-log.ts';
import type { AccessDocument, Chap, LunMap } from './document.ts';
import { MAX_SECRET_BYTES, MAX_USER_BYTES, MIN_SECRET_BYTES } from './limits.ts';
import { requireOneThread } from './one-thread.ts';
import * as operations from './operations.ts';
import { type AccessReport, discoveryCredentials, type ReportScope, rightsOf, UseCollector } from './report.ts';
import { ANY_INITIATOR, ANY_TARGET, DISCOVERY } from './resolve.ts';
import type { SecretBox, SecretUse } from './secret-box.ts';

export interface AdminDeps {
  readonly book: AccessBook;
  readonly secrets: SecretBox;
  readonly control: Pick<AccessControl, 'contested' | 'apart' | 'enforced' | 'keysChanged'>;
  readonly audit: AuditLog;
  readonly disk: Disk;
  readonly clock: Clock;
  /** The gateway's name, which short target names stand behind. */
  readonly iqn: string;
  /** The I/O thread of a volume (by identifier); without it there is one. */
  readonly threadOf?: (volume: string) => number;
}

/** Name and secret, as the administrator gives them. */
export interface GivenCredential {
  readonly user: string;
  readonly secret: Buffer;
}

export interface GivenChap {
  readonly initiator: GivenCredential;
  readonly mutual: GivenCredential | undefined;
}

/** A target as people see it. */
export interface TargetReport {
  readonly name: string;
  /** Whose default target it is; undefined: made with `target create`. */
  readonly volume: string | undefined;
  readonly since: number | undefined;
  readonly by: string | undefined;
  /** Names of the volumes mapped there. */
  readonly volumes: readonly string[];
  readonly initiators: number;
}

/** An initiator as people see it; secrets are never told. */
export interface InitiatorReport {
  readonly name: string;
  readonly since: number;
  readonly by: string;
  readonly chap: readonly {
    /** Came with this volume and counts for it alone; absent: for all that have none of their own. */
    readonly volume?: string;
    /** undefined: every target without a credential of its own. */
    readonly target: string | undefined;
    readonly user: string;
    readonly mutualUser: string | undefined;
    readonly since: number;
    readonly readable: boolean;
  }[];
  readonly volumes: readonly string[];
}

/** How long an answer waits for writes that were under way when access was taken away. */
const ENFORCED_WITHIN_MS = 30_000;

/** Access control as an administrator asks for it: every change is in the audit log before it is made, with who asked. */
export class AccessAdmin {
  readonly #deps: AdminDeps;

  constructor(deps: AdminDeps) {
    this.#deps = deps;
  }

  targetName(text: string): string {
    return operations.parseTargetName(text, this.#deps.iqn);
  }

  async createTarget(text: string, by: string): Promise<TargetReport> {
    const name = this.targetName(text);
    await this.#change({ event: 'target-create', by, target: name }, (document) =>
      operations.createTarget(document, name, this.#grant(by)),
    );
    return this.#targetReport(name);
  }

  async deleteTarget(text: string, by: string): Promise<void> {
    const name = this.targetName(text);
    await this.#change({ event: 'target-delete', by, target: name }, (document) =>
      operations.deleteTarget(document, name),
    );
  }

  targets(): TargetReport[] {
    const { document } = this.#deps.book;
    const names = [...document.volumes.map((part) => part.target), ...document.targets.map((target) => target.name)];
    return [...new Set(names)].sort().map((name) => this.#targetReport(name));
  }

  async addInitiator(text: string, by: string): Promise<InitiatorReport> {
    const name = operations.parseIscsiName(text, 'the initiator');
    await this.#change({ event: 'initiator-add', by, initiator: name }, (document) =>
      operations.addInitiator(document, name, this.#grant(by)),
    );
    return this.#initiatorReport(name);
  }

  async removeInitiator(text: string, by: string): Promise<void> {
    const name = operations.parseIscsiName(text, 'the initiator');
    await this.#change({ event: 'initiator-remove', by, initiator: name }, (document) =>
      operations.removeInitiator(document, name),
    );
  }

  initiators(): InitiatorReport[] {
    return this.#deps.book.document.initiators.map(({ name }) => this.#initiatorReport(name));
  }

  /** `given` undefined clears the credential. */
  async setChap(
    text: string,
    target: string | undefined,
    given: GivenChap | undefined,
    by: string,
  ): Promise<InitiatorReport> {
    const name = operations.parseIscsiName(text, 'the initiator');
    const targetName = target === undefined ? undefined : this.targetName(target);
    const audit = { by, initiator: name, target: targetName ?? null, ...toldOf(given) };
    if (given !== undefined) checkChap(given);
    await this.#deps.book.change(async (document) => {
      // Looked at first: a secret is not wrapped for somebody nobody knows.
      if (given !== undefined) requireKnown(document, name);
      const bound = { initiator: name, target: targetName ?? ANY_TARGET };
      const chap = given === undefined ? undefined : await this.#wrap(given, bound, by);
      return {
        document: operations.setChap(document, name, targetName, chap),
        result: undefined,
        audit: { event: given === undefined ? 'chap-clear' : 'chap-set', ...audit },
      };
    });
    // Not refused when it takes longer: a secret that was made for it would never be seen.
    await this.#isEnforced();
    return this.#initiatorReport(name);
  }

  /** Credentials of discovery sessions; `given` undefined clears them. */
  async setDiscoveryChap(text: string | undefined, given: GivenChap | undefined, by: string): Promise<void> {
    const name = text === undefined ? undefined : operations.parseIscsiName(text, 'the initiator');
    if (given !== undefined) checkChap(given);
    await this.#deps.book.change(async (document) => {
      if (name !== undefined && given !== undefined) requireKnown(document, name);
      const bound = { initiator: name ?? ANY_INITIATOR, target: DISCOVERY };
      const chap = given === undefined ? undefined : await this.#wrap(given, bound, by);
      return {
        document: operations.setDiscoveryChap(document, name, chap),
        result: undefined,
        audit: {
          event: given === undefined ? 'discovery-chap-clear' : 'discovery-chap-set',
          by,
          initiator: name ?? null,
          ...toldOf(given),
        },
      };
    });
    await this.#isEnforced();
  }

  map(
    request: Omit<operations.MapRequest, 'initiator'> & { readonly initiator: string },
    by: string,
  ): Promise<LunMap & { readonly volume: string }> {
    const initiator = operations.parseIscsiName(request.initiator, 'the initiator');
    const target = request.target === undefined ? undefined : this.targetName(request.target);
    return this.#enforce((document) => {
      const mapped = operations.mapVolume(document, { ...request, initiator, target }, this.#grant(by));
      const { target: at, lun, readOnly, addresses } = mapped.map;
      if (this.#deps.threadOf !== undefined) requireOneThread(mapped.document, request.volume, at, this.#deps.threadOf);
      const before = document.volumes
        .find((part) => part.name === request.volume)
        ?.maps.find((map) => map.initiator === initiator && map.target === at);
      return {
        document: mapped.document,
        result: { volume: request.volume, ...mapped.map },
        audit:
          mapped.document === document
            ? undefined
            : {
                event: before === undefined ? 'map' : 'map-change',
                by,
                volume: request.volume,
                initiator,
                target: at,
                lun,
                readOnly,
                addresses,
                ...(before === undefined
                  ? {}
                  : { before: { lun: before.lun, readOnly: before.readOnly, since: before.since } }),
              },
      };
    });
  }

  unmap(
    request: { readonly volume: string; readonly initiator: string; readonly target: string | undefined },
    by: string,
  ): Promise<readonly LunMap[]> {
    const initiator = operations.parseIscsiName(request.initiator, 'the initiator');
    const target = request.target === undefined ? undefined : this.targetName(request.target);
    return this.#enforce((document) => {
      const { document: after, maps } = operations.unmapVolume(document, { ...request, initiator, target });
      return {
        document: after,
        result: maps,
        audit: {
          event: 'unmap',
          by,
          volume: request.volume,
          initiator,
          maps: maps.map((map) => ({ target: map.target, lun: map.lun, readOnly: map.readOnly, since: map.since })),
        },
      };
    });
  }

  /** `isElsewhere`: whether another gateway has taken a volume (by name) over. */
  async report(scope: ReportScope, isElsewhere: (volume: string) => boolean = () => false): Promise<AccessReport> {
    const { book, control, disk } = this.#deps;
    const { document } = book;
    const initiator =
      scope.initiator === undefined ? undefined : operations.parseIscsiName(scope.initiator, 'the initiator');
    if (scope.volume !== undefined && !document.volumes.some((part) => part.name === scope.volume)) {
      throw new FarshoreError(
        'not-found',
        `volume ${scope.volume} is not served here; farshore status shows which are`,
      );
    }
    const narrowed = { volume: scope.volume, initiator };
    const collector = new UseCollector(document, narrowed);
    const judge = {
      isElsewhere,
      canRead: (chap: Chap) => this.#canRead(chap),
      contested: control.contested(),
      apart: control.apart(),
    };
    const { unreadable, since } = await readAudit(
      disk,
      (entry) => {
        collector.add(entry);
      },
      (line) => UseCollector.wants(line),
    );
    return {
      rights: rightsOf(document, narrowed, judge),
      uses: collector.uses(),
      refusals: collector.refusals(),
      discovery: discoveryCredentials(document, narrowed, judge),
      elsewhere: document.volumes
        .map((part) => part.name)
        .filter((name) => (scope.volume ?? name) === name && isElsewhere(name)),
      logReaches: { logins: since.logins, refusals: since.noise },
      notWritten: collector.notWritten(),
      unreadable,
    };
  }

  async exportKey(by: string): Promise<string> {
    await this.#deps.audit.change({ event: 'access-key-export', by });
    return this.#deps.secrets.export();
  }

  /** Resolves with the identities of the keys. */
  async importKey(text: string, by: string): Promise<readonly string[]> {
    await this.#deps.audit.change({ event: 'access-key-import', by });
    const ids = await this.#deps.secrets.import(text);
    this.#deps.control.keysChanged();
    return ids;
  }

  async #change(
    audit: { readonly event: string; readonly by: string; readonly [detail: string]: unknown },
    work: (document: AccessDocument) => AccessDocument,
  ): Promise<void> {
    await this.#deps.book.change((document) => ({ document: work(document), result: undefined, audit }));
  }

  /**
   * Answers when the change is in force for what was under way before it, too: whoever has been told that an initiator is out may hand the
   * volume to another one.
   */
  async #enforce<T>(work: (document: AccessDocument) => Change<T>): Promise<T> {
    const result = await this.#deps.book.change(work);
    if (await this.#isEnforced()) return result;
    throw new FarshoreError(
      'busy',
      'the change is made, and nothing new gets past it; but writes that were under way before it still wait in the gateway and may land yet. farshore status shows what holds them up',
    );
  }

  /** False when it takes too long. */
  async #isEnforced(): Promise<boolean> {
    const { control, clock } = this.#deps;
    const over = new AbortController();
    const inTime = await Promise.race([
      control.enforced().then(() => true),
      sleep(clock, ENFORCED_WITHIN_MS, over.signal).then(() => false),
    ]);
    over.abort();
    return inTime;
  }

  #grant(by: string): operations.Grant {
    return { since: this.#deps.clock.now(), by };
  }

  async #wrap(given: GivenChap, bound: Pick<SecretUse, 'initiator' | 'target'>, by: string): Promise<Chap> {
    const { secrets } = this.#deps;
    const wrap = ({ user, secret }: GivenCredential, role: SecretUse['role']) =>
      secrets.wrap(secret, { role, ...bound, user });
    const { initiator, mutual } = given;
    return {
      ...this.#grant(by),
      user: initiator.user,
      secret: await wrap(initiator, 'initiator'),
      ...(mutual === undefined ? {} : { mutual: { user: mutual.user, secret: await wrap(mutual, 'target') } }),
    };
  }

  #targetReport(name: string): TargetReport {
    const { document } = this.#deps.book;
    const owner = document.volumes.find((part) => part.target === name);
    const made = document.targets.find((target) => target.name === name);
    const maps = document.volumes.flatMap((part) =>
      part.maps.filter((map) => map.target === name).map((map) => ({ volume: part.name, initiator: map.initiator })),
    );
    return {
      name,
      volume: owner?.name,
      since: made?.since,
      by: made?.by,
      volumes: [...new Set([...(owner?.mode === 'open' ? [owner.name] : []), ...maps.map((map) => map.volume)])],
      initiators: new Set(maps.map((map) => map.initiator)).size,
    };
  }

  #canRead({ secret, mutual }: Chap): boolean {
    const { secrets } = this.#deps;
    return secrets.canUnwrap(secret) && (mutual === undefined || secrets.canUnwrap(mutual.secret));
  }

  #initiatorReport(name: string): InitiatorReport {
    const { document } = this.#deps.book;
    const entry = document.initiators.find((each) => each.name === name);
    if (entry === undefined) throw new FarshoreError('not-found', `there is no initiator ${name} any more`);
    const told = (chap: Chap, target: string | undefined, volume?: string) => ({
      ...(volume === undefined ? {} : { volume }),
      target,
      user: chap.user,
      mutualUser: chap.mutual?.user,
      since: chap.since,
      readable: this.#canRead(chap),
    });
    return {
      name,
      since: entry.since,
      by: entry.by,
      chap: [
        ...(entry.chap === undefined ? [] : [told(entry.chap, undefined)]),
        ...entry.targets.map(({ target, chap }) => told(chap, target)),
        ...document.volumes.flatMap((part) =>
          (part.own?.initiators ?? [])
            .filter((own) => own.name === name)
            .flatMap((own) => [
              ...(own.chap === undefined ? [] : [told(own.chap, undefined, part.name)]),
              ...own.targets.map(({ target, chap }) => told(chap, target, part.name)),
            ]),
        ),
      ],
      volumes: document.volumes
        .filter((part) => part.maps.some((map) => map.initiator === name))
        .map((part) => part.name),
    };
  }
}

function requireKnown(document: AccessDocument, initiator: string): void {
  if (document.initiators.some((each) => each.name === initiator)) return;
  throw new FarshoreError(
    'not-found',
    `there is no initiator ${initiator}; make it known first: farshore initiator add ${initiator}`,
  );
}

/** For the audit log: who authenticates as what, never with what. */
function toldOf(given: GivenChap | undefined): object {
  if (given === undefined) return {};
  return { user: given.initiator.user, mutualUser: given.mutual?.user ?? null };
}

/** RFC 7143 12.1.3: at least 96 bits; the two directions of mutual authentication never share a secret (9.2.1). */
function checkChap({ initiator, mutual }: GivenChap): void {
  checkCredential(initiator, 'the secret');
  if (mutual === undefined) return;
  checkCredential(mutual, 'the mutual secret');
  if (mutual.secret.equals(initiator.secret)) {
    throw new FarshoreError(
      'input',
      'the mutual secret is the same as the secret; whoever learns one direction must not be able to pass for the other: choose another',
    );
  }
}

function checkCredential({ user, secret }: GivenCredential, what: string): void {
  const userBytes = Buffer.byteLength(user);
  if (userBytes < 1 || userBytes > MAX_USER_BYTES) {
    throw new FarshoreError('input', `a CHAP user name has 1 to ${MAX_USER_BYTES} bytes; "${user}" has ${userBytes}`);
  }
  if (hasUnprintable(user)) {
    throw new FarshoreError(
      'input',
      `the CHAP user name "${user}" holds control characters or invisible ones; give one of visible characters`,
    );
  }
  if (secret.length < MIN_SECRET_BYTES || secret.length > MAX_SECRET_BYTES) {
    throw new FarshoreError(
      'input',
      `${what} has ${secret.length} bytes; it needs ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES}, and --generate makes a good one`,
    );
  }
}
