import { KIB } from '../base/units.ts';
import type { ByteCount } from '../base/units.ts';

/** Somebody who could not take what it wanted, and is called when there is room again. */
export interface BudgetWaiter {
  /** Takes what it can; true when it wants no more for now. */
  retryBudget(): boolean;
}

/** So much a session that holds nothing always gets: beyond the limit go no more than so many bytes for each session. */
const SMALL_BYTES = 64 * KIB;

/** What an origin, or one initiator name there, holds in all its sessions. */
interface Account {
  readonly key: string;
  held: ByteCount;
  parked: ByteCount;
  /** Shares that are open. */
  shares: number;
}

interface Place {
  readonly share: BudgetShare;
  /** Lower ones came earlier. */
  readonly ticket: number;
}

/** What the shares of a budget have in common. */
interface Pool {
  readonly limit: ByteCount;
  used: ByteCount;
  parked: ByteCount;
  readonly accounts: Map<string, Account>;
  readonly line: Map<BudgetWaiter, Place>;
  lastTicket: number;
  /** Whose turn it is. */
  served: BudgetShare | undefined;
  /** Counts what was taken, to see whether whoever's turn it is gets on. */
  takes: number;
}

/**
 * Bytes shared by all sessions (write data in flight, read data not yet sent).
 *
 * Nobody can be made to give anything back, so nobody may take all: what is in use, what the origin holds and what the
 * name holds there must together stay within the limit. One name thus gets a third of it when it is alone, one origin
 * half of it whatever names it gives itself, and n origins leave 2/(n+2) of it to the next.
 *
 * Whoever finds no room waits. Room goes to those that hold least, and among these in turn; nobody who holds as much or
 * more overtakes, however little it wants. So each is served in the end: those before it become fewer as they are served.
 */
export class ByteBudget {
  readonly #pool: Pool;

  constructor(limit: ByteCount) {
    this.#pool = {
      limit,
      used: 0,
      parked: 0,
      accounts: new Map(),
      line: new Map(),
      lastTicket: 0,
      served: undefined,
      takes: 0,
    };
  }

  get usedBytes(): ByteCount {
    return this.#pool.used;
  }

  /** How full, 0 to 1 and above. */
  get fraction(): number {
    return this.#pool.used / this.#pool.limit;
  }

  /** Origins and names that are counted; none when there are no sessions and nothing is held. */
  get accounts(): number {
    return this.#pool.accounts.size;
  }

  /** The budget as a session of this name sees it; `origin` is what cannot be made up. To be closed with the session. */
  shareOf(origin: string, name: string): BudgetShare {
    const { accounts } = this.#pool;
    return new BudgetShare(this.#pool, accountOf(accounts, origin), accountOf(accounts, `${origin}\n${name}`));
  }
}

/**
 * The budget for one session. Bytes that are parked belong to a request that waits for more; when all are, nobody would
 * ever give any back, so that the next who asks is let through: at most one request beyond the limit.
 */
export class BudgetShare {
  readonly #pool: Pool;
  readonly #origin: Account;
  readonly #name: Account;
  #held: ByteCount = 0;

  constructor(pool: Pool, origin: Account, name: Account) {
    this.#pool = pool;
    this.#origin = origin;
    this.#name = name;
    origin.shares += 1;
    name.shares += 1;
  }

  /** For what begins. */
  take(bytes: ByteCount): boolean {
    return this.#takeBeside(bytes, this.#origin.held + this.#name.held);
  }

  /** For what has begun, and waits with what it holds parked: that is no reason to let it wait any longer. */
  takeRest(bytes: ByteCount): boolean {
    return this.#takeBeside(bytes, this.#weight);
  }

  /** For what will lie there until others have come, and must never let anything through: taken and parked. */
  takeParked(bytes: ByteCount): boolean {
    if (!this.alwaysFits(bytes) && !this.#fits(bytes, this.#origin.held + this.#name.held)) return false;
    this.#count(bytes);
    this.park(bytes);
    return true;
  }

  /** For what can be done without: only while no more than `part` of the limit is in use with it. */
  takeSpare(bytes: ByteCount, part: number): boolean {
    if (this.#pool.used + bytes > this.#pool.limit * part) return false;
    this.#count(bytes);
    return true;
  }

  /** Whether `take` is granted whatever others hold. */
  alwaysFits(bytes: ByteCount): boolean {
    return bytes === 0 || (this.#held === 0 && bytes <= SMALL_BYTES);
  }

  release(bytes: ByteCount): void {
    this.#count(0 - bytes);
    this.#forgetAccounts();
    this.#serve();
  }

  /** Bytes taken before cannot come back until their holder has got more; negative: they can again. */
  park(bytes: ByteCount): void {
    this.#pool.parked += bytes;
    this.#origin.parked += bytes;
    this.#name.parked += bytes;
    // It may have been the last that could come back: then somebody who waits already has to be let through.
    if (bytes > 0) this.#serve();
  }

  wait(waiter: BudgetWaiter): void {
    const { line } = this.#pool;
    if (line.has(waiter)) return;
    this.#pool.lastTicket += 1;
    line.set(waiter, { share: this, ticket: this.#pool.lastTicket });
  }

  forget(waiter: BudgetWaiter): void {
    if (this.#pool.line.delete(waiter)) this.#serve(); // others may have waited for it alone
  }

  /** Whether another name waits that holds less than this one. */
  deprivesOthers(): boolean {
    for (const { share } of this.#pool.line.values())
      if (share.#name !== this.#name && share.#weight < this.#weight) return true;
    return false;
  }

  /** The session is over; what it still holds may be released later. */
  close(): void {
    this.#origin.shares -= 1;
    this.#name.shares -= 1;
    this.#forgetAccounts();
  }

  /** What can come back of all that the origin and the name hold. */
  get #weight(): ByteCount {
    return this.#origin.held - this.#origin.parked + this.#name.held - this.#name.parked;
  }

  #takeBeside(bytes: ByteCount, weight: ByteCount): boolean {
    const { used, parked } = this.#pool;
    if (used > parked && !this.alwaysFits(bytes) && !this.#fits(bytes, weight)) return false;
    this.#count(bytes);
    this.#pool.takes += 1;
    return true;
  }

  #fits(bytes: ByteCount, weight: ByteCount): boolean {
    const { used, limit, line } = this.#pool;
    return used + weight + bytes <= limit && (line.size === 0 || this.#isNext(weight));
  }

  /** Whether no other session waits that has to be served sooner. Whoever's turn it is came before its equals. */
  #isNext(weight: ByteCount): boolean {
    const { line, served } = this.#pool;
    for (const { share } of line.values()) {
      if (share === this) continue;
      const other = share.#weight;
      if (served === this ? other < weight : other <= weight) return false;
    }
    return true;
  }

  #count(bytes: ByteCount): void {
    this.#held += bytes;
    this.#pool.used += bytes;
    this.#origin.held += bytes;
    this.#name.held += bytes;
  }

  /** Those that hold least first, as long as each gets something or wants no more. */
  #serve(): void {
    const pool = this.#pool;
    if (pool.line.size === 0 || pool.served !== undefined) return;
    for (;;) {
      const next = poorest(pool.line, (share) => share.#weight);
      if (next === undefined) break;
      const [waiter, place] = next;
      const { takes } = pool;
      pool.line.delete(waiter);
      pool.served = place.share;
      const satisfied = waiter.retryBudget();
      if (!satisfied) pool.line.set(waiter, place);
      if (!satisfied && pool.takes === takes) break;
    }
    pool.served = undefined;
  }

  #forgetAccounts(): void {
    if (this.#name.shares > 0) return; // then the origin has some too
    for (const account of [this.#name, this.#origin])
      if (account.shares === 0 && account.held === 0 && this.#pool.accounts.get(account.key) === account)
        this.#pool.accounts.delete(account.key);
  }
}

function accountOf(accounts: Map<string, Account>, key: string): Account {
  let account = accounts.get(key);
  if (account === undefined) {
    account = { key, held: 0, parked: 0, shares: 0 };
    accounts.set(key, account);
  }
  return account;
}

function poorest(
  line: ReadonlyMap<BudgetWaiter, Place>,
  weightOf: (share: BudgetShare) => ByteCount,
): [BudgetWaiter, Place] | undefined {
  let best: [BudgetWaiter, Place] | undefined;
  let least = Infinity;
  for (const [waiter, place] of line) {
    const weight = weightOf(place.share);
    if (weight > least || (weight === least && best !== undefined && place.ticket > best[1].ticket)) continue;
    least = weight;
    best = [waiter, place];
  }
  return best;
}
