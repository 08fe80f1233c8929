import { describe, expect, it } from 'vitest';
import { sleep } from '../../../gateway/base/clock.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import { BEAT_INTERVAL_MS, GatewayLease, KEEP_OVERTAKEN_MS } from '../../../gateway/replication/lease.ts';
import { REF, RemoteWorld } from '../../support/remote-world.ts';
import type { TestGateway } from '../../support/remote-world.ts';

function leaseOf(world: RemoteWorld, gateway: TestGateway): GatewayLease {
  const { versions, clock, random } = world;
  const settings = { gateway: gateway.name, host: 'test', version: '0', dirtyBlocks: () => 0 };
  const lease = new GatewayLease({ versions, clock, random, log: silentLog }, settings);
  const { engine } = gateway;
  lease.add({ ref: REF, epoch: () => engine.epoch, confirmOwnership: () => engine.confirmOwnership() });
  return lease;
}

/** When the gateway was fenced, in milliseconds from `startMs`; undefined when not within `limitMs`. */
async function fencedAfter(world: RemoteWorld, gateway: TestGateway, limitMs: number): Promise<number | undefined> {
  const startMs = world.clock.monotonicMs();
  while (world.clock.monotonicMs() - startMs < limitMs) {
    if (gateway.fenced.length > 0) return world.clock.monotonicMs() - startMs;
    await sleep(world.clock, 100);
  }
  return undefined;
}

describe('the lease of a gateway', () => {
  it('makes one request in ten seconds while nothing happens, and none to S3', async () => {
    const world = new RemoteWorld();
    const gateway = world.gateway();
    await gateway.open();
    world.requests.length = 0;
    const lease = leaseOf(world, gateway);
    await sleep(world.clock, 10 * BEAT_INTERVAL_MS + 1);
    lease.close();
    expect(new Set(world.requests.map((request) => request.trim()))).toEqual(new Set(['beat']));
    expect(world.requests).toHaveLength(11);
  });

  it('fences an idle gateway within 15 seconds of a takeover', async () => {
    for (const headStartMs of [0, 3_000, 9_990]) {
      const world = new RemoteWorld();
      const old = world.gateway('old');
      await old.open();
      const lease = leaseOf(world, old);
      await sleep(world.clock, headStartMs);
      const taker = world.gateway('taker');
      await taker.open();
      expect(await fencedAfter(world, old, 15_000)).toBeDefined();
      expect(old.fenced[0]?.kind).toBe('fenced');
      await expect(old.values(0, 1)).rejects.toMatchObject({ kind: 'fenced' });
      // The notice has been dealt with.
      await sleep(world.clock, BEAT_INTERVAL_MS);
      const beat = { gateway: 'old', at: 0, host: '', version: '', volumes: 0, dirtyBlocks: 0 };
      expect(world.table.beat(beat)).toEqual([]);
      lease.close();
    }
  });

  it('does not believe a notice until the epoch is raised, and then acts within 15 seconds', async () => {
    const world = new RemoteWorld();
    const old = world.gateway('old');
    await old.open();
    const lease = leaseOf(world, old);
    world.table.notify('old', { volume: REF.volume, epoch: 2 });
    expect(await fencedAfter(world, old, 65_000)).toBeUndefined();
    expect(await old.commit({ writes: [[1, 1]] })).toMatchObject({ n: 2 });
    world.table.raiseEpoch(REF, 1, 2, 'taker');
    expect(await fencedAfter(world, old, 15_000)).toBeDefined();
    lease.close();
  });

  it('reads the volume only while a notice waits', async () => {
    const world = new RemoteWorld();
    const old = world.gateway('old');
    await old.open();
    const lease = leaseOf(world, old);
    await sleep(world.clock, 25_000);
    expect(world.count('getVolume')).toBe(3); // the takeover's own
    world.table.notify('old', { volume: REF.volume, epoch: 2 });
    await sleep(world.clock, 20_000);
    expect(world.count('getVolume')).toBeGreaterThan(4);
    lease.close();
  });

  it('keeps trying while the cloud is away and finds the notice when it is back', async () => {
    const world = new RemoteWorld();
    const old = world.gateway('old');
    await old.open();
    const lease = leaseOf(world, old);
    world.faults.before = (request) => {
      if (request.startsWith('beat')) throw new FarshoreError('retry', 'no route');
    };
    await sleep(world.clock, 60_000);
    expect(lease.health.problem).toContain('no route');
    await world.gateway('taker').open();
    world.faults.before = () => undefined;
    expect(await fencedAfter(world, old, 15_000)).toBeDefined();
    expect(lease.health.problem).toBeUndefined();
    lease.close();
  });

  it('tells the loser also when a copied state directory gave two gateways one name', async () => {
    const world = new RemoteWorld();
    const original = world.gateway('twin');
    await original.open();
    await sleep(world.clock, 5_000);
    const copy = world.gateway('twin');
    await copy.open();
    // The copy renews first and must not clear away what the original has to find.
    const copyLease = leaseOf(world, copy);
    await sleep(world.clock, 4_000);
    const originalLease = leaseOf(world, original);
    expect(await fencedAfter(world, original, 15_000)).toBeDefined();
    expect(copy.fenced).toEqual([]);
    await sleep(world.clock, KEEP_OVERTAKEN_MS + 2 * BEAT_INTERVAL_MS);
    expect(copy.fenced).toEqual([]);
    copyLease.close();
    originalLease.close();
  });
});
