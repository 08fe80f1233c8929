import type { GatewayProcess } from '../support/gateway-process.ts';
import type { CheckedLun } from './front-end-check.ts';

/** A volume of its own that asks for CHAP; nothing as long as the command line cannot set credentials. */
export function chapLun(_gateway: GatewayProcess, _sector: 512 | 4096): Pick<CheckedLun, 'chap'> {
  return {};
}
