import type { AccessEvent } from '../iscsi/target-registry.ts';
import { KIB, MIB } from '../base/units.ts';
import type { Series } from './audit-files.ts';

const MINUTE_MS = 60_000;
/** One address may take that part of the bytes of a class. */
const ADDRESSES_SHARE = 2;

interface Limits {
  readonly series: Series;
  /** Of one minute, from everybody. */
  readonly entries: number;
  readonly bytes: number;
  /** Of one minute, from one address: who makes much noise must not hide the others. */
  readonly entriesPerAddress: number;
}

/** What sessions may write. Each class has its own: no refusal and no discovery hides a login, and no end of a session does. */
const CLASSES = {
  login: { series: 'logins', entries: 1200, bytes: 2 * MIB, entriesPerAddress: 300 },
  end: { series: 'logins', entries: 1200, bytes: MIB, entriesPerAddress: 300 },
  discovery: { series: 'noise', entries: 120, bytes: 128 * KIB, entriesPerAddress: 60 },
  refusal: { series: 'noise', entries: 120, bytes: 128 * KIB, entriesPerAddress: 60 },
} as const satisfies Record<string, Limits>;
type Class = keyof typeof CLASSES;

interface Used {
  entries: number;
  bytes: number;
  /** Of each address, bounded by `entries`. */
  readonly byAddress: Map<string, number>;
  readonly bytesByAddress: Map<string, number>;
}

/** Bounds what peers write in one minute, class by class. */
export class AuditAllowance {
  #endsAt = 0;
  #used = fresh();

  /** Whether an entry may be written now; it is counted then. `bytes` is asked for its length only when there is room for one. */
  take(event: AccessEvent, bytes: () => number, nowMs: number): boolean {
    if (nowMs >= this.#endsAt) {
      this.#endsAt = nowMs + MINUTE_MS;
      this.#used = fresh();
    }
    const { address } = event.initiator;
    const [limits, used] = [CLASSES[classOf(event)], this.#used[classOf(event)]];
    const mine = used.byAddress.get(address) ?? 0;
    if (used.entries >= limits.entries || mine >= limits.entriesPerAddress) return false;
    const length = bytes();
    if (used.bytes + length > limits.bytes) return false;
    const mineBytes = used.bytesByAddress.get(address) ?? 0;
    if (mineBytes + length > limits.bytes / ADDRESSES_SHARE) return false;
    used.entries += 1;
    used.bytes += length;
    used.byAddress.set(address, mine + 1);
    used.bytesByAddress.set(address, mineBytes + length);
    return true;
  }

  /** The minute is over in which something was refused. */
  isOver(nowMs: number): boolean {
    return nowMs >= this.#endsAt;
  }
}

export function seriesOf(event: AccessEvent): Series {
  return CLASSES[classOf(event)].series;
}

function classOf(event: AccessEvent): Class {
  if (event.kind === 'login-refused') return 'refusal';
  if (event.discovery) return 'discovery';
  return event.kind === 'login' ? 'login' : 'end';
}

function fresh(): Readonly<Record<Class, Used>> {
  const used = (): Used => ({ entries: 0, bytes: 0, byAddress: new Map(), bytesByAddress: new Map() });
  return { login: used(), end: used(), discovery: used(), refusal: used() };
}
