// What every entry point on a fresh clone needs first: Node packages, and for the tests Debian's. Plain Node, no dependencies.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';

const OLDEST_NODE = [20, 15];

export function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    console.error(`Farshore needs Node ${OLDEST_NODE.join('.')} or newer; this is ${process.version}.`);
    process.exit(2);
  }
}

/** `npm ci` unless node_modules was installed from this very lockfile. */
export function installPackages() {
  const stamp = 'node_modules/.farshore-lock';
  const wanted = createHash('sha256').update(readFileSync('package-lock.json')).digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  console.log('Installing the npm packages of package-lock.json …');
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status !== 0) {
    console.error('npm ci failed; see above.');
    process.exit(1);
  }
  writeFileSync(stamp, wanted);
}

export function build() {
  const { status } = spawnSync(process.execPath, ['scripts/build.mjs'], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) process.exit(1);
}

/** Programs the interop tests run, and the Debian package each comes in. */
const PROGRAMS = {
  'iscsi-ls': 'libiscsi-bin',
  'iscsi-test-cu': 'libiscsi-bin',
  'qemu-img': 'qemu-utils',
  tgtd: 'tgt',
  isnsd: 'open-isns-server',
  isnsadm: 'open-isns-utils',
  mke2fs: 'e2fsprogs',
};
/** Packages that bring no program of their own. */
const FILES = { '/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so': 'qemu-block-extra' };

/** What only the virtual machine with a real Linux initiator needs. */
const VM_PROGRAMS = {
  'qemu-system-x86_64': 'qemu-system-x86',
  iscsid: 'open-iscsi',
  cpio: 'cpio',
  depmod: 'kmod',
  busybox: 'busybox-static',
  'mkfs.xfs': 'xfsprogs',
  sg_xcopy: 'sg3-utils',
};

/** What only the test of IPsec needs: programs, and files. They run in its virtual machines. */
const IPSEC_PROGRAMS = { swanctl: 'strongswan-swanctl', pki: 'strongswan-pki', nft: 'nftables', ip: 'iproute2' };
const IPSEC_FILES = {
  '/usr/lib/ipsec/charon': 'strongswan-charon',
  '/usr/lib/ipsec/plugins/libstrongswan-openssl.so': 'libstrongswan-standard-plugins',
};

const onPath = (program) =>
  [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'].some((folder) => existsSync(`${folder}/${program}`));

export function missingDebianPackages({ vm = false, ipsec = false } = {}) {
  const programs = { ...PROGRAMS, ...(vm ? VM_PROGRAMS : {}), ...(ipsec ? IPSEC_PROGRAMS : {}) };
  const files = { ...FILES, ...(ipsec ? IPSEC_FILES : {}) };
  const missing = new Set();
  for (const [program, debianPackage] of Object.entries(programs)) if (!onPath(program)) missing.add(debianPackage);
  if (process.arch === 'x64') {
    for (const [file, debianPackage] of Object.entries(files)) if (!existsSync(file)) missing.add(debianPackage);
  }
  return [...missing].sort();
}

/** Installs what is missing when that is possible and wanted; returns what is still missing. */
export function installDebianPackages(options) {
  const missing = missingDebianPackages(options);
  if (missing.length === 0) return [];
  const root = process.getuid?.() === 0;
  if (!root || process.env.FARSHORE_NO_APT === '1' || !onPath('apt-get')) {
    console.log(
      `Missing for the interop tests: ${missing.join(' ')}. Install them with: apt-get install ${missing.join(' ')}`,
    );
    return missing;
  }
  console.log(`Installing Debian packages for the interop tests: ${missing.join(' ')} (FARSHORE_NO_APT=1 opts out) …`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...words) => spawnSync('apt-get', words, { stdio: ['ignore', 'ignore', 'inherit'], env });
  apt('-qq', 'update');
  apt('-qq', '-y', '--no-install-recommends', 'install', ...missing);
  return missingDebianPackages(options);
}

export function makeStageFolder() {
  mkdirSync('.stage', { recursive: true });
}
