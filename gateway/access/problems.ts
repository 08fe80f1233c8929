import { credentialProblems } from './credentials.ts';
import type { AccessDocument } from './document.ts';
import { effectiveMaps, type Shadowed } from './resolve.ts';
import type { SecretBox } from './secret-box.ts';

/**
 * Sentences for status and doctor about what keeps somebody out who may be meant to be let in: credentials this gateway cannot read, and volumes
 * that stand in each other's way. `contested`: see contestedMaps; `apart`: see AccessControl.apart.
 */
export function accessProblems(
  document: AccessDocument,
  secrets: Pick<SecretBox, 'canUnwrap'>,
  contested: readonly Shadowed[],
  apart: readonly Shadowed[] = [],
): readonly string[] {
  const initiators = [...document.initiators, ...document.volumes.flatMap((part) => part.own?.initiators ?? [])];
  const discovery = [...document.discovery, ...document.volumes.flatMap((part) => part.own?.discovery ?? [])];
  const chaps = [
    ...initiators.flatMap((each) => [each.chap, ...each.targets.map((own) => own.chap)]),
    ...discovery.map((each) => each.chap),
  ];
  const keys = new Set<string>();
  for (const chap of chaps) {
    for (const wrapped of [chap?.secret, chap?.mutual?.secret]) {
      if (wrapped !== undefined && !secrets.canUnwrap(wrapped)) keys.add(wrapped.key);
    }
  }
  const missing = [...keys].map(
    (key) =>
      `CHAP secrets are wrapped by key ${key}, which this gateway does not have, so their initiators are refused; on the gateway that has it: farshore access key export FILE, here: farshore access key import FILE`,
  );
  const shadowed = effectiveMaps(document).shadowed.map(
    ({ part, map, by }) =>
      `LUN ${map.lun} of ${map.target} is volume ${by} for ${map.initiator} already, so ${part.name} is not seen there; give it another: farshore map ${part.name} --initiator ${map.initiator} --target ${map.target} --lun N`,
  );
  const withOthers = contested.map(
    ({ part, map, by }) =>
      `volumes ${by} and ${part.name} ask ${map.initiator} for different CHAP credentials at ${map.target}, so ${part.name} is not seen there; give it one for both: farshore initiator chap ${map.initiator} --user USER --generate (and the same with --target, where it is of one target)`,
  );
  const onOthers = apart.map(
    ({ part, map, by }) =>
      `volume ${part.name} is not on the I/O thread of volume ${by}, so it is not seen at ${map.target}, where that is; bring them together with: farshore volume move ${part.name} --thread K (farshore status shows the threads)`,
  );
  return [...missing, ...shadowed, ...withOthers, ...onOthers, ...credentialProblems(document)];
}
