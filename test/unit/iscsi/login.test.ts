import { describe, expect, test } from 'vitest';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { INITIAL_LOGIN, loginStep } from '../../../gateway/iscsi/login.ts';
import type { LoginState, LoginStep } from '../../../gateway/iscsi/login.ts';
import type { LoginPolicy } from '../../../gateway/iscsi/login-identity.ts';
import { decodeLogin } from '../../../gateway/iscsi/requests.ts';
import { DEFAULT_PARAMETERS } from '../../../gateway/iscsi/text-keys.ts';
import { buildLogin, textOf } from '../../support/iscsi-wire.ts';
import type { LoginFields } from '../../support/iscsi-wire.ts';

const TARGET = 'iqn.2026-11.dev.farshore:disk';
const INITIATOR = 'iqn.1993-08.org.debian:01:host';
const NORMAL = { InitiatorName: INITIATOR, TargetName: TARGET, SessionType: 'Normal' };
const DISCOVERY = { InitiatorName: INITIATOR, SessionType: 'Discovery' };

const policy: LoginPolicy = {
  authorize: (name) => {
    if (name === TARGET) return { kind: 'allowed', target: { name, luns: () => new Map() }, chap: undefined };
    return name === 'iqn.2026-11.dev.farshore:secret'
      ? { kind: 'forbidden', reason: 'not this one' }
      : { kind: 'not-found' };
  },
  refusesAlike: () => false,
  discoveryChap: () => undefined,
  sessionOf: (tsih) =>
    tsih === 7 ? { connectionId: 5, parameters: { ...DEFAULT_PARAMETERS, initialR2t: false } } : undefined,
  challenges: { random: systemRandom, issue: () => undefined, isOutstanding: () => false },
};

function step(fields: LoginFields, state: LoginState = INITIAL_LOGIN): LoginStep {
  const pdu = buildLogin(fields);
  const length = pdu.readUInt32BE(4);
  return loginStep(state, decodeLogin(pdu.subarray(0, 48)), pdu.subarray(48, 48 + length), policy);
}

function stateAfter(result: LoginStep): LoginState {
  if (result.kind !== 'continue') throw new Error(`the login did not go on but: ${result.kind}`);
  return result.state;
}

const replyKeys = (result: LoginStep): Record<string, string> => Object.fromEntries(result.reply.text);

describe('every pair of stages', () => {
  // RFC 7143 6.3: from 0 to 1 or 3, from 1 to 3, and nothing else.
  const LEGAL = new Map([
    ['0 1', 'continue'],
    ['0 3', 'complete'],
    ['1 3', 'complete'],
  ]);
  for (const csg of [0, 1, 2, 3]) {
    for (const nsg of [0, 1, 2, 3]) {
      const wanted = LEGAL.get(`${csg} ${nsg}`) ?? 'refuse';
      test(`a transit from ${csg} to ${nsg}: ${wanted}`, () => {
        const result = step({ transit: true, csg, nsg, keys: NORMAL });
        expect(result.kind).toBe(wanted);
        expect(result.reply.transit).toBe(wanted !== 'refuse');
      });
      test(`no transit in stage ${csg} naming ${nsg}: ${csg < 2 ? 'continue' : 'refuse'}`, () => {
        expect(step({ transit: false, csg, nsg, keys: NORMAL }).kind).toBe(csg < 2 ? 'continue' : 'refuse');
      });
    }
  }

  test('a login never goes back to an earlier stage', () => {
    const state = stateAfter(step({ transit: true, csg: 0, nsg: 1, keys: NORMAL }));
    expect(step({ transit: true, csg: 0, nsg: 1 }, state).kind).toBe('refuse');
    expect(step({ transit: true, csg: 1, nsg: 3 }, state).kind).toBe('complete');
  });
});

describe('the first request', () => {
  const refusals: readonly [string, LoginFields, number][] = [
    ['without InitiatorName', { keys: { TargetName: TARGET } }, 0x0207],
    ['without TargetName in a normal session', { keys: { InitiatorName: INITIATOR } }, 0x0207],
    ['with a name that is no iSCSI name', { keys: { ...NORMAL, InitiatorName: 'host' } }, 0x0200],
    ['with a name of 224 bytes', { keys: { ...NORMAL, InitiatorName: `iqn.2026-11.a:${'x'.repeat(210)}` } }, 0x0200],
    ['for a target that is not there', { keys: { ...NORMAL, TargetName: 'iqn.2026-11.dev.farshore:no' } }, 0x0203],
    ['for a target it may not use', { keys: { ...NORMAL, TargetName: 'iqn.2026-11.dev.farshore:secret' } }, 0x0202],
    ['with an unknown session type', { keys: { ...NORMAL, SessionType: 'Odd' } }, 0x0209],
    ['with a version above ours', { keys: NORMAL, versionMin: 1 }, 0x0205],
    ['into a session that is not there', { keys: NORMAL, tsih: 9 }, 0x020a],
    ['as a second connection', { keys: NORMAL, tsih: 7 }, 0x0206],
    ['that offers CHAP alone', { csg: 0, nsg: 1, keys: { ...NORMAL, AuthMethod: 'CHAP' } }, 0x0201],
    ['with a malformed text', { text: Buffer.from('InitiatorName\0') }, 0x0200],
    ['with a key twice', { text: Buffer.from(`${textOf(NORMAL).toString()}InitiatorName=${INITIATOR}\0`) }, 0x0200],
    ['with an impossible MaxRecvDataSegmentLength', { keys: { ...NORMAL, MaxRecvDataSegmentLength: '511' } }, 0x0200],
    ['with C and T both set', { continued: true, keys: NORMAL }, 0x0200],
  ];
  test('in the place of the connection of a session goes on with what was agreed on for that', () => {
    const result = step({
      transit: true,
      csg: 1,
      nsg: 3,
      tsih: 7,
      cid: 5,
      keys: { ...NORMAL, HeaderDigest: 'CRC32C' },
    });
    expect(result).toMatchObject({
      kind: 'complete',
      identity: { reinstates: 7, connectionId: 5 },
      parameters: { initialR2t: false, headerDigest: true },
    });
  });

  test.each(refusals)('%s is refused', (_name, fields, status) => {
    const result = step({ transit: true, csg: 1, nsg: 3, ...fields });
    expect(result.kind).toBe('refuse');
    expect(result.reply.status).toBe(status);
  });

  test('TargetPortalGroupTag is in the first answer of a normal session, and in none of a discovery session', () => {
    const first = step({ csg: 0, keys: NORMAL });
    expect(replyKeys(first)['TargetPortalGroupTag']).toBe('1');
    expect(replyKeys(step({ csg: 0, keys: { MaxBurstLength: '65536' } }, stateAfter(first)))).not.toHaveProperty(
      'TargetPortalGroupTag',
    );
    expect(replyKeys(step({ csg: 0, keys: DISCOVERY }))).not.toHaveProperty('TargetPortalGroupTag');
  });

  test('names are compared in lower case', () => {
    const result = step({ transit: true, keys: { ...NORMAL, TargetName: TARGET.toUpperCase() } });
    expect(result).toMatchObject({ kind: 'complete', identity: { targetName: TARGET, initiatorName: INITIATOR } });
  });
});

describe('negotiation', () => {
  const offers: readonly [key: string, offer: string, answer: string][] = [
    ['HeaderDigest', 'None,CRC32C', 'None'],
    ['HeaderDigest', 'CRC32C', 'CRC32C'],
    ['DataDigest', 'CRC32C,None', 'CRC32C'],
    ['DataDigest', 'SHA1', 'Reject'],
    ['MaxConnections', '8', '1'],
    ['InitialR2T', 'No', 'No'],
    ['InitialR2T', 'Yes', 'Yes'],
    ['ImmediateData', 'Yes', 'Yes'],
    ['ImmediateData', 'No', 'No'],
    ['ImmediateData', 'Maybe', 'Reject'],
    ['MaxRecvDataSegmentLength', '65536', '262144'], // ours, said on the occasion
    ['MaxBurstLength', '16776192', '1048576'],
    ['MaxBurstLength', '0x10000', '65536'],
    ['MaxBurstLength', '16777216', 'Reject'],
    ['FirstBurstLength', '65536', '65536'],
    ['FirstBurstLength', '-1', 'Reject'],
    ['DefaultTime2Wait', '2', '2'],
    ['DefaultTime2Retain', '20', '0'],
    ['MaxOutstandingR2T', '16', '1'],
    ['DataPDUInOrder', 'No', 'Yes'],
    ['DataSequenceInOrder', 'Yes', 'Yes'],
    ['ErrorRecoveryLevel', '2', '0'],
    ['IFMarker', 'Yes', 'No'],
    ['TaskReporting', 'FastAbort,RFC3720', 'RFC3720'],
    ['iSCSIProtocolLevel', '2', '1'],
    ['X-com.example.key', 'whatever', 'NotUnderstood'],
    ['NoSuchKey', '1', 'NotUnderstood'],
  ];
  test.each(offers)('%s=%s is answered %s', (key, offer, answer) => {
    const keys = replyKeys(step({ csg: 1, keys: { ...NORMAL, [key]: offer } }));
    expect(keys[key]).toBe(answer);
  });

  test('keys of a session have no meaning in discovery', () => {
    const keys = replyKeys(step({ csg: 1, keys: { ...DISCOVERY, MaxBurstLength: '65536', HeaderDigest: 'None' } }));
    expect(keys['MaxBurstLength']).toBe('Irrelevant');
    expect(keys['HeaderDigest']).toBe('None');
  });

  test('what nobody mentions keeps the defaults of the RFC', () => {
    const result = step({ transit: true, keys: NORMAL });
    expect(result).toMatchObject({
      kind: 'complete',
      parameters: {
        headerDigest: false,
        dataDigest: false,
        initialR2t: true,
        immediateData: true,
        initiatorMaxRecvBytes: 8192,
        maxBurstBytes: 262_144,
        firstBurstBytes: 65_536,
      },
    });
  });

  test('the first burst is never longer than a burst', () => {
    const result = step({ transit: true, keys: { ...NORMAL, MaxBurstLength: '4096', FirstBurstLength: '8192' } });
    expect(result).toMatchObject({ parameters: { firstBurstBytes: 4096, maxBurstBytes: 4096 } });
  });

  test('AuthMethod None is chosen whatever else is offered', () => {
    const result = step({ transit: true, csg: 0, nsg: 1, keys: { ...NORMAL, AuthMethod: 'CHAP,None' } });
    expect(replyKeys(result)['AuthMethod']).toBe('None');
  });
});

describe('the C bit', () => {
  test('text is put together over requests, cut at any byte', () => {
    const text = textOf({ ...NORMAL, MaxBurstLength: '65536' });
    for (let cut = 1; cut < text.length; cut += 7) {
      const first = step({ continued: true, csg: 1, nsg: 0, text: text.subarray(0, cut) });
      expect(first).toMatchObject({ kind: 'continue', reply: { transit: false, text: [] } });
      const last = step({ transit: true, csg: 1, nsg: 3, text: text.subarray(cut) }, stateAfter(first));
      expect(last).toMatchObject({ kind: 'complete', parameters: { maxBurstBytes: 65_536 } });
    }
  });

  test('text without end is refused', () => {
    let state = INITIAL_LOGIN;
    for (let round = 0; round < 100; round += 1) {
      const result = step({ continued: true, csg: 1, nsg: 0, text: Buffer.alloc(8192, 0x61) }, state);
      if (result.kind === 'refuse') return;
      state = stateAfter(result);
    }
    throw new Error('the target gathers text for ever');
  });
});

test('a login of empty requests without end is refused', () => {
  let state = stateAfter(step({ csg: 0, keys: NORMAL }));
  for (let round = 0; round < 100; round += 1) {
    const result = step({ csg: 0 }, state);
    if (result.kind === 'refuse') return;
    state = stateAfter(result);
  }
  throw new Error('the target goes on for ever');
});

test('the ISID cannot change within a login', () => {
  const state = stateAfter(step({ csg: 0, keys: NORMAL, isid: '00023d000001' }));
  expect(step({ csg: 0, isid: '00023d000002' }, state).kind).toBe('refuse');
});
