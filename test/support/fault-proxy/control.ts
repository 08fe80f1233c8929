import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { describeError } from '../../../gateway/base/errors.ts';
import { rawHttp } from '../raw-http.ts';
import type { FaultControl, FaultProxyReport } from './fault-proxy.ts';
import { FAULT_PLAN } from './plan.ts';

/** HTTP: PUT /plan with a plan, GET /report, GET /landed (answers when it is so). */
export function controlServer(proxy: FaultControl): Server {
  return createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      answer(proxy, `${request.method ?? ''} ${request.url ?? ''}`, Buffer.concat(pieces)).then(
        (value) => {
          response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
        },
        (error: unknown) => {
          response.writeHead(400).end(describeError(error));
        },
      );
    });
  });
}

async function answer(proxy: FaultControl, asked: string, body: Buffer): Promise<unknown> {
  switch (asked) {
    case 'PUT /plan':
      await proxy.setPlan(FAULT_PLAN.parse(JSON.parse(body.toString('utf8'))));
      return {};
    case 'GET /report':
      return proxy.report();
    case 'GET /landed':
      await proxy.landed();
      return {};
    default:
      throw new Error(`the fault proxy knows no '${asked}'`);
  }
}

/** The proxy of another process. */
export function remoteControl(port: number): FaultControl {
  const call = async (method: string, path: string, value?: unknown): Promise<unknown> => {
    const body = value === undefined ? '' : JSON.stringify(value);
    const answered = await rawHttp(`http://127.0.0.1:${port}`, { method, path, body });
    if (answered.status !== 200) throw new Error(`the fault proxy refuses: ${answered.body.toString('utf8')}`);
    return JSON.parse(answered.body.toString('utf8'));
  };
  return {
    setPlan: async (plan) => {
      await call('PUT', '/plan', plan);
    },
    report: async () => (await call('GET', '/report')) as FaultProxyReport,
    landed: async () => {
      await call('GET', '/landed');
    },
  };
}
