import type { GatewayProcess } from '../support/gateway-process.ts';
import type { SuiteLuns } from './libiscsi-suite.ts';

/** Large enough for every test, small enough to be filled often. */
const VOLUME_SIZE = '128M';
/** Tests side by side; each lane has a volume of its own. */
export const LANES = 2;
/** What iscsi-test-cu calls itself, and where it needs two. */
const SUITE_INITIATORS = [
  'iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test',
  'iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test-2',
];

/** The volumes the suite runs on, made with the command line as a user does. */
export function suiteLuns(gateway: GatewayProcess, sector: 512 | 4096): SuiteLuns {
  const create = (name: string, ...further: string[]): string => {
    const target = gateway.createVolume(`${name}${sector}`, VOLUME_SIZE, sector, ...further);
    return `iscsi://${gateway.host}:${gateway.port}/${target}/0`;
  };
  const plain = Array.from({ length: LANES }, (_, lane) => create(`lane${lane}-`));
  const special = {
    blank: create('blank'),
    'read-only': create('protected'),
    removable: create('removable', '--removable'),
    ...(sector === 512
      ? { '512n': create('plain', '--physical', '512') }
      : { '4k-in-8k': create('large', '--physical', '8192') }),
  };
  const known = gateway.cli('initiator', 'list');
  for (const initiator of SUITE_INITIATORS) {
    if (!known.includes(`${initiator} `)) gateway.cli('initiator', 'add', initiator);
    gateway.cli('map', `protected${sector}`, '--initiator', initiator, '--read-only');
  }
  return { plain, special };
}
