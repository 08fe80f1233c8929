import { SENSE } from '../sense.ts';
import { covers, sparesRegistrants } from './registry.ts';
import type { Registration, Registry } from './registry.ts';
import type { Notice } from './transition.ts';

/** Whether an initiator is let to the unit through a target; undefined: through any. */
export type Reaches = (initiator: string, target: string | undefined) => boolean;

/**
 * The registry without what those have who reach the unit no more: it would lock out the others for ever. For those that are left it is as if
 * the lost ones had unregistered (SPC-4 5.13.11.2.3). Undefined: nobody is lost.
 */
export function withdraw(
  registry: Registry,
  reaches: Reaches,
): { readonly registry: Registry; readonly notices: readonly Notice[] } | undefined {
  const { reservation } = registry;
  const isKept = ({ initiator, target }: Registration): boolean => reaches(initiator.name, target);
  const kept = registry.registrations.filter(isKept);
  const gone = registry.registrations.filter((each) => !isKept(each));
  const isHeld = reservation !== undefined && isStillHeld(registry, kept, reaches);
  const isReleased = reservation !== undefined && !isHeld;
  if (gone.length === 0 && !isReleased) return undefined;
  const told = isReleased && sparesRegistrants(reservation.type) ? kept : [];
  return {
    registry: {
      ...registry,
      generation: gone.length === 0 ? registry.generation : (registry.generation + 1) % 2 ** 32,
      registrations: kept,
      reservation: isHeld ? reservation : undefined,
    },
    notices: [
      ...gone.map((to) => ({ to, sense: SENSE.registrationsPreempted })),
      ...told.map((to) => ({ to, sense: SENSE.reservationsReleased })),
    ],
  };
}

/** A registration at all target ports is kept where one of them is left; what was reserved through a lost one is not. */
function isStillHeld({ reservation }: Registry, kept: readonly Registration[], reaches: Reaches): boolean {
  const holder = reservation?.holder;
  if (holder === undefined) return kept.length > 0;
  return reaches(holder.initiator.name, holder.target) && kept.some((each) => covers(each, holder));
}
