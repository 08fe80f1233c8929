import { sleep } from '../../gateway/base/clock.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { noteDurable } from './history.ts';
import type { Trouble } from './plan.ts';
import type { SimGateway } from './sim-gateway.ts';
import { checkImage } from './sim-image.ts';
import type { SimRandom } from './sim-random.ts';
import type { World } from './world.ts';

/** Copies of a state directory that run besides the original. */
const MAX_COPIES = 2;

/** Makes one piece of trouble after the other for a world, as its plan weighs them. */
export class Troublemaker {
  readonly #world: World;
  readonly #random: SimRandom;
  readonly made: Partial<Record<Trouble, number>> = {};
  #copies = 0;

  constructor(world: World) {
    this.#world = world;
    this.#random = world.random.split('trouble');
  }

  async makeAll(): Promise<void> {
    const { plan } = this.#world;
    this.#world.start(this.#random.pick(this.#world.gateways), false);
    for (let step = 0; step < plan.steps; step++) {
      await this.#pause(plan.stepMs);
      if (this.#world.failure !== undefined) return;
      const trouble = this.#random.weighted(plan.weights);
      const gateway = this.#random.pick(this.#world.gateways);
      this.#world.note(`trouble: ${trouble} on ${gateway.label}`);
      this.made[trouble] = (this.made[trouble] ?? 0) + 1;
      await this.#make(trouble, gateway);
      await this.#keepServing();
    }
  }

  /** Usually somebody serves. */
  async #keepServing(): Promise<void> {
    const { gateways, volume } = this.#world;
    for (const gateway of gateways)
      if (gateway.workload?.stoppedBy !== undefined && this.#random.chance(0.7)) this.#world.kill(gateway, 'process');
    if (gateways.some(({ state }) => state !== 'down') || !this.#random.chance(0.9)) return;
    await this.#pause(500);
    const owner = gateways.find(({ name, state }) => name === volume.owner && state === 'down');
    if (owner !== undefined && this.#random.chance(0.7)) this.#world.start(owner, false);
    else {
      const down = gateways.filter(({ state }) => state === 'down');
      if (down.length > 0) this.#world.start(this.#random.pick(down), true);
    }
  }

  async #make(trouble: Trouble, gateway: SimGateway): Promise<void> {
    const { disk, faults } = gateway;
    switch (trouble) {
      case 'wait':
        return this.#pause(this.#world.plan.stepMs * 2);
      case 'processCrash':
        return this.#crash(gateway, 'process');
      case 'powerCut':
        return this.#crash(gateway, 'power');
      case 'cleanStop':
        return this.#stopCleanly(gateway);
      case 'takeover':
        return this.#takeOver(gateway);
      case 'partition':
        faults.partitioned = true;
        this.#later(() => (faults.partitioned = false), 30_000);
        return;
      case 'fold':
        this.#fold(gateway);
        return;
      case 'lambdaFold':
        this.#world.lambdaFold();
        return;
      case 'diskFull':
        disk.faults.noSpace = this.#random.pick([0.05, 1]);
        this.#later(() => (disk.faults.noSpace = 0), 10_000);
        return;
      case 'syncFails':
        disk.faults.syncError = this.#random.pick([0.05, 0.2, 1]);
        this.#later(() => (disk.faults.syncError = 0), 5_000);
        return;
      case 'writeFails':
        disk.faults.writeError = this.#random.pick([0.02, 1]);
        this.#later(() => (disk.faults.writeError = 0), 2_000);
        return;
      case 'noHandles':
        disk.faults.noHandles = this.#random.pick([0.3, 1]);
        this.#later(() => (disk.faults.noHandles = 0), 10_000);
        return;
      case 'badSectors':
        disk.faults.badSector = 0.01;
        this.#later(() => {
          disk.faults.badSector = 0;
          disk.healSectors();
        }, 20_000);
        return;
      case 'bitsFlip':
        this.#flipBits(gateway);
        return;
      case 'lyingDisk':
        disk.faults.flipOnWrite = 0.02;
        this.#later(() => (disk.faults.flipOnWrite = 0), 5_000);
        return;
      case 'readFails':
        disk.faults.readError = this.#random.pick([0.05, 0.3]);
        this.#later(() => (disk.faults.readError = 0), 5_000);
        return;
      case 'slowDisk':
        disk.faults.slowness = this.#random.pick([10, 100, 1000]);
        this.#later(() => (disk.faults.slowness = 1), 10_000);
        return;
      case 'snapshot':
        this.#snapshot(gateway);
        return;
      case 'rollBackDisk':
        this.#rollBackDisk(gateway);
        return;
      case 'runCopy':
        this.#runCopy(gateway);
        return;
      case 'loseGateway':
        this.#world.replaceMachine(gateway);
        return;
      case 'rollBackVolume':
        return;
    }
  }

  async #crash(gateway: SimGateway, kind: 'process' | 'power'): Promise<void> {
    if (gateway.state !== 'down') this.#world.kill(gateway, kind);
    else if (kind === 'power') gateway.disk.crash('process');
    await this.#pause(this.#random.pick([10, 1000, 20_000]));
    if (this.#random.chance(0.8)) this.#startIfDown(gateway, this.#random.chance(0.1));
  }

  /** While the machine is down, or under a running process. */
  #flipBits(gateway: SimGateway): void {
    const isDown = this.#random.chance(0.7);
    if (isDown && gateway.state !== 'down') this.#world.kill(gateway, this.#random.pick(['process', 'power']));
    const { disk } = gateway;
    const cache = disk.paths().filter((path) => path.startsWith('cache/'));
    const states = disk.paths().filter((path) => path.endsWith('pool.state') || path.endsWith('.json'));
    if (this.#random.chance(0.3)) disk.damageNewest();
    else if (cache.length > 0)
      disk.damage(this.#random.chance(0.2) && states.length > 0 ? states : cache, this.#random.pick([1, 1, 3, 20]));
    if (isDown) this.#startIfDown(gateway, false);
  }

  #startIfDown(gateway: SimGateway, takeover: boolean): void {
    if (gateway.state === 'down') this.#world.start(gateway, takeover);
  }

  /** Initiators first, then the volume; what was answered is on stable storage then. */
  async #stopCleanly(gateway: SimGateway): Promise<void> {
    const { running, workload, life } = gateway;
    const isGone = (): boolean => !life.alive;
    if (gateway.state !== 'serving' || running === undefined || workload === undefined) return;
    workload.pause();
    const stoppedAtMs = this.#world.clock.monotonicMs();
    for (let waits = 0; workload.underWay > 0 && waits < 100; waits++) await sleep(this.#world.clock, 100);
    if (isGone()) return;
    const closed = { done: false };
    const isClosed = (): boolean => closed.done;
    running.close().then(
      () => (closed.done = true),
      (error: unknown) => {
        if (!(error instanceof FarshoreError)) this.#world.fail(error);
      },
    );
    for (let waits = 0; !isClosed() && waits < 100; waits++) await sleep(this.#world.clock, 100);
    if (isGone()) return;
    // A volume whose disk has failed closes too, and says so in the log. One that an append has stopped keeps what was answered before.
    const isWhole = isClosed() && workload.underWay === 0 && gateway.disk.failedSyncs === 0;
    if (isWhole && gateway.line !== undefined)
      for (const op of gateway.line.ops)
        if (op.ackedAt !== Infinity) {
          noteDurable(op, this.#world.clock.monotonicMs());
          // Where the log has stopped, its state may not have been written either.
          if (workload.stoppedBy === undefined) op.marked = true;
        }
    if (isWhole) {
      // A volume that another gateway has taken over is not brought to the image any more.
      const { owner, epoch } = this.#world.volume;
      const isOurs = owner === gateway.name && epoch === gateway.epoch;
      checkImage(this.#world, gateway, isOurs && gateway.disk.troubledAtMs < stoppedAtMs);
    }
    this.#world.kill(gateway, this.#random.chance(0.5) ? 'power' : 'process');
    if (this.#random.chance(0.7)) this.#world.start(gateway, false);
  }

  async #takeOver(gateway: SimGateway): Promise<void> {
    if (gateway.state !== 'down') this.#world.kill(gateway, 'process');
    await this.#pause(100);
    this.#startIfDown(gateway, true);
  }

  #fold(gateway: SimGateway): void {
    gateway.running?.fold().then(
      () => this.#world.counts.folds++,
      (error: unknown) => {
        if (!(error instanceof FarshoreError) || !['retry', 'busy', 'fenced', 'stopped'].includes(error.kind))
          this.#world.fail(error);
      },
    );
  }

  /** What a hypervisor keeps: the disk as it is at an instant, with or without what the page cache held. */
  #snapshot(gateway: SimGateway): void {
    if (gateway.line === undefined || gateway.state === 'opening') return;
    const disk = gateway.disk.copy(`${gateway.label} snapshot`);
    disk.crash(this.#random.chance(0.5) ? 'power' : 'process');
    gateway.snapshot = { disk, line: gateway.line.copy(gateway.line.name), base: gateway.base };
  }

  #rollBackDisk(gateway: SimGateway): void {
    const { snapshot } = gateway;
    if (snapshot === undefined) {
      this.#snapshot(gateway);
      return;
    }
    if (gateway.state !== 'down') this.#world.kill(gateway, 'process');
    this.#becomeCopy(gateway, snapshot);
    this.#world.start(gateway, this.#random.chance(0.3));
  }

  #runCopy(gateway: SimGateway): void {
    if (gateway.snapshot === undefined) this.#snapshot(gateway);
    const { snapshot } = gateway;
    if (snapshot === undefined || this.#copies >= MAX_COPIES) return;
    const copy = this.#world.makeGateway(gateway.name, `${gateway.name}-copy${++this.#copies}`);
    this.#becomeCopy(copy, snapshot);
    this.#world.gateways.push(copy);
    this.#world.start(copy, this.#random.chance(0.3));
  }

  #becomeCopy(gateway: SimGateway, { disk, line, base }: NonNullable<SimGateway['snapshot']>): void {
    gateway.disk = disk.copy(`${gateway.label}'`);
    gateway.line = line?.copy(line.name);
    gateway.base = base;
    gateway.severity = 'rolledBack';
  }

  #later(act: () => void, longestMs: number): void {
    this.#world.clock.schedule(longestMs * this.#random.fraction(), 'trouble ends', undefined, act);
  }

  async #pause(longestMs: number): Promise<void> {
    await sleep(this.#world.clock, longestMs * this.#random.fraction());
  }
}
