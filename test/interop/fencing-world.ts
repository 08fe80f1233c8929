import { BLOCK_SIZE } from '../../gateway/base/units.ts';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import { ScsiError } from '../../gateway/initiator/scsi-error.ts';
import { SITE_IQN, type GatewayProcess } from '../support/gateway-process.ts';
import { eventually } from '../support/processes.ts';

/** NOT READY, MANUAL INTERVENTION REQUIRED: what initiators of a volume that was taken over are told. */
export const FENCED_SENSE = { key: 2, asc: 4, ascq: 3 };
/** The promise: a loser stops this long after it can reach the cloud again. */
export const FENCED_WITHIN_MS = 15_000;
const SECTORS_PER_BLOCK = BLOCK_SIZE / 512;

/** A block that says which write of which writer it has; 0: none. */
export function stamped(value: number): Buffer {
  const block = Buffer.alloc(BLOCK_SIZE);
  if (value > 0) for (let at = 0; at < BLOCK_SIZE; at += 8) block.writeDoubleLE(value, at);
  return block;
}

export function stampOf(block: Buffer): number {
  const value = block.readDoubleLE(0);
  if (!block.equals(stamped(value))) throw new Error(`a block is a mix; it begins with ${value}`);
  return value;
}

export function connectTo(gateway: GatewayProcess, volume: string): Promise<Initiator> {
  return Initiator.connect({ host: gateway.host, port: gateway.port, target: `${SITE_IQN}:${volume}` });
}

/** Writes stamped blocks one after the other, round and round, and knows what was acked. Its stamps rise from `first` on. */
export class Writer {
  readonly disk: Initiator;
  readonly blocks: number;
  /** The newest acked stamp of each block. */
  readonly acked: number[];
  /** Sent, and not answered with GOOD: it may be there or not. */
  readonly inDoubt: { block: number; stamp: number }[] = [];
  failure: unknown;
  #next: number;
  #goOn = false;
  #running: Promise<void> = Promise.resolve();

  constructor(disk: Initiator, blocks: number, first: number) {
    this.disk = disk;
    this.blocks = blocks;
    this.acked = Array.from({ length: blocks }, () => 0);
    this.#next = first;
  }

  /** So many writes. */
  async write(count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      const stamp = this.#next++;
      const block = stamp % this.blocks;
      this.inDoubt.push({ block, stamp });
      await this.disk.write(block * SECTORS_PER_BLOCK, stamped(stamp));
      this.inDoubt.pop();
      this.acked[block] = stamp;
    }
  }

  /** Until `stop`, or until a write fails. */
  start(): void {
    this.#goOn = true;
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#goOn = false;
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (this.#goOn) await this.write(1);
    } catch (error) {
      this.failure = error;
    }
  }

  get count(): number {
    return this.acked.filter((stamp) => stamp > 0).length;
  }

  /** Blocks of `content` that are neither what was acked last nor what is in doubt. */
  wrong(content: readonly number[]): { block: number; stamp: number | undefined; acked: number | undefined }[] {
    return content.flatMap((stamp, block) => {
      const mayBe = this.inDoubt.some((doubt) => doubt.block === block && doubt.stamp === stamp);
      return stamp === this.acked[block] || mayBe ? [] : [{ block, stamp, acked: this.acked[block] }];
    });
  }
}

/** The stamp of each of the first blocks. */
export async function contentOf(disk: Initiator, blocks: number): Promise<number[]> {
  const content = await disk.read(0, blocks * SECTORS_PER_BLOCK);
  return Array.from({ length: blocks }, (_, at) => stampOf(content.subarray(at * BLOCK_SIZE, (at + 1) * BLOCK_SIZE)));
}

/** How long it took until the gateway said that the volume is another's. */
export async function fencedAfterMs(gateway: GatewayProcess, volume: string, limitMs: number): Promise<number> {
  const start = performance.now();
  await eventually(
    async () => {
      const { volumes } = await gateway.call('status', {});
      return volumes.find(({ name }) => name === volume)?.state === 'fenced' ? true : undefined;
    },
    limitMs,
    () => `the loser still serves volume ${volume}`,
  );
  return performance.now() - start;
}

/** What the target answers; undefined when it is GOOD or there is no answer. */
export async function senseOf(command: Promise<unknown>): Promise<ScsiError['sense']> {
  try {
    await command;
  } catch (error) {
    if (error instanceof ScsiError) return error.sense;
  }
  return undefined;
}
