import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer as createHttpServer, request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectToGateway } from '../../../gateway/admin/control-client.ts';
import { ControlServer, controlSocketPath } from '../../../gateway/admin/control-server.ts';
import type { GatewayApi, Progress } from '../../../gateway/admin/gateway-api.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';

let folder: string;
let server: ControlServer | undefined;
const calls: { op: string; args: unknown }[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'farshore-control-'));
  calls.length = 0;
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

/** Answers flush with two progress reports and a version; everything else is not found. */
const api = {
  call: (op: string, args: unknown, onProgress: (progress: Progress) => void) => {
    calls.push({ op, args });
    if (op !== 'flush') return Promise.reject(new FarshoreError('not-found', `there is no volume called x`));
    onProgress({ phase: 'sealing', done: 0, total: 2, unit: 'steps' });
    onProgress({ phase: 'sealing', done: 2, total: 2, unit: 'steps' });
    return Promise.resolve({ n: 7 });
  },
} as GatewayApi;

const listen = async (): Promise<void> => {
  server = await ControlServer.listen(folder, api, silentLog);
};

/** What a foreign client would send. */
function post(path: string, body: string, method = 'POST'): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: controlSocketPath(folder), path, method }, (response) => {
      let text = '';
      response.on('data', (piece: Buffer) => (text += piece.toString()));
      response.on('end', () => {
        resolve(text);
      });
    });
    call.on('error', reject);
    call.end(body);
  });
}

describe('the control socket', () => {
  it('tells a gateway that dies in the middle of an answer by a failure that may be tried again', async () => {
    await listen();
    const dying = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"p', () => socket.destroy());
      });
    });
    await server?.close();
    server = undefined;
    await new Promise<void>((resolve) => dying.listen(controlSocketPath(folder), resolve));
    const call = connectToGateway(folder).call('flush', { name: 'office' }, () => undefined);
    await expect(call).rejects.toMatchObject({
      kind: 'retry',
      message: expect.stringContaining('went away') as string,
    });
    await new Promise((resolve) => dying.close(resolve));
  });

  it('carries a call, its progress and its result', async () => {
    await listen();
    const progress: Progress[] = [];
    const result = await connectToGateway(folder).call('flush', { name: 'office' }, (each) => progress.push(each));
    expect(result).toEqual({ n: 7 });
    expect(progress.map((each) => each.done)).toEqual([0, 2]);
    expect(calls).toEqual([{ op: 'flush', args: { name: 'office' } }]);
  });

  it('carries an error with its kind', async () => {
    await listen();
    await expect(connectToGateway(folder).call('fold', { name: 'x' }, () => undefined)).rejects.toMatchObject({
      kind: 'not-found',
      message: 'there is no volume called x',
    });
  });

  it('carries line ends of every kind in what it answers', async () => {
    const strange = { n: 'a\nb\u2028c\u2029d\re' };
    server = await ControlServer.listen(
      folder,
      { call: () => Promise.resolve(strange) } as unknown as GatewayApi,
      silentLog,
    );
    expect(await connectToGateway(folder).call('flush', { name: 'a' }, () => undefined)).toEqual(strange);
  });

  it('is open to its owner alone', async () => {
    await listen();
    expect(statSync(controlSocketPath(folder)).mode & 0o777).toBe(0o600);
  });

  it.each([
    ['an unknown operation', '/v1/explode', '{}', 'no such operation'],
    ['another path', '/', '{}', 'no such operation'],
    ['arguments that are not JSON', '/v1/flush', '{', 'not JSON'],
    ['a missing argument', '/v1/flush', '{}', 'name'],
    ['an unknown argument', '/v1/flush', '{"name":"x","force":true}', 'force'],
    ['a name that is none', '/v1/flush', '{"name":"../etc"}', 'lower-case letters'],
    ['an endless request', '/v1/flush', ' '.repeat(70_000), 'too long'],
  ])('refuses %s with a sentence and calls nothing', async (_what, path, body, sentence) => {
    await listen();
    const answer = JSON.parse(await post(path, body)) as { error: { kind: string; message: string } };
    expect(answer.error.kind).toBe('input');
    expect(answer.error.message).toContain(sentence);
    expect(calls).toEqual([]);
  });

  it('takes the place of a socket left by a dead process', async () => {
    await listen();
    await ControlServer.listen(folder, api, silentLog).then((second) => {
      server = second;
    });
    expect(await connectToGateway(folder).call('flush', { name: 'a' }, () => undefined)).toEqual({ n: 7 });
  });

  it('opens a connection of its own for each call: one kept from before may be closing, and then its answer is lost', async () => {
    const seen: unknown[] = [];
    const bare = createHttpServer((asked, response) => {
      seen.push(asked.headers.connection);
      response.end('{"result":{"n":1}}\n');
    });
    await new Promise<void>((resolve) => bare.listen(controlSocketPath(folder), resolve));
    for (let call = 0; call < 2; call += 1)
      await connectToGateway(folder).call('flush', { name: 'a' }, () => undefined);
    await new Promise((resolve) => bare.close(resolve));
    expect(seen).toEqual(['close', 'close']);
  });

  it('says that no gateway runs there, and how to start one', async () => {
    await expect(connectToGateway(folder).call('status', {}, () => undefined)).rejects.toMatchObject({
      kind: 'not-found',
      message: expect.stringContaining('farshore serve --config') as string,
    });
  });

  it('refuses a state directory whose socket path would be too long', async () => {
    await expect(ControlServer.listen(`/tmp/${'x'.repeat(120)}`, api, silentLog)).rejects.toMatchObject({
      kind: 'input',
    });
  });
});
