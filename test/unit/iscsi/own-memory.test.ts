import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { readIntoOwnMemory } from '../../../gateway/iscsi/own-memory.ts';

const server = createServer({ pauseOnConnect: true });
let peers: Socket[] = [];
afterEach(async () => {
  for (const peer of peers) peer.destroy();
  peers = [];
  if (!server.listening) return;
  server.close();
  await once(server, 'close');
});

/** Both ends of a connection, and what was received at ours. */
async function connected(): Promise<{ peer: Socket; socket: Socket; received: string[]; memories: Set<Buffer> }> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // a TCP server that listens has one
  const accepting = once(server, 'connection') as Promise<[Socket]>;
  const peer = connect(port, '127.0.0.1');
  const [accepted] = await accepting;
  const memory = Buffer.alloc(4);
  const received: string[] = [];
  const memories = new Set<Buffer>();
  const socket = readIntoOwnMemory(accepted, {
    memory: () => memory,
    received: (bytes, where) => {
      memories.add(where);
      received.push(where.toString('latin1', 0, bytes));
    },
  });
  peers = [peer, socket];
  return { peer, socket, received, memories };
}

test('what comes is put into the memory it is given, as much of it at a time as that holds', async () => {
  const { peer, socket, received, memories } = await connected();
  peer.end('ten bytes!');
  await once(socket, 'end');
  expect([received.join(''), memories.size, [...memories][0]?.length]).toEqual(['ten bytes!', 1, 4]);
  expect(Math.max(...received.map(({ length }) => length))).toBeLessThanOrEqual(4);
});

test('the socket answers, pauses, goes on and ends as any other, and the server counts it until then', async () => {
  const { peer, socket, received } = await connected();
  const answered = once(peer, 'data');
  socket.write('hello');
  expect(String((await answered)[0])).toBe('hello');
  socket.pause();
  peer.write('held');
  await new Promise((resolve) => peer.write('back', resolve));
  expect(received).toEqual([]);
  socket.resume();
  while (received.join('') !== 'heldback') await new Promise(setImmediate);
  server.close();
  let isClosed = false;
  const closed = once(server, 'close').then(() => {
    isClosed = true;
  });
  await new Promise(setImmediate);
  expect(isClosed).toBe(false);
  socket.destroy();
  await closed;
});

test('a connection that is cut is an error or an end, and then closed', async () => {
  const { peer, socket } = await connected();
  const errors: unknown[] = [];
  socket.on('error', (error) => errors.push(error));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  peer.resetAndDestroy();
  await closed;
  expect(socket.destroyed).toBe(true);
  expect(errors).toHaveLength(1);
});
