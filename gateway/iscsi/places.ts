import type { IscsiSettings } from './settings.ts';

export type PlaceLimits = Pick<
  IscsiSettings,
  'maxConnections' | 'maxConnectionsPerAddress' | 'maxLogins' | 'maxLoginsPerAddress'
>;

/**
 * Who may stay connected. Sessions with a target have seats, which are limited in all and for each origin; a seat is
 * never taken away. Everybody else (logging in, discovering, closing) is a visitor: there are few places for those, and
 * a new one is always let in: the oldest of its own origin has to go, or of the origin that has most. A stranger that
 * does nothing but open connections thus keeps nobody else out, also not behind its own address.
 */
export class Places<Connection> {
  readonly #limits: PlaceLimits;
  /** With their origins, oldest first. */
  readonly #visitors = new Map<Connection, string>();
  readonly #seats = new Map<Connection, string>();

  constructor(limits: PlaceLimits) {
    this.#limits = limits;
  }

  /** A connection is there; the one that has to make room for it, if one must. */
  arrive(connection: Connection, origin: string): Connection | undefined {
    this.#visitors.set(connection, origin);
    if (count(this.#visitors, origin) > this.#limits.maxLoginsPerAddress) return this.#oldest(origin);
    return this.#visitors.size > this.#limits.maxLogins ? this.#oldest(this.#crowd()) : undefined;
  }

  /** The visitor becomes a session with a target; why it cannot, if it cannot. */
  sit(connection: Connection): string | undefined {
    const origin = this.#visitors.get(connection);
    if (origin === undefined) return undefined;
    const { maxConnections, maxConnectionsPerAddress } = this.#limits;
    if (this.#seats.size >= maxConnections) return 'too many connections';
    if (count(this.#seats, origin) >= maxConnectionsPerAddress) return 'too many connections from this address';
    this.#visitors.delete(connection);
    this.#seats.set(connection, origin);
    return undefined;
  }

  /** Its session is over; it may have something to send yet. */
  rise(connection: Connection): void {
    const origin = this.#seats.get(connection);
    if (origin === undefined) return;
    this.#seats.delete(connection);
    this.#visitors.set(connection, origin);
  }

  leave(connection: Connection): void {
    this.#visitors.delete(connection);
    this.#seats.delete(connection);
  }

  #oldest(origin: string): Connection | undefined {
    for (const [connection, each] of this.#visitors) if (each === origin) return connection;
    return undefined;
  }

  /** The origin with most visitors. */
  #crowd(): string {
    const counts = new Map<string, number>();
    for (const origin of this.#visitors.values()) counts.set(origin, (counts.get(origin) ?? 0) + 1);
    const [[origin] = ['']] = [...counts].sort(([, a], [, b]) => b - a);
    return origin;
  }
}

function count(connections: ReadonlyMap<unknown, string>, origin: string): number {
  let sum = 0;
  for (const each of connections.values()) if (each === origin) sum += 1;
  return sum;
}
