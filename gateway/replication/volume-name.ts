import type { VolumeRef } from '../cloud/version-log.ts';

/** How messages speak of a volume: by the name people gave it, where it is known, and by its id, which objects and items carry. */
export function volumeName({ volume }: VolumeRef, name: string | undefined): string {
  return name === undefined || name === volume ? `volume ${volume}` : `volume ${name} (${volume})`;
}
