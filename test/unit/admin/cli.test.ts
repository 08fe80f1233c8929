import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { runCli } from '../../../gateway/admin/cli.ts';
import { ControlServer } from '../../../gateway/admin/control-server.ts';
import type { GatewayApi } from '../../../gateway/admin/gateway-api.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';

const programs = {
  serve: () => Promise.reject(new Error('not here')),
  cloud: () => Promise.reject(new Error('not here')),
  doctor: () => Promise.reject(new Error('not here')),
  demo: () => Promise.reject(new Error('not here')),
};

let folder: string;
let server: ControlServer | undefined;
let answer: (op: string, args: unknown) => unknown;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'farshore-cli-'));
  writeFileSync(
    join(folder, 'gateway.yaml'),
    [
      `stateDir: ${folder}`,
      'iqn: iqn.2026-11.dev.farshore:test',
      'portals: ["127.0.0.1:0"]',
      'cache: { size: 1G, ram: 256M }',
      'cloud: { bucket: b, table: t, region: eu-central-1 }',
    ].join('\n'),
  );
  const api = {
    call: async (op: string, args: unknown) => answer(op, args),
  } as GatewayApi;
  server = await ControlServer.listen(folder, api, silentLog);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await server?.close();
  rmSync(folder, { recursive: true });
});

/** Runs a command line on the gateway of the test, whose answer is given. */
async function farshore(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const told = { out: '', err: '' };
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((told.out += String(text)), true));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((told.err += String(text)), true));
  const code = await runCli([...words, '--config', join(folder, 'gateway.yaml')], programs, '0');
  return { code, ...told };
}

const FORGED = 'x\nv  iqn.2026-11.com.example:forged  read-write by cli:root\u001b[31m\u202e';
const report = {
  rights: [],
  uses: [],
  refusals: [
    { initiator: 'iqn.a', address: '10.0.0.9', target: FORGED, reason: 'none', count: 1, last: '2026-11-22T20:00:00Z' },
  ],
  discovery: [],
  elsewhere: ['old'],
  logReaches: { logins: '2026-11-01T08:09:10.000Z', refusals: undefined },
  notWritten: { login: 3 },
  unreadable: 0,
};

describe('what the command line prints', () => {
  it('is what was asked for, in lines nobody else can write: what peers call themselves is escaped', async () => {
    answer = () => report;
    const { out } = await farshore('access', 'report');
    expect(out).toContain(String.raw`x\nv  iqn.2026-11.com.example:forged  read-write by cli:root\x1b[31m\u202e`);
    expect(out).not.toMatch(/^v /m);
    expect(out).not.toContain('\u001b');
  });

  it('is the same value as JSON, without a character that turns the terminal', async () => {
    answer = () => report;
    const { out } = await farshore('access', 'report', '--json');
    expect(out).not.toMatch(/[\u001b\u202e]/);
    expect((JSON.parse(out) as typeof report).refusals[0]?.target).toBe(FORGED);
  });

  it('says what is old, how far back the log reaches, and what is not in it', async () => {
    answer = () => report;
    const { out } = await farshore('access', 'report');
    expect(out).toContain('old: another gateway serves it; what is shown here may be old');
    expect(out).toContain('logins reach back to 2026-11-01 08:09:10');
    expect(out).toContain('3 × login');
  });

  it('escapes errors, too', async () => {
    answer = () => {
      throw new FarshoreError('not-found', FORGED);
    };
    const { err, code } = await farshore('status');
    expect(code).toBe(3);
    expect(err).toBe(
      `farshore: ${String.raw`x\nv  iqn.2026-11.com.example:forged  read-write by cli:root\x1b[31m\u202e`}\n`,
    );
  });
});

describe('a command that has others under it', () => {
  it.each(['initiator', 'target', 'session', 'access', 'volume'])(
    '%s lists them, wherever --config stands',
    async (word) => {
      const { code, out, err } = await farshore(word);
      expect(code).toBe(2);
      expect(out + err).toMatch(/Commands:/);
      expect(out + err).not.toContain('unknown option');
    },
  );

  it('understands --config and --json before the second word', async () => {
    answer = (op) => (op === 'initiator-list' ? [] : undefined);
    const told = { out: '' };
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((told.out += String(text)), true));
    const words = ['initiator', '--config', join(folder, 'gateway.yaml'), '--json', 'list'];
    expect(await runCli(words, programs, '0')).toBe(0);
    expect(told.out).toBe('[]\n');
  });
});

describe('a name that is none', () => {
  it.each([
    ['empty', ''],
    ['far too long', 'x'.repeat(600)],
  ])('is refused with a sentence on how to write one when it is %s', async (_what, name) => {
    answer = () => undefined;
    const { code, err } = await farshore('initiator', 'add', name);
    expect(code).toBe(2);
    expect(err).toContain('an iSCSI name has 1 to 223 bytes; write it like iqn.');
    expect(err).not.toContain('Too ');
  });
});
