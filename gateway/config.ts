import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { describeError, FarshoreError } from './base/errors.ts';
import { GIB, KIB, MIB, type ByteCount } from './base/units.ts';
import { formatDuration, parseDuration, parseSize } from './base/size.ts';
import { NO_LIMIT } from './base/rate-plan.ts';
import type { CloudSettings } from './cloud/aws-clients.ts';
import { parseProxy } from './cloud/proxy.ts';
import { parsePlanFor, type RatePlans } from './rate-limits.ts';
import type { Direction } from './replication/throttle.ts';
import { MAX_THREADS } from './threads/io-thread.ts';
import { DEFAULT_REMOTE_LOSS_MS } from './volume/replication-control.ts';
import type { ScrubSettings } from './volume/scrubber.ts';

/** host:port as one listens on it. */
export interface Portal {
  readonly host: string;
  readonly port: number;
  /** What initiators are told instead (behind NAT). */
  readonly advertise?: readonly { readonly host: string; readonly port: number }[];
}

/** Where the far shore is; no endpoints means AWS. Credentials come from the SDK's default chain. */
export interface FarShoreSettings extends CloudSettings {
  readonly bucket: string;
  readonly table: string;
}

/** The configuration, parsed once: frozen data, never components. */
export interface Settings {
  readonly stateDir: string;
  readonly portals: readonly Portal[];
  readonly iqn: string;
  readonly cacheBytes: ByteCount;
  readonly ramBytes: ByteCount;
  /** Threads that own volumes, the main one included. */
  readonly threads: number;
  readonly cloud: FarShoreSettings;
  /** What all volumes together may upload and download, over the week. */
  readonly limitPlans: RatePlans;
  readonly rpoSeconds: number;
  /** The cloud counts as lost when it has not answered for so long while writes or flushes wait for it. */
  readonly remoteLossSeconds: number;
  readonly scrub: ScrubSettings;
  /** An iSNS server (RFC 4171). */
  readonly isns: { readonly host: string; readonly port: number } | undefined;
  /** Absolute path of the key that wraps CHAP secrets; undefined: `access.key` of the state directory. */
  readonly accessKeyFile: string | undefined;
  readonly limits: {
    readonly maxConnections: number | undefined;
    readonly maxConnectionsPerAddress: number | undefined;
    readonly maxLogins: number | undefined;
    readonly maxLoginsPerAddress: number | undefined;
    readonly maxSessionsPerInitiator: number | undefined;
  };
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
}

const MIN_CACHE = 256 * MIB;
const MIN_RAM = 16 * MIB;

/** Slower, and a cache of the usual size is never through. */
const MIN_SCRUB_RATE = 64 * KIB;
const MIN_SCRUB_INTERVAL_MS = 3_600_000;

const MAX_PORTALS = 64;
const MAX_PORT = 65_535;
/** The port of iSNS (RFC 4171). */
const ISNS_DEFAULT_PORT = 3205;

const ratePlan = z.union([
  z.string(),
  z.strictObject({ default: z.string().optional(), schedule: z.record(z.string(), z.string()).optional() }),
]);
const limit = z.number().int().min(1).max(65_535).optional();
const size = z.union([z.string(), z.number().int().nonnegative()]);
const schema = z.strictObject({
  stateDir: z.string().min(1),
  portals: z
    .array(
      z.union([
        z.string(),
        z.strictObject({
          address: z.string(),
          advertise: z.union([z.string(), z.array(z.string()).min(1).max(MAX_PORTALS)]).optional(),
        }),
      ]),
    )
    .min(1)
    .max(MAX_PORTALS)
    .default(['127.0.0.1:3260']),
  iqn: z.string(),
  threads: z.number().int().min(1).max(MAX_THREADS).default(1),
  cache: z
    .strictObject({ size: size.default(20 * GIB), ram: size.default(256 * MIB) })
    .default({ size: 20 * GIB, ram: 256 * MIB }),
  cloud: z.strictObject({
    region: z.string().min(1),
    bucket: z.string().min(1),
    table: z.string().min(1),
    s3Endpoint: z.string().optional(),
    dynamodbEndpoint: z.string().optional(),
    proxy: z.string().min(1).optional(),
    caFile: z.string().min(1).optional(),
    uploadLimit: ratePlan.optional(),
    downloadLimit: ratePlan.optional(),
  }),
  replication: z
    .strictObject({
      rpoSeconds: z.number().min(1).max(3600).default(5),
      remoteLossSeconds: z
        .number()
        .min(1)
        .max(3600)
        .default(DEFAULT_REMOTE_LOSS_MS / 1000),
    })
    .default({ rpoSeconds: 5, remoteLossSeconds: DEFAULT_REMOTE_LOSS_MS / 1000 }),
  scrub: z
    .strictObject({
      enabled: z.boolean().default(true),
      localRate: size.default(20 * MIB),
      remoteRate: size.default(5 * MIB),
      interval: z.string().default('7d'),
    })
    .default({ enabled: true, localRate: 20 * MIB, remoteRate: 5 * MIB, interval: '7d' }),
  isns: z.strictObject({ server: z.string().min(1) }).optional(),
  access: z.strictObject({ keyFile: z.string().min(1).optional() }).default({}),
  limits: z
    .strictObject({
      maxConnections: limit,
      maxConnectionsPerAddress: limit,
      maxLogins: limit,
      maxLoginsPerAddress: limit,
      maxSessionsPerInitiator: limit,
    })
    .default({}),
  log: z.strictObject({ level: z.enum(['debug', 'info', 'warn', 'error']).default('info') }).default({ level: 'info' }),
});

/** Reads and checks the file; every mistake is an `input` error of one sentence that names file, key and remedy. */
export function loadSettings(path: string): Settings {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new FarshoreError(
      'input',
      `cannot read the configuration ${path} (${describeError(error)}); name it with --config FILE`,
      { cause: error },
    );
  }
  return parseSettings(text, path);
}

export function parseSettings(text: string, path: string): Settings {
  let document: unknown;
  try {
    document = parseYaml(text);
  } catch (error) {
    throw new FarshoreError('input', `${path} is not valid YAML: ${describeError(error).split('\n')[0] ?? ''}`, {
      cause: error,
    });
  }
  const parsed = schema.safeParse(document ?? {});
  if (!parsed.success) throw new FarshoreError('input', `${path}: ${explain(parsed.error.issues[0])}`);
  const config = parsed.data;
  const fail = (message: string): never => {
    throw new FarshoreError('input', `${path}: ${message}`);
  };
  const bytes = (value: string | number, key: string): ByteCount =>
    typeof value === 'number' ? value : parseSize(value, `${path}: ${key}`);

  const cacheBytes = bytes(config.cache.size, 'cache.size');
  const { threads } = config;
  const each = threads === 1 ? '' : ` for each of ${threads} threads`;
  if (cacheBytes < MIN_CACHE * threads) fail(`cache.size must be at least 256M${each}`);
  const ramBytes = bytes(config.cache.ram, 'cache.ram');
  if (ramBytes < MIN_RAM * threads) fail(`cache.ram must be at least 16M${each}`);
  if (
    !/^iqn\.\d{4}-(0[1-9]|1[0-2])\.[a-z0-9][a-z0-9.-]*(:[a-z0-9.:-]+)?$/.test(config.iqn) ||
    Buffer.byteLength(config.iqn) > 150
  ) {
    fail(
      `iqn "${config.iqn}" is not an iSCSI qualified name; write it like iqn.2026-11.com.example:office1 (lower case)`,
    );
  }
  const { s3Endpoint, dynamodbEndpoint } = config.cloud;
  for (const [key, value] of Object.entries({ s3Endpoint, dynamodbEndpoint })) {
    if (value !== undefined && !isHttpUrl(value))
      fail(`cloud.${key} "${value}" is not a URL; write it like http://127.0.0.1:9000`);
  }
  if ((s3Endpoint === undefined) !== (dynamodbEndpoint === undefined)) {
    fail('cloud.s3Endpoint and cloud.dynamodbEndpoint go together: name both (local servers) or neither (AWS)');
  }
  const scrub: ScrubSettings = {
    enabled: config.scrub.enabled,
    localBytesPerSecond: bytes(config.scrub.localRate, 'scrub.localRate'),
    remoteBytesPerSecond: bytes(config.scrub.remoteRate, 'scrub.remoteRate'),
    intervalMs: parseDuration(config.scrub.interval, `${path}: scrub.interval`),
  };
  for (const key of ['localRate', 'remoteRate'] as const) {
    if (bytes(config.scrub[key], `scrub.${key}`) < MIN_SCRUB_RATE)
      fail(`scrub.${key} must be at least 64K a second; to have no scrubs at all: scrub: { enabled: false }`);
  }
  if (scrub.intervalMs < MIN_SCRUB_INTERVAL_MS) {
    fail(`scrub.interval must be at least ${formatDuration(MIN_SCRUB_INTERVAL_MS)}`);
  }
  const { proxy } = config.cloud;
  if (proxy !== undefined && proxy !== 'none') parseProxy(proxy, `${path}: cloud.proxy`);
  const plan = (direction: Direction): RatePlans[Direction] => {
    const key = `${direction}Limit` as const;
    const given = config.cloud[key];
    return given === undefined ? NO_LIMIT : parsePlanFor(direction, given, `${path}: cloud.${key}`);
  };
  const portals = config.portals.map((portal) => portalOf(portal, path));
  refuseOverlap(portals, threads, fail);
  return Object.freeze({
    stateDir: resolve(config.stateDir),
    portals: Object.freeze(portals),
    iqn: config.iqn,
    cacheBytes,
    ramBytes,
    threads,
    cloud: Object.freeze({
      region: config.cloud.region,
      bucket: config.cloud.bucket,
      table: config.cloud.table,
      s3Endpoint,
      dynamodbEndpoint,
      proxy,
      caFile: config.cloud.caFile === undefined ? undefined : resolve(config.cloud.caFile),
    }),
    limitPlans: Object.freeze({ upload: plan('upload'), download: plan('download') }),
    rpoSeconds: config.replication.rpoSeconds,
    remoteLossSeconds: config.replication.remoteLossSeconds,
    scrub: Object.freeze(scrub),
    isns: config.isns === undefined ? undefined : parseIsns(config.isns.server, path),
    accessKeyFile: config.access.keyFile === undefined ? undefined : resolve(config.access.keyFile),
    limits: Object.freeze({
      maxConnections: config.limits.maxConnections,
      maxConnectionsPerAddress: config.limits.maxConnectionsPerAddress,
      maxLogins: config.limits.maxLogins,
      maxLoginsPerAddress: config.limits.maxLoginsPerAddress,
      maxSessionsPerInitiator: config.limits.maxSessionsPerInitiator,
    }),
    logLevel: config.log.level,
  });
}

/** `127.0.0.1:3260`, `[::1]:3260`; the port may be 0 (any free one). */
export function parsePortal(text: string, where: string): Portal {
  // A link-local address to listen on has a zone behind it.
  const match = /^(?:\[([0-9a-fA-F:.]+(?:%[A-Za-z0-9._-]+)?)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || isIP(host) === 0 || port > 65535) {
    throw new FarshoreError(
      'input',
      `${where}: portal "${text}" is not ADDRESS:PORT; write it like 127.0.0.1:3260 or [::1]:3260`,
    );
  }
  return { host, port };
}

function portalOf(
  given: string | { readonly address: string; readonly advertise?: string | string[] | undefined },
  where: string,
): Portal {
  if (typeof given === 'string') return parsePortal(given, where);
  const portal = parsePortal(given.address, where);
  if (given.advertise === undefined) return portal;
  const advertise = [given.advertise].flat().map((text) => {
    // A bare address is told with the portal's own port.
    const told = isIP(text) === 0 ? parsePortal(text, where) : { host: text, port: portal.port };
    if (told.port !== 0 && !told.host.includes('%')) return told;
    throw new FarshoreError(
      'input',
      `${where}: "${text}" cannot be advertised; name an address without a zone, and the port that initiators reach`,
    );
  });
  return { ...portal, advertise };
}

/** Each thread listens at the ports behind those of the portals: these must be free of one another. */
function refuseOverlap(portals: readonly Portal[], threads: number, fail: (message: string) => never): void {
  portals.forEach(({ host, port, advertise = [] }, index) => {
    if (port === 0 || threads === 1) return;
    const last = port + threads - 1;
    const range = `ports ${port} to ${last} of ${host}, one for each of ${threads} threads`;
    if (last > MAX_PORT || advertise.some((told) => told.port + threads - 1 > MAX_PORT))
      fail(`a portal takes ${range}, and there are none above ${MAX_PORT}`);
    const near = portals.find(
      (other, at) => at > index && other.host === host && other.port !== 0 && Math.abs(other.port - port) < threads,
    );
    if (near !== undefined)
      fail(`a portal takes ${range}, which ${host}:${near.port} lies among; choose ports that are further apart`);
  });
}

/** `isns.example.com`, `10.1.1.9:3205`, `[fd00::9]:3205`. */
function parseIsns(text: string, where: string): { readonly host: string; readonly port: number } {
  if (isIP(text) === 6) return { host: text, port: ISNS_DEFAULT_PORT };
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? ISNS_DEFAULT_PORT : Number(match[3]);
  if (host === undefined || port < 1 || port > 65_535) {
    throw new FarshoreError(
      'input',
      `${where}: isns.server "${text}" is not HOST or HOST:PORT; write it like isns.example.com or 10.1.1.9:3205`,
    );
  }
  return { host, port };
}

function isHttpUrl(text: string): boolean {
  try {
    return ['http:', 'https:'].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}

function explain(issue: z.core.$ZodIssue | undefined): string {
  if (issue === undefined) return 'not a valid configuration';
  const path = issue.path.join('.');
  switch (issue.code) {
    case 'unrecognized_keys': {
      const keys = issue.keys.map((key) => (path === '' ? key : `${path}.${key}`));
      return `unknown key ${keys.join(', ')}; see the README for the keys there are`;
    }
    case 'invalid_type':
      return path === ''
        ? `the file must hold keys and values`
        : issue.input === undefined && issue.message.includes('undefined')
          ? `${path} is missing`
          : `${path} must be ${/^[aeiou]/.test(issue.expected) ? 'an' : 'a'} ${issue.expected === 'array' ? 'array (a list in [ ])' : issue.expected}`;
    case 'invalid_union':
      return path.startsWith('portals')
        ? `${path} must be like 127.0.0.1:3260, or { address: "10.1.1.5:3260", advertise: "203.0.113.9:3260" }`
        : path.endsWith('Limit')
          ? `${path} must be like 200Mbit/s, or { default: none, schedule: { "Mon-Fri 08:00-18:00": 20Mbit/s } }`
          : `${path} must be a size like 20G`;
    case 'too_small':
      return issue.origin === 'number' ? `${path} must be at least ${issue.minimum}` : `${path} is empty`;
    case 'too_big':
      return `${path} must be at most ${issue.maximum}`;
    default:
      return `${path}: ${issue.message}`;
  }
}
