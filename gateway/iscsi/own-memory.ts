import { Socket } from 'node:net';
import type { SocketConstructorOpts } from 'node:net';

/** Where a socket puts what it receives. */
export interface Receiver {
  /** Memory for the next read, asked for before each. */
  memory(): Buffer;
  /** So many bytes of that memory have been filled. */
  received(bytes: number, memory: Buffer): void;
}

/** What Node keeps of a connection in its socket; not documented, but the same since Node 12. */
interface WithHandle {
  _handle: { readonly useUserBuffer?: unknown } | null;
}

/**
 * The accepted connection (of a server with `pauseOnConnect`) as a socket that reads into memory of ours. Otherwise Node allocates 64 KiB for each read, which at hundreds of MB
 * a second keeps the garbage collector busy, and copies of long data are one more than needed. Node offers that (`onread`) for sockets that are made, not for those a
 * server accepts; so the accepted one gives its handle away, and is closed with the new one, since the server counts it. Where there is no such
 * handle, the accepted socket is used as it is.
 */
export function readIntoOwnMemory(accepted: Socket, receiver: Receiver): Socket {
  // What is looked for is checked before it is used.
  const old = accepted as unknown as WithHandle;
  const handle = old._handle;
  if (typeof handle?.useUserBuffer !== 'function') {
    accepted.on('data', (chunk: Buffer) => {
      receiver.received(chunk.length, chunk);
    });
    accepted.resume();
    return accepted;
  }
  old._handle = null;
  const options: SocketConstructorOpts & { readonly handle: object; readonly onread: object } = {
    handle, // as Node's own server passes it
    onread: {
      buffer: () => receiver.memory(),
      callback: (bytes: number, memory: Buffer) => {
        receiver.received(bytes, memory);
        return true;
      },
    },
  };
  const socket = new Socket(options);
  socket.once('close', () => {
    accepted.destroy();
  });
  return socket;
}
