import { statfs } from 'node:fs/promises';
import { crc32 } from './base/crc32.ts';
import { type Clock, type Random, systemClock, systemRandom } from './base/clock.ts';
import type { Disk } from './base/disk.ts';
import { makePrivateDirectory, NodeDisk } from './base/node-disk.ts';
import { describeError, isKind } from './base/errors.ts';
import { formatDuration, formatSize } from './base/size.ts';
import type { ByteCount } from './base/units.ts';
import type { AccessDocument } from './access/document.ts';
import { rightsOf } from './access/report.ts';
import type { Finding } from './admin/gateway-api.ts';
import { type CloudSettings, createAwsClients } from './cloud/aws-clients.ts';
import { askCloudTime } from './cloud/cloud-time.ts';
import { DynamoVersionLog } from './cloud/dynamo-version-log.ts';
import type { ObjectStore } from './cloud/object-store.ts';
import { proxyRule } from './cloud/proxy.ts';
import { S3ObjectStore } from './cloud/s3-object-store.ts';
import type { VersionLog } from './cloud/version-log.ts';
import type { Settings } from './config.ts';
import { isLoopbackAddress } from './iscsi/target-registry.ts';

export interface DoctorDeps {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly random: Random;
  readonly disk: Disk;
  readonly store: ObjectStore;
  readonly table: VersionLog;
  /** Access key id that requests are signed with; rejects when there is none. */
  readonly credentials: () => Promise<string>;
  /** The cloud's idea of the time, from the Date header of a response; undefined when it cannot be had. */
  readonly cloudTime: () => Promise<number | undefined>;
  readonly cacheAllocatedBytes: () => Promise<ByteCount>;
  /** Access control as it is in force; undefined where no gateway runs. */
  readonly access: () => AccessState | undefined;
}

interface AccessState {
  readonly document: AccessDocument;
  readonly problems: readonly string[];
  readonly auditProblem: string | undefined;
}

/** SigV4 refuses requests that are off by more than five minutes. */
const MAX_CLOCK_SKEW_MS = 60_000;
const SLOW_FSYNC_MS = 50;
const FSYNC_ROUNDS = 5;

/** Runs every check, whatever the others say; each finding says what was seen and how to mend it. */
export async function examine(deps: DoctorDeps): Promise<Finding[]> {
  return [
    configuration(deps),
    ...threadPorts(deps),
    ...proxies(deps),
    ...accessControl(deps),
    await disk(deps),
    await room(deps),
    await clock(deps),
    await keys(deps),
    await bucket(deps),
    await table(deps),
  ];
}

function configuration({ settings }: DoctorDeps): Finding {
  return finding('config', 'pass', `${settings.iqn}, state in ${settings.stateDir}`);
}

/** The ports that initiators are sent to beside the portals that are configured. */
function threadPorts({ settings: { portals, threads } }: DoctorDeps): Finding[] {
  if (threads === 1) return [];
  const told = portals.flatMap(({ host, port, advertise }) => advertise ?? [{ host, port }]);
  const ranges = told
    .filter(({ port }) => port !== 0)
    .map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}-${port + threads - 1}`);
  return [
    finding(
      'threads',
      'pass',
      `${threads}; initiators are sent to ${ranges.join(', ')}: let all of these ports through`,
    ),
  ];
}

/** Through what requests go, where they don't go directly; whether it lets them shows in the checks of bucket and table. */
function proxies({ settings: { cloud } }: DoctorDeps): Finding[] {
  const rule = proxyRule(cloud.proxy, process.env);
  const endpoints = [
    cloud.s3Endpoint ?? `https://s3.${cloud.region}.amazonaws.com`,
    cloud.dynamodbEndpoint ?? `https://dynamodb.${cloud.region}.amazonaws.com`,
  ].map((endpoint) => new URL(endpoint));
  const names = endpoints.flatMap(({ protocol, hostname, port }) => {
    const isSecure = protocol === 'https:';
    const number = Number(port === '' ? (isSecure ? 443 : 80) : port);
    return rule(isSecure ? 'https:' : 'http:', hostname, number)?.name ?? [];
  });
  return names.length === 0
    ? []
    : [finding('proxy', 'pass', `requests to the cloud go through ${[...new Set(names)].join(' and ')}`)];
}

function accessControl({ settings, access }: DoctorDeps): Finding[] {
  const state = access();
  if (state === undefined) return [];
  const { document, problems, auditProblem } = state;
  const findings = problems.map((problem) => finding('access', 'fail', problem));
  if (auditProblem !== undefined) {
    findings.push(finding('access', 'fail', `the audit log cannot be written, so no change is made: ${auditProblem}`));
  }
  const network = settings.portals.filter((portal) => !isLoopbackAddress(portal.host)).map((portal) => portal.host);
  if (network.length > 0) {
    const rights = rightsOf(document, { volume: undefined, initiator: undefined });
    const open = rights.filter((right) => right.initiator === undefined).map((right) => right.volume);
    if (open.length > 0) {
      findings.push(
        finding(
          'access',
          'warn',
          `nothing is mapped of ${open.join(', ')}: seen at loopback portals only, not at ${network.join(', ')}; let an initiator in with: farshore initiator add NAME, then farshore map ${open[0] ?? ''} --initiator NAME`,
        ),
      );
    }
    const byName = new Set(
      rights
        .filter((right) => right.initiator !== undefined && right.authentication === 'none')
        .map((right) => right.initiator ?? ''),
    );
    if (byName.size > 0) {
      findings.push(
        finding(
          'access',
          'warn',
          `${byName.size} initiator${byName.size === 1 ? ' is' : 's are'} let in by name alone, which anybody can take (${[...byName].slice(0, 3).join(', ')}); give each a credential with: farshore initiator chap NAME --user U --generate`,
        ),
      );
    }
  }
  return findings.length > 0 ? findings : [finding('access', 'pass', `${document.initiators.length} initiators`)];
}

/** A small file is written and synced a few times: what a flush costs. */
async function disk({ disk: storage, clock: time }: DoctorDeps): Promise<Finding> {
  const path = 'doctor.tmp';
  try {
    await storage.remove(path);
    const file = await storage.open(path, 'create');
    const times: number[] = [];
    try {
      for (let round = 0; round < FSYNC_ROUNDS; round++) {
        const start = time.monotonicMs();
        await file.write([Buffer.alloc(4096, round)], 0);
        await file.sync();
        times.push(time.monotonicMs() - start);
      }
    } finally {
      await file.close();
      await storage.remove(path);
    }
    const median = times.sort((a, b) => a - b)[FSYNC_ROUNDS >> 1] ?? 0;
    return median > SLOW_FSYNC_MS
      ? finding(
          'disk',
          'warn',
          `a 4 KiB fdatasync takes ${formatDuration(median)}; flushes of the initiators will be slow: use an SSD for stateDir`,
        )
      : finding('disk', 'pass', `a 4 KiB fdatasync takes ${median.toFixed(1)} ms`);
  } catch (error) {
    return finding('disk', 'fail', `the state directory cannot be written: ${describeError(error)}`);
  }
}

async function room({ settings, cacheAllocatedBytes }: DoctorDeps): Promise<Finding> {
  const { bavail, bsize } = await statfs(settings.stateDir);
  const free = bavail * bsize;
  const wanted = Math.max(0, settings.cacheBytes - (await cacheAllocatedBytes()));
  return free < wanted
    ? finding(
        'room',
        'warn',
        `${formatSize(free)} are free, but the cache may still grow by ${formatSize(wanted)}; lower cache.size or free space`,
      )
    : finding('room', 'pass', `${formatSize(free)} free for a cache that may grow by ${formatSize(wanted)}`);
}

async function clock({ clock: time, cloudTime }: DoctorDeps): Promise<Finding> {
  const cloud = await cloudTime();
  if (cloud === undefined)
    return finding('clock', 'warn', 'the time of the cloud could not be read; see the bucket check');
  const skew = Math.abs(time.now() - cloud);
  return skew > MAX_CLOCK_SKEW_MS
    ? finding(
        'clock',
        'fail',
        `this clock and the cloud's differ by ${formatDuration(skew)}; requests are refused at five minutes: run NTP (chrony)`,
      )
    : finding('clock', 'pass', `within ${formatDuration(Math.max(1000, skew))} of the cloud's`);
}

/** Whether there are any; whether they are good shows in the bucket and table checks. */
async function keys({ credentials }: DoctorDeps): Promise<Finding> {
  try {
    return finding('credentials', 'pass', `requests are signed with key ${await credentials()}`);
  } catch (error) {
    return finding(
      'credentials',
      'fail',
      `none were found (${describeError(error)}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give this machine a role`,
    );
  }
}

/** Lists, writes, reads back and removes a probe object; credentials show here first. */
async function bucket({ store, random, settings }: DoctorDeps): Promise<Finding> {
  const key = `doctor/${random.bytes(8).toString('hex')}`;
  const body = Buffer.from('farshore');
  try {
    await store.put(key, [body], crc32(body));
    const back = await store.get(key);
    await store.delete([key]);
    return back?.equals(body) === true
      ? finding('bucket', 'pass', `${settings.cloud.bucket}: written, read back and removed a probe`)
      : finding(
          'bucket',
          'fail',
          `${settings.cloud.bucket}: a probe was written but did not read back; is this really S3?`,
        );
  } catch (error) {
    return finding('bucket', 'fail', remedy(error, 'cloud.s3Endpoint'));
  }
}

async function table({ table: log, settings }: DoctorDeps): Promise<Finding> {
  try {
    const names = await log.listNames();
    return finding('table', 'pass', `${settings.cloud.table}: ${names.length} volume${names.length === 1 ? '' : 's'}`);
  } catch (error) {
    return finding('table', 'fail', remedy(error, 'cloud.dynamodbEndpoint'));
  }
}

function remedy(error: unknown, key: string): string {
  const text = describeError(error);
  return isKind(error, 'retry') ? `${text.replace(/\.$/, '')}; is the network up, and ${key} right?` : text;
}

function finding(check: string, verdict: Finding['verdict'], detail: string): Finding {
  return { check, verdict, detail };
}

/** The access key id the SDK's chain finds for these settings; rejects when it finds none. */
export async function credentialsOf(settings: CloudSettings): Promise<string> {
  const clients = createAwsClients(settings);
  try {
    return (await clients.s3.config.credentials()).accessKeyId;
  } finally {
    clients.close();
  }
}

/** The same checks where no gateway runs: of a configuration that does not start, above all. */
export async function examineAlone(settings: Settings): Promise<Finding[]> {
  const tools = { clock: systemClock, random: systemRandom };
  makePrivateDirectory(settings.stateDir);
  const clients = createAwsClients(settings.cloud);
  const { bucket: bucketName, table: tableName } = settings.cloud;
  try {
    return await examine({
      settings,
      ...tools,
      disk: new NodeDisk(settings.stateDir),
      store: new S3ObjectStore({ ...tools, client: clients.s3, bucket: bucketName, place: clients.s3Place }),
      table: new DynamoVersionLog({ ...tools, client: clients.dynamo, table: tableName, place: clients.dynamoPlace }),
      cloudTime: () => askCloudTime(settings.cloud),
      credentials: () => credentialsOf(settings.cloud),
      cacheAllocatedBytes: () => Promise.resolve(0),
      access: () => undefined,
    });
  } finally {
    clients.close();
  }
}
