import { isIP } from 'node:net';
import { FarshoreError } from '../base/errors.ts';

/** An HTTP proxy between this machine and the cloud. */
export interface Proxy {
  /** How the proxy itself is spoken to. */
  readonly protocol: 'http:' | 'https:';
  readonly host: string;
  readonly port: number;
  /** Value of Proxy-Authorization. Secret. */
  readonly authorization: string | undefined;
  /** Without user and password: for people. */
  readonly name: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Names of the environment, as other tools have them; the first that is set counts. */
const VARIABLES = {
  'https:': ['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'],
  'http:': ['http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'],
} as const;
const DEFAULT_PORTS = { 'http:': 80, 'https:': 443 } as const;

/**
 * `http://user:password@proxy.example:3128`; without a scheme it is http. `what` names it in the error (`input`), which never shows the value: a password may
 * be in it.
 */
export function parseProxy(text: string, what: string): Proxy {
  const given = text.includes('://') ? text : `http://${text}`;
  const url = URL.canParse(given) ? new URL(given) : undefined;
  const protocol = url?.protocol;
  if (url === undefined || url.hostname === '' || (protocol !== 'http:' && protocol !== 'https:')) {
    throw new FarshoreError(
      'input',
      `${what} is not the URL of an HTTP proxy; write it like http://proxy.example:3128, with user:password@ before the host if it asks for them (SOCKS is not supported)`,
    );
  }
  const port = url.port === '' ? DEFAULT_PORTS[protocol] : Number(url.port);
  const userInfo = `${decoded(url.username)}:${decoded(url.password)}`;
  return {
    protocol,
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port,
    authorization: userInfo === ':' ? undefined : `Basic ${Buffer.from(userInfo).toString('base64')}`,
    name: `${protocol}//${url.hostname}:${port}`,
  };
}

/** Which proxy a request goes through. */
export type ProxyRule = (protocol: 'http:' | 'https:', host: string, port: number) => Proxy | undefined;

/**
 * The configured proxy (`none`: never one), or else that of the environment (https_proxy, http_proxy, all_proxy, in small letters or capitals). Hosts of no_proxy
 * are asked directly; so are those of this machine where the proxy is the environment's. Throws `input` for what is no proxy.
 */
export function proxyRule(configured: string | undefined, environment: Environment): ProxyRule {
  if (configured === 'none') return () => undefined;
  const exempt = parseNoProxy(environment['no_proxy'] ?? environment['NO_PROXY'] ?? '');
  if (configured !== undefined) {
    const proxy = parseProxy(configured, 'cloud.proxy');
    return (_, host, port) => (exempt(host, port) ? undefined : proxy);
  }
  const [plain, secure] = [fromEnvironment('http:', environment), fromEnvironment('https:', environment)];
  return (protocol, host, port) =>
    isThisMachine(host) || exempt(host, port) ? undefined : protocol === 'http:' ? plain : secure;
}

function fromEnvironment(protocol: 'http:' | 'https:', environment: Environment): Proxy | undefined {
  for (const name of VARIABLES[protocol]) {
    const value = environment[name]?.trim();
    if (value !== undefined && value !== '') return parseProxy(value, `the environment's ${name}`);
  }
  return undefined;
}

/** `*`, hosts and domains (`.example.com` and `example.com` both mean the host and all below it), each with a port or without, between commas or blanks. */
function parseNoProxy(text: string): (host: string, port: number) => boolean {
  const rules = text
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((rule) => rule !== '')
    .map((rule) => {
      // An IPv6 address has colons of its own.
      const match = isIP(rule) === 6 ? null : /^\[?(.*?)\]?:(\d{1,5})$/.exec(rule);
      const host = (match?.[1] ?? rule).replace(/^\[|\]$/g, '').replace(/^\*?\.(?=.)/, '');
      return { host, port: match?.[2] === undefined ? undefined : Number(match[2]) };
    });
  return (asked, port) => {
    const name = asked.toLowerCase().replace(/^\[|\]$/g, '');
    return rules.some(
      (rule) =>
        (rule.port === undefined || rule.port === port) &&
        (rule.host === '*' || name === rule.host || name.endsWith(`.${rule.host}`)),
    );
  };
}

export function isThisMachine(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, '');
  return name === 'localhost' || name === '::1' || /^127\.\d+\.\d+\.\d+$/.test(name);
}

/** A percent sign that stands for itself is left alone. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
