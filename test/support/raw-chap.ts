import { createHash } from 'node:crypto';
import { KIND, buildLogin, keysOf } from './iscsi-wire.ts';
import type { LoginFields } from './iscsi-wire.ts';
import { TARGET } from './iscsi-world.ts';
import type { RawInitiator } from './raw-initiator.ts';

/** Hash names by CHAP_A number. */
const HASHES: Readonly<Record<string, string>> = { '5': 'md5', '6': 'sha1', '7': 'sha256', '8': 'sha3-256' };

export interface Challenge {
  readonly algorithm: string;
  readonly identifier: number;
  readonly bytes: Buffer;
}

/** One login request in the security stage, and the answer to it. */
export async function securityStep(
  initiator: RawInitiator,
  keys: Readonly<Record<string, string>>,
  fields: LoginFields = {},
): Promise<{ readonly status: number; readonly transits: boolean; readonly keys: Record<string, string> }> {
  initiator.send(buildLogin({ csg: 0, nsg: 1, cmdSn: initiator.cmdSn, ...fields, keys }));
  const answer = await initiator.expect(KIND.login);
  return { status: answer.word36 >>> 16, transits: (answer.flags & 0x80) !== 0, keys: keysOf(answer.data) };
}

/** Names both ends, offers CHAP alone, and takes the challenge. */
export async function challengeOf(
  initiator: RawInitiator,
  options: {
    readonly name?: string;
    readonly target?: string;
    readonly algorithms?: string;
    readonly tsih?: number;
  } = {},
): Promise<Challenge> {
  const fields = { tsih: options.tsih ?? 0 };
  const names = {
    InitiatorName: options.name ?? 'iqn.2026-11.dev.farshore.test:initiator',
    ...(options.target === 'discovery' ? { SessionType: 'Discovery' } : { TargetName: options.target ?? TARGET }),
  };
  await securityStep(initiator, { ...names, AuthMethod: 'CHAP' }, fields);
  const { keys } = await securityStep(initiator, { CHAP_A: options.algorithms ?? '5' }, fields);
  return {
    algorithm: keys['CHAP_A'] ?? '',
    identifier: Number(keys['CHAP_I']),
    bytes: Buffer.from((keys['CHAP_C'] ?? '').slice(2), 'hex'),
  };
}

/** RFC 1994 4.1. */
export function responseTo(challenge: Challenge, secret: string): Buffer {
  const hash = HASHES[challenge.algorithm];
  if (hash === undefined) throw new Error(`the target chose CHAP algorithm "${challenge.algorithm}"`);
  return createHash(hash)
    .update(Buffer.concat([Buffer.of(challenge.identifier), Buffer.from(secret), challenge.bytes]))
    .digest();
}

export function hex(bytes: Buffer): string {
  return `0x${bytes.toString('hex')}`;
}
