import { isKind } from '../../gateway/base/errors.ts';
import { ON_REMOTE_LOSS, REPLICATION_MODES, type ReplicationMode } from '../../gateway/cloud/version-log.ts';
import type { History, Op } from './history.ts';
import type { RunningVolume } from './sim-gateway.ts';
import type { SimRandom } from './sim-random.ts';
import type { WorkloadWorld } from './workload.ts';

/** What the acks of one opened volume mean, by its mode: which of them promise that something is in the cloud, and which failures that nothing ever is. */
export class Acks {
  readonly #world: WorkloadWorld;
  readonly #running: RunningVolume;
  readonly #history: History;
  #isChanging = false;

  constructor(world: WorkloadWorld, running: RunningVolume, history: History) {
    this.#world = world;
    this.#running = running;
    this.#history = history;
  }

  /** Whoever comes now is refused. */
  get isFailing(): boolean {
    return this.#running.replication().standing === 'failing';
  }

  /** To another mode, and to another way of meeting a cloud that is away. One at a time, as the administrator does. */
  async change(random: SimRandom): Promise<void> {
    const replication = { mode: random.pick(REPLICATION_MODES), onRemoteLoss: random.pick(ON_REMOTE_LOSS) };
    if (this.#isChanging) return;
    this.#isChanging = true;
    try {
      await this.#running.changeReplication(replication);
      this.#world.note(`replication is ${replication.mode} / ${replication.onRemoteLoss}`);
    } finally {
      this.#isChanging = false;
    }
  }

  /** What was answered before `before` is in the cloud if acks mean that in one of these modes: as if a remote flush had been answered. */
  acked(by: readonly ReplicationMode[], before: number): void {
    const { mode, standing } = this.#running.replication();
    if (!by.includes(mode) || standing === 'degraded' || standing === 'catching-up') return;
    const n = this.#running.device.status().committedN;
    const { promises } = this.#history;
    if (promises.at(-1)?.n === n) promises.pop();
    promises.push({ n, before });
    this.#world.work.promised++;
  }

  /** A synchronous write that fails is on neither side, now and for ever. */
  failed(op: Op | undefined, error: unknown): void {
    if (op === undefined || this.#isChanging || !isKind(error, 'fenced', 'unreplicated')) return;
    if (this.#running.replication().mode === 'sync') this.#world.neverSeen.add(op.id);
  }
}
