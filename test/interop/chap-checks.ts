import { createHash } from 'node:crypto';
import { RawInitiator } from '../support/raw-initiator.ts';
import { KIND, buildLogin, keysOf } from '../support/iscsi-wire.ts';
import { NotApplicable, demand, randomIsid } from './front-end-check.ts';
import type { ChapUser, Check, CheckedLun } from './front-end-check.ts';

const SECURITY_STAGE = 0;
const OPERATIONAL_STAGE = 1;
const FULL_FEATURE = 3;

interface ChapLogin {
  readonly who: ChapUser;
  readonly secret: string;
  /** CHAP_A as it is sent. */
  readonly algorithms: string;
  /** CHAP_R as it is sent, from the right answer. */
  readonly spell?: (response: Buffer) => string;
}

/** CHAP_A (RFC 7143 12.1.3 and IANA's list of PPP authentication algorithms). */
const ALGORITHMS: Readonly<Record<string, string>> = { '5': 'md5', '6': 'sha1', '7': 'sha256', '8': 'sha3-256' };

const hex = (bytes: Buffer): string => `0x${bytes.toString('hex')}`;

/** A whole CHAP login (RFC 1994 4.1, RFC 7143 12.1.3); whether it ended in full feature phase. */
async function logIn(lun: CheckedLun, login: ChapLogin): Promise<boolean> {
  const raw = await RawInitiator.connect(lun.port, lun.host);
  const isid = randomIsid();
  const step = async (
    keys: Record<string, string>,
    stage: { csg: number; nsg: number; transit: boolean },
  ): Promise<Record<string, string> | undefined> => {
    raw.send(buildLogin({ ...stage, isid, cmdSn: raw.cmdSn, keys }));
    const answer = await raw.receive();
    if (answer?.opcode !== KIND.login || answer.word36 >>> 16 !== 0) return undefined;
    return keysOf(answer.data);
  };
  const security = { csg: SECURITY_STAGE, nsg: OPERATIONAL_STAGE, transit: false };
  try {
    const { target, initiator, user } = login.who;
    const first = { InitiatorName: initiator, SessionType: 'Normal', TargetName: target, AuthMethod: 'CHAP' };
    const method = await step(first, security);
    if (method?.['AuthMethod'] !== 'CHAP') return false;
    const challenge = await step({ CHAP_A: login.algorithms }, security);
    const algorithm = ALGORITHMS[challenge?.['CHAP_A'] ?? ''];
    if (challenge === undefined || algorithm === undefined) return false;
    demand(login.algorithms.split(',').includes(challenge['CHAP_A'] ?? ''), 'the target chose what was not offered');
    const response = createHash(algorithm)
      .update(Buffer.from([Number(challenge['CHAP_I'])]))
      .update(login.secret)
      .update(decode(challenge['CHAP_C'] ?? ''))
      .digest();
    const proof = { CHAP_N: user, CHAP_R: (login.spell ?? hex)(response) };
    if ((await step(proof, { ...security, transit: true })) === undefined) return false;
    return (await step({}, { csg: OPERATIONAL_STAGE, nsg: FULL_FEATURE, transit: true })) !== undefined;
  } finally {
    raw.destroy();
  }
}

/** Hexadecimal or base64 binary value (RFC 7143 6.1). */
function decode(value: string): Buffer {
  return /^0x/i.test(value) ? Buffer.from(value.slice(2), 'hex') : Buffer.from(value.slice(2), 'base64');
}

type Chap = NonNullable<CheckedLun['chap']>;

function chapCheck(name: string, run: (lun: CheckedLun, chap: Chap) => Promise<void>): Check {
  return {
    test: `ALL.iSCSICHAP.${name}`,
    run: async (lun) => {
      if (lun.chap === undefined) throw new NotApplicable('no target asks for CHAP here');
      await run(lun, lun.chap);
    },
  };
}

const MD5_ONLY = '5';

export const CHAP_CHECKS: readonly Check[] = [
  chapCheck('Base64', async (lun, { secret, plain }) => {
    const spell = (response: Buffer): string => `0b${response.toString('base64')}`;
    demand(await logIn(lun, { who: plain, secret, algorithms: MD5_ONLY, spell }), 'a response in base64 is refused');
  }),
  chapCheck('Base64Name', async (lun, { secret, base64Like }) => {
    const login = { who: base64Like, secret, algorithms: MD5_ONLY };
    demand(await logIn(lun, login), 'a name that begins with 0b is taken for base64');
  }),
  chapCheck('Base64Oversize', async (lun, { secret, plain }) => {
    const spell = (response: Buffer): string => `0bb3ZlcnNpemUK${response.toString('base64')}`;
    const login = { who: plain, secret, algorithms: MD5_ONLY, spell };
    demand(!(await logIn(lun, login)), 'a response with bytes before it is accepted');
    demand(await logIn(lun, { who: plain, secret, algorithms: MD5_ONLY }), 'the right one is refused afterwards');
  }),
  chapCheck('HexName', async (lun, { secret, hexLike }) => {
    const login = { who: hexLike, secret, algorithms: MD5_ONLY };
    demand(await logIn(lun, login), 'a name that begins with 0x is taken for hexadecimal');
  }),
  chapCheck('Invalid', async (lun, { secret, plain }) => {
    demand(!(await logIn(lun, { who: plain, secret, algorithms: '56' })), 'algorithm 56 is taken for 5');
    demand(!(await logIn(lun, { who: plain, secret, algorithms: '' })), 'a login without an algorithm is accepted');
  }),
  chapCheck('Simple', async (lun, { secret, plain }) => {
    demand(
      await logIn(lun, { who: plain, secret, algorithms: '5,6,7,8' }),
      'a login that offers four algorithms fails',
    );
    demand(
      !(await logIn(lun, { who: plain, secret: `${secret}!`, algorithms: MD5_ONLY })),
      'a wrong secret is accepted',
    );
  }),
];
