import { FarshoreError } from '../base/errors.ts';
import type { AccessDocument, VolumePart } from './document.ts';

/** Targets where initiators find the volume. */
function targetsOf({ mode, target, maps }: VolumePart): ReadonlySet<string> {
  return new Set(mode === 'open' ? [target] : maps.map((map) => map.target));
}

/**
 * Throws `in-use` when the target of a map that is about to be made has a volume of another I/O thread: a session is one thread's, and so are all
 * LUNs it sees.
 */
export function requireOneThread(
  { volumes }: AccessDocument,
  name: string,
  target: string,
  threadOf: (volume: string) => number,
): void {
  const part = volumes.find((each) => each.name === name);
  if (part === undefined) return;
  const thread = threadOf(part.volume);
  const other = volumes.find(
    (each) => each !== part && targetsOf(each).has(target) && threadOf(each.volume) !== thread,
  );
  if (other === undefined) return;
  throw new FarshoreError(
    'in-use',
    `${target} is served by I/O thread ${threadOf(other.volume)}, which has volume ${other.name}, and ${name} is on thread ${thread}: the LUNs of a target share a thread. First: farshore volume move ${name} --thread ${threadOf(other.volume)}; or map it at another --target`,
  );
}

/** Names of the other volumes that initiators find at a target of this one (by identifier): they can't be on another thread than it. */
export function sharesTarget({ volumes }: AccessDocument, volume: string): readonly string[] {
  const part = volumes.find((each) => each.volume === volume);
  if (part === undefined) return [];
  const targets = targetsOf(part);
  return volumes
    .filter((each) => each !== part && [...targetsOf(each)].some((target) => targets.has(target)))
    .map((each) => each.name);
}
