import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { sleep } from '../../gateway/base/clock.ts';
import { silentLog } from '../../gateway/base/log.ts';
import type { CatalogueVolume } from '../../gateway/catalogue.ts';
import type { VersionLog, VolumeItem } from '../../gateway/cloud/version-log.ts';
import { handOver, takeHandover, type HandoverDeps } from '../../gateway/handover.ts';
import { guardOwner } from '../../gateway/replication/owner-guard.ts';
import type { ServedVolume } from '../../gateway/served-volume.ts';
import { MemoryTable } from '../sim/memory-table.ts';
import { PromptClock } from '../support/prompt-clock.ts';
import { REF, volumeItem } from '../support/remote-world.ts';

const ENTRY: CatalogueVolume = { name: 'vol', ...REF };
const A = 'a'.repeat(16);
const B = 'b'.repeat(16);

/** What a volume was seen to do, for checking that nobody opens what somebody else may still write to. */
interface Journal {
  /** Acked and in no version. */
  dirty: boolean;
  /** Gateways whose initiators can reach the volume. */
  readonly offering: Set<string>;
  readonly faults: string[];
}

interface Fault {
  /** Of which gateway, and at which of its requests from now on it dies: before it lands, or after. */
  readonly gateway: string;
  readonly at: number;
  readonly when: 'before' | 'after';
}

/** A gateway as far as handovers go: a table behind a line, a volume that opens by the rules of the fence. */
class Site {
  readonly name: string;
  readonly clock: PromptClock;
  readonly journal: Journal;
  readonly closing = new AbortController();
  readonly catalogue: { gateway: string; volumes: CatalogueVolume[]; put: (entry: CatalogueVolume) => Promise<void> };
  requests = 0;
  fault: Fault | undefined;
  dead = false;
  served: ServedVolume | undefined;
  /** Drains never end. */
  isStuck = false;
  readonly #table: MemoryTable;

  constructor(name: string, table: MemoryTable, clock: PromptClock, journal: Journal) {
    this.name = name;
    this.#table = table;
    this.clock = clock;
    this.journal = journal;
    this.catalogue = {
      gateway: name,
      volumes: [],
      put: (entry) => {
        this.catalogue.volumes = [...this.catalogue.volumes.filter(({ volume }) => volume !== entry.volume), entry];
        return Promise.resolve();
      },
    };
  }

  get versions(): VersionLog {
    const port: Record<string, unknown> = {};
    for (const method of Object.getOwnPropertyNames(MemoryTable.prototype)) {
      port[method] = async (...args: unknown[]): Promise<unknown> => {
        await this.#pass('before');
        const act = Reflect.get(this.#table, method) as (...given: unknown[]) => unknown;
        const answer: unknown = act.apply(this.#table, args);
        await this.#pass('after');
        return answer;
      };
    }
    return port as unknown as VersionLog;
  }

  async #pass(when: 'before' | 'after'): Promise<void> {
    if (when === 'before') this.requests += 1;
    if (this.fault?.at === this.requests && this.fault.when === when) this.die();
    // What a dead process waits for never comes.
    if (this.dead) await new Promise<never>(() => undefined);
    await Promise.resolve();
  }

  die(): void {
    this.dead = true;
    this.journal.offering.delete(this.name);
  }

  /** The next process on the same directory. */
  restart(): Site {
    const next = new Site(this.name, this.#table, this.clock, this.journal);
    next.catalogue.volumes = this.catalogue.volumes;
    for (const entry of next.catalogue.volumes) next.open(entry);
    return next;
  }

  get deps(): HandoverDeps {
    return {
      clock: this.clock,
      log: silentLog,
      table: this.versions,
      targets: {
        notReady: () => undefined,
        settled: () => Promise.resolve(),
        expect: () => () => undefined,
      } as unknown as HandoverDeps['targets'],
      catalogue: this.catalogue,
      io: { placeFor: () => ({}) },
      reopen: (entry) => this.open(entry),
      closing: this.closing.signal,
    };
  }

  open(entry: CatalogueVolume): ServedVolume {
    const versions = this.versions;
    const state: { epoch: number | undefined } = { epoch: undefined };
    const { journal, name } = this;
    const attempt = async (): Promise<FarshoreError | undefined> => {
      try {
        const guarded = guardOwner(versions, name).versions;
        const item = await guarded.getVolume(REF);
        if (item === undefined) throw new FarshoreError('not-found', 'gone');
        const isHandedOver = item.handover?.state === 'released' && item.handover.to === name;
        if (item.owner !== name && isHandedOver && (journal.dirty || journal.offering.size > 0))
          journal.faults.push('opened what was not drained');
        if ((await versions.raiseEpoch(REF, item.epoch, item.epoch + 1, name)) !== 'ok')
          throw new FarshoreError('fenced', 'somebody else was faster');
        state.epoch = item.epoch + 1;
        journal.offering.add(name);
        return undefined;
      } catch (error) {
        if (error instanceof FarshoreError) return error;
        throw error;
      }
    };
    const flushRemote = async (): Promise<{ n: number }> => {
      if (this.isStuck) await new Promise<never>(() => undefined);
      journal.dirty = false;
      return { n: 1 };
    };
    const served = {
      entry,
      firstAttempt: attempt(),
      serving: () => ({ epoch: state.epoch, flushRemote }),
      withdraw: () => {
        // What initiators wrote up to the last moment.
        journal.dirty = true;
        journal.offering.delete(name);
        return Promise.resolve();
      },
      offer: () => {
        journal.offering.add(name);
        return Promise.resolve();
      },
      close: () => Promise.resolve(!journal.dirty),
    };
    this.served = served as unknown as ServedVolume;
    return this.served;
  }

  /** What its lease hears of, until it dies or `over` aborts. */
  async listen(over: AbortSignal): Promise<void> {
    const beat = { gateway: this.name, at: 0, host: '', version: '', volumes: 0, dirtyBlocks: 0 };
    while (!over.aborted && !this.dead) {
      const notices = await this.versions.beat(beat);
      if (notices.length > 0) {
        await this.versions.clearNotices(this.name, notices);
        for (const { volume } of notices)
          if (volume === `offer/${REF.lineage}/${REF.volume}`) await takeHandover(this.deps, REF, () => undefined);
      }
      await sleep(this.clock, 10_000, over);
    }
  }
}

interface World {
  readonly table: MemoryTable;
  readonly clock: PromptClock;
  readonly journal: Journal;
  readonly a: Site;
  readonly b: Site;
  readonly item: () => VolumeItem;
}

async function world(): Promise<World> {
  const table = new MemoryTable();
  table.createVolume(volumeItem(2 ** 20));
  const clock = new PromptClock();
  const journal: Journal = { dirty: true, offering: new Set(), faults: [] };
  const a = new Site(A, table, clock, journal);
  await a.catalogue.put(ENTRY);
  await a.open(ENTRY).firstAttempt;
  const item = (): VolumeItem => {
    const found = table.getVolume(REF);
    if (found === undefined) throw new Error('the volume is gone');
    return found;
  };
  return { table, clock, journal, a, b: new Site(B, table, clock, journal), item };
}

function give({ a }: World, to = B): Promise<ServedVolume> {
  if (a.served === undefined) throw new Error('the volume is not open');
  return handOver(a.deps, a.served, to);
}

describe('a handover', () => {
  it('drains the volume, releases it, and it belongs to the other gateway when the command returns', async () => {
    const there = await world();
    const over = new AbortController();
    const listening = there.b.listen(over.signal);
    await give(there);
    over.abort();
    await listening;
    expect(there.item()).toMatchObject({ owner: B, epoch: 2 });
    expect(there.item().handover).toBeUndefined();
    expect(there.journal).toMatchObject({ dirty: false, faults: [] });
    expect([...there.journal.offering]).toEqual([B]);
    expect(there.b.catalogue.volumes).toEqual([ENTRY]);
  });

  it('to a gateway that is not there changes nothing: the volume was never taken away from anybody', async () => {
    const there = await world();
    await expect(give(there)).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining('did not accept') as string,
    });
    expect(there.item()).toMatchObject({ owner: A, epoch: 1 });
    expect(there.item().handover).toBeUndefined();
    expect([...there.journal.offering]).toEqual([A]);
  });

  it.each(['nonsense', A])('to %s is refused', async (to) => {
    const there = await world();
    await expect(give(there, to)).rejects.toMatchObject({ kind: 'input' });
  });

  it('whose drain never ends is given up, and nobody opens anything', async () => {
    const there = await world();
    there.a.isStuck = true;
    const over = new AbortController();
    const listening = there.b.listen(over.signal);
    await expect(give(there)).rejects.toMatchObject({ kind: 'retry' });
    over.abort();
    await listening;
    expect(there.item()).toMatchObject({ owner: A, epoch: 1 });
    expect([...there.journal.offering]).toEqual([A]);
  });

  it('that is released to a gateway that never opens it comes back', async () => {
    const there = await world();
    const over = new AbortController();
    const listening = there.b.listen(over.signal);
    there.b.open = () =>
      ({
        firstAttempt: Promise.resolve(new FarshoreError('stopped', 'its disk has failed')),
      }) as unknown as ServedVolume;
    await expect(give(there)).rejects.toMatchObject({
      kind: 'retry',
      message: expect.stringContaining('taken it back') as string,
    });
    over.abort();
    await listening;
    expect(there.item()).toMatchObject({ owner: A, epoch: 2 });
    expect([...there.journal.offering]).toEqual([A]);
  });

  it('in which either gateway dies at any request, and starts again, leaves exactly one that serves, and nothing that was not drained', async () => {
    let most = 0;
    for (const gateway of [A, B]) {
      for (const when of ['before', 'after'] as const) {
        for (let at = 1; ; at += 1) {
          const there = await world();
          const { journal, clock } = there;
          const over = new AbortController();
          const dying = gateway === A ? there.a : there.b;
          dying.requests = 0;
          dying.fault = { gateway, at, when };
          const what = `${gateway[0] ?? ''} dies ${when} its request ${at}`;
          void there.b.listen(over.signal);
          const outcome = give(there).then(
            () => 'done',
            () => 'refused',
          );
          const ended = await Promise.race([outcome, sleep(clock, 600_000).then(() => 'hangs')]);
          const hasDied = dying.dead;
          if (!hasDied) {
            over.abort();
            expect(ended).toBe('done');
            most = Math.max(most, at);
            break;
          }
          // It starts again, some time later, and the other one has long come to an end.
          const again = dying.restart();
          await again.served?.firstAttempt;
          await sleep(clock, 600_000);
          over.abort();
          expect(journal.faults, what).toEqual([]);
          const { owner, handover } = there.item();
          expect(handover, what).toBeUndefined();
          expect([...journal.offering], what).toEqual([owner]);
        }
      }
    }
    expect(most).toBeGreaterThan(5);
  }, 60_000);
});
