import { randomBytes } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { AccessReport } from '../../gateway/access/report.ts';
import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import { discover } from '../../gateway/initiator/discovery.ts';
import { Initiator, type InitiatorOptions } from '../../gateway/initiator/initiator.ts';
import {
  CloudProcess,
  GatewayProcess,
  makeSiteDirectory,
  removeSiteDirectory,
  SITE_IQN,
} from '../support/gateway-process.ts';
import { eventually, runTool } from '../support/processes.ts';
import { keysOf, registerKey } from '../support/reservation-keys.ts';
import { requireTools } from './required-tools.ts';

/** The acceptance of access control: what an administrator types, what initiators then see, what the auditor reads. */

const PROGRAM = resolve(import.meta.dirname, '../../dist/farshore.js');
const ALICE = 'iqn.2026-11.com.example:alice';
const BOB = 'iqn.2026-11.com.example:bob';
const SECRET = 'the secret of alice';
const MUTUAL = 'and that of the office';
const SECTORS = 2048;
const CHANGE_LIMIT_MS = 60_000;
/** Why something is refused: a gateway that has ended, or a tool that is not there, refuses nothing. */
const NO_SUCH_LUN = /ILLEGAL REQUEST, additional sense 25h 00h/;
const NOT_AUTHENTICATED = /authentication failed/;
const SESSION_GONE = /^connection to \S+: /;
const TOOL_REFUSED = /Failed to log in to target/;

// Each command line is a process of its own, and there are many.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

let directory: string;
let cloud: CloudProcess;
let office: GatewayProcess;

function cli(gateway: GatewayProcess, ...words: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...words, '--config', gateway.configFile], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

const farshore = (...words: string[]): string => office.cli(...words);

const options = (gateway: GatewayProcess, who: string, target: string): InitiatorOptions => ({
  host: gateway.host,
  port: gateway.port,
  initiatorName: who,
  target: `${SITE_IQN}:${target}`,
});

const login = (
  who: string,
  target: string,
  more: Partial<InitiatorOptions> = {},
  gateway = office,
): Promise<Initiator> => Initiator.connect({ ...options(gateway, who, target), ...more });

async function targetsFor(who: string, gateway = office): Promise<string[]> {
  const found = await discover({
    host: gateway.host,
    port: gateway.port,
    initiatorName: who,
    clock: systemClock,
    random: systemRandom,
  });
  return found.map(({ name }) => name.slice(SITE_IQN.length + 1)).sort();
}

function auditOf(gateway: GatewayProcess): Record<string, unknown>[] {
  const folder = join(gateway.stateDirectory, 'audit');
  return readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl'))
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'))
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

beforeAll(async () => {
  requireTools('iscsi-ls', 'iscsi-inq');
  directory = makeSiteDirectory();
  cloud = await CloudProcess.start(directory);
  office = await GatewayProcess.start({ directory, cloud, name: 'office', rpoSeconds: 1 });
  for (const name of ['books', 'mail', 'open']) office.createVolume(name, '16M');
  for (const name of [ALICE, BOB]) farshore('initiator', 'add', name);
});
afterAll(async () => {
  await office.end();
  await cloud.end();
  removeSiteDirectory(directory);
});

describe('masking', () => {
  it('lets everybody see a volume until the first map, and from then on nobody it is not mapped for', async () => {
    expect(await targetsFor(BOB)).toEqual(['books', 'mail', 'open']);
    expect(farshore('map', 'books', '--initiator', ALICE)).toContain('books is LUN 0 of');
    farshore('map', 'mail', '--initiator', BOB);
    expect(await targetsFor(ALICE)).toEqual(['books', 'open']);
    expect(await targetsFor(BOB)).toEqual(['mail', 'open']);
    expect(await targetsFor('iqn.2026-11.com.example:eve')).toEqual(['open']);
    await expect(login(BOB, 'books')).rejects.toThrow(/no such target/);
    await expect(login(BOB, 'nothing')).rejects.toThrow(/no such target/);
    await (await login(ALICE, 'books')).close();
  });

  it('shows each initiator its own LUNs of a target with several, and no command reaches another', async () => {
    farshore('target', 'create', 'shared');
    farshore('map', 'books', '--initiator', ALICE, '--target', 'shared', '--lun', '3');
    farshore('map', 'mail', '--initiator', ALICE, '--target', 'shared');
    farshore('map', 'mail', '--initiator', BOB, '--target', 'shared', '--lun', '3', '--read-only');
    const alice = await login(ALICE, 'shared');
    expect(await alice.reportLuns()).toEqual([0, 3]);
    const books = await alice.otherLun(3);
    const data = randomBytes(64 * 1024);
    await books.write(0, data);
    expect(await alice.read(0, 128)).not.toEqual(data);
    const bob = await login(BOB, 'shared', { lun: 3 });
    expect(await bob.reportLuns()).toEqual([3]);
    await expect(bob.otherLun(0)).rejects.toThrow(NO_SUCH_LUN);
    await expect(bob.write(0, data)).rejects.toThrow(/protect/i);
    expect(await bob.read(0, 128)).not.toEqual(data);
    await alice.close();
    await bob.close();
    expect(farshore('target', 'list')).toMatch(/:shared .*cli:.*books, mail +2/);
  });

  it('reaches a live session at once: read-only, another LUN, and the end', async () => {
    const alice = await login(ALICE, 'shared');
    await alice.write(0, randomBytes(4096));
    farshore('map', 'mail', '--initiator', ALICE, '--target', 'shared', '--read-only');
    await expect(alice.write(0, randomBytes(4096))).rejects.toThrow(/protect/i);
    farshore('unmap', 'books', '--initiator', ALICE, '--target', 'shared');
    expect(await alice.reportLuns()).toEqual([0]);
    await expect(alice.otherLun(3)).rejects.toThrow(NO_SUCH_LUN);
    farshore('map', 'books', '--initiator', ALICE, '--target', 'shared', '--lun', '9');
    expect(await alice.reportLuns()).toEqual([0, 9]);
    await (await alice.otherLun(9)).read(0, SECTORS);
    farshore('unmap', 'books', '--initiator', ALICE, '--target', 'shared');
    farshore('unmap', 'mail', '--initiator', ALICE);
    await expect(alice.read(0, 8)).rejects.toThrow(SESSION_GONE);
    await expect(login(ALICE, 'shared')).rejects.toThrow(/no such target/);
    await alice.close().catch(() => undefined);
  });

  it('counts an address that is not meant as nobody', async () => {
    farshore('map', 'mail', '--initiator', ALICE, '--target', 'shared', '--address', '10.9.8.0/24');
    await expect(login(ALICE, 'shared')).rejects.toThrow(/no such target/);
    farshore('map', 'mail', '--initiator', ALICE, '--target', 'shared', '--address', '127.0.0.0/8');
    await (await login(ALICE, 'shared')).close();
  });

  it.each([
    ['an unknown initiator', ['map', 'books', '--initiator', 'iqn.2026-11.com.example:x'], 3, 'farshore initiator add'],
    ['a name that is none', ['initiator', 'add', 'alice'], 2, 'is no iSCSI name'],
    ['an unknown target', ['map', 'books', '--initiator', ALICE, '--target', 'x'], 3, 'farshore target create'],
    ['a LUN that is none', ['map', 'books', '--initiator', ALICE, '--lun', '256'], 2, 'from 0 to 255'],
    [
      'a LUN that is taken',
      ['map', 'mail', '--initiator', ALICE, '--target', 'books', '--lun', '0'],
      4,
      'volume books',
    ],
    ['an address that is none', ['map', 'books', '--initiator', ALICE, '--address', 'x'], 2, 'is no address'],
    ['an unknown volume', ['map', 'x', '--initiator', ALICE], 3, 'is not served'],
    ['a map that is not there', ['unmap', 'books', '--initiator', BOB], 3, 'is not mapped for'],
    ['an initiator in use', ['initiator', 'remove', ALICE], 4, 'farshore unmap books'],
    ['a target in use', ['target', 'delete', 'shared'], 4, 'farshore unmap mail'],
    ['a volume with the name of a target', ['volume', 'create', 'shared', '--size', '16M'], 4, 'there is a target'],
    [
      'a secret in the words of the command',
      ['initiator', 'chap', ALICE, '--user', 'a', '--secret', 'x'],
      2,
      'unknown option',
    ],
    ['a credential without a secret', ['initiator', 'chap', ALICE, '--user', 'a'], 2, '--secret-file FILE'],
    ['a session that is not there', ['session', 'kill', '65000'], 3, 'there is no session'],
  ])('refuses %s with one sentence and an exit code', (_what, words, status, sentence) => {
    const refused = cli(office, ...words);
    expect(refused.stderr).toContain(sentence);
    expect(refused.status).toBe(status);
  });
});

describe('authentication', () => {
  const secretFile = (name: string, secret: string): string => {
    const file = join(directory, name);
    writeFileSync(file, `${secret}\n`, { mode: 0o600 });
    return file;
  };
  const setChap = (who: string, user: string, file: string, ...more: string[]): string =>
    farshore('initiator', 'chap', who, '--user', user, '--secret-file', file, ...more);
  const chap = { user: 'alice', secret: SECRET };

  it('asks for the credential of the initiator, in both directions, and takes no other', async () => {
    const mutual = ['--mutual-user', 'office', '--mutual-secret-file', secretFile('two', MUTUAL)];
    expect(setChap(ALICE, 'alice', secretFile('one', SECRET), ...mutual)).toContain('CHAP: user alice, mutual office');
    await expect(login(ALICE, 'books')).rejects.toThrow(NOT_AUTHENTICATED);
    await expect(login(ALICE, 'books', { chap: { user: 'alice', secret: 'a wrong secret' } })).rejects.toThrow(
      NOT_AUTHENTICATED,
    );
    await expect(login(ALICE, 'books', { chap: { user: 'bob', secret: SECRET } })).rejects.toThrow(NOT_AUTHENTICATED);
    await (await login(ALICE, 'books', { chap })).close();
    await (await login(ALICE, 'books', { chap: { ...chap, target: { user: 'office', secret: MUTUAL } } })).close();
    await expect(
      login(ALICE, 'books', { chap: { ...chap, target: { user: 'office', secret: 'somebody else' } } }),
    ).rejects.toThrow(/check its secret for this initiator/);
  });

  it('agrees with libiscsi about it', () => {
    const portal = `${office.host}:${office.port}`;
    const url = `iscsi://alice%${SECRET}@${portal}/${SITE_IQN}:books/0`;
    expect(runTool('iscsi-inq', ['-i', ALICE, url])).toContain('DIRECT_ACCESS');
    expect(runTool('iscsi-ls', ['-i', ALICE, `iscsi://${portal}`])).toContain(`${SITE_IQN}:books`);
    expect(() => runTool('iscsi-inq', ['-i', ALICE, `iscsi://${portal}/${SITE_IQN}:books/0`])).toThrow(TOOL_REFUSED);
    expect(() => runTool('iscsi-inq', ['-i', BOB, url])).toThrow(TOOL_REFUSED);
  });

  it('can be another one for one target, and ends a session whose credential was set anew', async () => {
    const own = { user: 'alice-shared', secret: 'for this target only' };
    setChap(ALICE, own.user, secretFile('three', own.secret), '--target', 'shared');
    await expect(login(ALICE, 'shared', { chap })).rejects.toThrow(NOT_AUTHENTICATED);
    const shared = await login(ALICE, 'shared', { chap: own });
    const books = await login(ALICE, 'books', { chap });
    setChap(ALICE, own.user, secretFile('four', 'and now another one'), '--target', 'shared');
    await expect(shared.read(0, 8)).rejects.toThrow(SESSION_GONE);
    await books.read(0, 8);
    farshore('initiator', 'chap', ALICE, '--target', 'shared', '--clear');
    await books.close();
    await shared.close().catch(() => undefined);
  });

  it('of discovery is its own', async () => {
    farshore('access', 'discovery-chap', '--user', 'finder', '--secret-file', secretFile('five', 'finders keepers'));
    await expect(targetsFor(BOB)).rejects.toThrow(NOT_AUTHENTICATED);
    expect(runTool('iscsi-ls', ['-i', BOB, `iscsi://finder%finders keepers@${office.host}:${office.port}`])).toContain(
      `${SITE_IQN}:shared`,
    );
    farshore('access', 'discovery-chap', '--clear');
    expect(await targetsFor(BOB)).toEqual(['mail', 'open', 'shared']);
  });

  it('makes a secret and prints it once; no secret is in any file, log or answer', () => {
    const made =
      /^secret: (\S{16}) /m.exec(farshore('initiator', 'chap', BOB, '--user', 'bob', '--generate'))?.[1] ?? '';
    expect(made).toHaveLength(16);
    expect(cli(office, '--json', 'initiator', 'chap', BOB, '--user', 'bob', '--generate')).toMatchObject({ status: 2 });
    farshore('initiator', 'chap', BOB, '--clear');
    const answers = [['initiator', 'list'], ['access', 'report'], ['status'], ['session', 'list']].map((words) =>
      farshore('--json', ...words),
    );
    const files = readdirSync(office.stateDirectory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.parentPath !== join(office.stateDirectory, 'cache'))
      .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
    const everything = [...answers, ...files, readFileSync(office.logFile, 'latin1')].join('\n');
    for (const secret of [SECRET, MUTUAL, made, 'finders keepers']) {
      for (const form of ['utf8', 'base64', 'hex'] as const) {
        expect(everything).not.toContain(Buffer.from(secret).toString(form));
      }
    }
  });
});

describe('sessions', () => {
  it('are listed with what they see, and end when told to', async () => {
    const bob = await login(BOB, 'mail', { busyTimeoutMs: 1000 });
    const [session] = (await office.call('session-list', {})).filter(
      (each) => each.initiator === BOB && each.target !== undefined,
    );
    expect(session).toMatchObject({ target: `${SITE_IQN}:mail`, volumes: ['mail'], authentication: 'none' });
    expect(farshore('session', 'list')).toContain(BOB);
    farshore('session', 'kill', String(session?.id));
    await expect(bob.read(0, 8)).rejects.toThrow(SESSION_GONE);
    await bob.close().catch(() => undefined);
    await (await login(BOB, 'mail')).close();
  });
});

describe('the auditor', () => {
  it('learns who can reach a volume, by what right and since when, and who did', () => {
    const report = JSON.parse(farshore('--json', 'access', 'report', '--volume', 'books')) as AccessReport;
    expect(report.rights).toMatchObject([
      { volume: 'books', initiator: ALICE, lun: 0, access: 'read-write', authentication: 'mutual-chap' },
    ]);
    expect(report.rights[0]?.by).toMatch(/^cli:/);
    expect(report.uses.map((use) => use.initiator)).toContain(ALICE);
    expect(report.uses.every((use) => use.initiator === ALICE)).toBe(true);
    expect(report.refusals.map((refusal) => refusal.initiator)).toContain(BOB);
    expect(farshore('access', 'report', '--volume', 'books')).toContain('who did');
  });

  it('finds every change in the audit log, with who made it, and every login and refusal', () => {
    const events = new Set(auditOf(office).map((entry) => entry['event']));
    for (const event of [
      'volume-create',
      'volume-create-done',
      'initiator-add',
      'target-create',
      'map',
      'map-change',
      'unmap',
      'chap-set',
      'chap-clear',
      'discovery-chap-set',
      'session-kill',
      'login',
      'logout',
      'login-refused',
      'session-ended',
    ])
      expect(events, event).toContain(event);
    expect(statSync(join(office.stateDirectory, 'audit', 'audit.jsonl')).mode & 0o777).toBe(0o600);
    const maps = auditOf(office).filter((entry) => entry['event'] === 'map');
    expect(maps.every((entry) => /^cli:/.test(String(entry['by'])))).toBe(true);
  });
});

describe('access control and the volume', () => {
  it('survives a restart, and a SIGKILL right after the answer', async () => {
    farshore('map', 'books', '--initiator', BOB, '--read-only');
    await office.end('SIGKILL');
    await office.start();
    const bob = await login(BOB, 'books');
    await expect(bob.write(0, randomBytes(4096))).rejects.toThrow(/protect/i);
    await bob.close();
    await expect(login(ALICE, 'books')).rejects.toThrow(NOT_AUTHENTICATED);
    await (await login(ALICE, 'books', { chap: { user: 'alice', secret: SECRET } })).close();
  });

  it('comes back on new hardware with the data: maps, credentials after the key, reservations', async () => {
    const chap = { user: 'alice', secret: SECRET };
    const alice = await login(ALICE, 'books', { chap });
    const data = randomBytes(4096);
    await alice.write(0, data);
    expect(await registerKey(alice, 0xfa5408e5n)).toBe(0);
    expect(await keysOf(alice)).toEqual([0xfa5408e5n]);
    await office.call('flush', { name: 'books' });
    await alice.close();
    const keyFile = join(directory, 'exported.key');
    farshore('access', 'key', 'export', keyFile);
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(cli(office, 'access', 'key', 'export', keyFile).status).toBe(2);
    await eventually(
      async () => ((await office.call('volume-show', { name: 'books' })).access.inTable ? true : undefined),
      CHANGE_LIMIT_MS,
      () => 'access control does not get into the table',
    );
    await office.end('SIGKILL'); // and the office burns down

    const spare = await GatewayProcess.start({ directory, cloud, name: 'spare', rpoSeconds: 1 });
    try {
      expect(cli(spare, 'restore', 'books', '--takeover')).toMatchObject({ status: 0, stderr: '' });
      const report = JSON.parse(spare.cli('--json', 'access', 'report', '--volume', 'books')) as AccessReport;
      expect(report.rights.map(({ initiator, lun, access }) => [initiator, lun, access])).toEqual([
        [ALICE, 0, 'read-write'],
        [BOB, 0, 'read-only'],
      ]);
      await expect(login(ALICE, 'books', { chap }, spare)).rejects.toThrow(NOT_AUTHENTICATED);
      expect(spare.cli('status')).toContain('farshore access key import');
      expect(cli(spare, 'doctor')).toMatchObject({
        status: 2,
        stdout: expect.stringContaining('access key import') as string,
      });
      expect(spare.cli('access', 'key', 'import', keyFile)).toContain('is there');
      const there = await login(ALICE, 'books', { chap }, spare);
      expect(await there.read(0, 8)).toEqual(data);
      expect(await keysOf(there)).toEqual([0xfa5408e5n]);
      await there.close();
      expect(cli(spare, 'doctor').stdout).not.toContain('fail');
      expect(auditOf(spare).map((entry) => entry['event'])).toContain('access-imported');

      // The old office comes back, learns that it lost the volume, and may forget it.
      await office.start();
      expect((await office.call('status', {})).volumes.find((each) => each.name === 'books')?.state).toBe('fenced');
      expect(cli(office, 'volume', 'forget', 'mail')).toMatchObject({
        status: 2,
        stderr: expect.stringContaining('belongs to this gateway') as string,
      });
      expect(farshore('volume', 'forget', 'books')).toContain('nothing of books is kept here');
      expect((await office.call('status', {})).volumes.map((each) => each.name).sort()).toEqual(['mail', 'open']);
    } finally {
      await spare.end();
    }
  });

  it('comes back with an undelete, and goes with a purge', async () => {
    farshore('volume', 'delete', 'mail');
    expect(farshore('target', 'list')).not.toContain(`${SITE_IQN}:mail`);
    farshore('volume', 'undelete', 'mail');
    await (await login(BOB, 'mail')).close();
    farshore('volume', 'delete', 'mail');
    farshore('volume', 'delete', 'mail', '--purge', '--confirm', 'mail');
    expect(readFileSync(join(office.stateDirectory, 'access.json'), 'utf8')).not.toContain(`${SITE_IQN}:mail`);
    expect(existsSync(join(office.stateDirectory, 'access.json'))).toBe(true);
  });
});
