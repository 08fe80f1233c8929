import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import { discover } from '../../gateway/initiator/discovery.ts';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import { eventually } from '../support/processes.ts';
import { keysOf, registerKey } from '../support/reservation-keys.ts';
import { SITE_IQN, startSite, type Site } from '../support/gateway-process.ts';

const SECTOR = 512;
const CHUNK = 1024 * 1024;
const HOST = 'iqn.2026-11.dev.farshore:host1';

/** Content that says whose it is. */
function content(seed: string, bytes = CHUNK): Buffer {
  return Buffer.alloc(bytes, `${seed} `);
}

describe('volumes on two threads', () => {
  let site: Site;
  const connect = (name: string, initiatorName?: string, port = site.gateway.port): Promise<Initiator> =>
    Initiator.connect({
      host: site.gateway.host,
      port,
      target: `${SITE_IQN}:${name}`,
      ...(initiatorName === undefined ? {} : { initiatorName }),
    });
  const map = (name: string, target?: string) =>
    site.gateway.call('map', {
      name,
      initiator: HOST,
      readOnly: false,
      addresses: [],
      ...(target === undefined ? {} : { target }),
    });
  const readAll = async (name: string, chunks: number): Promise<readonly string[]> => {
    const disk = await connect(name);
    const data = await disk.read(0, (chunks * CHUNK) / SECTOR);
    await disk.close();
    return Array.from({ length: chunks }, (_, at) => data.toString('latin1', at * CHUNK, at * CHUNK + 12));
  };
  const threadOf = async (name: string): Promise<number> => (await site.gateway.call('volume-show', { name })).thread;

  beforeAll(async () => {
    site = await startSite({ threads: 2, cacheSize: '1G', ramSize: '64M' });
    for (const name of ['first', 'second'])
      await site.gateway.call('volume-create', { name, bytes: 64 * CHUNK, sectorSize: 512, replication: 'async' });
  }, 300_000);
  afterAll(async () => {
    await site.close();
  });

  it('are placed on the thread with the fewest, and found at its portal from every other', async () => {
    expect([await threadOf('first'), await threadOf('second')]).toEqual([0, 1]);
    const { host, port } = site.gateway;
    for (const at of [port, port + 1]) {
      const found = await discover({ host, port: at, clock: systemClock, random: systemRandom });
      expect(found.map(({ name, addresses }) => [name, addresses])).toEqual([
        [`${SITE_IQN}:first`, [`127.0.0.1:${port},1`]],
        [`${SITE_IQN}:second`, [`127.0.0.1:${port + 1},1`]],
      ]);
    }
  }, 300_000);

  it('take logins from everywhere by redirection; what is written lands in the cloud, and a SIGKILL loses nothing', async () => {
    const first = await connect('first', undefined, site.gateway.port + 1);
    const second = await connect('second');
    await first.write(0, content('first, old'));
    await second.write(0, content('second, old'));
    const sessions = await site.gateway.call('session-list', {});
    expect(new Set(sessions.map(({ id }) => id)).size).toBe(2);
    expect(sessions.map(({ volumes }) => volumes)).toEqual([['first'], ['second']]);
    expect(await site.gateway.call('status', {})).toMatchObject({
      threads: [
        { thread: 0, volumes: ['first'], cache: { state: 'serving' } },
        { thread: 1, volumes: ['second'], cache: { state: 'serving' } },
      ],
      volumes: [{ sessions: 1 }, { sessions: 1 }],
    });
    for (const name of ['first', 'second']) {
      await site.gateway.call('flush', { name });
      expect(await site.gateway.call('verify', { name })).toMatchObject({ verdict: 'pass', blocks: CHUNK / 4096 });
    }
    await first.write(CHUNK / SECTOR, content('first, new'));
    await second.write(CHUNK / SECTOR, content('second, new'));
    await site.gateway.end('SIGKILL');
    await Promise.all([first.close(), second.close()]);

    await site.gateway.start();
    expect(await readAll('first', 2)).toEqual(['first, old f', 'first, new f']);
    expect(await readAll('second', 2)).toEqual(['second, old ', 'second, new ']);
    await site.gateway.end('SIGTERM');
    await site.gateway.start();
    expect(await readAll('second', 2)).toEqual(['second, old ', 'second, new ']);
  }, 300_000);

  it('are administered alike: size, scrub, snapshots, sessions and access', async () => {
    const { gateway } = site;
    const disk = await connect('second');
    await gateway.call('volume-resize', { name: 'second', bytes: 96 * CHUNK, force: false });
    expect((await disk.readCapacity()).bytes).toBe(96 * CHUNK);
    expect(await gateway.call('scrub', { name: 'second', sides: ['local', 'remote'], now: true })).toMatchObject({
      local: { unrepairable: 0 },
      remote: { unrepairable: 0 },
    });
    const [session] = await gateway.call('session-list', {});
    expect(await gateway.call('session-kill', { id: session?.id ?? 0 })).toMatchObject({ unsettled: [] });
    expect(await gateway.call('session-list', {})).toEqual([]);
    await disk.close();

    await gateway.call('initiator-add', { initiator: HOST });
    await map('second');
    const chap = { user: 'host1', secret: 'a secret of 20 bytes' };
    const wrapped = { ...chap, secret: Buffer.from(chap.secret).toString('base64') };
    await gateway.call('initiator-chap', { initiator: HOST, chap: wrapped });
    await expect(connect('second', HOST)).rejects.toThrow();
    const target = `${SITE_IQN}:second`;
    const proved = await Initiator.connect({
      host: gateway.host,
      port: gateway.port,
      target,
      initiatorName: HOST,
      chap,
    });
    await proved.close();
    expect((await gateway.call('access-report', { name: 'second' })).rights).toMatchObject([
      { authentication: 'chap' },
    ]);
    await gateway.call('initiator-chap', { initiator: HOST });
    const mapped = await connect('second', HOST);
    await mapped.write(0, content('second, map'));
    await expect(connect('second')).rejects.toThrow();
    expect(await gateway.call('reservation-list', { name: 'second' })).toMatchObject({ readable: true });
    await gateway.call('unmap', { name: 'second', initiator: HOST });
    await eventually(
      () => mapped.session.failed(),
      10_000,
      () => 'the session outlived its access',
    );
    expect((await gateway.call('access-report', { name: 'second' })).uses).toContainEqual(
      expect.objectContaining({ initiator: HOST, logins: 2 }),
    );
    await mapped.close();
  }, 300_000);

  it('share a thread before they share a target, and are moved with all that is in them', async () => {
    const { gateway } = site;
    await map('first');
    await expect(map('second', 'first')).rejects.toThrow(/volume move second --thread 0/);
    await map('second');
    const before = await connect('second', HOST);
    await before.write(CHUNK / SECTOR, content('second, mov'));
    expect(gateway.cli('volume', 'move', 'second', '--thread', '0')).toContain('serving');
    await before.close();
    expect(await threadOf('second')).toBe(0);
    await map('second', 'first');
    const both = await connect('first', HOST);
    expect(await both.reportLuns()).toEqual([0, 1]);
    const second = await both.otherLun(1);
    const data = await second.read(0, (2 * CHUNK) / SECTOR);
    expect([data.toString('latin1', 0, 11), data.toString('latin1', CHUNK, CHUNK + 11)]).toEqual([
      'second, map',
      'second, mov',
    ]);
    await both.close();
    await expect(gateway.call('volume-move', { name: 'second', thread: 1 })).rejects.toThrow(
      /shares a target with first/,
    );
    await expect(gateway.call('volume-move', { name: 'first', thread: 2 })).rejects.toThrow(/no I\/O thread 2/);
  }, 300_000);

  it('stay where they are over a SIGKILL with what their hosts have reserved, and go and come back by delete and undelete', async () => {
    const { gateway } = site;
    await gateway.call('unmap', { name: 'second', initiator: HOST, target: 'first' });
    await gateway.call('volume-move', { name: 'second', thread: 1 });
    const reserving = await connect('second', HOST);
    expect(await registerKey(reserving, 0xfa5408e5n)).toBe(0);
    await gateway.end('SIGKILL');
    await reserving.close();
    await gateway.start();
    expect(await threadOf('second')).toBe(1);
    const again = await connect('second', HOST);
    expect(await keysOf(again)).toEqual([0xfa5408e5n]);
    await again.close();
    await gateway.call('volume-delete', { name: 'second' });
    await gateway.call('volume-undelete', { name: 'second' });
    expect(await threadOf('second')).toBe(1);
    const disk = await connect('second', HOST);
    expect((await disk.read(0, 1)).toString('latin1', 0, 11)).toBe('second, map');
    await disk.close();
  }, 300_000);

  it('are rolled back, made smaller and removed for ever where they are, and leave nothing there', async () => {
    const { gateway } = site;
    const first = async (text: string): Promise<void> => {
      const disk = await connect('second', HOST);
      await disk.write(0, content(text));
      await disk.close();
    };
    await first('second, good');
    const { n: version } = await gateway.call('flush', { name: 'second' });
    await first('second, bad');
    await gateway.call('flush', { name: 'second' });
    expect((await gateway.call('versions', { name: 'second', limit: 10 })).map(({ n }) => n)).toContain(version);
    await gateway.call('restore', { name: 'second', version });
    const disk = await connect('second', HOST);
    expect((await disk.read(0, 1)).toString('latin1', 0, 12)).toBe('second, good');
    const smaller = { name: 'second', bytes: 32 * CHUNK };
    await expect(gateway.call('volume-resize', { ...smaller, force: false })).rejects.toMatchObject({ kind: 'input' });
    expect(await gateway.call('volume-resize', { ...smaller, force: true })).toMatchObject({
      bytes: 32 * CHUNK,
      thread: 1,
    });
    expect((await disk.readCapacity()).bytes).toBe(32 * CHUNK);
    await disk.close();
    await gateway.call('volume-delete', { name: 'second' });
    await gateway.call('volume-purge', { name: 'second', confirm: 'second' });
    const { threads = [] } = await gateway.call('status', {});
    expect(threads[1]).toMatchObject({ thread: 1, volumes: [], cache: { usedBytes: 0, dirtyBytes: 0 } });
    await expect(connect('second', HOST)).rejects.toThrow();
  }, 300_000);
});
