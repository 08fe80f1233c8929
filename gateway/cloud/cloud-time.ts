import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { WallMillis } from '../base/units.ts';
import type { CloudSettings } from './aws-clients.ts';
import { proxyRule, type Environment } from './proxy.ts';
import { TunnelAgent } from './proxy-agent.ts';
import { trustedRoots } from './trusted-roots.ts';

const TIMEOUT_MS = 5_000;

/** The Date header of whatever the S3 endpoint answers, asked for the way all requests go; undefined when it is out of reach. */
export function askCloudTime(
  { s3Endpoint, region, proxy: configured, caFile }: CloudSettings,
  environment: Environment = process.env,
): Promise<WallMillis | undefined> {
  const url = new URL(s3Endpoint ?? `https://s3.${region}.amazonaws.com`);
  const rule = proxyRule(configured, environment);
  const ca = trustedRoots(caFile, environment);
  const trust = ca === undefined ? {} : { ca };
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isSecure = url.protocol === 'https:';
  const port = Number(url.port === '' ? (isSecure ? 443 : 80) : url.port);
  const proxy = isSecure ? undefined : rule('http:', host, port);
  const agent = isSecure ? new TunnelAgent({ keepAlive: false, ...trust }, rule) : false;
  const authorization = proxy?.authorization;
  return new Promise((resolve) => {
    const request = (isSecure || proxy?.protocol === 'https:' ? httpsRequest : httpRequest)({
      ...{ method: 'HEAD', agent, timeout: TIMEOUT_MS, ...trust },
      ...(proxy === undefined
        ? { host, port, path: '/' }
        : { host: proxy.host, port: proxy.port, path: `${url.origin}/` }),
      headers: { host: url.host, ...(authorization === undefined ? {} : { 'proxy-authorization': authorization }) },
    });
    request.once('response', (response) => {
      response.resume();
      const date = Date.parse(response.headers.date ?? '');
      resolve(Number.isNaN(date) ? undefined : date);
    });
    request.once('timeout', () => {
      request.destroy();
    });
    request.once('error', () => {
      resolve(undefined);
    });
    request.once('close', () => {
      resolve(undefined);
    });
    request.end();
  });
}
