/**
 * The Linux kernel's initiator in a virtual machine against a gateway as it is shipped: `npm run interop:vm`. The long form
 * of the interop tests: it needs qemu, a kernel package and some minutes under emulation.
 */
import { spawn } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { describeError } from '../../gateway/base/errors.ts';
import { startSite } from '../support/gateway-process.ts';
import type { Site } from '../support/gateway-process.ts';

const SCRIPT = join(import.meta.dirname, 'linux-initiator.sh');
const POLL_MS = 200;

interface VmTest {
  readonly title: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Run in the guest instead of the script's own test. */
  readonly guest?: string;
}

/** Writes through the file system while the gateway is killed and started again; every byte must be there afterwards. */
const KILL_UNDER_LOAD = `
set -e
mkfs.ext4 -q -F $DISK
mount -t ext4 $DISK /mnt
dd if=/dev/urandom of=/tmp/src bs=1M count=24 2>/dev/null
sum=$(sha256sum < /tmp/src)
i=0
while [ $i -lt 6 ]; do
  cp /tmp/src /mnt/copy$i &
  [ $i = 1 ] && hook kill-and-restart
  [ $i = 4 ] && hook kill-and-restart
  wait
  sync || fail "sync failed after copy $i"
  i=$((i+1))
done
umount /mnt
blockdev --flushbufs $DISK; echo 3 > /proc/sys/vm/drop_caches
e2fsck -fn $DISK > /tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; fail "the file system is damaged"; }
mount -t ext4 $DISK /mnt
i=0
while [ $i -lt 6 ]; do
  [ "$(sha256sum < /mnt/copy$i)" = "$sum" ] || fail "copy$i differs"
  i=$((i+1))
done
umount /mnt
say "six copies intact over two kills of the gateway"
`;

const TESTS: readonly VmTest[] = [
  { title: 'ext4 and xfs, trim, logout and login', environment: {} },
  {
    title: 'header and data digests',
    environment: { HDIGEST: 'CRC32C', DDIGEST: 'CRC32C', MIB: '24', FS: 'ext4' },
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
  { title: 'SIGKILL of the gateway under load', environment: {}, guest: KILL_UNDER_LOAD },
];

async function runTest(site: Site, target: string, test: VmTest): Promise<boolean> {
  const hookFile = join(site.directory, 'hook');
  const hookProgram = join(site.directory, 'hook.sh');
  writeFileSync(hookProgram, `#!/bin/sh\ntouch ${hookFile}\n`, { mode: 0o755 });
  const words = [SCRIPT, site.gateway.host, String(site.gateway.port), target];
  if (test.guest !== undefined) {
    const guest = join(site.directory, 'guest.sh');
    writeFileSync(guest, test.guest);
    words.push(guest);
  }
  console.log(`\n=== ${test.title}`);
  const child = spawn('bash', words, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, HOOK: hookProgram, TIMEOUT: '600', ...test.environment },
  });
  let code: number | null | undefined;
  child.once('exit', (status) => {
    code = status;
  });
  while (code === undefined) {
    await pause(POLL_MS);
    if (!existsSync(hookFile)) continue;
    rmSync(hookFile);
    console.log('[host] SIGKILL of the gateway, and a new start');
    await site.gateway.end('SIGKILL');
    await site.gateway.start();
  }
  const passed = code === 0 && site.gateway.isRunning();
  if (!passed) console.log(`--- the gateway's log ends with:\n${site.gateway.logTail()}`);
  return passed;
}

try {
  const wanted = process.argv.slice(2);
  const tests = TESTS.filter((test) => wanted.length === 0 || wanted.some((word) => test.title.includes(word)));
  const site = await startSite({ cacheSize: '2G' });
  const failed: string[] = [];
  try {
    const target = site.gateway.createVolume('vm', '512M');
    for (const test of tests) if (!(await runTest(site, target, test))) failed.push(test.title);
  } finally {
    await site.close();
  }
  for (const title of failed) console.log(`FAILED: ${title}`);
  console.log(`${tests.length - failed.length} passed, ${failed.length} failed`);
  process.exitCode = failed.length > 0 ? 1 : 0;
} catch (error) {
  console.error(`interop:vm: ${describeError(error)}`);
  process.exitCode = 1;
}
