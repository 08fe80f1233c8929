import type { LogEntry, LogPosition } from '../../gateway/maintenance/walk-machine.ts';

/** A version that some writer composed. Its id stands for its chain too: it fixes everything before it. */
export interface Version {
  readonly id: number;
  /** Id of the version it chains to; 0 before the first. */
  readonly previous: number;
  readonly n: number;
  readonly epoch: number;
  readonly takeover: boolean;
}

export const MAX_VERSIONS = 4096;
const MAX_EPOCHS = 32;
const MAX_TAGS = 64;

/** Every version ever composed in an enumeration, each once. */
export class Versions {
  readonly #versions: Version[] = [{ id: 0, previous: 0, n: 0, epoch: 0, takeover: false }];
  readonly #entries: LogEntry<Version>[] = [];
  readonly #ids = new Map<number, number>();

  /** `tag` tells apart what one writer composes more than once for the same place. */
  compose(previous: number, epoch: number, takeover: boolean, tag: number): number {
    const key = ((previous * MAX_EPOCHS + epoch) * 2 + (takeover ? 1 : 0)) * MAX_TAGS + tag;
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#versions.length;
      if (id >= MAX_VERSIONS || epoch >= MAX_EPOCHS || tag >= MAX_TAGS) throw new Error('the bounds are too wide');
      this.#ids.set(key, id);
      this.#versions.push({ id, previous, n: this.at(previous).n + 1, epoch, takeover });
    }
    return id;
  }

  at(id: number): Version {
    const version = this.#versions[id];
    if (!version) throw new Error(`there is no version ${id}`);
    return version;
  }

  /** The id of version n in the history that ends with `tail`; -1 when it ends earlier. */
  inHistory(tail: number, n: number): number {
    let version = this.at(tail);
    if (n > version.n) return -1;
    while (version.n > n) version = this.at(version.previous);
    return version.id;
  }

  position(id: number): LogPosition {
    return this.entry(id);
  }

  entry(id: number): LogEntry<Version> {
    const known = this.#entries[id];
    if (known) return known;
    const version = this.at(id);
    const entry = { n: version.n, epoch: version.epoch, chain: `c${id}`, content: version };
    this.#entries[id] = entry;
    return entry;
  }
}

/** The id behind a chain made here. */
export function idOf(chain: string): number {
  return Number(chain.slice(1));
}

/** As chainAfter: the chain that comes of `content` after `previous`, its own only when it was made to follow it. */
export function chainOf(previous: string, content: Version): string {
  return idOf(previous) === content.previous ? `c${content.id}` : `x${previous}-${content.id}`;
}
