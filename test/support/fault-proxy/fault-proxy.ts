import { Agent, createServer } from 'node:http';
import type { Server } from 'node:http';
import { systemClock, type Clock } from '../../../gateway/base/clock.ts';
import { listen } from '../../../gateway/embedded/loopback.ts';
import { SimRandom } from '../../sim/sim-random.ts';
import { FaultChooser } from './chooser.ts';
import { exchange, type OperationCount, type Weather } from './exchange.ts';
import { Line } from './line.ts';
import { checkPlan, type FaultPlan, type Service } from './plan.ts';
import { WriteCapacity } from './write-capacity.ts';

export interface FaultProxyReport {
  /** Since the start, by service and operation. */
  readonly operations: Readonly<Record<Service, Readonly<Record<string, Readonly<OperationCount>>>>>;
  /** How often each rule of the present plan has applied. */
  readonly fired: readonly number[];
  /** Writes that were refused for want of write units, since the start. */
  readonly throttled: number;
}

/** How it is told of faults, in this process or over its control port. */
export interface FaultControl {
  /** From the next request on. What is met with silence is reset. */
  setPlan(plan: FaultPlan): Promise<void>;
  report(): Promise<FaultProxyReport>;
  /** Resolves when nothing that was to arrive late is under way any more. */
  landed(): Promise<void>;
}

export interface FaultProxy extends FaultControl {
  readonly s3Port: number;
  readonly dynamodbPort: number;
  close(): Promise<void>;
}

/** Sockets to each service; more requests than this are under way in no test. */
const MAX_SOCKETS = 512;
const KEEP_ALIVE_MS = 120_000;

/**
 * Stands between a gateway and the S3 and DynamoDB servers at two ports of this machine, and does to requests what a plan says: one that is bad
 * as the Internet is, on purpose and again and again the same. Headers pass as they are, so that signatures stay right.
 */
export async function startFaultProxy(
  upstream: { readonly s3Port: number; readonly dynamodbPort: number },
  clock: Clock = systemClock,
): Promise<FaultProxy> {
  const [up, down] = [new Line(clock), new Line(clock)];
  const agent = new Agent({ keepAlive: true, noDelay: true, maxSockets: MAX_SOCKETS });
  const capacity = new WriteCapacity(clock);
  const operations: Record<Service, Record<string, OperationCount>> = { s3: {}, dynamodb: {} };
  const landings = new Set<Promise<unknown>>();
  const tools = {
    ...{ clock, up, down, agent, capacity },
    count: (service: Service, operation: string): OperationCount =>
      (operations[service][operation] ??= { requests: 0, faults: 0, upBytes: 0, downBytes: 0 }),
    landing: (landing: Promise<unknown>): void => {
      const ended = landing.catch(() => undefined).finally(() => landings.delete(ended));
      landings.add(ended);
    },
  };
  let over = new AbortController();
  let weather = weatherOf({}, over.signal);

  function start(service: Service, port: number): Server {
    const settings = { keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0, noDelay: true };
    return createServer(settings, (request, response) => {
      const { socket } = request;
      request.on('error', () => undefined);
      response.on('error', () => undefined);
      exchange(tools, { service, port }, request, response, weather).catch(() => {
        socket.resetAndDestroy();
      });
    });
  }

  const servers = { s3: start('s3', upstream.s3Port), dynamodb: start('dynamodb', upstream.dynamodbPort) };
  const s3Port = await listen(servers.s3, 0, 'the fault proxy');
  const dynamodbPort = await listen(servers.dynamodb, 0, 'the fault proxy');
  return {
    s3Port,
    dynamodbPort,
    setPlan: async (plan) => {
      checkPlan(plan);
      up.setRate(plan.upBytesPerSecond ?? Infinity);
      down.setRate(plan.downBytesPerSecond ?? Infinity);
      capacity.unitsPerSecond = plan.writeUnitsPerSecond;
      over.abort();
      over = new AbortController();
      weather = weatherOf(plan, over.signal);
    },
    report: async () => ({
      operations: structuredClone(operations),
      fired: [...weather.chooser.fired],
      throttled: capacity.throttled,
    }),
    landed: async () => {
      while (landings.size > 0) await Promise.all(landings);
    },
    close: async () => {
      over.abort();
      await Promise.all(Object.values(servers).map(closed));
      agent.destroy();
    },
  };
}

function weatherOf(plan: FaultPlan, over: AbortSignal): Weather {
  return { plan, chooser: new FaultChooser(plan), random: new SimRandom(`jitter ${plan.seed ?? 0}`), over };
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => {
      resolve();
    });
    server.closeAllConnections();
  });
}
