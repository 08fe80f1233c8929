import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { ChapExchange } from '../../../gateway/initiator/chap.ts';
import type { ChapOptions } from '../../../gateway/initiator/chap.ts';

const OPTIONS: ChapOptions = { user: 'host', secret: 'secret of the host', target: { secret: 'secret of the target' } };
const CHALLENGE = { CHAP_A: '7', CHAP_I: '9', CHAP_C: '0x0102030405060708090a0b0c0d0e0f10' };

const keys = (values: Readonly<Record<string, string>>): ReadonlyMap<string, string> => new Map(Object.entries(values));

function exchange(options: Partial<ChapOptions> = {}): ChapExchange {
  return new ChapExchange({ ...OPTIONS, ...options }, systemRandom);
}

/** RFC 1994 4.1. */
function response(identifier: number, secret: string, challenge: string): string {
  const bytes = Buffer.from(challenge.slice(2), 'hex');
  return `0x${createHash('sha256').update(Buffer.of(identifier)).update(secret).update(bytes).digest('hex')}`;
}

describe('the initiator', () => {
  test('offers what it knows, best first, or what it is told to', () => {
    expect(exchange().offer()).toEqual([['CHAP_A', '7,8,6,5']]);
    expect(exchange({ algorithms: [5] }).offer()).toEqual([['CHAP_A', '5']]);
  });

  test('proves itself, and asks the target for a proof with another challenge each time', () => {
    const answers = [0, 1].map(() => new Map(exchange().answer(keys(CHALLENGE))));
    for (const answer of answers) {
      expect(answer.get('CHAP_N')).toBe('host');
      expect(answer.get('CHAP_R')).toBe(response(9, 'secret of the host', CHALLENGE.CHAP_C));
    }
    expect(answers[0]?.get('CHAP_C')).not.toBe(answers[1]?.get('CHAP_C'));
  });

  test('lets the target in that has the secret, in either form', () => {
    for (const form of ['hex', 'base64'] as const) {
      const own = exchange();
      const asked = new Map(own.answer(keys(CHALLENGE)));
      const proof = response(Number(asked.get('CHAP_I')), 'secret of the target', asked.get('CHAP_C') ?? '');
      const text = form === 'hex' ? proof : `0b${Buffer.from(proof.slice(2), 'hex').toString('base64')}`;
      expect(() => {
        own.verify(keys({ CHAP_N: 'anybody', CHAP_R: text }));
      }).not.toThrow();
    }
  });

  test.each([
    ['another algorithm', { ...CHALLENGE, CHAP_A: '4' }],
    ['no algorithm', { CHAP_I: '9', CHAP_C: '0x01' }],
    ['no challenge', { CHAP_A: '7', CHAP_I: '9' }],
    ['an empty challenge', { ...CHALLENGE, CHAP_C: '0x' }],
    ['a challenge that is no value', { ...CHALLENGE, CHAP_C: 'hello' }],
    ['half a digit', { ...CHALLENGE, CHAP_C: '0x0' }],
    ['a challenge of 1025 bytes', { ...CHALLENGE, CHAP_C: `0x${'00'.repeat(1025)}` }],
    ['no identifier', { CHAP_A: '7', CHAP_C: '0x01' }],
    ['an identifier above an octet', { ...CHALLENGE, CHAP_I: '256' }],
  ])('gives up on a target that sends %s', (_name, said) => {
    expect(() => exchange().answer(keys(said))).toThrow(expect.objectContaining({ kind: 'damaged' }));
  });

  test.each([
    ['nothing', () => ({})],
    ['its own response back', (own: string) => ({ CHAP_N: 'host', CHAP_R: own })],
    ['zeros', () => ({ CHAP_N: 'farshore', CHAP_R: `0x${'00'.repeat(32)}` })],
  ])('does not believe a target that proves itself with %s', (_name, said) => {
    const own = exchange();
    const answer = new Map(own.answer(keys(CHALLENGE)));
    expect(() => {
      own.verify(keys(said(answer.get('CHAP_R') ?? '')));
    }).toThrow(expect.objectContaining({ kind: 'input' }));
  });

  test('refuses one secret for both directions', () => {
    expect(() => exchange({ target: { secret: OPTIONS.secret } })).toThrow('different CHAP secrets');
  });
});
