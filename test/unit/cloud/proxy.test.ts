import { describe, expect, it } from 'vitest';
import { parseProxy, proxyRule } from '../../../gateway/cloud/proxy.ts';

const AWS = 's3.eu-central-1.amazonaws.com';

describe('the URL of a proxy', () => {
  it('has a scheme, a host and a port, or the usual ones, and perhaps user and password', () => {
    expect(parseProxy('http://proxy.example:3128', 'x')).toEqual({
      ...{ protocol: 'http:', host: 'proxy.example', port: 3128, authorization: undefined },
      name: 'http://proxy.example:3128',
    });
    expect(parseProxy('proxy.example:8080', 'x')).toMatchObject({ protocol: 'http:', port: 8080 });
    expect(parseProxy('https://proxy.example', 'x')).toMatchObject({ protocol: 'https:', port: 443 });
    expect(parseProxy('http://[::1]:3128', 'x')).toMatchObject({ host: '::1', name: 'http://[::1]:3128' });
    const { authorization, name } = parseProxy('http://me:p%40ss%25:word@proxy.example:3128', 'x');
    expect(Buffer.from((authorization ?? '').slice('Basic '.length), 'base64').toString()).toBe('me:p@ss%:word');
    expect(name).toBe('http://proxy.example:3128');
  });

  it.each(['socks5://me:secret@proxy:1080', 'http://', 'me:secret@', 'http://me:secret@proxy:99999'])(
    'is refused without being shown: %s',
    (text) => {
      expect(() => parseProxy(text, 'cloud.proxy')).toThrow('cloud.proxy is not the URL of an HTTP proxy');
      expect(() => parseProxy(text, 'cloud.proxy')).not.toThrow(/secret/);
    },
  );
});

describe('the proxy of a request', () => {
  const nameFor = (configured: string | undefined, environment: Record<string, string>, host = AWS, port = 443) =>
    proxyRule(configured, environment)(port === 443 ? 'https:' : 'http:', host, port)?.name;

  it('is the configured one, or else that of the environment, or none', () => {
    expect(nameFor(undefined, {})).toBeUndefined();
    expect(nameFor(undefined, { HTTPS_PROXY: 'http://a:1' })).toBe('http://a:1');
    expect(nameFor(undefined, { https_proxy: 'http://b:1', HTTPS_PROXY: 'http://a:1' })).toBe('http://b:1');
    expect(nameFor(undefined, { HTTP_PROXY: 'http://a:1' })).toBeUndefined();
    expect(nameFor(undefined, { HTTP_PROXY: 'http://a:1' }, 'minio.example', 9000)).toBe('http://a:1');
    expect(nameFor(undefined, { https_proxy: '', ALL_PROXY: 'http://c:1' })).toBe('http://c:1');
    expect(nameFor('http://d:1', { HTTPS_PROXY: 'http://a:1' })).toBe('http://d:1');
    expect(nameFor('none', { HTTPS_PROXY: 'http://a:1' })).toBeUndefined();
  });

  it.each([
    ['*', true],
    ['amazonaws.com', true],
    ['.amazonaws.com', true],
    ['*.amazonaws.com', true],
    ['localhost, S3.EU-central-1.amazonaws.com', true],
    ['localhost eu-central-1.amazonaws.com', true],
    ['amazonaws.com:443', true],
    ['amazonaws.com:8443', false],
    ['aws.com', false],
    ['s3', false],
    ['', false],
  ])('is left out for NO_PROXY=%s: %s', (list, isDirect) => {
    for (const environment of [{ NO_PROXY: list }, { no_proxy: list }]) {
      expect(nameFor('http://d:1', environment) === undefined).toBe(isDirect);
      expect(nameFor(undefined, { ...environment, HTTPS_PROXY: 'http://a:1' }) === undefined).toBe(isDirect);
    }
  });

  it('is left out for addresses that are listed, with a port or without', () => {
    const listed = { NO_PROXY: '10.1.2.3, fd00::9,[fd00::8]:443' };
    expect(nameFor('http://d:1', listed, '10.1.2.3')).toBeUndefined();
    expect(nameFor('http://d:1', listed, 'fd00::9')).toBeUndefined();
    expect(nameFor('http://d:1', listed, '[fd00::8]')).toBeUndefined();
    expect(nameFor('http://d:1', listed, 'fd00::8', 80)).toBe('http://d:1');
    expect(nameFor('http://d:1', listed, '10.1.2.4')).toBe('http://d:1');
  });

  it('is left out for this machine, unless the configuration says so', () => {
    for (const host of ['localhost', '127.0.0.1', '127.9.9.9', '::1', '[::1]']) {
      expect(nameFor(undefined, { HTTPS_PROXY: 'http://a:1' }, host)).toBeUndefined();
      expect(nameFor('http://d:1', {}, host)).toBe('http://d:1');
    }
  });

  it('is asked for in the environment where that has nonsense', () => {
    expect(() => proxyRule(undefined, { HTTPS_PROXY: 'socks5://x' })).toThrow(
      "the environment's HTTPS_PROXY is not the URL",
    );
  });
});
