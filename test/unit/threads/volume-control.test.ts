import { MessageChannel } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../gateway/base/clock.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { RpcClient } from '../../../gateway/replication/rpc.ts';
import type { OpenVolume } from '../../../gateway/served-volume.ts';
import { IoHost, type IoHostDeps } from '../../../gateway/threads/io-host.ts';
import { ioProxy } from '../../../gateway/threads/io-proxy.ts';
import { volumeControlContract } from '../../contract/volume-control.contract.ts';
import { REF } from '../../support/volume-bench.ts';

/** Two turns of the loop: a message to the other end of a port, and its answer. */
async function exchange(): Promise<void> {
  for (let turn = 0; turn < 4; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** An I/O thread's two ends in one thread, over a real channel. */
function hosted(openHere: OpenVolume): { openVolume: OpenVolume; client: RpcClient } {
  const { port1, port2 } = new MessageChannel();
  port1.unref();
  port2.unref();
  // What a volume alone needs of a thread.
  new IoHost({ io: { openVolume: openHere } } as unknown as IoHostDeps, port2);
  const client: RpcClient = new RpcClient(port1, (name, target, detail) => {
    proxy.told(name, target, detail);
  });
  const proxy = ioProxy(1, client, port1, systemClock);
  return { openVolume: proxy.io.openVolume, client };
}

volumeControlContract('direct', (openHere) => openHere, exchange);
volumeControlContract('by messages', (openHere) => hosted(openHere).openVolume, exchange);

describe('a volume in a thread', () => {
  it('is not opened any more when its opening is given up, though the cloud does not answer', async () => {
    const given: string[] = [];
    const { openVolume } = hosted(
      (_ref, { signal }) =>
        new Promise((_resolve, reject) => {
          given.push('opening');
          signal.addEventListener('abort', () => {
            reject(new FarshoreError('stopped', 'given up'));
          });
        }),
    );
    const giveUp = new AbortController();
    const opening = openVolume(REF, { takeover: true, rollBackTo: undefined, signal: giveUp.signal });
    while (given.length === 0) await exchange();
    giveUp.abort();
    await expect(opening).rejects.toMatchObject({ kind: 'stopped', message: 'given up' });
  });

  it('is closed when its thread has died, and everything else says so', async () => {
    const { openVolume, client } = hosted(() =>
      Promise.resolve({ item: {}, epoch: 1, state: 'serving' } as unknown as Awaited<ReturnType<OpenVolume>>),
    );
    const control = await openVolume(REF, {
      takeover: false,
      rollBackTo: undefined,
      signal: new AbortController().signal,
    });
    const status = control.status();
    client.end(new FarshoreError('retry', 'I/O thread 1 has stopped'));
    await expect(status).rejects.toMatchObject({ kind: 'retry' });
    await control.close();
    expect(control.state).toBe('stopped');
  });
});
