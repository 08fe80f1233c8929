import { expect, it } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import { systemRandom } from '../../../gateway/base/clock.ts';
import type { CatalogueVolume } from '../../../gateway/catalogue.ts';
import { Gateway, type GatewayDeps } from '../../../gateway/gateway.ts';
import type { IoThread } from '../../../gateway/threads/io-thread.ts';
import { IoThreads } from '../../../gateway/threads/io-threads.ts';
import type { VolumeControl } from '../../../gateway/volume-control.ts';
import { PromptClock } from '../../support/prompt-clock.ts';

const ENTRY: CatalogueVolume = { name: 'v', lineage: 'l', volume: 'l' };
const turns = async (): Promise<void> => {
  for (let i = 0; i < 50; i += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** A gateway that is moving its volume, and has come to the catalogue, which is `written` when that is called. */
async function moving() {
  const steps: string[] = [];
  const thread = (number: number): IoThread =>
    ({
      number,
      keeps: () => Promise.resolve([]),
      forgetVolume: () => Promise.resolve(),
      openVolume: () => {
        steps.push(`opened on ${number}`);
        return Promise.resolve({
          item: { targetName: 't', volume: 'l' },
          epoch: 1,
          state: 'serving',
          status: () => Promise.resolve({ stored: undefined, reads: {}, replication: {} }),
          flushRemote: () => Promise.resolve({ n: 1 }),
          remote: { status: () => Promise.resolve({ requests: {} }) },
          close: () => {
            steps.push(`closed on ${number}`);
            return Promise.resolve(true);
          },
        } as unknown as VolumeControl);
      },
    }) as unknown as IoThread;
  let written: () => void = () => undefined;
  const catalogue = {
    gateway: 'g',
    volumes: [ENTRY],
    put: () => {
      steps.push('catalogue');
      return new Promise<void>((resolve) => {
        written = resolve;
      });
    },
  };
  const gateway = new Gateway({
    clock: new PromptClock(),
    random: systemRandom,
    log: silentLog,
    catalogue,
    settings: {},
    store: { list: () => Promise.resolve({ objects: [], next: undefined }) },
    table: { listVolumes: () => Promise.resolve([]), listNames: () => Promise.resolve([]) },
    targets: {
      adopt: () => Promise.resolve(),
      expect: () => () => undefined,
      offer: () => Promise.resolve(),
      withdraw: () => Promise.resolve(),
      sessions: () => Promise.resolve(0),
      notReady: () => undefined,
      isSettled: () => Promise.resolve(true),
      settled: () => Promise.resolve(),
      whileUnchanged: <T>(work: () => Promise<T>): Promise<T> => work(),
      access: () => ({ mode: 'unknown', maps: 0, inTable: false, problem: undefined }),
    },
    access: { audit: { change: () => Promise.resolve(), note: () => undefined } },
    io: new IoThreads([thread(0), thread(1)], 2, catalogue),
    sharesTarget: () => [],
  } as unknown as GatewayDeps);
  await gateway.start();
  const move = gateway.call('volume-move', { name: 'v', thread: 1 }, () => undefined).catch(() => undefined);
  while (!steps.includes('catalogue')) await turns();
  return {
    steps,
    gateway,
    move,
    written: () => {
      written();
    },
  };
}

it('a gateway that is stopped during a move does not open the volume once it was closed', async () => {
  const { steps, gateway, written } = await moving();
  await gateway.close(); // afterwards the threads and their logs are closed; a disk that does not answer is not waited for without end
  steps.push('gateway closed');
  written();
  await turns();
  expect(steps.slice(steps.indexOf('gateway closed'))).toEqual(['gateway closed']);
});

it('a gateway that is stopped during a move waits for what the move is doing, and begins nothing that waits behind it', async () => {
  const { steps, gateway, move, written } = await moving();
  const behind = gateway.call('volume-move', { name: 'v', thread: 0 }, () => undefined);
  const closing = gateway.close();
  written();
  void move.then(() => steps.push('move over'));
  await closing;
  steps.push('gateway closed');
  expect(steps.slice(steps.indexOf('catalogue'))).toEqual(['catalogue', 'move over', 'gateway closed']);
  await expect(behind).rejects.toThrow(/volume-move of volume v was not begun, because the gateway is being stopped/);
});
