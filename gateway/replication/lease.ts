import { sleep } from '../base/clock.ts';
import type { Clock, Random } from '../base/clock.ts';
import { describeError, isKind } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BlockCount, Epoch, WallMillis } from '../base/units.ts';
import type { FenceNotice, VersionLog, VolumeRef } from '../cloud/version-log.ts';

/** Between two beats; the one request an idle gateway makes. */
export const BEAT_INTERVAL_MS = 10_000;
/** While a notice is waiting for its epoch to be raised, the volume item is read this often. */
export const PENDING_CHECK_MS = 2_000;
/** How long a waiting notice is looked at that closely; then at each beat. A taker raises within moments of its notice, or died. */
export const PENDING_CHECKS = 10;
/**
 * A notice that one's own takeover has overtaken stays for so long: where a state directory was copied, two gateways have one
 * name, and the one that lost must find it.
 */
export const KEEP_OVERTAKEN_MS = 30_000;
/** After a beat that failed. */
export const FAILED_BEAT_DELAY_MS = 1_000;

/** What the notice of an offer begins with; no identifier of a volume has a slash in it. */
const OFFER = 'offer';

/** A volume this gateway serves, or is about to. */
export interface LeaseMember {
  readonly ref: VolumeRef;
  /** undefined while it is being opened. */
  epoch(): Epoch | undefined;
  /** Reads the volume item; when its epoch is no longer the member's own, ends the member and answers false. */
  confirmOwnership(): Promise<boolean>;
}

export interface LeaseDeps {
  readonly versions: VersionLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** What the last beat said of the cloud; a beat is never older than its interval and its deadlines. */
export interface CloudHealth {
  /** When it last answered; undefined before that. */
  readonly answeredAt: WallMillis | undefined;
  /** Why the last beat failed; undefined when it did not. */
  readonly problem: string | undefined;
}

export interface LeaseSettings {
  readonly gateway: string;
  readonly host: string;
  readonly version: string;
  /** Blocks not yet in a committed version, over all volumes. */
  dirtyBlocks(): BlockCount;
  /** Another gateway offers its volume to this one. */
  onOffer?(ref: VolumeRef): void;
}

/**
 * The lease of a gateway: every 10 s one request for all its volumes together, which answers with the notices that takers
 * left before they raised an epoch. What a notice says is believed only after the volume item says it too.
 */
export class GatewayLease {
  readonly #deps: LeaseDeps;
  readonly #settings: LeaseSettings;
  readonly #members = new Map<string, LeaseMember>();
  /** When an overtaken notice was first seen, by volume and epoch. */
  readonly #overtaken = new Map<string, number>();
  readonly #stop = new AbortController();
  #health: CloudHealth = { answeredAt: undefined, problem: undefined };

  constructor(deps: LeaseDeps, settings: LeaseSettings) {
    this.#deps = deps;
    this.#settings = settings;
    void this.#run();
  }

  get health(): CloudHealth {
    return this.#health;
  }

  add(member: LeaseMember): void {
    this.#members.set(member.ref.volume, member);
  }

  remove(member: LeaseMember): void {
    if (this.#members.get(member.ref.volume) === member) this.#members.delete(member.ref.volume);
  }

  /** A beat under way may still land. */
  close(): void {
    this.#stop.abort();
  }

  async #run(): Promise<void> {
    const { clock } = this.#deps;
    const { signal } = this.#stop;
    const stopped = (): boolean => signal.aborted;
    while (!stopped()) {
      const startedAt = clock.monotonicMs();
      let waiting: readonly FenceNotice[];
      try {
        waiting = await this.#beat();
        this.#health = { answeredAt: clock.now(), problem: undefined };
      } catch (error) {
        if (isKind(error, 'bug')) throw error;
        if (stopped()) return;
        this.#health = { ...this.#health, problem: describeError(error) };
        this.#deps.log.warn({ err: error, gateway: this.#settings.gateway }, 'the lease could not be renewed');
        await sleep(clock, FAILED_BEAT_DELAY_MS * (1 + this.#deps.random.fraction()), signal);
        continue;
      }
      const nextBeatAt = startedAt + BEAT_INTERVAL_MS;
      for (let check = 0; waiting.length > 0 && check < PENDING_CHECKS; check += 1) {
        if (clock.monotonicMs() + PENDING_CHECK_MS >= nextBeatAt) break;
        await sleep(clock, PENDING_CHECK_MS, signal);
        waiting = await this.#recheck(waiting);
      }
      const restMs = nextBeatAt - clock.monotonicMs();
      if (restMs > 0) await sleep(clock, restMs, signal);
    }
  }

  /** One beat and what its notices ask for; answers with those that are still waiting for their epoch. */
  async #beat(): Promise<readonly FenceNotice[]> {
    const { clock, versions } = this.#deps;
    const { gateway, host, version } = this.#settings;
    const notices = await versions.beat({
      gateway,
      at: clock.now(),
      host,
      version,
      volumes: this.#members.size,
      dirtyBlocks: this.#settings.dirtyBlocks(),
    });
    if (notices.length === 0 || this.#stop.signal.aborted) return [];
    return this.#heed(notices);
  }

  async #recheck(waiting: readonly FenceNotice[]): Promise<readonly FenceNotice[]> {
    if (this.#stop.signal.aborted) return [];
    try {
      return await this.#heed(waiting);
    } catch (error) {
      if (isKind(error, 'bug')) throw error;
      this.#deps.log.warn({ err: error }, 'a fence notice could not be checked');
      return waiting;
    }
  }

  async #heed(notices: readonly FenceNotice[]): Promise<readonly FenceNotice[]> {
    const waiting: FenceNotice[] = [];
    const settled: FenceNotice[] = [];
    for (const notice of notices) {
      const offered = offeredBy(notice);
      if (offered !== undefined) {
        this.#settings.onOffer?.(offered);
        settled.push(notice);
        continue;
      }
      const member = this.#members.get(notice.volume);
      const epoch = member?.epoch();
      if (member !== undefined && epoch === undefined) waiting.push(notice);
      else if (member === undefined || epoch === undefined || notice.epoch <= epoch) {
        // Nobody here to tell: whoever opens the volume later takes a higher epoch.
        if (this.#keptLongEnough(notice)) settled.push(notice);
      } else if (await member.confirmOwnership()) waiting.push(notice);
      else {
        this.remove(member);
        settled.push(notice);
      }
    }
    if (settled.length > 0) await this.#deps.versions.clearNotices(this.#settings.gateway, settled);
    for (const notice of settled) this.#overtaken.delete(nameOf(notice));
    return waiting;
  }

  #keptLongEnough(notice: FenceNotice): boolean {
    const now = this.#deps.clock.monotonicMs();
    const firstSeen = this.#overtaken.get(nameOf(notice)) ?? now;
    this.#overtaken.set(nameOf(notice), firstSeen);
    return now - firstSeen >= KEEP_OVERTAKEN_MS;
  }
}

/** The notice that tells a gateway of a volume that is offered to it: what it is about, the volume item says. */
export function offerNotice({ lineage, volume }: VolumeRef, epoch: Epoch): FenceNotice {
  return { volume: `${OFFER}/${lineage}/${volume}`, epoch };
}

function offeredBy({ volume: told }: FenceNotice): VolumeRef | undefined {
  const [kind, lineage, volume, more] = told.split('/');
  if (kind !== OFFER || lineage === undefined || volume === undefined || more !== undefined) return undefined;
  return { lineage, volume };
}

function nameOf({ volume, epoch }: FenceNotice): string {
  return `${volume} ${epoch}`;
}
