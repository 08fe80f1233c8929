import type { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import { connectOverTcp } from '../../../gateway/isns/connection.ts';
import { startIsnsRegistration } from '../../../gateway/isns/registration.ts';
import type { IsnsRegistration } from '../../../gateway/isns/registration.ts';
import { buildPdu, honestly, IsnsServer, type Answer, type Received, tlvBytes } from '../../support/isns-server.ts';
import { eventually, freePort } from '../../support/processes.ts';
import { ManualClock } from '../initiator/manual-clock.ts';

const NAME = 'iqn.2026-11.dev.farshore:a';
const ENTITY = 'iqn.2026-11.dev.farshore:office';

let server: IsnsServer;
let clock: ManualClock;
let registration: IsnsRegistration;
let warnings: string[];

function start(port = server.port, targets = (): { name: string }[] => [{ name: NAME }]): void {
  registration = startIsnsRegistration({
    clock,
    random: { bytes: (count) => Buffer.alloc(count), fraction: () => 0.999_999 },
    log: { ...silentLog, warn: (_fields, message) => warnings.push(message) },
    server: 'the test server',
    connect: connectOverTcp({ host: '127.0.0.1', port }, clock),
    entity: ENTITY,
    groupTag: 1,
    targets,
    portals: () => [{ host: '127.0.0.1', port: 3260 }],
  });
}

const until = (met: () => boolean, what: string): Promise<true> =>
  eventually(
    () => (met() ? true : undefined),
    20_000,
    () => `${what}: ${JSON.stringify(registration.state())}`,
  );
const failing = (): Promise<true> => until(() => registration.state().state === 'failing', 'not failing');
/** A success to the request, with attributes of the test's own. */
const success = (request: Received, attributes: Buffer): Buffer =>
  buildPdu({
    functionId: request.functionId | 0x8000,
    transactionId: request.transactionId,
    payload: Buffer.concat([Buffer.alloc(4), attributes]),
  });
const says =
  (bytes: (request: Received) => Buffer): Answer =>
  (request, socket) => {
    socket.write(bytes(request));
  };
/** As fast as the peer takes it, until it hangs up. */
function flood(socket: Socket, piece: Buffer): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on('drain', more);
  more();
}

beforeEach(async () => {
  server = await IsnsServer.start();
  clock = new ManualClock();
  warnings = [];
});

afterEach(async () => {
  const closing = registration.close();
  server.dropConnections();
  clock.advance(10_000);
  await closing;
  await server.close();
  expect(clock.pending()).toBe(0);
});

describe('a hostile server', () => {
  const pdu = (request: Received, more: Partial<Parameters<typeof buildPdu>[0]>): Buffer =>
    buildPdu({
      functionId: request.functionId | 0x8000,
      transactionId: request.transactionId,
      payload: Buffer.alloc(4),
      ...more,
    });
  const FIRST = 0x4400;
  const LAST = 0x4800;
  const MIDDLE = 0x4000;

  const attacks: Readonly<Record<string, Answer>> = {
    'closes at once': (_request, socket) => socket.destroy(),
    'closes in the middle of its answer': (request, socket) => {
      socket.end(pdu(request, {}).subarray(0, 13));
    },
    'resets the connection': (_request, socket) => socket.resetAndDestroy(),
    'speaks another protocol': says(() => Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')),
    'speaks another version': says((request) => pdu(request, { version: 2 })),
    'sends a length that is no multiple of 4': says((request) => pdu(request, { payload: Buffer.alloc(6) })),
    'sends an authentication block': says((request) => pdu(request, { flags: 0x6c00 })),
    'answers without a status': says((request) => pdu(request, { payload: Buffer.alloc(0) })),
    'sends an attribute longer than the message': says((request) =>
      success(request, Buffer.from([0, 0, 0, 6, 0xff, 0xff, 0xff, 0xfc, 0, 0, 0, 0])),
    ),
    'sends half an attribute': says((request) => success(request, Buffer.from([0, 0, 0, 6]))),
    'sends an attribute of 3 bytes': says((request) =>
      success(request, Buffer.from([0, 0, 0, 6, 0, 0, 0, 3, 0, 0, 0, 0])),
    ),
    'begins a message in the middle': says((request) => pdu(request, { flags: LAST, sequenceId: 1 })),
    'begins a message twice': says((request) =>
      Buffer.concat([pdu(request, { flags: FIRST }), pdu(request, { flags: FIRST, sequenceId: 1 })]),
    ),
    'leaves a PDU out': says((request) =>
      Buffer.concat([pdu(request, { flags: FIRST }), pdu(request, { flags: LAST, sequenceId: 2 })]),
    ),
    'mixes two messages': says((request) =>
      Buffer.concat([
        pdu(request, { flags: FIRST }),
        pdu(request, { flags: LAST, sequenceId: 1, transactionId: request.transactionId + 1 }),
      ]),
    ),
    'sends a message without an end': (request, socket) => {
      let sequenceId = 0;
      const more = (): void => {
        let goesOn = !socket.destroyed;
        while (goesOn) {
          const flags = sequenceId === 0 ? FIRST : MIDDLE;
          goesOn =
            socket.write(pdu(request, { flags, sequenceId, payload: Buffer.alloc(32_768) })) && !socket.destroyed;
          sequenceId = (sequenceId + 1) & 0xffff;
        }
      };
      socket.on('drain', more);
      more();
    },
    'sends a message of empty PDUs without an end': (request, socket) => {
      const all = Array.from({ length: 2000 }, (_, sequenceId) =>
        pdu(request, { flags: sequenceId === 0 ? FIRST : MIDDLE, sequenceId, payload: Buffer.alloc(0) }),
      );
      socket.write(Buffer.concat(all));
    },
    'floods us with what nobody asked for': (_request, socket) => {
      flood(socket, buildPdu({ functionId: 0x000d, flags: 0x4c00, transactionId: 9, payload: Buffer.alloc(400) }));
    },
    'answers another request for ever': (request, socket) => {
      flood(socket, pdu(request, { transactionId: request.transactionId ^ 1 }));
    },
    'refuses everything with a status that is not defined': says((request) =>
      pdu(request, { payload: Buffer.from([0xff, 0xff, 0xff, 0xff]) }),
    ),
  };

  it.each(Object.entries(attacks))('that %s is left, and a good one is taken again', async (_name, attack) => {
    server.answer = attack;
    start();
    await failing();
    await until(() => server.open() === 0, 'still connected');
    expect(registration.state().problem).toMatch(/iSNS server|connection broke/);
    expect(warnings).toHaveLength(1);
    server.answer = honestly;
    clock.advance(1_000);
    await until(() => registration.state().state === 'registered', 'not registered');
    expect(server.targetsOf(ENTITY)).toEqual([NAME]);
  });

  it('that never answers is left after ten seconds', async () => {
    server.answer = () => undefined;
    start();
    await until(() => server.received.length === 1, 'no request came');
    clock.advance(9_999);
    expect(server.open()).toBe(1);
    clock.advance(1);
    await failing();
    expect(registration.state().problem).toContain('did not answer within 10 s');
  });

  it('that trickles its answer gains no time by it', async () => {
    server.answer = (request, socket) => {
      socket.write(pdu(request, {}).subarray(0, 12));
    };
    start();
    await until(() => server.received.length === 1, 'no request came');
    clock.advance(10_000);
    await failing();
    await until(() => server.open() === 0, 'still connected');
  });

  it('that floods us between two requests is left', async () => {
    start();
    await until(() => registration.state().state === 'registered', 'not registered');
    server.answer = (_request, socket, honest) => {
      socket.write(honest());
      flood(socket, buildPdu({ functionId: 0x0008, flags: 0x4c00, transactionId: 1, payload: tlvBytes([[32, NAME]]) }));
    };
    clock.advance(200_000);
    await failing();
    await until(() => server.open() === 0, 'still connected');
  });

  it('is tried with pauses that grow to a minute, and one line in the log', async () => {
    server.answer = (_request, socket) => socket.destroy();
    start();
    for (const [index, pauseMs] of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000].entries()) {
      await until(() => server.connections === index + 1 && server.open() === 0 && clock.pending() === 1, 'not over');
      clock.advance(pauseMs - 1);
      expect(server.connections).toBe(index + 1);
      clock.advance(1);
    }
    await until(() => server.connections === 9, 'not tried');
    expect(warnings).toHaveLength(1);
  });

  it('that takes registrations and hangs up each time is not asked more often for it', async () => {
    start();
    for (let round = 0; round < 4; round += 1) {
      await until(() => registration.state().state === 'registered', 'not registered');
      server.dropConnections();
      await failing();
      await until(() => clock.pending() === 1, 'other timers');
      clock.advance(1_000 * 2 ** round - 1);
      expect(server.connections).toBe(round + 1);
      clock.advance(1);
    }
  });
});

describe('what goes wrong before', () => {
  it('a port where nobody listens is a failure, and closing does not wait', async () => {
    start(await freePort());
    await failing();
    expect(registration.state().problem).toContain('ECONNREFUSED');
    await registration.close();
  });

  it('a fault of our own in the list of targets leaves the gateway alone', async () => {
    let isBroken = true;
    start(server.port, () => {
      if (isBroken) throw new Error('no list');
      return [{ name: NAME }];
    });
    await failing();
    expect(registration.state().problem).toBe('no list');
    isBroken = false;
    clock.advance(1_000);
    await until(() => registration.state().state === 'registered', 'not registered');
  });
});
