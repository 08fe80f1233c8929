import type { AuditEntry } from './audit-entry.ts';
import type { AccessDocument } from './document.ts';
import { chapFor, effectiveMaps } from './resolve.ts';

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
  readonly initiator: string;
  readonly address: string;
  readonly target: string;
  /** 0: it was mapped while a session was there. */
  readonly logins: number;
  readonly first: string;
  readonly last: string;
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
  /** Lines of the audit log that cannot be read (torn by a power cut). */
  readonly unreadable: number;
}

export interface ReportScope {
  readonly volume: string | undefined;
  readonly initiator: string | undefined;
}

/** Rows of one kind in a report; peers choose their names, so they are bounded. */
const MAX_ROWS = 10_000;

/** Who can reach which volume, by what right and since when. */
export function rightsOf(document: AccessDocument, { volume, initiator }: ReportScope): AccessRight[] {
  const { shadowed } = effectiveMaps(document);
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
            suspended: undefined,
          },
        ];
      }
      return part.maps
        .filter((map) => initiator === undefined || map.initiator === initiator)
        .map((map) => {
          const chap = chapFor(document, map.initiator, map.target, part)?.chap;
          const shadow = shadowed.find((each) => each.map === map);
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
            suspended: shadow === undefined ? undefined : `LUN ${map.lun} is volume ${shadow.by} there`,
          };
        });
    });
}

/** Gathers who did reach the volumes from the entries of the audit log, oldest first. */
export class UseCollector {
  readonly #scope: ReportScope;
  readonly #targets: ReadonlySet<string>;
  readonly #uses = new Map<string, AccessUse>();
  readonly #refusals = new Map<string, AccessReport['refusals'][number]>();

  constructor(document: AccessDocument, scope: ReportScope) {
    this.#scope = scope;
    this.#targets = new Set(
      document.volumes
        .filter((part) => part.name === scope.volume)
        .flatMap((part) => [part.target, ...part.maps.map((map) => map.target)]),
    );
  }

  /** Lines that can be of interest, so that the others need not be parsed. */
  static wants(line: string): boolean {
    return line.includes('"event":"login') || line.includes('"event":"session-access"');
  }

  add(entry: AuditEntry): void {
    const initiator = textOf(entry['initiator'], 'unnamed');
    if (this.#scope.initiator !== undefined && initiator !== this.#scope.initiator) return;
    const address = textOf(entry['address'], 'unknown');
    const target = textOf(entry['target'], '-');
    // A session that is there already gains what is mapped later without another login.
    const isLogin = entry.event === 'login';
    if (isLogin || entry.event === 'session-access') {
      const told = entry[isLogin ? 'volumes' : 'gained'];
      const volumes = Array.isArray(told) ? (told as unknown[]) : [];
      for (const volume of volumes) {
        if (typeof volume !== 'string' || (this.#scope.volume ?? volume) !== volume) continue;
        const key = [volume, initiator, address, target].join('\n');
        const known = this.#uses.get(key);
        if (known === undefined && this.#uses.size >= MAX_ROWS) continue;
        const first = known?.first ?? entry.at;
        const logins = (known?.logins ?? 0) + (isLogin ? 1 : 0);
        this.#uses.set(key, { volume, initiator, address, target, logins, first, last: entry.at });
      }
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

  uses(): AccessUse[] {
    return [...this.#uses.values()];
  }

  refusals(): AccessReport['refusals'] {
    return [...this.#refusals.values()];
  }
}

function textOf(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}
