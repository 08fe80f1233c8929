/**
 * iSCSI through IPsec between two hosts: `npm run interop:ipsec`. Two virtual machines with Debian's kernel (ESP in the kernel,
 * transport mode), strongSwan and nftables on both, a gateway as it is shipped on the one, open-iscsi and the kernel's initiator on the
 * other, set up with the very files that docs/OPERATIONS.md shows. The wire between them is captured outside both of them.
 *
 * The capture proves itself: the first phase goes without IPsec, and there the pattern that is written must be seen.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describeError } from '../../gateway/base/errors.ts';
import { CloudProcess, makeSiteDirectory, removeSiteDirectory } from '../support/gateway-process.ts';
import { runTool } from '../support/processes.ts';
import { prepareBootImage, VirtualMachine } from './virtual-machine.ts';
import { compressibility, countFrames, type Phase, readPhases } from './wire-capture.ts';

const REPOSITORY = resolve(import.meta.dirname, '../..');
const PORT = 3260;
const GATEWAY = '192.0.2.10';
const SERVER = '192.0.2.20';
const IQN = 'iqn.2026-11.dev.farshore:ipsec';
const INITIATOR = 'iqn.1993-08.org.debian:01:server1';
const TARGET = `${IQN}:secret`;
/** Written and read back in each phase. */
const PATTERN_MIB = 4;
const PATTERN_BYTES = PATTERN_MIB * 1024 * 1024;
/** A start of Node under emulation takes a quarter of a minute, and much longer on a machine that has other work. */
const SLOW_MS = 420_000;

/** The files that docs/OPERATIONS.md shows, by the name after `file=`. */
function documentedFiles(): Map<string, string> {
  const text = readFileSync(join(REPOSITORY, 'docs/OPERATIONS.md'), 'utf8');
  const files = new Map<string, string>();
  for (const match of text.matchAll(/^```\w+ file=(\S+)\n([\s\S]*?)^```$/gm)) files.set(match[1] ?? '', match[2] ?? '');
  return files;
}

const files = documentedFiles();
function documented(name: string): string {
  const content = files.get(name);
  if (content === undefined) throw new Error(`docs/OPERATIONS.md shows no file ${name}`);
  return content;
}

const failures: string[] = [];
let passed = 0;
function check(what: string, isTrue: boolean, detail: string | number = ''): void {
  console.log(`${isTrue ? '  ok ' : 'FAIL '} ${what}${detail === '' ? '' : ` (${detail})`}`);
  if (isTrue) passed += 1;
  else failures.push(what);
}

class Bench {
  readonly directory: string;
  readonly capture: string;
  readonly #gateway: VirtualMachine;
  readonly #server: VirtualMachine;

  private constructor(directory: string, capture: string, gateway: VirtualMachine, server: VirtualMachine) {
    this.directory = directory;
    this.capture = capture;
    this.#gateway = gateway;
    this.#server = server;
  }

  static async boot(directory: string): Promise<Bench> {
    const image = prepareBootImage(directory);
    const capture = join(directory, 'wire.pcap');
    const cable = join(directory, 'cable');
    const nic = (id: string, mac: string): string[] => ['-device', `virtio-net-pci,netdev=${id},mac=${mac},romfile=`];
    const gateway = await VirtualMachine.boot({
      name: 'gateway',
      image,
      directory,
      memoryMib: 2048,
      qemu: [
        ...[
          '-netdev',
          `stream,id=link,server=on,addr.type=unix,addr.path=${cable}`,
          ...nic('link', '52:54:00:00:02:10'),
        ],
        ...['-object', `filter-dump,id=dump,netdev=link,file=${capture}`],
        // The way to the cloud, which is this machine's loopback.
        ...['-netdev', 'user,id=cloud', ...nic('cloud', '52:54:00:00:03:10')],
      ],
    });
    try {
      const server = await VirtualMachine.boot({
        name: 'server1',
        image,
        directory,
        memoryMib: 768,
        qemu: [
          ...['-netdev', `stream,id=link,server=off,addr.type=unix,addr.path=${cable}`],
          ...nic('link', '52:54:00:00:02:20'),
        ],
      });
      return new Bench(directory, capture, gateway, server);
    } catch (error) {
      await gateway.end();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#gateway.end();
    await this.#server.end();
  }

  async setUp(cloud: CloudProcess): Promise<void> {
    const interfaces = (address: string): string =>
      `ip addr add ${address}/24 dev eth0; ip link set eth0 up; ip neigh flush all`;
    await this.#gateway.run(`${interfaces(GATEWAY)}; ip addr add 10.0.2.15/24 dev eth1; ip link set eth1 up`);
    await this.#server.run(interfaces(SERVER));
    const config = [
      'stateDir: /run/farshore',
      `portals: ["127.0.0.1:${PORT}", "${GATEWAY}:${PORT}"]`,
      `iqn: ${IQN}`,
      'cache: { size: 256M, ram: 16M }',
      'cloud:',
      '  region: us-east-1',
      '  bucket: farshore',
      '  table: farshore',
      `  s3Endpoint: http://127.0.0.1:${cloud.s3Port}`,
      `  dynamodbEndpoint: http://127.0.0.1:${cloud.dynamodbPort}`,
    ];
    await this.#gateway.writeFile('/run/gateway.yaml', `${config.join('\n')}\n`);
    // The embedded cloud answers to loopback names only, so its ports are there in the guest too.
    await this.#gateway.writeFile(
      '/run/relay.cjs',
      `const net = require('node:net');
      for (const port of [${cloud.s3Port}, ${cloud.dynamodbPort}])
        net.createServer((near) => {
          const far = net.connect(port, '10.0.2.2');
          for (const [one, other] of [[near, far], [far, near]]) {
            one.pipe(other);
            one.on('error', () => other.destroy());
          }
        }).listen(port, '127.0.0.1');`,
    );
    await this.#gateway.run(
      `${process.execPath} /run/relay.cjs > /run/relay.log 2>&1 &
      for i in $(seq 900); do ss -Hltn | grep -q ':${cloud.s3Port}' && exit 0; sleep 0.2; done; exit 1`,
      SLOW_MS,
    );
    const farshore = `export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
      farshore() { ${process.execPath} ${REPOSITORY}/dist/farshore.js "$@" --config /run/gateway.yaml; }`;
    await this.#gateway.run(
      `${farshore}
      farshore serve > /run/gateway.log 2>&1 &
      for i in $(seq 600); do grep -q 'serving on ' /run/gateway.log && exit 0; sleep 0.5; done
      cat /run/gateway.log; exit 1`,
      SLOW_MS,
    );
    await this.#gateway.run(`${farshore}\nfarshore volume create secret --size 64M`, SLOW_MS);
    await this.#gateway.run(`${farshore}\nfarshore initiator add ${INITIATOR}`, SLOW_MS);
    await this.#gateway.run(`${farshore}\nfarshore map secret --initiator ${INITIATOR}`, SLOW_MS);
    await this.#server.run(
      `echo InitiatorName=${INITIATOR} > /etc/iscsi/initiatorname.iscsi
      rm -rf /etc/iscsi/nodes /etc/iscsi/send_targets; mkdir -p /run/lock/iscsi
      sed -i 's/^iscsid.startup/#&/' /etc/iscsi/iscsid.conf
      iscsid -f > /run/iscsid.log 2>&1 &
      for i in $(seq 100); do iscsiadm -m session 2>&1 | grep -q 'No active' && exit 0; sleep 0.2; done
      cat /run/iscsid.log; exit 1`,
    );
  }

  /** A datagram on the wire, before anything that comes now. It is no iSCSI, so it goes in clear. */
  async marker(name: string): Promise<void> {
    await this.#server.run(`echo "phase ${name}" > /dev/udp/${GATEWAY}/9`);
  }

  /** What strongSwan says on both, for when something goes wrong. */
  async explain(): Promise<string> {
    const show = 'tail -40 /run/charon.log; tail -5 /run/iscsid.log /run/gateway.log';
    const [gateway, server] = [await this.#gateway.attempt(show), await this.#server.attempt(show)];
    return `gateway:\n${gateway.output}\nserver:\n${server.output}`;
  }

  /** Discovers, logs in, writes the pattern, reads it back past every cache, logs out. */
  async useDisk(token: string): Promise<void> {
    await this.#server.run(
      `iscsiadm -m discovery -t st -p ${GATEWAY} | tee /run/discovery
      grep -q '${TARGET}' /run/discovery
      iscsiadm -m node -T ${TARGET} -p ${GATEWAY} -o update -n node.session.initial_login_retry_max -v 4
      iscsiadm -m node -T ${TARGET} -p ${GATEWAY} --login
      for i in $(seq 100); do
        DISK=$(ls /sys/class/iscsi_session/session*/device/target*/*:*:*:0/block 2>/dev/null) && break; sleep 0.2
      done
      (yes '${token}' || true) | head -c ${PATTERN_BYTES} > /run/pattern
      dd if=/run/pattern of=/dev/$DISK bs=256k oflag=direct conv=fsync 2>&1
      dd if=/dev/$DISK of=/run/back bs=256k count=${PATTERN_MIB * 4} iflag=direct 2>&1
      cmp /run/pattern /run/back
      iscsiadm -m node -T ${TARGET} -p ${GATEWAY} --logout
      for i in $(seq 50); do ss -Htn | grep -q ':${PORT}' || exit 0; sleep 0.1; done`,
      SLOW_MS,
    );
  }

  async startIpsec(): Promise<void> {
    const work = join(this.directory, 'ca');
    runTool('mkdir', ['-p', work]);
    writeFileSync(join(work, 'certificates.sh'), documented('certificates.sh'));
    runTool('sh', ['-c', `cd ${work} && sh certificates.sh`]);
    for (const [machine, name] of [
      [this.#gateway, 'gateway'],
      [this.#server, 'server1'],
    ] as const) {
      const read = (file: string): string => readFileSync(join(work, file), 'utf8');
      await machine.run(
        'rm -rf /etc/swanctl; mkdir -p /etc/swanctl/conf.d; echo "include conf.d/*.conf" > /etc/swanctl/swanctl.conf',
      );
      await machine.writeFile('/etc/swanctl/x509ca/ca.pem', read('ca.pem'));
      await machine.writeFile(`/etc/swanctl/x509/${name}.pem`, read(`${name}.pem`));
      await machine.writeFile(`/etc/swanctl/private/${name}.key`, read(`${name}.key`), '600');
      await machine.writeFile(
        '/etc/swanctl/conf.d/farshore.conf',
        documented(`${name}:/etc/swanctl/conf.d/farshore.conf`),
      );
      await this.#startCharon(machine);
    }
    await this.#gateway.writeFile('/etc/nftables.d/farshore.nft', documented('gateway:/etc/nftables.d/farshore.nft'));
    await this.#gateway.run('nft -f /etc/nftables.d/farshore.nft');
  }

  async #startCharon(machine: VirtualMachine): Promise<void> {
    await machine.run(
      `cat > /etc/strongswan.conf <<'END'
charon {
  load_modular = yes
  plugins {
    include strongswan.d/charon/*.conf
    forecast { load = no }
  }
  filelog {
    file {
      path = /run/charon.log
      default = 1
    }
  }
}
END
      rm -f /run/charon.vici
      /usr/lib/ipsec/charon > /run/charon.out 2>&1 &
      for i in $(seq 150); do [ -S /run/charon.vici ] && break; sleep 0.2; done
      swanctl --load-all 2>&1 || { cat /run/charon.log; exit 1; }`,
    );
  }

  /** Both associations as they stand; they are asked for at the server. */
  async associations(): Promise<string> {
    return this.#server.run('swanctl --list-sas');
  }

  /** New keys for the running association, which the next phase's data goes under. */
  async rekey(): Promise<void> {
    await this.#server.run('swanctl --rekey --child iscsi 2>&1; swanctl --rekey --ike farshore 2>&1; sleep 1');
  }

  /** The server's end of IPsec is gone: as on a machine that was never set up. */
  async stopIpsecAtServer(): Promise<void> {
    await this.#server.run(
      `swanctl --terminate --ike farshore 2>&1 || true
      kill $(cat /run/charon.pid); for i in $(seq 50); do [ -e /run/charon.pid ] || break; sleep 0.1; done
      ip xfrm state flush; ip xfrm policy flush`,
    );
  }

  /** Whether a plain TCP connection to the portal comes about within some seconds. */
  async canConnect(): Promise<boolean> {
    const { status } = await this.#server.attempt(`timeout 5 bash -c ': > /dev/tcp/${GATEWAY}/${PORT}'`);
    return status === 0;
  }

  async droppedAtGateway(): Promise<number> {
    const shown = await this.#gateway.run('nft list table inet farshore');
    return Number(/counter packets (\d+)/.exec(shown)?.[1]);
  }

  /** The server comes with a certificate of a CA that the gateway does not know. */
  async initiateAsStranger(): Promise<string> {
    const work = join(this.directory, 'stranger');
    runTool('mkdir', ['-p', work]);
    writeFileSync(join(work, 'certificates.sh'), documented('certificates.sh'));
    runTool('sh', ['-c', `cd ${work} && sh certificates.sh`]);
    await this.#server.writeFile('/etc/swanctl/x509/server1.pem', readFileSync(join(work, 'server1.pem'), 'utf8'));
    await this.#server.writeFile(
      '/etc/swanctl/private/server1.key',
      readFileSync(join(work, 'server1.key'), 'utf8'),
      '600',
    );
    await this.#startCharon(this.#server);
    const { status, output } = await this.#server.attempt('swanctl --initiate --child iscsi --timeout 20 2>&1');
    await this.stopIpsecAtServer();
    return status === 0 ? 'it was let in' : output;
  }

  async usePreSharedKey(): Promise<void> {
    const secret = `0s${randomBytes(32).toString('base64')}`;
    const gateway = documented('gateway-psk:/etc/swanctl/conf.d/farshore.conf').replace('0s...', secret);
    const secrets = gateway.slice(gateway.indexOf('secrets {'));
    // As the page says: auth = psk twice, no certs, no cacerts, the same secrets.
    const server = documented('server1:/etc/swanctl/conf.d/farshore.conf')
      .replaceAll('auth = pubkey', 'auth = psk')
      .replace(/^ *(certs|cacerts) = .*\n/gm, '');
    await this.#gateway.writeFile('/etc/swanctl/conf.d/farshore.conf', gateway, '600');
    await this.#gateway.run('rm /etc/swanctl/private/* /etc/swanctl/x509/*; swanctl --load-all --clear 2>&1');
    await this.#server.writeFile('/etc/swanctl/conf.d/farshore.conf', server + secrets, '600');
    await this.#server.run('rm -rf /etc/swanctl/private /etc/swanctl/x509');
    await this.#startCharon(this.#server);
  }
}

function judgeProtected(phase: Phase | undefined, token: string): void {
  if (phase === undefined) {
    check('the phase is in the capture', false);
    return;
  }
  const title = `with IPsec (${phase.name})`;
  check(`${title}: the pattern is in no frame`, countFrames(phase, token) === 0);
  check(
    `${title}: nor is any name`,
    [TARGET, INITIATOR, 'TargetName='].every((name) => countFrames(phase, name) === 0),
  );
  check(`${title}: no iSCSI in clear`, phase.clearFrames === 0, `${phase.clearFrames} frames`);
  check(
    `${title}: what was written and read went by as ESP`,
    phase.espBytes > 2 * PATTERN_BYTES,
    `${phase.espFrames} frames, ${(phase.espBytes / 2 ** 20).toFixed(1)} MiB`,
  );
  const share = compressibility(phase);
  check(`${title}: it can't be compressed`, share < 0.02, `${(share * 100).toFixed(1)} %`);
}

async function test(bench: Bench): Promise<void> {
  // 64 characters: any frame of a transfer holds it whole, many times over.
  const token = (name: string): string => `farshore-${name}-${randomBytes(32).toString('hex')}`.slice(0, 63);
  const tokens = { clear: token('clear'), certificates: token('cert'), psk: token('psk') };

  console.log('--- without IPsec');
  await bench.marker('clear');
  await bench.useDisk(tokens.clear);

  console.log('--- with certificates');
  await bench.marker('set-up');
  await bench.startIpsec();
  await bench.marker('certificates');
  await bench.useDisk(tokens.certificates);
  const associations = await bench.associations();
  check('the association is IKEv2, ESTABLISHED, by both certificates', /ESTABLISHED, IKEv2/.test(associations));
  check(
    'ESP is in transport mode, AES-256-GCM, extended sequence numbers',
    /TRANSPORT, ESP:AES_GCM_16-256\/ESN/.test(associations),
  );
  await bench.rekey();
  await bench.useDisk(tokens.certificates);
  check('the disk works on under new keys', true);

  console.log('--- without IPsec at the server, the gateway as it was');
  const before = await bench.droppedAtGateway();
  await bench.stopIpsecAtServer();
  await bench.marker('refused');
  check('a connection in clear does not come about', !(await bench.canConnect()));
  const dropped = (await bench.droppedAtGateway()) - before;
  check("the gateway's rule has dropped it", dropped > 0, `${dropped} packets`);
  await bench.marker('stranger');
  const stranger = await bench.initiateAsStranger();
  check(
    'a certificate of another CA is refused',
    stranger.includes('AUTHENTICATION_FAILED'),
    stranger.trim().split('\n').at(-1),
  );

  console.log('--- with a pre-shared key');
  await bench.marker('set-up-psk');
  await bench.usePreSharedKey();
  await bench.marker('psk');
  await bench.useDisk(tokens.psk);
  check('the disk works with a pre-shared key', true);
  await bench.marker('end');

  console.log('--- the capture');
  const phases = readPhases(readFileSync(bench.capture), PORT);
  const clear = phases.get('clear');
  check(
    'without IPsec: the pattern is seen, so the capture sees what there is',
    clear !== undefined && countFrames(clear, tokens.clear) > 1000,
    clear && countFrames(clear, tokens.clear),
  );
  check(
    'without IPsec: so are the names',
    clear !== undefined && countFrames(clear, TARGET) > 0 && countFrames(clear, INITIATOR) > 0,
  );
  check('without IPsec: there is no ESP', clear?.espFrames === 0);
  judgeProtected(phases.get('certificates'), tokens.certificates);
  const refused = phases.get('refused');
  check(
    'in clear to a gateway that wants IPsec: the portal answers nothing',
    refused?.answers === 0 && refused.clearFrames === 0,
  );
  judgeProtected(phases.get('psk'), tokens.psk);
}

const directory = makeSiteDirectory();
try {
  const cloud = await CloudProcess.start(directory);
  try {
    console.log('booting two virtual machines …');
    const bench = await Bench.boot(directory);
    try {
      await bench.setUp(cloud);
      try {
        await test(bench);
      } catch (error) {
        console.error(await bench.explain());
        throw error;
      }
    } finally {
      await bench.close();
    }
  } finally {
    await cloud.end();
  }
  console.log(`${passed} passed, ${failures.length} failed`);
  process.exitCode = failures.length > 0 ? 1 : 0;
} catch (error) {
  console.error(`interop:ipsec: ${describeError(error)}`);
  process.exitCode = 1;
} finally {
  if (process.env['KEEP'] === undefined) removeSiteDirectory(directory);
  else console.log(`kept: ${directory}`);
}
