import type { MappedLun, ReachedLun } from '../iscsi/target-registry.ts';
import type { AccessDocument } from './document.ts';

/**
 * Who is let to each volume that is offered and mapped, wherever they call from; an open one is everybody's. A map that another one stands
 * in the way of counts: it is in force again when that one is gone.
 */
export function reachedLuns(
  { volumes }: AccessDocument,
  lunOf: (volume: string) => MappedLun | undefined,
): readonly ReachedLun[] {
  return volumes.flatMap(({ volume, mode, maps }) => {
    const lun = mode === 'mapped' ? lunOf(volume) : undefined;
    if (lun === undefined) return [];
    const reaches = (initiator: string, target: string | undefined): boolean =>
      maps.some((map) => map.initiator === initiator && (target === undefined || map.target === target));
    return [{ lun, reaches }];
  });
}
