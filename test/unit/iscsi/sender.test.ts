import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KIB } from '../../../gateway/base/units.ts';
import { REFERENCED_PIECE_BYTES, Sender } from '../../../gateway/iscsi/sender.ts';
import type { OutgoingSocket } from '../../../gateway/iscsi/sender.ts';

/** A socket whose kernel takes bytes only when told to; what it keeps, it keeps by reference, as the real one does. */
class SlowSocket implements OutgoingSocket {
  writable = true;
  corked = 0;
  ended = false;
  /** Takes everything at once. */
  fast = true;
  readonly taken: Buffer[] = [];
  #queue: { readonly bytes: Buffer; readonly done: () => void }[] = [];

  get writableLength(): number {
    return this.#queue.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  cork(): void {
    this.corked += 1;
  }

  uncork(): void {
    this.corked -= 1;
    if (this.fast) this.take();
  }

  write(bytes: Buffer, done: () => void): boolean {
    this.#queue.push({ bytes, done });
    if (this.fast && this.corked === 0) this.take();
    return this.writableLength === 0;
  }

  end(): void {
    this.writable = false;
    this.ended = true;
  }

  take(): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const { bytes } of queue) this.taken.push(Buffer.from(bytes));
    for (const { done } of queue) done();
  }
}

function pdu(sender: Sender, mark: number, pieces: readonly Buffer[]): Buffer {
  const at = sender.openHeader();
  sender.arena.fill(mark, at, at + 48);
  sender.closeHeader(at);
  const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  sender.data(pieces, bytes);
  return Buffer.concat([Buffer.alloc(48, mark), ...pieces, Buffer.alloc(-bytes & 3)]);
}

/** A PDU whose data is put together in the arena. */
function wholeRead(sender: Sender, mark: number, bytes: number): Buffer {
  const at = sender.roomFor(bytes);
  sender.arena.fill(mark, at, at + 48 + bytes);
  sender.add(bytes);
  return Buffer.alloc(48 + bytes, mark);
}

test('what is sent is what was said, however the kernel takes it and whatever becomes of small pieces afterwards', () => {
  const piece = fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 60 * KIB, max: 300 * KIB }));
  const action = fc.oneof(
    fc.record({ kind: fc.constant('pdu' as const), sizes: fc.array(piece, { maxLength: 4 }) }),
    fc.record({ kind: fc.constant('read' as const), bytes: fc.integer({ min: 1, max: 64 }) }),
    fc.record({
      kind: fc.constantFrom('flush' as const, 'take' as const, 'slow' as const, 'fast' as const, 'rest' as const),
    }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
      const socket = new SlowSocket();
      const sender = new Sender(socket, () => undefined);
      const said: Buffer[] = [];
      let mark = 1;
      for (const step of actions) {
        mark = (mark % 250) + 1;
        if (step.kind === 'pdu') {
          const pieces = step.sizes.map((size, index) => Buffer.alloc(size, mark + index));
          said.push(pdu(sender, mark, pieces));
          // The device may reuse what it has given as small pieces.
          for (const small of pieces) if (small.length < REFERENCED_PIECE_BYTES) small.fill(0xff);
        } else if (step.kind === 'read') said.push(wholeRead(sender, mark, step.bytes * 4 * KIB));
        else if (step.kind === 'flush') sender.flush();
        else if (step.kind === 'rest') sender.rest();
        else if (step.kind === 'take') socket.take();
        else socket.fast = step.kind === 'fast';
      }
      sender.flush();
      while (sender.backlogBytes > 0) socket.take();
      expect(Buffer.concat(socket.taken).equals(Buffer.concat(said))).toBe(true);
      expect(sender.backlogBytes).toBe(0);
    }),
    { numRuns: 200 },
  );
});

describe('the kernel falls behind', () => {
  test('flush says so, and it is told when the kernel has caught up, however little was left', () => {
    const socket = new SlowSocket();
    socket.fast = false;
    let caughtUp = 0;
    const sender = new Sender(socket, () => {
      caughtUp += 1;
    });
    pdu(sender, 1, []);
    expect([sender.flush(), sender.backlogBytes]).toEqual([false, 48]);
    socket.take();
    expect([caughtUp, sender.flush()]).toEqual([1, true]);
  });

  test('nobody is told when everything was taken at once', () => {
    const sender = new Sender(new SlowSocket(), () => {
      throw new Error('told');
    });
    pdu(sender, 1, [Buffer.alloc(100), Buffer.alloc(100 * KIB)]);
    expect(sender.flush()).toBe(true);
  });

  test('a socket that cannot be written to is not written to', () => {
    const socket = new SlowSocket();
    socket.writable = false;
    const sender = new Sender(socket, () => undefined);
    pdu(sender, 1, []);
    sender.flush();
    expect([socket.taken.length, sender.backlogBytes]).toEqual([0, 0]);
  });
});

test('what the kernel has taken is told in steps, and what is added meanwhile does not look like it', () => {
  const socket = new SlowSocket();
  socket.fast = false;
  let caughtUp = 0;
  const sender = new Sender(socket, () => {
    caughtUp += 1;
  });
  for (let index = 0; index < 40; index += 1) pdu(sender, index, [Buffer.alloc(100 * KIB)]);
  sender.flush();
  const before = sender.takenBytes;
  pdu(sender, 99, [Buffer.alloc(100 * KIB)]);
  sender.flush();
  expect([before, sender.takenBytes]).toEqual([0, 0]);
  const steps: number[] = [];
  for (let last = 0; sender.backlogBytes > 0; last = sender.takenBytes) {
    expect(caughtUp).toBe(0);
    socket.take();
    steps.push(sender.takenBytes - last);
  }
  expect(caughtUp).toBe(1);
  expect(steps.length).toBeGreaterThan(3);
  expect(Math.max(...steps)).toBeLessThan(1200 * KIB);
});

describe('the memory of what is sent', () => {
  test.each([true, false])(
    'is used again for a queue of long reads, whether the kernel takes it at once: %s',
    (fast) => {
      const socket = new SlowSocket();
      socket.fast = fast;
      const sender = new Sender(socket, () => undefined);
      const arenas = new Set<ArrayBufferLike>();
      for (let round = 0; round < 20; round += 1) {
        for (let read = 0; read < 8; read += 1) {
          wholeRead(sender, round + read, 256 * KIB);
          arenas.add(sender.arena.buffer);
        }
        sender.flush();
        while (sender.backlogBytes > 0) socket.take();
      }
      expect(arenas.size).toBe(8);
    },
  );

  test('is not kept for a peer that never takes everything, nor by a connection that rests', () => {
    const socket = new SlowSocket();
    socket.fast = false;
    const sender = new Sender(socket, () => undefined);
    const arenas: WeakRef<ArrayBufferLike>[] = [];
    for (let read = 0; read < 40; read += 1) {
      wholeRead(sender, read, 256 * KIB);
      arenas.push(new WeakRef(sender.arena.buffer));
      sender.flush();
      socket.take(); // what was handed over before: one read is always under way
    }
    while (sender.backlogBytes > 0) socket.take();
    sender.rest();
    wholeRead(sender, 1, KIB);
    expect(arenas.map((arena) => arena.deref())).not.toContain(sender.arena.buffer);
  });
});

test('the end comes behind everything that was flushed, also what the kernel had no room for', () => {
  const socket = new SlowSocket();
  socket.fast = false;
  const sender = new Sender(socket, () => undefined);
  const said: Buffer[] = [];
  for (let mark = 0; mark < 24; mark++) {
    said.push(wholeRead(sender, mark, 256 * KIB));
    if (mark % 12 === 11) sender.flush();
  }
  sender.end();
  expect(socket.ended).toBe(false);
  for (let takes = 0; !socket.ended && takes < 100; takes++) socket.take();
  socket.take();
  expect(Buffer.concat(socket.taken).equals(Buffer.concat(said))).toBe(true);
  expect(socket.ended).toBe(true);
});
