import { FarshoreError } from './base/errors.ts';
import type { VersionNumber } from './base/units.ts';
import type { VersionLog, VolumeItem, VolumeRef } from './cloud/version-log.ts';

/** Binds the name; one left by a creation that died before its volume was made is taken over. `in-use` when it is another volume's. */
export async function claimName(table: VersionLog, name: string, ref: VolumeRef): Promise<void> {
  if ((await table.claimName(name, ref)) === 'ok') return;
  const other = await table.resolveName(name);
  if (other?.volume === ref.volume) return; // our own attempt, whose answer was lost
  const item = other === undefined ? undefined : await table.getVolume(other);
  if (other !== undefined && item === undefined && (await table.rebindName(name, other, ref)) === 'ok') return;
  throw new FarshoreError(
    'in-use',
    item?.deletedAt === undefined
      ? `there is a volume ${name} already; choose another name`
      : `a deleted volume ${name} is still kept; bring it back with: farshore volume undelete ${name}, or remove it for ever with: farshore volume delete ${name} --purge --confirm ${name}`,
  );
}

export async function resolveVolume(table: VersionLog, name: string): Promise<VolumeRef> {
  const ref = await table.resolveName(name);
  if (ref !== undefined) return ref;
  throw new FarshoreError('not-found', `there is no volume ${name} in this table; farshore volume list shows them all`);
}

export async function itemOf(table: VersionLog, ref: VolumeRef): Promise<VolumeItem> {
  const item = await table.getVolume(ref);
  if (item !== undefined) return item;
  throw new FarshoreError('not-found', `volume ${ref.volume} is not in this table (any more)`);
}

/** A mistyped version must not take the volume away from whoever serves it; whether it can be restored shows only after the takeover. */
export async function requireVersion(table: VersionLog, item: VolumeItem, version: VersionNumber): Promise<void> {
  const folded = item.checkpoint !== undefined && version <= item.checkpoint.n;
  if (version >= 1 && (folded || (await table.getVersion(item.volume, version)) !== undefined)) return;
  throw new FarshoreError(
    'input',
    `volume ${item.name} has no version ${version}; nothing was changed. farshore versions ${item.name}, on the gateway that serves it, lists them`,
  );
}

export async function unlessFenced(change: Promise<'ok' | 'conflict'>, name: string): Promise<void> {
  if ((await change) === 'ok') return;
  throw new FarshoreError('fenced', `volume ${name} was taken over by another gateway meanwhile; nothing was changed`);
}
