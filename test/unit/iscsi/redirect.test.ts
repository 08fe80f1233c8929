import { afterEach, describe, expect, it } from 'vitest';
import { systemClock, systemRandom } from '../../../gateway/base/clock.ts';
import { closeSession, openSession } from '../../../gateway/initiator/connect.ts';
import { LoginError } from '../../../gateway/initiator/login.ts';
import type { IscsiTarget } from '../../../gateway/iscsi/target-registry.ts';
import { IscsiWorld, TARGET } from '../../support/iscsi-world.ts';

const INITIATOR = 'iqn.2026-11.dev.farshore.test:host';

/** RFC 7143 11.13.5 and 13.8: a target that is served at another portal. */
describe('a login where the target is not served', () => {
  const worlds: IscsiWorld[] = [];
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.stop();
  });

  async function world(): Promise<IscsiWorld> {
    const started = await IscsiWorld.start();
    worlds.push(started);
    return started;
  }

  function login(port: number) {
    const tools = { clock: systemClock, random: systemRandom };
    return openSession({ host: '127.0.0.1', port, initiatorName: INITIATOR, ...tools }, TARGET);
  }

  function movedTo(target: IscsiTarget | undefined, port: number, advertise?: { host: string; port: number }[]) {
    if (target === undefined) throw new Error('the world has lost its target');
    return { ...target, portals: [{ host: '127.0.0.1', port, advertise }] };
  }

  it('is sent to the portal where it is, and goes on there', async () => {
    const [front, owner] = [await world(), await world()];
    front.targets.set(TARGET, movedTo(front.targets.get(TARGET), owner.port));
    const session = await login(front.port);
    expect(front.server.sessions()).toEqual([]);
    expect(owner.server.sessions().map(({ targetName }) => targetName)).toEqual([TARGET]);
    expect(front.registry.events.filter(({ kind }) => kind === 'login' || kind === 'login-refused')).toEqual([]);
    await closeSession(session);
  });

  it('is sent to the address the portal has outside', async () => {
    const [front, owner] = [await world(), await world()];
    const outside = [{ host: '127.0.0.1', port: owner.port }];
    front.targets.set(TARGET, movedTo(front.targets.get(TARGET), 1, outside));
    await closeSession(await login(front.port));
    expect(owner.registry.events.map(({ kind }) => kind)).toContain('login');
  });

  it('is refused, not sent away, when no portal of it is of use to the initiator', async () => {
    const front = await world();
    const moved = movedTo(front.targets.get(TARGET), 3260);
    front.targets.set(TARGET, { ...moved, portals: [{ host: 'fe80::1', port: 3260, advertise: undefined }] });
    await expect(login(front.port)).rejects.toThrow(LoginError);
  });

  it('has to prove who it is before it is told where', async () => {
    const front = await world();
    front.targets.set(TARGET, movedTo(front.targets.get(TARGET), 3260));
    front.registry.chap = {
      initiator: { user: 'host', secret: Buffer.from('a secret of some length') },
      target: undefined,
    };
    await expect(login(front.port)).rejects.toThrow('authentication');
  });

  it('finds the portals of the target in SendTargets, with its group tag', async () => {
    const front = await world();
    front.targets.set(TARGET, movedTo(front.targets.get(TARGET), 3999));
    const initiator = await front.connect();
    await initiator.login();
    const answer = await initiator.text({ SendTargets: 'All' });
    expect(answer).toEqual({ TargetName: TARGET, TargetAddress: '127.0.0.1:3999,1' });
  });

  it('ends the sessions of a target that moves, so that they follow', async () => {
    const [front, owner] = [await world(), await world()];
    const initiator = await front.ready();
    front.targets.set(TARGET, movedTo(front.targets.get(TARGET), owner.port));
    await front.server.accessChanged();
    expect(front.server.sessions()).toEqual([]);
    await initiator.closed();
  });
});
