/**
 * How the replication of a volume stands. `synced`: the newest committed version is no older than the target allows. `lagging`: it is older. `catching-up`: what
 * was acked before, or is in the image alone, is on its way, and until then the cloud has an older state. `degraded`: writes are acked
 * without the promise that the mode makes. `blocked`: writes (or flushes) wait for the cloud, or fail. `fenced`: another gateway has the volume.
 */
export type ReplicationState = 'synced' | 'lagging' | 'catching-up' | 'degraded' | 'blocked' | 'fenced';

export const REPLICATION_STATES: readonly ReplicationState[] = [
  'synced',
  'lagging',
  'catching-up',
  'degraded',
  'blocked',
  'fenced',
];

/** What the state follows from. */
export interface StandingFacts {
  readonly isFenced: boolean;
  readonly isBlocked: boolean;
  readonly isDegraded: boolean;
  readonly isCatchingUp: boolean;
  /** Age of the oldest write that no committed version has; 0 when there is none. */
  readonly lagSeconds: number;
  readonly rpoSeconds: number;
}

/** The gravest of what is so: who reads one word must not be told less than what matters most. Pure. */
export function replicationState(facts: StandingFacts): ReplicationState {
  if (facts.isFenced) return 'fenced';
  if (facts.isBlocked) return 'blocked';
  if (facts.isDegraded) return 'degraded';
  if (facts.isCatchingUp) return 'catching-up';
  return missesTarget(facts) ? 'lagging' : 'synced';
}

/** Whether the loss of the site would cost more than the target allows. In every state; of a fenced volume nothing is known. */
export function missesTarget({
  isFenced,
  lagSeconds,
  rpoSeconds,
}: Pick<StandingFacts, 'isFenced' | 'lagSeconds' | 'rpoSeconds'>): boolean {
  return !isFenced && lagSeconds > rpoSeconds;
}
