import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { SimClock } from '../../sim/sim-clock.ts';
import { HEALTHY_CLOUD, SimCloud, type CloudFaults } from '../../sim/sim-cloud.ts';
import { SimRandom } from '../../sim/sim-random.ts';

function setUp(seed: number, faults: Partial<CloudFaults> = {}) {
  const random = new SimRandom(seed);
  const clock = new SimClock(random.split('clock'));
  const cloud = new SimCloud(clock, random.split('cloud'));
  const life = { name: 'g', alive: true };
  const settings: CloudFaults = { ...HEALTHY_CLOUD, ...faults };
  return { clock, cloud, life, settings, ...cloud.connect(life, settings) };
}

const BODY = Buffer.from('body');

describe('the simulated cloud', () => {
  it('does nothing when it answers 503', async () => {
    const { clock, cloud, store } = setUp(1, { errorBefore: 1 });
    await expect(clock.settle(store.put('k', [BODY], crc32(BODY)))).rejects.toMatchObject({ kind: 'retry' });
    await clock.run();
    expect(cloud.objects.keys()).toEqual([]);
  });

  it('has done the work when only the answer is lost', async () => {
    const { clock, cloud, store } = setUp(1, { lostResponse: 1 });
    await expect(clock.settle(store.put('k', [BODY], crc32(BODY)))).rejects.toMatchObject({ kind: 'retry' });
    await clock.run();
    expect(cloud.objects.keys()).toEqual(['k']);
  });

  it('lets a timed-out request land later, even after its sender died', async () => {
    let afterTheAnswer = 0;
    for (let seed = 0; seed < 20; seed++) {
      const { clock, cloud, store, life } = setUp(seed, { lateEffect: 1 });
      await expect(clock.settle(store.put('k', [BODY], crc32(BODY)))).rejects.toMatchObject({ kind: 'retry' });
      life.alive = false;
      if (cloud.objects.keys().length === 0) afterTheAnswer++;
      await clock.run();
      expect(cloud.objects.keys()).toEqual(['k']);
    }
    expect(afterTheAnswer).toBeGreaterThan(5);
  });

  it("may answer 'exists' for the caller's own object after a hidden retry", async () => {
    const answers = new Set<string>();
    for (let seed = 0; seed < 50; seed++) {
      const { clock, store } = setUp(seed, { hiddenRetry: 1 });
      answers.add(await clock.settle(store.put('k', [BODY], crc32(BODY))));
    }
    expect(answers).toEqual(new Set(['created', 'exists']));
  });

  it('lets nothing through a partition, and loses the answers of what was under way', async () => {
    const { clock, cloud, store, settings } = setUp(3);
    const underWay = store.put('early', [BODY], crc32(BODY));
    settings.partitioned = true;
    await expect(clock.settle(underWay)).rejects.toMatchObject({ kind: 'retry' });
    await expect(clock.settle(store.put('late', [BODY], crc32(BODY)))).rejects.toMatchObject({ kind: 'retry' });
    await clock.run();
    expect(cloud.objects.keys()).toEqual(['early']);
  });

  it('stores the bytes as they were when they were sent', async () => {
    const { clock, store } = setUp(4);
    const body = Buffer.from('as sent');
    const put = store.put('k', [body], crc32(body));
    body.fill(0);
    await clock.settle(put);
    expect((await clock.settle(store.get('k')))?.toString()).toBe('as sent');
  });
});
