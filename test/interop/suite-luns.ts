import type { GatewayProcess } from '../support/gateway-process.ts';
import type { SuiteLuns } from './libiscsi-suite.ts';

/** Large enough for every test, small enough to be filled often. */
const VOLUME_SIZE = '128M';
/** Tests side by side; each lane has a volume of its own. */
export const LANES = 2;

/** The volumes the suite runs on, made with the command line as a user does. */
export function suiteLuns(gateway: GatewayProcess, sector: 512 | 4096): SuiteLuns {
  const url = (target: string, lun = 0): string => `iscsi://${gateway.host}:${gateway.port}/${target}/${lun}`;
  const plain = Array.from({ length: LANES }, (_, lane) =>
    url(gateway.createVolume(`suite${sector}-${lane}`, VOLUME_SIZE, sector)),
  );
  const blank = url(gateway.createVolume(`blank${sector}`, VOLUME_SIZE, sector));
  return { plain, special: { blank } };
}
