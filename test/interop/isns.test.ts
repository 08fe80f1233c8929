import { appendFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { connectOverTcp } from '../../gateway/isns/connection.ts';
import type { IsnsPortal, IsnsTarget } from '../../gateway/isns/messages.ts';
import { startIsnsRegistration } from '../../gateway/isns/registration.ts';
import type { IsnsRegistration } from '../../gateway/isns/registration.ts';
import { makeSiteDirectory, removeSiteDirectory, SITE_IQN, startSite } from '../support/gateway-process.ts';
import { Isnsd } from '../support/isnsd.ts';
import { eventually } from '../support/processes.ts';
import { requireTools } from './required-tools.ts';

const ENTITY = 'iqn.2026-11.dev.farshore:office';
const A = 'iqn.2026-11.dev.farshore:a';
const B = 'iqn.2026-11.dev.farshore:b';
const C = 'iqn.2026-11.dev.farshore:c';
/** The shortest that isnsd's clock of whole seconds keeps well. */
const PERIOD_SECONDS = 3;
/** Between two looks at the server, which take milliseconds: so late could also be what keeps the registration up. */
const HELD_UP_MS = (PERIOD_SECONDS * 1000) / 4;

describe('registration with the real isnsd', () => {
  let directory: string;
  let isnsd: Isnsd;
  let targets: IsnsTarget[];
  let portals: IsnsPortal[];
  const running: IsnsRegistration[] = [];
  /** No connection to the server comes about any more. */
  let isCutOff = false;
  const sockets: Socket[] = [];

  function register(
    entity = ENTITY,
    lists = { targets: (): IsnsTarget[] => targets, portals: (): IsnsPortal[] => portals },
  ): IsnsRegistration {
    const registration = startIsnsRegistration({
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      server: `127.0.0.1:${isnsd.port}`,
      connect: async (signal) => {
        if (isCutOff) throw new FarshoreError('retry', 'the cable is out');
        sockets.push(await connectOverTcp({ host: '127.0.0.1', port: isnsd.port }, systemClock)(signal));
        return sockets.at(-1) ?? expect.fail();
      },
      entity,
      groupTag: 1,
      ...lists,
    });
    running.push(registration);
    return registration;
  }
  const until = (met: () => boolean): Promise<true> =>
    eventually(
      () => (met() ? true : undefined),
      30_000,
      () => `not so: ${running.map((each) => JSON.stringify(each.state())).join()}\n${isnsd.query('eid')}`,
    );
  const untilListed = (...names: string[]): Promise<true> => until(() => isnsd.targets().join() === names.join());
  const confirmedAfter = (registration: IsnsRegistration, since: number): Promise<true> =>
    until(() => registration.state().state === 'registered' && (registration.state().confirmedAt ?? 0) > since);

  async function startServer(keepsDatabase = false): Promise<void> {
    isnsd = await Isnsd.start({ directory, registrationPeriod: PERIOD_SECONDS, keepsDatabase });
  }

  beforeEach(() => {
    requireTools('isnsd', 'isnsadm');
    isCutOff = false;
    directory = join(makeSiteDirectory(), 'isns');
    targets = [{ name: A, alias: 'the accounts' }, { name: B }];
    portals = [
      { host: '127.0.0.1', port: 3260 },
      { host: '::1', port: 3260 },
    ];
  });

  afterEach(async () => {
    await Promise.all(running.splice(0).map((registration) => registration.close()));
    await isnsd.end('SIGKILL');
    removeSiteDirectory(join(directory, '..'));
  });

  it('shows isnsadm the entity, portals, targets and portal groups', async () => {
    await startServer();
    register();
    await untilListed(A, B);
    const shown = isnsd.query('eid');
    expect(shown).toContain(`Entity identifier = "${ENTITY}"`);
    expect(shown).toContain('Entity protocol = iSCSI (2)');
    expect(shown.match(/iSCSI node type = Target\n/g)).toHaveLength(2);
    expect(shown).toContain('iSCSI alias = "the accounts"');
    expect(shown).toContain('Portal IP address = 127.0.0.1');
    expect(shown).toContain('Portal IP address = ::1');
    expect(shown.match(/Portal TCP\/UDP port = 3260\/tcp/g)).toHaveLength(2);
    expect(shown.match(/Portal group tag = 1\n/g)).toHaveLength(4);
    expect(isnsd.query(`iscsi-name=${A}`)).toContain('the accounts');
  });

  it('names for each target the portals it is served at, and follows one that is moved', async () => {
    const near = { host: '127.0.0.1', port: 3260 };
    const far = { host: '127.0.0.1', port: 3261 };
    targets = [
      { name: A, portals: [near] },
      { name: B, portals: [far] },
    ];
    portals = [near, far];
    await startServer();
    const registration = register();
    await untilListed(A, B);
    await until(() => registration.state().state === 'registered');
    expect(isnsd.portalsOf(A)).toEqual(['3260']);
    expect(isnsd.portalsOf(B)).toEqual(['3261']);
    targets = [
      { name: A, portals: [far] },
      { name: B, portals: [far] },
    ];
    registration.changed();
    await until(() => isnsd.portalsOf(A).join() === '3261');
    expect(isnsd.portalsOf(B)).toEqual(['3261']);
  });

  it('is kept over several periods, and forgotten by the server a period after we are gone', async () => {
    await startServer();
    const registration = register();
    await untilListed(A, B);
    const start = systemClock.now();
    let lookedAt = start;
    let longestGapMs = 0;
    let timesAway = 0;
    await until(() => {
      if (isnsd.targets().length !== 2) timesAway += 1;
      const now = systemClock.now();
      longestGapMs = Math.max(longestGapMs, now - lookedAt);
      lookedAt = now;
      return now - start > 3 * PERIOD_SECONDS * 1000;
    });
    // On a machine that holds this process up for long the server is right to forget us for a moment.
    expect(longestGapMs > HELD_UP_MS ? 0 : timesAway).toBe(0);
    await confirmedAfter(registration, start + 2 * PERIOD_SECONDS * 1000);
    isCutOff = true;
    for (const socket of sockets) socket.destroy();
    await untilListed();
  });

  it('follows targets and portals that come and go, and is removed at the end', async () => {
    await startServer();
    const registration = register();
    await untilListed(A, B);
    targets = [{ name: B }, { name: C, alias: 'new' }];
    registration.changed();
    await untilListed(B, C);
    portals = [{ host: '127.0.0.1', port: 3270 }];
    registration.changed();
    await until(() => {
      const shown = isnsd.query('eid');
      return shown.includes('Portal TCP/UDP port = 3270') && !shown.includes('Portal TCP/UDP port = 3260');
    });
    targets = [];
    registration.changed();
    await untilListed();
    expect(registration.state().state).toBe('idle');
    targets = [{ name: A }];
    registration.changed();
    await untilListed(A);
    await registration.close();
    expect(isnsd.targets()).toEqual([]);
    expect(isnsd.query('eid')).not.toContain(ENTITY);
  });

  it.each([
    { title: 'has forgotten everything', keepsDatabase: false },
    { title: 'has kept its database', keepsDatabase: true },
  ])('is there again after a restart of isnsd that $title', async ({ keepsDatabase }) => {
    await startServer(keepsDatabase);
    const registration = register();
    await untilListed(A, B);
    await isnsd.end('SIGKILL');
    await until(() => registration.state().state === 'failing');
    targets = [{ name: A }, { name: C }];
    registration.changed();
    const restartedAt = systemClock.now();
    await isnsd.start();
    await untilListed(A, C);
    await confirmedAfter(registration, restartedAt);
  });

  it('of hundreds of targets works too', async () => {
    await startServer();
    targets = Array.from({ length: 256 }, (_, index) => ({
      name: `iqn.2026-11.dev.farshore:volume-${String(index).padStart(3, '0')}`,
      alias: `volume ${index}`,
    }));
    const registration = register();
    await until(() => registration.state().state === 'registered');
    expect(registration.state()).toMatchObject({ targets: 256, problem: undefined });
    // isnsadm cannot show as many at once.
    for (const { name } of [targets[0], targets[255]].filter((target) => target !== undefined))
      expect(isnsd.query(`iscsi-name=${name}`)).toContain(name);
    await confirmedAfter(registration, systemClock.now());
    expect(registration.state()).toMatchObject({ targets: 256, problem: undefined });
  });

  it('of a target that another gateway still has comes when that one has gone', async () => {
    await startServer();
    const other = register('iqn.2026-11.dev.farshore:burnt-office', {
      targets: () => [{ name: A }],
      portals: () => [{ host: '127.0.0.9', port: 3260 }],
    });
    await untilListed(A);
    const registration = register();
    await until(() => registration.state().state === 'registered');
    await other.close();
    await until(() => registration.state().targets === 2 && registration.state().problem === undefined);
    await untilListed(A, B);
  });

  it('is what a gateway with `isns.server` in its configuration does, from its start to its clean stop', async () => {
    await startServer();
    const site = await startSite();
    try {
      site.gateway.createVolume('accounts', '64M');
      appendFileSync(site.gateway.configFile, `isns: { server: "127.0.0.1:${isnsd.port}" }\n`);
      await site.gateway.end('SIGTERM');
      await site.gateway.start();
      await untilListed(`${SITE_IQN}:accounts`);
      expect(isnsd.query('eid')).toContain(`Portal TCP/UDP port = ${site.gateway.port}/tcp`);
      expect(site.gateway.cli('status')).toContain(`127.0.0.1:${isnsd.port}: registered`);
      site.gateway.createVolume('letters', '64M');
      await untilListed(`${SITE_IQN}:accounts`, `${SITE_IQN}:letters`);
      await site.gateway.end('SIGKILL');
      await site.gateway.start();
      await untilListed(`${SITE_IQN}:accounts`, `${SITE_IQN}:letters`);
      await site.gateway.end('SIGTERM');
      expect(isnsd.targets()).toEqual([]);
    } finally {
      await site.close();
    }
  }, 180_000);

  it('of a gateway with two threads names where each target is served, also after a move', async () => {
    await startServer();
    const site = await startSite({ threads: 2, cacheSize: '1G', ramSize: '64M' });
    try {
      const { gateway } = site;
      appendFileSync(gateway.configFile, `isns: { server: "127.0.0.1:${isnsd.port}" }\n`);
      await gateway.end('SIGTERM');
      await gateway.start();
      for (const name of ['first', 'second']) gateway.createVolume(name, '64M');
      const [first, second] = [`${SITE_IQN}:first`, `${SITE_IQN}:second`];
      await untilListed(first, second);
      const ports = (): string[][] => [first, second].map((name) => isnsd.portalsOf(name));
      const [near, far] = [String(gateway.port), String(gateway.port + 1)];
      await until(() => JSON.stringify(ports()) === JSON.stringify([[near], [far]]));
      gateway.cli('volume', 'move', 'first', '--thread', '1');
      await until(() => JSON.stringify(ports()) === JSON.stringify([[far], [far]]));
    } finally {
      await site.close();
    }
  }, 180_000);
});
