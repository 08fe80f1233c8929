import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { MAX_PIPELINED_PUTS } from '../../../gateway/replication/fence-machine.ts';
import { MAX_SEALED_VERSIONS } from '../../../gateway/replication/version-writer.ts';
import { FenceWorld, REF, inlineVersion, outcomeOf } from './fence-world.ts';

describe('the version writer, undisturbed', () => {
  it('takes over an empty log with a takeover record at version 1', async () => {
    const world = new FenceWorld(1);
    const writer = await world.gateway('a').open();
    expect(writer.epoch).toBe(1);
    expect(writer.takeoverN).toBe(1);
    expect(writer.item).toMatchObject({ epoch: 1, owner: 'a' });
    expect(world.history().map(({ n, epoch }) => [n, epoch])).toEqual([[1, 1]]);
    expect(writer.lastCommitted()).toMatchObject({ n: 1, epoch: 1 });
  });

  it('makes one put per version and reads nothing', async () => {
    const world = new FenceWorld(2);
    const a = world.gateway('a');
    const writer = await a.open();
    a.calls.length = 0;
    const sealed = Array.from({ length: 40 }, (_, i) => inlineVersion(`${i}`, i)).map(({ fields, inline }) =>
      writer.append(fields, { inline }),
    );
    await world.clock.settle(Promise.all(sealed.map(({ committed }) => committed)));
    expect(a.calls.map(({ method }) => method)).toEqual(Array.from({ length: 40 }, () => 'putVersion'));
    expect(writer.lastCommitted()).toMatchObject({ n: 41, chain: sealed.at(-1)?.chain });
    expect(writer.uncommitted).toBe(0);
  });

  it('gives the chain before a version is sealed, so that a segment can hold it', async () => {
    const world = new FenceWorld(3);
    const writer = await world.gateway('a').open();
    const first = writer.reserve();
    expect(first).toMatchObject({ n: 2, epoch: 1, logId: 'log-a', previousChain: writer.lastCommitted().chain });
    const { fields, inline } = inlineVersion('first', 1);
    const sealed = first.seal(fields, inline);
    const second = writer.reserve();
    expect(second).toMatchObject({ n: 3, previousChain: sealed.chain });
  });

  it('lets only one reservation be open, and takes a released place again', async () => {
    const writer = await new FenceWorld(4).gateway('a').open();
    const slot = writer.reserve();
    expect(() => writer.reserve()).toThrow(/neither sealed nor released/);
    slot.release();
    expect(writer.reserve().n).toBe(slot.n);
    expect(() => {
      slot.release();
    }).toThrow(FarshoreError);
  });

  it('sends a version only when its object is in S3, and none before an earlier one', async () => {
    const world = new FenceWorld(5);
    const writer = await world.gateway('a').open();
    const [first, second] = ['x', 'y'].map((text, i) => {
      const { fields, inline } = inlineVersion(text, i);
      return writer.reserve().seal(fields, inline);
    });
    if (!first || !second) throw new Error('two were sealed');
    second.markReady();
    const outcome = outcomeOf(second.committed);
    await world.clock.run();
    expect(world.history()).toHaveLength(1);
    expect(outcome.state).toBe('pending');
    first.markReady();
    first.markReady();
    await world.clock.settle(second.committed);
    expect(world.history()).toHaveLength(3);
  });

  it('never has more than MAX_PIPELINED_PUTS under way', async () => {
    const world = new FenceWorld(6);
    const a = world.gateway('a');
    const writer = await a.open();
    a.calls.length = 0;
    const all = Array.from({ length: 50 }, (_, i) => inlineVersion('z', i)).map((v) => writer.append(v.fields, v));
    expect(a.count('putVersion')).toBe(MAX_PIPELINED_PUTS);
    await world.clock.settle(Promise.all(all.map(({ committed }) => committed)));
    expect(a.count('putVersion')).toBe(50);
  });

  it('answers busy when too many versions wait for commit', async () => {
    const writer = await new FenceWorld(7).gateway('a').open();
    const { fields, inline } = inlineVersion('z', 1);
    for (let i = 0; i < MAX_SEALED_VERSIONS; i += 1) writer.reserve().seal(fields, inline);
    expect(() => writer.reserve()).toThrow(expect.objectContaining({ kind: 'busy' }));
  });

  it('never lets times run backwards, over takeovers too', async () => {
    const world = new FenceWorld(8);
    const first = await world.gateway('a').open();
    const late = inlineVersion('late', 5_000);
    await world.clock.settle(first.append(late.fields, late).committed);
    const b = world.gateway('b');
    Object.assign(b.deps, { clock: world.clock.forLife(b.life, -86_400_000) });
    const second = await b.open();
    const early = inlineVersion('early', 3);
    await world.clock.settle(second.append(early.fields, early).committed);
    const third = world.gateway('c');
    await third.open();
    const times = third.walked.map(({ record }) => [record.sealedAt, record.newestWriteAt] as const);
    expect(times).toHaveLength(4);
    for (let i = 1; i < times.length; i += 1) {
      expect(times[i]?.[0]).toBeGreaterThanOrEqual(times[i - 1]?.[0] ?? Infinity);
      expect(times[i]?.[1]).toBeGreaterThanOrEqual(times[i - 1]?.[1] ?? Infinity);
    }
  });

  it('refuses inline bytes that are not what their digest says', async () => {
    const writer = await new FenceWorld(9).gateway('a').open();
    const { fields } = inlineVersion('one', 1);
    expect(() => writer.append(fields, { inline: Buffer.from('two') })).toThrow(/digest/);
  });
});

describe('the version writer under faults', () => {
  it('repeats a put of unknown outcome with the same bytes until it is answered', async () => {
    for (let seed = 0; seed < 40; seed += 1) {
      const world = new FenceWorld(seed);
      const a = world.gateway('a');
      const writer = await a.open();
      Object.assign(a.faults, { errorBefore: 0.2, lostResponse: 0.3, lateEffect: 0.1, hiddenRetry: 0.1 });
      a.calls.length = 0;
      const order: number[] = [];
      const all = Array.from({ length: 12 }, (_, i) => inlineVersion(`v${i}`, i)).map((version) => {
        const sealed = writer.append(version.fields, version);
        return sealed.committed.then(() => {
          order.push(sealed.n);
          // Committed says: this and everything before it lies in the log, now.
          expect(world.history().length).toBeGreaterThanOrEqual(sealed.n);
          expect(world.history()[sealed.n - 1]?.chain).toEqual(sealed.chain);
        });
      });
      await world.clock.settle(Promise.all(all));
      expect(order).toEqual([...order].sort((x, y) => x - y));
      const bytes = new Map<number, string>();
      for (const { item } of a.calls) {
        if (!item) continue;
        const text = [
          item.epoch,
          item.record.toString('hex'),
          item.chain.toString('hex'),
          item.inline.toString(),
        ].join();
        expect(bytes.get(item.n) ?? text).toBe(text);
        bytes.set(item.n, text);
      }
    }
  });

  it('takes over although answers are lost, and what was acked before is in the walk', async () => {
    let repeatedTakeovers = 0;
    for (let seed = 0; seed < 60; seed += 1) {
      const world = new FenceWorld(seed);
      const first = await world.gateway('a').open();
      const version = inlineVersion('kept', 1);
      const kept = first.append(version.fields, version);
      await world.clock.settle(kept.committed);
      const b = world.gateway('b', { lostResponse: 0.25, lateEffect: 0.1, errorBefore: 0.1, hiddenRetry: 0.1 });
      const second = await b.open();
      if (b.count('putVersion') > 1) repeatedTakeovers += 1;
      expect(b.walked.map(({ item }) => item.chain)).toContainEqual(kept.chain);
      expect(world.history().at(-1)).toMatchObject({ n: second.takeoverN, epoch: second.epoch });
    }
    expect(repeatedTakeovers).toBeGreaterThan(10);
  });

  it('gives up a takeover with retry when the table stays away', async () => {
    const world = new FenceWorld(3);
    const attempt = world.gateway('a', { partitioned: true }).takeOver();
    await expect(world.clock.settle(attempt)).rejects.toMatchObject({ kind: 'retry' });
  });

  it('says not-found for a volume that is not there', async () => {
    const world = new FenceWorld(4);
    const a = world.gateway('a');
    Object.assign(a.deps, { versions: { ...a.deps.versions, getVolume: async () => undefined } });
    await expect(world.clock.settle(a.takeOver())).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('stops taking over when it is told to', async () => {
    const world = new FenceWorld(5);
    const abort = new AbortController();
    const attempt = world.gateway('a', { partitioned: true }).takeOver(abort.signal);
    world.clock.startTimer(100, () => {
      abort.abort();
    });
    await expect(world.clock.settle(attempt)).rejects.toMatchObject({ kind: 'stopped' });
  });

  it('survives a long outage of the table without being fenced', async () => {
    const world = new FenceWorld(6);
    const a = world.gateway('a');
    const writer = await a.open();
    a.faults.partitioned = true;
    const version = inlineVersion('patient', 1);
    const { committed } = writer.append(version.fields, version);
    world.clock.startTimer(3_600_000, () => {
      a.faults.partitioned = false;
    });
    await world.clock.settle(committed);
    expect(world.clock.monotonicMs()).toBeGreaterThan(3_600_000);
    expect(a.count('putVersion')).toBeLessThan(2_000);
  });
});

describe('a fenced version writer', () => {
  it('rejects everything that is pending, in whatever state it is', async () => {
    const world = new FenceWorld(1);
    const a = world.gateway('a');
    const old = await a.open();
    await world.gateway('b').open();
    const outcomes = Array.from({ length: 30 }, (_, i) => inlineVersion('lost', i)).map((version, i) => {
      const sealed = old.reserve().seal(version.fields, version.inline);
      if (i !== 25) sealed.markReady();
      return outcomeOf(sealed.committed);
    });
    const error = await world.clock.settle(old.stopped);
    expect(error.kind).toBe('fenced');
    await world.clock.run();
    expect(outcomes.map(({ state }) => state)).toEqual(Array.from({ length: 30 }, () => 'fenced'));
    expect(() => old.reserve()).toThrow(expect.objectContaining({ kind: 'fenced' }));
    expect(old.uncommitted).toBe(0);
    expect(await old.confirmOwnership()).toBe(false);
    expect(old.lastCommitted().n).toBe(1);
  });

  it('leaves a notice for the old owner before it raises the epoch', async () => {
    const world = new FenceWorld(2);
    await world.gateway('a').open();
    const b = world.gateway('b');
    await b.open();
    const methods = b.calls.map(({ method }) => method);
    expect(methods.indexOf('notify')).toBeLessThan(methods.indexOf('raiseEpoch'));
    expect(world.cloud.table.beat({ gateway: 'a', at: 1, host: '', version: '', volumes: 1, dirtyBlocks: 0 })).toEqual([
      { volume: REF.volume, epoch: 2 },
    ]);
  });

  it('learns from confirmOwnership what a notice alone does not prove', async () => {
    const world = new FenceWorld(3);
    const old = await world.gateway('a').open();
    expect(await world.clock.settle(old.confirmOwnership())).toBe(true);
    world.cloud.table.raiseEpoch(REF, 1, 2, 'b');
    expect(await world.clock.settle(old.confirmOwnership())).toBe(false);
    await expect(old.stopped).resolves.toMatchObject({ kind: 'fenced' });
  });

  it('is fenced by a second start of its own gateway', async () => {
    const world = new FenceWorld(4);
    const before = await world.gateway('a').open();
    const after = await world.gateway('a').open();
    expect(after.epoch).toBeGreaterThan(before.epoch);
    const version = inlineVersion('zombie', 1);
    await expect(world.clock.settle(before.append(version.fields, version).committed)).rejects.toMatchObject({
      kind: 'fenced',
    });
  });

  it('rejects with stopped after close, and repeats nothing', async () => {
    const world = new FenceWorld(5);
    const a = world.gateway('a');
    const writer = await a.open();
    a.faults.partitioned = true;
    const version = inlineVersion('unknown', 1);
    const outcome = outcomeOf(writer.append(version.fields, version).committed);
    world.clock.startTimer(10, () => {
      writer.close();
      writer.close();
    });
    await world.clock.run();
    expect(outcome.state).toBe('stopped');
    expect(a.count('putVersion')).toBe(2);
    await expect(writer.stopped).resolves.toMatchObject({ kind: 'stopped' });
  });

  it('ends with what made an object impossible to store', async () => {
    const world = new FenceWorld(6);
    const writer = await world.gateway('a').open();
    const version = inlineVersion('never', 1);
    const ready = Promise.reject(new FarshoreError('damaged', 'the local log is damaged'));
    await expect(writer.append(version.fields, { ...version, ready }).committed).rejects.toMatchObject({
      kind: 'damaged',
    });
  });
});
