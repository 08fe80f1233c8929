import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GatewayProcess } from '../support/gateway-process.ts';
import type { ChapUser, CheckedLun } from './front-end-check.ts';

const SECRET = 'only for this test';

/** A volume that three initiators may use, each with a CHAP user of its own: a plain one, and two that look like encoded ones. */
export function chapLun(
  gateway: GatewayProcess,
  directory: string,
  sector: 512 | 4096,
): Required<Pick<CheckedLun, 'chap'>> {
  const volume = `chap${sector}`;
  const target = gateway.createVolume(volume, '64M', sector);
  const secretFile = join(directory, `secret-${sector}`);
  writeFileSync(secretFile, SECRET, { mode: 0o600 });
  const add = (user: string): ChapUser => {
    const initiator = `iqn.2026-11.dev.farshore.test:${volume}-${user.toLowerCase()}`;
    gateway.cli('initiator', 'add', initiator);
    gateway.cli('map', volume, '--initiator', initiator);
    gateway.cli('initiator', 'chap', initiator, '--user', user, '--secret-file', secretFile);
    return { target, initiator, user };
  };
  return { chap: { secret: SECRET, plain: add('checker'), hexLike: add('0xabcd'), base64Like: add('0bYWJj') } };
}
