import { createHash } from 'node:crypto';
import type { ChapCredential } from '../../gateway/iscsi/target-registry.ts';

/** CHAP_A numbers (RFC 7143 12.1.3 and the IANA registry of iSCSI CHAP algorithms). */
const HASHES: Readonly<Record<string, string>> = { '5': 'md5', '6': 'sha1', '7': 'sha256', '8': 'sha3-256' };

/** The answer to what the target has asked (RFC 1994 4.1); undefined when its keys make no sense. */
export function chapAnswer(
  asked: Readonly<Record<string, string>>,
  { user, secret }: ChapCredential,
): Record<string, string> | undefined {
  const hash = HASHES[asked['CHAP_A'] ?? ''];
  const challenge = asked['CHAP_C'];
  const identifier = Number(asked['CHAP_I']);
  if (hash === undefined || challenge === undefined || !Number.isInteger(identifier)) return undefined;
  const bytes = /^0b/i.test(challenge)
    ? Buffer.from(challenge.slice(2), 'base64')
    : Buffer.from(challenge.slice(2), 'hex');
  const response = createHash(hash)
    .update(Buffer.from([identifier & 0xff]))
    .update(secret)
    .update(bytes)
    .digest('hex');
  return { CHAP_N: user, CHAP_R: `0x${response}` };
}
