import { createHash } from 'node:crypto';
import type { Random } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';

export interface ChapSecret {
  readonly user: string;
  readonly secret: string | Buffer;
}

export interface ChapOptions extends ChapSecret {
  /** Mutual authentication: what the target must prove to us. Its name is checked when one is given. */
  readonly target?: { readonly user?: string; readonly secret: string | Buffer };
  /** PPP numbers in order of preference: 5 MD5, 6 SHA1, 7 SHA-256, 8 SHA3-256. All of them, best first, when left out. */
  readonly algorithms?: readonly number[];
  /** How binary values are written (RFC 7143 6.1). */
  readonly form?: 'hex' | 'base64';
}

type Keys = (readonly [key: string, value: string])[];

const HASHES: ReadonlyMap<number, { readonly name: string; readonly bytes: number }> = new Map([
  [7, { name: 'sha256', bytes: 32 }],
  [8, { name: 'sha3-256', bytes: 32 }],
  [6, { name: 'sha1', bytes: 20 }],
  [5, { name: 'md5', bytes: 16 }],
]);
/** RFC 7143 12.1.3. */
const MAX_VALUE_BYTES = 1024;

/** What the target says in CHAP, and is not to be answered as an offer of its own. */
export const CHAP_KEYS = ['CHAP_A', 'CHAP_I', 'CHAP_C', 'CHAP_N', 'CHAP_R'] as const;

/** The initiator's half of CHAP (RFC 7143 12.1.3, RFC 1994): answers in, requests out. Written apart from the target's. */
export class ChapExchange {
  private readonly options: ChapOptions;
  private readonly random: Random;
  private readonly offered: readonly number[];
  /** Ours, until the target has answered it. */
  private challenge: { readonly hash: string; readonly identifier: number; readonly bytes: Buffer } | undefined;

  /** `input` when both directions have the same secret: a target could then have us answer for it. */
  constructor(options: ChapOptions, random: Random) {
    this.options = options;
    this.random = random;
    this.offered = options.algorithms ?? [...HASHES.keys()];
    if (options.target !== undefined && bytesOf(options.target.secret).equals(bytesOf(options.secret)))
      throw new FarshoreError('input', 'initiator and target must have different CHAP secrets; change one of them');
  }

  offer(): Keys {
    return [['CHAP_A', this.offered.join(',')]];
  }

  /** The target's challenge, and our answer; with a challenge of our own when it has to prove itself. */
  answer(keys: ReadonlyMap<string, string>): Keys {
    const number = Number(keys.get('CHAP_A'));
    const hash = this.offered.includes(number) ? HASHES.get(number) : undefined;
    if (hash === undefined) throw broken(`chose CHAP algorithm ${keys.get('CHAP_A') ?? 'none'}, which was not offered`);
    const challenge = decode(keys.get('CHAP_C'));
    const identifier = octet(keys.get('CHAP_I'));
    const { user, secret, target } = this.options;
    const proof: Keys = [
      ['CHAP_N', user],
      ['CHAP_R', this.encode(respond(hash.name, identifier, bytesOf(secret), challenge))],
    ];
    if (target === undefined) return proof;
    const own = {
      hash: hash.name,
      identifier: this.random.bytes(1).readUInt8(0),
      bytes: this.random.bytes(hash.bytes),
    };
    this.challenge = own;
    return [...proof, ['CHAP_I', String(own.identifier)], ['CHAP_C', this.encode(own.bytes)]];
  }

  /** Whether the target is who it should be. Throws `input` when it is not, or does not say. */
  verify(keys: ReadonlyMap<string, string>): void {
    const { challenge } = this;
    const { target } = this.options;
    if (target === undefined) return;
    this.challenge = undefined;
    const said = keys.get('CHAP_R');
    if (challenge === undefined || said === undefined) throw impostor('does not prove who it is');
    const expected = respond(challenge.hash, challenge.identifier, bytesOf(target.secret), challenge.bytes);
    if (!decode(said).equals(expected)) throw impostor('has another CHAP secret');
    if (target.user !== undefined && keys.get('CHAP_N') !== target.user) throw impostor('has another CHAP name');
  }

  private encode(bytes: Buffer): string {
    return this.options.form === 'base64' ? `0b${bytes.toString('base64')}` : `0x${bytes.toString('hex')}`;
  }
}

function respond(hash: string, identifier: number, secret: Buffer, challenge: Buffer): Buffer {
  return createHash(hash).update(Buffer.of(identifier)).update(secret).update(challenge).digest();
}

function bytesOf(secret: string | Buffer): Buffer {
  return typeof secret === 'string' ? Buffer.from(secret, 'utf8') : secret;
}

function decode(value = ''): Buffer {
  const digits = value.slice(2);
  const hex = /^0[xX]([0-9a-fA-F]{2})+$/.test(value) ? Buffer.from(digits, 'hex') : undefined;
  const base64 = /^0[bB][A-Za-z0-9+/]+={0,2}$/.test(value) ? Buffer.from(digits, 'base64') : undefined;
  const bytes = hex ?? base64;
  if (bytes === undefined || bytes.length === 0 || bytes.length > MAX_VALUE_BYTES)
    throw broken('sent a CHAP value that is no binary value');
  return bytes;
}

function octet(value = ''): number {
  const number = /^([0-9]{1,3}|0[xX][0-9a-fA-F]{1,2})$/.test(value) ? Number(value) : NaN;
  if (!(number <= 255)) throw broken('sent a CHAP identifier that is no octet');
  return number;
}

function broken(what: string): FarshoreError {
  return new FarshoreError('damaged', `the target broke the protocol: it ${what}`);
}

function impostor(what: string): FarshoreError {
  return new FarshoreError('input', `the target ${what}; check its secret for this initiator, or who answers there`);
}
