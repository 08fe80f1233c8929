import { FarshoreError } from '../base/errors.ts';
import type { BlockCount, SegmentNumber } from '../base/units.ts';

/** Problems reported at most; the first ones say enough. */
export const MAX_PROBLEMS = 100;

/** What a verification has seen so far. */
export class Findings {
  readonly problems: string[] = [];
  /** Objects looked at. */
  objects = 0;
  /** Mapped blocks looked at. */
  blocks: BlockCount = 0;

  /** Segments with frames of lost blocks: a finding only where the newest map leads to one. */
  readonly segmentsWithLost = new Set<SegmentNumber>();

  /** One sentence. */
  add(problem: string): void {
    if (this.problems.length < MAX_PROBLEMS) this.problems.push(problem);
  }

  get full(): boolean {
    return this.problems.length >= MAX_PROBLEMS;
  }
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new FarshoreError('stopped', 'the verification was stopped');
}
