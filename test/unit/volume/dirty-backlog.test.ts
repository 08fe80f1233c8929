import { describe, expect, it } from 'vitest';
import type { CacheLog } from '../../../gateway/cache/cache-log.ts';
import type { ReplayedOp } from '../../../gateway/cache/replay.ts';
import type { BlockState } from '../../../gateway/volume/block-state.ts';
import { DirtyBacklog } from '../../../gateway/volume/dirty-backlog.ts';
import { ManualClock } from '../../support/iscsi-world.ts';

const MOST_BLOCKS = 4;

/** A log whose operations write one block each; `ended` happens after a replay was told enough, before whoever asked goes on. */
class Log {
  ended: () => void = () => undefined;
  missing: number | undefined;
  readonly #last: number;

  constructor(last: number) {
    this.#last = last;
  }

  readonly replay = async (_log: unknown, after: number, visit: (op: ReplayedOp) => boolean): Promise<void> => {
    for (let seq = after + 1; seq <= this.#last; seq++) {
      if (seq === this.missing) continue;
      if (!visit({ kind: 'write', seq, wallSeconds: 0, block: seq, places: [seq] })) break;
    }
    await Promise.resolve();
    this.ended();
  };

  get state(): BlockState {
    const cache: Pick<CacheLog, 'replay'> = { replay: this.replay };
    return { cache, log: undefined } as unknown as BlockState; // all that a refill asks of it
  }
}

function backlogOf(operations: number): DirtyBacklog {
  const backlog = new DirtyBacklog(new ManualClock(), MOST_BLOCKS);
  for (let seq = 1; seq <= operations; seq++) backlog.addFoundWrite(seq, 0, seq, [seq]);
  return backlog;
}

function ship(backlog: DirtyBacklog): void {
  if (!backlog.growing.isEmpty) backlog.seal();
  while (backlog.next !== undefined) backlog.take();
}

describe('what is dirty and only counted', () => {
  it('is read from the log as there is room for it', async () => {
    const backlog = backlogOf(12);
    const log = new Log(12);
    expect(backlog.heldBlocks).toBe(MOST_BLOCKS);
    ship(backlog);
    expect(backlog.wantsRefill).toBe(true);
    await backlog.refill(log.state);
    expect(backlog.heldBlocks).toBe(MOST_BLOCKS);
    expect(backlog.growing.firstSeq).toBe(5);
  });

  // Found by the simulation (seed 13825): replication ended for good, with nothing lost.
  it('is not called lost when what was read of it is on its way before the reading has ended', async () => {
    const backlog = backlogOf(12);
    const log = new Log(12);
    log.ended = () => {
      ship(backlog);
    };
    for (let rounds = 0; backlog.wantsRefill || backlog.heldBlocks > 0; rounds++) {
      expect(rounds).toBeLessThan(4);
      ship(backlog);
      await backlog.refill(log.state);
    }
    expect(backlog.oldestMs).toBeUndefined();
  });

  it('is called lost when the log has not got it, and all before it is on its way', async () => {
    const backlog = backlogOf(12);
    const log = new Log(12);
    log.missing = 7;
    ship(backlog);
    await backlog.refill(log.state);
    expect(backlog.heldBlocks).toBe(2);
    ship(backlog);
    await expect(backlog.refill(log.state)).rejects.toThrow('lost write 7');
  });
});
