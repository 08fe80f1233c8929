import type { Clock } from '../base/clock.ts';

/** Failures that cost nothing: people mistype, and a host tries a few times with an old secret. */
const FREE_FAILURES = { pair: 3, address: 8, name: 8 } as const;
/** The first delay; it doubles with each further failure. */
const FIRST_DELAY_MS = 250;
/**
 * Longest delays. All of them are shorter than the patience of initiators (15 s), so that nobody is locked out. A name is
 * slowed down less than an address: whoever guesses from elsewhere must not hinder the host it belongs to.
 */
const LONGEST_DELAY_MS = { pair: 8000, address: 8000, name: 1000 } as const;
/** Half of the failures are forgotten after this long. */
const HALF_LIFE_MS = 60_000;
/** Names and addresses remembered; the ones that have not failed for longest are forgotten first. */
const MAX_REMEMBERED = 4096;
/**
 * Logins from one address (no network) that may be held back at once, of initiators that have failed too often there: all
 * others wait as they must, and are looked at in the end. How many those are is bounded by the places for logins (Places).
 */
const MAX_HELD_PER_ADDRESS = 8;

interface Failures {
  count: number;
  /** When `count` was right. */
  at: number;
}

/**
 * Slows down guessing: every answer to a CHAP challenge waits before it is looked at, the longer the more often this
 * initiator name, this address, or both together have failed lately. Right and wrong ones wait alike.
 */
export class LoginThrottle {
  readonly #clock: Clock;
  readonly #pairs = new Map<string, Failures>();
  readonly #addresses = new Map<string, Failures>();
  readonly #names = new Map<string, Failures>();
  /** By address, not by network: nobody is refused because its neighbours wait. */
  readonly #held = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How long the answer has to wait; undefined: too many wait already, and this one, which is no better, is not looked at. */
  delayMs(name: string, address: string): number | undefined {
    const from = networkOf(address);
    const own = this.#delay(this.#pairs.get(`${name} ${from}`), FREE_FAILURES.pair, LONGEST_DELAY_MS.pair);
    const delay = Math.max(
      own,
      this.#delay(this.#addresses.get(from), FREE_FAILURES.address, LONGEST_DELAY_MS.address),
      this.#delay(this.#names.get(name), FREE_FAILURES.name, LONGEST_DELAY_MS.name),
    );
    return own > 0 && (this.#held.get(address) ?? 0) >= MAX_HELD_PER_ADDRESS ? undefined : delay;
  }

  /** An answer from the address waits, until `release`. */
  hold(address: string): void {
    this.#held.set(address, (this.#held.get(address) ?? 0) + 1);
  }

  release(address: string): void {
    const left = (this.#held.get(address) ?? 0) - 1;
    if (left > 0) this.#held.set(address, left);
    else this.#held.delete(address);
  }

  failed(name: string, address: string): void {
    const from = networkOf(address);
    this.#count(this.#pairs, `${name} ${from}`);
    this.#count(this.#addresses, from);
    this.#count(this.#names, name);
  }

  /** Whoever has proved itself waits no more for its own mistakes; those of others at its address still count. */
  succeeded(name: string, address: string): void {
    this.#pairs.delete(`${name} ${networkOf(address)}`);
  }

  #delay(failures: Failures | undefined, free: number, longestMs: number): number {
    if (failures === undefined) return 0;
    const over = this.#decayed(failures) - free;
    return over <= 0 ? 0 : Math.min(longestMs, FIRST_DELAY_MS * 2 ** (over - 1));
  }

  #count(table: Map<string, Failures>, key: string): void {
    const known = table.get(key);
    const count = known === undefined ? 1 : this.#decayed(known) + 1;
    table.delete(key); // to the end of the order
    table.set(key, { count, at: this.#clock.monotonicMs() });
    if (table.size <= MAX_REMEMBERED) return;
    const [oldest] = table.keys();
    if (oldest !== undefined) table.delete(oldest);
  }

  #decayed({ count, at }: Failures): number {
    return count * 2 ** (-(this.#clock.monotonicMs() - at) / HALF_LIFE_MS);
  }
}

/** One machine has a whole IPv6 network of 64 bits to itself: that counts as one address. */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros =
    tail === undefined ? [] : Array.from({ length: Math.max(8 - before.length - after.length, 0) }, () => '0');
  return `${[...before, ...zeros, ...after].slice(0, 4).join(':')}::/64`;
}
