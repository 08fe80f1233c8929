/** The Linux kernel's initiator in a virtual machine against a gateway as it is shipped (see USAGE). */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeError } from '../../gateway/base/errors.ts';
import { startSite } from '../support/gateway-process.ts';
import type { Site } from '../support/gateway-process.ts';
import { VmHost } from './vm-host.ts';

const USAGE = `npm run interop:vm -- [options] [WORD ...]
  WORD ...    the tests whose title contains one of the words; without, every test, a machine each
  --short     one machine, as in npm test
  --outage    the cloud is away until the cache has been full for a minute, then for ten, then under a synchronous volume; with 60
              (seconds) only the first (npm run interop:outage)
  --help      this
It needs qemu, a kernel package, and about a minute a machine under emulation.`;

const SCRIPT = join(import.meta.dirname, 'linux-initiator.sh');
const GUEST_TESTS = join(import.meta.dirname, 'guest');
const LIMIT_SECONDS = 900;

interface VmTest {
  readonly title: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Files of GUEST_TESTS, run one after the other; none: the script's own test with file systems. */
  readonly guests?: readonly string[];
  /** Access control for the volume. */
  readonly prepare?: (site: Site, volume: string) => void;
  /** Options of `volume create`. */
  readonly volume?: readonly string[];
  /** How long the cloud stays away, once the cache is full if it is filled. */
  readonly outageSeconds?: number;
}

const INITIATOR = 'iqn.1993-08.org.debian:01:acceptance';
const SECRETS = { own: 'known to both of us', theirs: 'proof of the target' };

function requireMutualChap({ directory, gateway }: Site, volume: string): void {
  const file = (name: string, secret: string): string => {
    const path = join(directory, name);
    writeFileSync(path, secret, { mode: 0o600 });
    return path;
  };
  const own = ['--user', 'guest', '--secret-file', file('own', SECRETS.own)];
  const theirs = ['--mutual-user', 'gateway', '--mutual-secret-file', file('theirs', SECRETS.theirs)];
  gateway.cli('initiator', 'add', INITIATOR);
  gateway.cli('map', volume, '--initiator', INITIATOR);
  gateway.cli('initiator', 'chap', INITIATOR, ...own, ...theirs);
}

const SHORT: VmTest = {
  title: 'a file system over a kill of the gateway, with digests and trim',
  environment: { HDIGEST: 'CRC32C', DDIGEST: 'CRC32C' },
  guests: ['short.sh'],
};

const TESTS: readonly VmTest[] = [
  {
    title: 'ext4 and xfs with header and data digests, trim, logout and login',
    environment: { HDIGEST: 'CRC32C', DDIGEST: 'CRC32C', MIB: '32' },
  },
  {
    title: 'small PDUs, R2T for everything',
    environment: {
      MIB: '16',
      FS: 'ext4',
      NODE_SETTINGS:
        'node.session.iscsi.InitialR2T=Yes node.session.iscsi.ImmediateData=No node.conn[0].iscsi.MaxRecvDataSegmentLength=8192',
    },
  },
  {
    title: 'sg3_utils, reservations of two sessions, live bytes after fstrim',
    guests: ['sg-utils.sh', 'reservations.sh', 'trim.sh'],
  },
  { title: 'a restart and two kills of the gateway under load', guests: ['survive.sh'] },
  { title: 'growing under a mounted file system', guests: ['resize.sh'] },
  {
    title: 'mutual CHAP',
    environment: {
      INITIATOR,
      DISCOVERY: '0',
      CHAP_USER: 'guest',
      CHAP_PASS: SECRETS.own,
      CHAP_USER_IN: 'gateway',
      CHAP_PASS_IN: SECRETS.theirs,
      CHAP_ALGS: 'SHA3-256,SHA256,SHA1,MD5',
    },
    guests: ['mutual-chap.sh'],
    prepare: requireMutualChap,
  },
];

/** Of the emulated time stamp counter the kernel may measure a wrong frequency when the machine is busy while it starts, and its timeouts are too short then. */
const TRUE_CLOCK = { KERNEL_ARGS: 'clocksource=acpi_pm' };
/** The first with open-iscsi's and the kernel's own timeouts, the second with those of docs/OPERATIONS.md. */
const OUTAGES: readonly VmTest[] = [
  { title: 'a full cache without a cloud for 60 s', outageSeconds: 60, environment: TRUE_CLOCK, guests: ['outage.sh'] },
  {
    title: 'a full cache without a cloud for 600 s',
    outageSeconds: 600,
    environment: TRUE_CLOCK,
    guests: ['long-timeouts.sh', 'outage.sh'],
  },
  {
    title: 'synchronous replication without a cloud for 45 s',
    volume: ['--replication', 'sync'],
    outageSeconds: 45,
    environment: TRUE_CLOCK,
    guests: ['sync-outage.sh'],
  },
];
/** The smallest there may be. */
const OUTAGE_CACHE = '256M';

/** The tests as one program for the guest: each in a shell of its own, which `set -e` ends (it would not before a `||`). */
function guestProgram(guests: readonly string[]): string {
  return guests
    .map((name) => `(\n${readFileSync(join(GUEST_TESTS, name), 'utf8')}\n)\n[ $? = 0 ] || fail "${name}"\nfind_disks\n`)
    .join('');
}

async function runTest(site: Site, volume: string, test: VmTest): Promise<boolean> {
  const { gateway } = site;
  const target = gateway.createVolume(volume, '512M', 512, ...(test.volume ?? []));
  test.prepare?.(site, volume);
  const words = [SCRIPT, gateway.host, String(gateway.port), target];
  if (test.guests !== undefined) {
    const program = join(site.directory, 'guest.sh');
    writeFileSync(program, guestProgram(test.guests));
    words.push(program);
  }
  console.log(`\n=== ${test.title}`);
  const { outageSeconds = 0 } = test;
  const host = await VmHost.start(site, volume, outageSeconds);
  const settings = {
    TIMEOUT: String(LIMIT_SECONDS + 2 * outageSeconds),
    HOST_PORT: String(host.port),
    ...test.environment,
  };
  const code = await new Promise<number | null>((resolve, reject) => {
    const child = spawn('bash', words, {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...settings },
    });
    child.once('error', reject);
    child.once('exit', resolve);
  });
  await host.close();
  const passed = code === 0 && gateway.isRunning();
  if (!passed) console.log(`--- the gateway's log ends with:\n${gateway.logTail()}`);
  return passed;
}

async function run(words: readonly string[]): Promise<void> {
  const { values, positionals: wanted } = parseArgs({
    args: [...words],
    allowPositionals: true,
    options: { short: { type: 'boolean' }, outage: { type: 'boolean' }, help: { type: 'boolean' } },
  });
  if (values.help === true) {
    console.log(USAGE);
    return;
  }
  const isOutage = values.outage === true;
  const all = values.short === true ? [SHORT] : isOutage ? OUTAGES : TESTS;
  const tests = all.filter(
    ({ title, outageSeconds }) =>
      wanted.length === 0 ||
      wanted.some((word) => (outageSeconds === undefined ? title.includes(word) : outageSeconds === Number(word))),
  );
  if (tests.length === 0) {
    throw new Error(
      `no test's title contains ${wanted.join(' or ')}; there are:\n${all.map(({ title }) => `  ${title}`).join('\n')}`,
    );
  }
  const site = await startSite({ cacheSize: isOutage ? OUTAGE_CACHE : '2G' });
  const failed: string[] = [];
  try {
    for (const [index, test] of tests.entries())
      if (!(await runTest(site, `vm${index}`, test))) failed.push(test.title);
  } finally {
    await site.close();
  }
  for (const title of failed) console.log(`FAILED: ${title}`);
  console.log(`${tests.length - failed.length} passed, ${failed.length} failed`);
  process.exitCode = failed.length > 0 ? 1 : 0;
}

try {
  await run(process.argv.slice(2));
} catch (error) {
  const isUsage = error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
  console.error(`interop:vm: ${describeError(error)}${isUsage ? `\n${USAGE}` : ''}`);
  process.exitCode = isUsage ? 2 : 1;
}
