import type { AuditEntry } from './audit-entry.ts';
import type { AccessDocument, Chap, DiscoveryEntry, LunMap, VolumePart } from './document.ts';
import { chapFor, effectiveMaps, type Shadowed } from './resolve.ts';

/** One right to reach a volume. */
export interface AccessRight {
  readonly volume: string;
  /** undefined: every initiator (an open volume). */
  readonly initiator: string | undefined;
  readonly target: string;
  readonly lun: number;
  readonly access: 'read-write' | 'read-only';
  /** Addresses and networks it is good for; none: all. */
  readonly addresses: readonly string[];
  readonly authentication: 'none' | 'chap' | 'mutual-chap';
  /** undefined: since the volume was created. */
  readonly since: number | undefined;
  readonly by: string | undefined;
  /** Why it does not count at present; undefined when it does. */
  readonly suspended: string | undefined;
}

/** Who was there, from the audit log. */
export interface AccessUse {
  readonly volume: string;
  /** Its identifier; undefined where the log does not tell. */
  readonly id: string | undefined;
  /** Not the volume that has this name here now: it was deleted, or is served elsewhere and forgotten here. */
  readonly former: boolean;
  readonly initiator: string;
  readonly address: string;
  readonly target: string;
  /** 0: it was mapped while a session was there. */
  readonly logins: number;
  readonly first: string;
  readonly last: string;
}

/** A credential that discovery sessions have to prove; secrets are never told. */
export interface DiscoveryCredential {
  /** undefined: every initiator that has none of its own. */
  readonly initiator: string | undefined;
  readonly user: string;
  readonly mutualUser: string | undefined;
  readonly since: number;
  readonly by: string;
  readonly readable: boolean;
  /** The volume it came with and belongs to alone; undefined: the gateway's. */
  readonly volume: string | undefined;
}

export interface AccessReport {
  readonly rights: readonly AccessRight[];
  readonly uses: readonly AccessUse[];
  /** Refused logins that named a target of these volumes, or this initiator. */
  readonly refusals: readonly {
    readonly initiator: string;
    readonly address: string;
    readonly target: string;
    readonly reason: string;
    readonly count: number;
    readonly last: string;
  }[];
  readonly discovery: readonly DiscoveryCredential[];
  /** Volumes that another gateway has taken over: what is told of them is what was known here. */
  readonly elsewhere: readonly string[];
  /** When the oldest entry was made that there still is: of logins to targets, and of refusals; undefined: there is none. */
  readonly logReaches: { readonly logins: string | undefined; readonly refusals: string | undefined };
  /** Entries that could not be written, by event: too many in a minute, or the disk was full. */
  readonly notWritten: Readonly<Record<string, number>>;
  /** Lines of the audit log that cannot be read (torn by a power cut). */
  readonly unreadable: number;
}

/** What a report has to ask about the document. */
export interface ReportJudge {
  readonly canRead: (chap: Chap) => boolean;
  /** Whether another gateway has taken the volume (by name) over. */
  readonly isElsewhere: (volume: string) => boolean;
  /** Maps that do not count, because another volume asks for another credential at their target. */
  readonly contested: readonly Shadowed[];
  /** Maps that do not count, because their target is served by another thread. */
  readonly apart?: readonly Shadowed[];
}

export interface ReportScope {
  readonly volume: string | undefined;
  readonly initiator: string | undefined;
}

/** Rows of one kind in a report; peers choose their names, so they are bounded. */
const MAX_ROWS = 10_000;
/** Kinds of events there are in a log; there are fewer than these. */
const MAX_EVENTS = 100;

/** Everything in the document counts. */
const AT_FACE_VALUE: ReportJudge = { canRead: () => true, isElsewhere: () => false, contested: [] };

/** Who can reach which volume, by what right and since when. */
export function rightsOf(
  document: AccessDocument,
  { volume, initiator }: ReportScope,
  judge: ReportJudge = AT_FACE_VALUE,
): AccessRight[] {
  const { shadowed } = effectiveMaps(document);
  const suspension = (part: VolumePart, map?: LunMap): string | undefined => {
    if (judge.isElsewhere(part.name)) return 'another gateway serves the volume now';
    if (map === undefined) return undefined;
    const shadow = shadowed.find((each) => each.map === map);
    if (shadow !== undefined) return `LUN ${map.lun} is volume ${shadow.by} there`;
    const contest = judge.contested.find((each) => each.map === map);
    if (contest !== undefined) return `volume ${contest.by} asks for another credential there`;
    const other = judge.apart?.find((each) => each.map === map);
    if (other !== undefined) return `volume ${other.by} and the target are on another I/O thread`;
    const chap = chapFor(document, map.initiator, map.target, part)?.chap;
    return chap === undefined || judge.canRead(chap) ? undefined : 'the key of its secret is not here';
  };
  return document.volumes
    .filter((part) => volume === undefined || part.name === volume)
    .flatMap((part): AccessRight[] => {
      if (part.mode === 'open') {
        return [
          {
            volume: part.name,
            initiator: undefined,
            target: part.target,
            lun: 0,
            access: 'read-write',
            addresses: ['loopback portals'],
            authentication: 'none',
            since: undefined,
            by: undefined,
            suspended: suspension(part),
          },
        ];
      }
      return part.maps
        .filter((map) => initiator === undefined || map.initiator === initiator)
        .map((map) => {
          const chap = chapFor(document, map.initiator, map.target, part)?.chap;
          return {
            volume: part.name,
            initiator: map.initiator,
            target: map.target,
            lun: map.lun,
            access: map.readOnly ? 'read-only' : 'read-write',
            addresses: map.addresses,
            authentication: chap === undefined ? 'none' : chap.mutual === undefined ? 'chap' : 'mutual-chap',
            since: map.since,
            by: map.by,
            suspended: suspension(part, map),
          };
        });
    });
}

/** Credentials of discovery sessions: the gateway's, and those that volumes brought with them. */
export function discoveryCredentials(
  document: AccessDocument,
  { volume, initiator }: ReportScope,
  { canRead }: ReportJudge,
): DiscoveryCredential[] {
  const told = (entries: readonly DiscoveryEntry[], name: string | undefined): DiscoveryCredential[] =>
    entries
      .filter((entry) => initiator === undefined || entry.initiator === undefined || entry.initiator === initiator)
      .map(({ initiator: whose, chap }) => ({
        initiator: whose,
        user: chap.user,
        mutualUser: chap.mutual?.user,
        since: chap.since,
        by: chap.by,
        readable: canRead(chap),
        volume: name,
      }));
  const own = document.volumes.filter((part) => volume === undefined || part.name === volume);
  return [...told(document.discovery, undefined), ...own.flatMap((part) => told(part.own?.discovery ?? [], part.name))];
}

/** Gathers who did reach the volumes from the entries of the audit log, oldest first. */
export class UseCollector {
  readonly #scope: ReportScope;
  readonly #targets: ReadonlySet<string>;
  /** Identifiers of the volumes that are here, by name. */
  readonly #present: ReadonlyMap<string, string>;
  readonly #notWritten = new Map<string, number>();
  readonly #uses = new Map<string, AccessUse>();
  readonly #refusals = new Map<string, AccessReport['refusals'][number]>();

  constructor(document: AccessDocument, scope: ReportScope) {
    this.#scope = scope;
    this.#present = new Map(document.volumes.map((part) => [part.name, part.volume]));
    this.#targets = new Set(
      document.volumes
        .filter((part) => part.name === scope.volume)
        .flatMap((part) => [part.target, ...part.maps.map((map) => map.target)]),
    );
  }

  /** Lines that can be of interest, so that the others need not be parsed. */
  static wants(line: string): boolean {
    return ['"event":"login', '"event":"session-access"', '"event":"not-written"'].some((each) => line.includes(each));
  }

  add(entry: AuditEntry): void {
    if (entry.event === 'not-written') {
      this.#addUnwritten(entry['counts']);
      return;
    }
    const initiator = textOf(entry['initiator'], 'unnamed');
    if (this.#scope.initiator !== undefined && initiator !== this.#scope.initiator) return;
    const address = textOf(entry['address'], 'unknown');
    const claimed = entry['noTargetName'];
    const target = textOf(entry['target'], typeof claimed === 'string' ? `no iSCSI name: "${claimed}"` : '-');
    // A session that is there already gains what is mapped later without another login.
    const isLogin = entry.event === 'login';
    if (isLogin || entry.event === 'session-access') {
      const names = listOf(entry[isLogin ? 'volumes' : 'gained']);
      const ids = listOf(entry[isLogin ? 'ids' : 'gainedIds']);
      names.forEach((volume, index) => {
        if (typeof volume !== 'string' || (this.#scope.volume ?? volume) !== volume) return;
        const told = ids[index];
        const id = typeof told === 'string' ? told : undefined;
        const key = [volume, id ?? '', initiator, address, target].join('\n');
        const known = this.#uses.get(key);
        if (known === undefined && this.#uses.size >= MAX_ROWS) return;
        const first = known?.first ?? entry.at;
        const logins = (known?.logins ?? 0) + (isLogin ? 1 : 0);
        const present = this.#present.get(volume);
        const former = present === undefined || (id !== undefined && id !== present);
        this.#uses.set(key, { volume, id, former, initiator, address, target, logins, first, last: entry.at });
      });
    } else if (entry.event === 'login-refused') {
      if (this.#scope.volume !== undefined && !this.#targets.has(target)) return;
      const reason = textOf(entry['why'], textOf(entry['reason'], 'unknown'));
      const key = [initiator, address, target, reason].join('\n');
      const known = this.#refusals.get(key);
      if (known === undefined && this.#refusals.size >= MAX_ROWS) return;
      const more = typeof entry['count'] === 'number' ? entry['count'] : 1;
      const count = (known?.count ?? 0) + more;
      this.#refusals.set(key, { initiator, address, target, reason, count, last: entry.at });
    }
  }

  #addUnwritten(counts: unknown): void {
    if (typeof counts !== 'object' || counts === null) return;
    for (const [event, count] of Object.entries(counts)) {
      if (typeof count !== 'number') continue;
      if (!this.#notWritten.has(event) && this.#notWritten.size >= MAX_EVENTS) continue;
      this.#notWritten.set(event, (this.#notWritten.get(event) ?? 0) + count);
    }
  }

  notWritten(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#notWritten);
  }

  uses(): AccessUse[] {
    return [...this.#uses.values()];
  }

  refusals(): AccessReport['refusals'] {
    return [...this.#refusals.values()];
  }
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

function textOf(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}
