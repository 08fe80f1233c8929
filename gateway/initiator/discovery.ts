import { closeSession, openSession } from './connect.ts';
import type { ConnectOptions } from './connect.ts';

export interface DiscoveredTarget {
  readonly name: string;
  /** `host:port,tag` as announced. */
  readonly addresses: readonly string[];
}

/** SendTargets=All in a discovery session (RFC 7143 appendix C). */
export async function discover(options: ConnectOptions): Promise<DiscoveredTarget[]> {
  const session = await openSession(options, undefined);
  try {
    return targetsOf(await session.control.text([['SendTargets', 'All']]));
  } finally {
    await closeSession(session);
  }
}

/** Groups the flat answer: every TargetAddress belongs to the TargetName before it. */
export function targetsOf(pairs: readonly (readonly [key: string, value: string])[]): DiscoveredTarget[] {
  const targets: { name: string; addresses: string[] }[] = [];
  for (const [key, value] of pairs) {
    if (key === 'TargetName') targets.push({ name: value, addresses: [] });
    else if (key === 'TargetAddress') targets.at(-1)?.addresses.push(value);
  }
  return targets;
}
