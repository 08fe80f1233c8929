import type { BlockCount, BlockNumber } from '../base/units.ts';
import type { Urgency } from '../base/urgency.ts';

interface PatientRead {
  readonly block: BlockNumber;
  readonly count: BlockCount;
  readonly urgency: Urgency;
}

/** Reads of one volume that nobody waits for, while they are under way: whoever comes to wait for their blocks hurries them. As many as their reader has. */
export class PatientReads {
  readonly #underWay = new Set<PatientRead>();

  /** Answers as `answer` does. */
  async follow<Result>(read: PatientRead, answer: Promise<Result>): Promise<Result> {
    this.#underWay.add(read);
    try {
      return await answer;
    } finally {
      this.#underWay.delete(read);
    }
  }

  hurry(block: BlockNumber, count: BlockCount): void {
    for (const read of this.#underWay)
      if (read.block < block + count && block < read.block + read.count) read.urgency.hurry();
  }
}
