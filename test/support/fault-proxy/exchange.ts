import { request as httpRequest } from 'node:http';
import type { Agent, IncomingMessage, ServerResponse } from 'node:http';
import { Writable } from 'node:stream';
import { sleep, type Clock, type Random } from '../../../gateway/base/clock.ts';
import { dynamoError, reply, s3Error } from '../scripted-server.ts';
import type { FaultChooser } from './chooser.ts';
import { carry, until, type Line, type Way } from './line.ts';
import type { Fault, FaultPlan, Service } from './plan.ts';
import { askedBy, skewRefusal } from './service-requests.ts';
import type { WriteCapacity } from './write-capacity.ts';

/** Of a request or an answer, about. */
const HEAD_BYTES = 500;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Headers that belong to one connection. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'proxy-connection']);
const THROTTLED = {
  status: 400,
  code: 'ProvisionedThroughputExceededException',
  message: 'The level of configured provisioned throughput for the table was exceeded.',
};
const PORTAL_PAGE =
  '<!DOCTYPE html><html><title>Welcome</title><body>Please sign in to use this network.</body></html>';

/** What happened to the requests of one operation. */
export interface OperationCount {
  requests: number;
  /** Those that a fault happened to. */
  faults: number;
  /** Of bodies, as they came from the sender and went back to it. */
  upBytes: number;
  downBytes: number;
}

/** The weather that a request meets; it stays the same for it, whatever is planned meanwhile. */
export interface Weather {
  readonly plan: FaultPlan;
  readonly chooser: FaultChooser;
  readonly random: Random;
  /** Aborts when another plan is made: what is met with silence ends then. */
  readonly over: AbortSignal;
}

export interface ExchangeTools {
  readonly clock: Clock;
  readonly up: Line;
  readonly down: Line;
  readonly agent: Agent;
  readonly capacity: WriteCapacity;
  readonly count: (service: Service, operation: string) => OperationCount;
  /** Told of what will get there later. */
  readonly landing: (landing: Promise<unknown>) => void;
}

type Refusal = Exclude<Fault['answer'], string>;
const FAIR: Fault = { deliver: 'once', answer: 'true' };

/** One request, from its sender to the service at `port` and back. Rejects when it broke on the way; the caller resets the connection. */
export async function exchange(
  tools: ExchangeTools,
  { service, port }: { readonly service: Service; readonly port: number },
  request: IncomingMessage,
  response: ServerResponse,
  { plan, chooser, random, over }: Weather,
): Promise<void> {
  const { clock, up, down } = tools;
  // A body that is not read to its end takes it from the request.
  const { socket } = request;
  const asked = askedBy(service, request);
  const count = tools.count(service, asked.operation);
  count.requests += 1;
  const gone = new AbortController();
  response.once('close', () => {
    gone.abort();
  });
  const chosen = chooser.choose(asked);
  if (chosen !== undefined) count.faults += 1;
  const oneWayMs = (): number => ((plan.roundTripMs ?? 0) + (plan.jitterMs ?? 0) * random.fraction()) / 2;
  const there: Way = { clock, line: up, delayMs: oneWayMs(), signal: gone.signal };
  const back: Way = { clock, line: down, delayMs: oneWayMs(), signal: gone.signal };
  up.send(HEAD_BYTES);
  let fault = chosen ?? FAIR;
  const serverNow = clock.now() + (plan.clockSkewMs ?? 0);
  const skewed = plan.clockSkewMs === undefined ? undefined : skewRefusal(service, request, serverNow);
  if (skewed !== undefined) fault = { deliver: 'never', answer: skewed };

  let answer: IncomingMessage | undefined;
  if (fault.deliver === 'never') {
    if (fault.answer !== 'reset') {
      const carried = await carry(request, nowhere(), there);
      count.upBytes += carried;
    }
  } else if (
    service === 's3' &&
    (fault.deliver === 'once' || fault.deliver === 'half' || fault.deliver === 'corrupt')
  ) {
    answer = await stream(fault.deliver);
  } else {
    // It arrives as a whole, whatever becomes of its sender.
    const body = await readWhole(request);
    count.upBytes += body.length;
    if (service === 'dynamodb' && !tools.capacity.take(asked.operation, body))
      fault = { deliver: 'never', answer: THROTTLED };
    answer = await deliver(body, fault);
  }
  await tell(fault.answer);

  async function stream(how: 'once' | 'half' | 'corrupt'): Promise<IncomingMessage | undefined> {
    const { sending, answered } = open();
    const bytes = Number(request.headers['content-length'] ?? 0);
    const most = how === 'half' ? Math.floor(bytes / 2) : Infinity;
    try {
      const source = how === 'corrupt' ? corrupted(request) : request;
      const carried = await carry(source, sending, there, most);
      // Not in one expression: the sum would be that from before the wait.
      count.upBytes += carried;
    } catch (error) {
      sending.destroy();
      // The service may have answered before it had all of the body.
      const early = await Promise.race([answered.catch(() => undefined), Promise.resolve(undefined)]);
      if (early === undefined || gone.signal.aborted) throw error;
      return early;
    }
    if (how !== 'half') return answered;
    answered.catch(() => undefined);
    sending.destroy();
    return undefined;
  }

  async function deliver(body: Buffer, { deliver: how, lateMs = 0 }: Fault): Promise<IncomingMessage | undefined> {
    const always: Way = { ...there, signal: new AbortController().signal };
    const send = async (): Promise<IncomingMessage> => {
      const { sending, answered } = open();
      answered.catch(() => undefined);
      const whole = how === 'corrupt' ? [turnedOver(body)] : [body];
      await carry(body.length === 0 ? [] : whole, sending, always);
      return answered;
    };
    switch (how) {
      case 'never':
        await until(clock, clock.monotonicMs() + there.delayMs, gone.signal);
        return undefined;
      case 'half': {
        const { sending, answered } = open();
        answered.catch(() => undefined);
        await carry([body], sending, always, Math.floor(body.length / 2));
        sending.destroy();
        return undefined;
      }
      case 'late':
        tools.landing(sleep(clock, lateMs).then(send).then(readWhole));
        return undefined;
      case 'twice':
        await readWhole(await send());
        return send();
      case 'once':
      case 'corrupt':
        return send();
    }
  }

  function open() {
    const { method, url: path, rawHeaders } = request;
    const headers = passedOn(rawHeaders);
    const sending = httpRequest({ host: '127.0.0.1', port, method, path, headers, agent: tools.agent, setHost: false });
    sending.setNoDelay(true);
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      sending.once('response', resolve);
      sending.on('error', reject);
    });
    answered.catch(() => undefined);
    return { sending, answered };
  }

  async function tell(how: Fault['answer']): Promise<void> {
    if (how === 'true' || how === 'half' || how === 'corrupt') {
      if (answer === undefined) throw new Error('there is no answer to pass on');
      await passBack(answer, how);
      return;
    }
    if (answer !== undefined) await readWhole(answer);
    if (how === 'reset') {
      socket.resetAndDestroy();
      return;
    }
    if (how === 'silence') {
      await sleep(clock, LONGEST_TIMER_MS, AbortSignal.any([over, gone.signal]));
      socket.resetAndDestroy();
      return;
    }
    await until(clock, clock.monotonicMs() + back.delayMs, gone.signal);
    response.setHeader('Date', new Date(serverNow).toUTCString());
    if (how === 'portal') reply(200, PORTAL_PAGE, { 'Content-Type': 'text/html' })(response, NOTHING);
    else refuse(how);
  }

  function refuse({ status, code, message }: Refusal): void {
    (service === 's3' ? s3Error : dynamoError)(status, code, message)(response, NOTHING);
  }

  async function passBack(from: IncomingMessage, how: 'true' | 'half' | 'corrupt'): Promise<void> {
    const headers = passedOn(from.rawHeaders, (name) => name !== 'date');
    headers.push('Date', new Date(serverNow).toUTCString());
    response.sendDate = false;
    down.send(HEAD_BYTES);
    response.writeHead(from.statusCode ?? 500, headers);
    const most = how === 'half' ? Math.floor(Number(from.headers['content-length'] ?? 0) / 2) : Infinity;
    const carried = await carry(how === 'corrupt' ? corrupted(from) : from, response, back, most);
    count.downBytes += carried;
    if (how !== 'half') return;
    response.flushHeaders();
    socket.end();
  }
}

const NOTHING = { method: '', url: '', headers: {}, body: Buffer.alloc(0) };

/** Names and values in turn, as Node gives and takes them, without what concerns one connection only. */
function passedOn(rawHeaders: readonly string[], isWanted: (name: string) => boolean = () => true): string[] {
  const passed: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const [name = '', value = ''] = rawHeaders.slice(at, at + 2);
    const lower = name.toLowerCase();
    if (!HOP_BY_HOP.has(lower) && isWanted(lower)) passed.push(name, value);
  }
  return passed;
}

async function readWhole(message: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of message) pieces.push(piece as Buffer); // no encoding is set
  return Buffer.concat(pieces);
}

async function* corrupted(source: IncomingMessage): AsyncIterable<Buffer> {
  let isDone = false;
  for await (const piece of source) {
    yield isDone ? (piece as Buffer) : turnedOver(piece as Buffer);
    isDone = true;
  }
}

/** A copy, one bit in its middle the other way round. */
function turnedOver(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const middle = copy.length >> 1;
  copy[middle] = (copy[middle] ?? 0) ^ 1;
  return copy;
}

function nowhere(): Writable {
  return new Writable({
    write: (_chunk, _encoding, done) => {
      done();
    },
  });
}
