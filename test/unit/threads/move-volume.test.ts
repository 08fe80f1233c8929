import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import type { CatalogueVolume } from '../../../gateway/catalogue.ts';
import type { ServedVolume } from '../../../gateway/served-volume.ts';
import type { VolumeTargets } from '../../../gateway/target-directory.ts';
import type { IoThread } from '../../../gateway/threads/io-thread.ts';
import { IoThreads } from '../../../gateway/threads/io-threads.ts';
import { type MoveDeps, moveVolume } from '../../../gateway/threads/move-volume.ts';
import { PromptClock } from '../../support/prompt-clock.ts';

const ENTRY: CatalogueVolume = { name: 'v', lineage: 'l', volume: 'l' };

/** A volume on thread 0 of two, and what is done with it, in order. `fails`: steps that do. */
function gateway(
  fails: readonly string[] = [],
  {
    stored = false,
    shares = [],
    sharesOnceClosed = [],
    isAllCommitted = true,
  }: {
    isAllCommitted?: boolean;
    stored?: boolean;
    shares?: readonly string[];
    sharesOnceClosed?: readonly string[];
  } = {},
) {
  const steps: string[] = [];
  const step = (name: string): Promise<void> => {
    steps.push(name);
    const failing = fails.includes(`${name} ${steps.filter((each) => each === name).length}`);
    return failing ? Promise.reject(new FarshoreError('busy', `${name} failed`)) : Promise.resolve();
  };
  const thread = (number: number): IoThread =>
    ({ number, forgetVolume: () => step(`forget on ${number}`) }) as unknown as IoThread; // no more is asked of it
  const served = {
    entry: ENTRY,
    serving: () => ({
      status: () => Promise.resolve({ stored: stored ? {} : undefined }),
      flushRemote: () => step('flush'),
    }),
    withdraw: () => step('withdraw'),
    offer: () => step('offer'),
    close: async () => {
      await step('close');
      return isAllCommitted;
    },
  } as unknown as ServedVolume; // what a move needs of it
  const deps: MoveDeps = {
    clock: new PromptClock(),
    log: silentLog,
    catalogue: { put: ({ thread: at = 0 }) => step(`catalogue: on ${at}`) },
    targets: {
      settled: () => Promise.resolve(),
      whileUnchanged: <T>(work: () => Promise<T>): Promise<T> => work(),
      expect: () => () => undefined,
      notReady: () => undefined,
    } as unknown as VolumeTargets, // see above
    io: new IoThreads([thread(0), thread(1)], 2, { volumes: [ENTRY] }),
    sharesTarget: () => (steps.includes('close') ? sharesOnceClosed : shares),
    reopen: ({ thread: at = 0 }) => {
      steps.push(`opened on ${at}`);
      return served;
    },
  };
  return { steps, move: (to: number) => moveVolume(deps, served, to) };
}

describe('a volume that is moved', () => {
  it('has everything in the cloud, and nobody who writes, before it is the other thread’s', async () => {
    const { steps, move } = gateway();
    await move(1);
    expect(steps).toEqual(['flush', 'withdraw', 'flush', 'close', 'catalogue: on 1', 'forget on 0', 'opened on 1']);
  });

  it('stays, and is given back to its initiators, when the cloud does not take what was written last', async () => {
    const { steps, move } = gateway(['flush 2']);
    await expect(move(1)).rejects.toMatchObject({ kind: 'busy' });
    expect(steps).toEqual(['flush', 'withdraw', 'flush', 'offer']);
  });

  it('opens where it was only when the catalogue is sure to say so: what it acks there must not be looked for elsewhere', async () => {
    const once = gateway(['catalogue: on 1 1']);
    await expect(once.move(1)).rejects.toMatchObject({ message: 'catalogue: on 1 failed' });
    expect(once.steps.slice(-3)).toEqual(['catalogue: on 1', 'catalogue: on 0', 'opened on 0']);
    const twice = gateway(['catalogue: on 1 1', 'catalogue: on 0 1']);
    await expect(twice.move(1)).rejects.toMatchObject({ message: 'catalogue: on 0 failed' });
    expect(twice.steps.filter((each) => each.startsWith('opened'))).toEqual([]);
  });

  it('stays when a map that was made while it was being closed has joined it to another volume of its thread', async () => {
    const { steps, move } = gateway([], { sharesOnceClosed: ['w'] });
    await expect(move(1)).rejects.toThrow(/shares a target with w/);
    expect(steps).toEqual(['flush', 'withdraw', 'flush', 'close', 'opened on 0']);
  });

  it('stays when something was written after the last flush, by nobody’s session: it is only in the log it has here', async () => {
    const { steps, move } = gateway([], { isAllCommitted: false });
    await expect(move(1)).rejects.toMatchObject({ kind: 'retry' });
    expect(steps).toEqual(['flush', 'withdraw', 'flush', 'close', 'opened on 0']);
  });

  it('is served although the old thread could not forget it', async () => {
    const { steps, move } = gateway(['forget on 0 1']);
    await move(1);
    expect(steps.at(-1)).toBe('opened on 1');
  });

  it('is left alone where it is already, where it has an image, and where it shares a target', async () => {
    const at = gateway();
    await at.move(0);
    const image = gateway([], { stored: true });
    await expect(image.move(1)).rejects.toThrow(/has an image on site/);
    const shared = gateway([], { shares: ['w'] });
    await expect(shared.move(1)).rejects.toThrow(/shares a target with w/);
    expect([...at.steps, ...image.steps, ...shared.steps]).toEqual([]);
  });
});
