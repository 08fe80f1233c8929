import { afterEach, describe, expect, it } from 'vitest';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { openSession } from '../../../gateway/initiator/connect.ts';
import { parseAddress } from '../../../gateway/initiator/connection.ts';
import type { Session } from '../../../gateway/initiator/session.ts';
import { ManualClock } from './manual-clock.ts';
import { ScriptedTarget } from './scripted-target.ts';
import type { Request, Script } from './scripted-target.ts';

const targets: ScriptedTarget[] = [];
const clock = new ManualClock();

afterEach(async () => {
  for (const target of targets.splice(0)) await target.close();
});

async function target(script: Partial<Script>): Promise<ScriptedTarget> {
  const started = await new ScriptedTarget({ onRequest: () => undefined, ...script }).listen();
  targets.push(started);
  return started;
}

function logIn(port: number): Promise<Session> {
  return openSession({ host: '127.0.0.1', port, clock, random: systemRandom, initiatorName: 'iqn.me' }, 'iqn.you');
}

describe('a login', () => {
  it('goes through the security stage to the operational one and names both ends', async () => {
    const requests: Request[] = [];
    const { port } = await target({
      login: (request) => {
        requests.push(request);
        return undefined;
      },
    });
    await logIn(port);
    expect(requests.map(({ flags }) => flags)).toEqual([0x81, 0x87]);
    const text = requests[0]?.data.toString() ?? '';
    expect(text.split('\0')).toEqual(
      expect.arrayContaining(['InitiatorName=iqn.me', 'TargetName=iqn.you', 'SessionType=Normal', 'AuthMethod=None']),
    );
    expect(requests[1]?.data.toString()).toContain('MaxRecvDataSegmentLength=262144\0');
    expect((requests[0]?.header[8] ?? 0) & 0xc0, 'ISID of the random type').toBe(0x80);
  });

  it('collects answers over PDUs with the C bit and answers keys it does not know', async () => {
    const asked: string[] = [];
    const { port } = await target({
      login: (request, attempt) => {
        asked.push(request.data.toString());
        const words = { 16: request.tag };
        switch (attempt) {
          case 1:
            return { opcode: 0x23, flags: 0x44, words, data: Buffer.from('MaxBurstLength=65536\0FirstBurst') };
          case 2:
            return { opcode: 0x23, flags: 0x04, words, data: Buffer.from('Length=4096\0X-com.example=1\0') };
          case 3:
            return { opcode: 0x23, flags: 0x87, bytes: { 15: 1 }, words };
          default:
            return undefined;
        }
      },
    });
    const session = await logIn(port);
    expect(session.negotiated.firstBurstBytes).toBe(4096);
    expect(asked[2]).toBe('');
    expect(asked[3]).toBe('X-com.example=NotUnderstood\0');
  });

  it('follows a target that has moved, but not for ever', async () => {
    const { port } = await target({});
    const redirect = (to: () => number): Partial<Script> => ({
      login: () => ({
        opcode: 0x23,
        bytes: { 36: 1, 37: 1 },
        data: Buffer.from(`TargetAddress=127.0.0.1:${to()},1\0`),
      }),
    });
    const moved = await target(redirect(() => port));
    expect((await logIn(moved.port)).negotiated).toBeDefined();
    const loop: ScriptedTarget = await target(redirect(() => loop.port));
    await expect(logIn(loop.port)).rejects.toThrow(/moved more than/);
  });

  it('says why it was refused', async () => {
    const refuse = async (statusClass: number, detail: number): Promise<unknown> => {
      const { port } = await target({ login: () => ({ opcode: 0x23, bytes: { 36: statusClass, 37: detail } }) });
      return logIn(port).then(
        () => undefined,
        (error: unknown) => error,
      );
    };
    expect(await refuse(2, 1)).toMatchObject({ kind: 'input', statusClass: 2, statusDetail: 1 });
    expect(await refuse(2, 3)).toMatchObject({ kind: 'not-found' });
    expect(await refuse(3, 2)).toMatchObject({ kind: 'retry' });
  });

  it('ends when the target keeps asking for more, hangs up, stays silent or talks nonsense', async () => {
    const endless = await target({ login: (request) => ({ opcode: 0x23, flags: 0, words: { 16: request.tag } }) });
    await expect(logIn(endless.port)).rejects.toThrow(/did not end/);
    const nonsense = await target({ login: () => ({ opcode: 0x20 }) });
    await expect(logIn(nonsense.port)).rejects.toMatchObject({ kind: 'damaged' });
    const gone = await target({});
    await gone.close();
    targets.splice(targets.indexOf(gone), 1);
    await expect(logIn(gone.port)).rejects.toMatchObject({ kind: 'retry' });
  });

  it('gives up after its time limit', async () => {
    let asked: () => void = () => undefined;
    const reached = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const silent = await target({
      login: () => {
        asked();
        return undefined;
      },
    });
    // It hears the login and says nothing.
    silent.respond = () => undefined;
    const pending = logIn(silent.port);
    await reached;
    clock.advance(20_000);
    await expect(pending).rejects.toThrow(/no login within/);
  });

  it('understands addresses with and without port, tag and brackets', () => {
    expect(parseAddress('10.0.0.1:3261,1')).toEqual({ host: '10.0.0.1', port: 3261 });
    expect(parseAddress('host.example')).toEqual({ host: 'host.example', port: 3260 });
    expect(parseAddress('[fe80::1]:3260,2')).toEqual({ host: 'fe80::1', port: 3260 });
    expect(() => parseAddress('')).toThrow(/as an address/);
  });
});
