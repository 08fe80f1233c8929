import { sleep, type Clock } from '../base/clock.ts';
import { FarshoreError, isKind } from '../base/errors.ts';
import type { LogReader } from './remote-volume.ts';

/** A block that can't be read is tried so often before it is taken for lost: disks fail for a moment, too. */
const BAD_READ_ATTEMPTS = 5;
const BAD_READ_PAUSE_MS = 1_000;

/**
 * Reads the log as `reader` does, but believes that blocks are bad, or the disk, only after it has seen it several times. A gateway that is out of
 * file handles (`busy`) knows nothing about the log: that is waited for as long as `signal` allows.
 */
export function patientReader(reader: LogReader, clock: Clock, signal: AbortSignal): LogReader {
  return {
    readBlocks: async (places, blocks, seqs, into) => {
      for (let attempt = 1; ;) {
        const isLast = attempt >= BAD_READ_ATTEMPTS;
        try {
          const bad = await reader.readBlocks(places, blocks, seqs, into);
          if (bad.length === 0 || isLast) return bad;
          attempt += 1;
        } catch (error) {
          const isBusy = isKind(error, 'busy');
          if (signal.aborted || (!isBusy && (isLast || !isKind(error, 'stopped')))) throw error;
          if (!isBusy) attempt += 1;
        }
        await sleep(clock, BAD_READ_PAUSE_MS, signal);
        if (signal.aborted) throw new FarshoreError('stopped', 'reading the cache log was given up');
      }
    },
  };
}
