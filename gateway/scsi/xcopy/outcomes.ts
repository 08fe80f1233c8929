import type { ByteCount } from '../../base/units.ts';
import { STATUS } from '../constants.ts';
import type { CopyResults } from '../cdb.ts';
import type { UnitNexus } from '../logical-unit.ts';
import { parameterData } from '../result.ts';
import type { ScsiResult } from '../result.ts';
import { fixedSense, invalidCdbField } from '../sense.ts';
import {
  BLOCK_TO_BLOCK,
  IDENTIFICATION,
  MAX_CONCURRENT_COPIES,
  MAX_CSCD_DESCRIPTORS,
  MAX_DESCRIPTOR_LIST_BYTES,
  MAX_KEPT_OUTCOMES,
  MAX_SEGMENT_BYTES,
  MAX_SEGMENT_DESCRIPTORS,
  SEGMENT_GRANULARITY_LOG2,
} from './limits.ts';

/** One copy, under way or over. */
export interface CopyProgress {
  segments: number;
  bytes: ByteCount;
  /** Undefined while it is under way. */
  result: ScsiResult | undefined;
}

/** The copies of one initiator at one unit, by their list identifiers (SPC-4). */
export class CopyOutcomes {
  readonly #byListId = new Map<number, CopyProgress>();
  #underWay = 0;

  get underWay(): number {
    return this.#underWay;
  }

  isUnderWay(listId: number): boolean {
    const known = this.#byListId.get(listId);
    return known !== undefined && known.result === undefined;
  }

  find(listId: number): CopyProgress | undefined {
    return this.#byListId.get(listId);
  }

  /** `listId` is undefined when nobody will ask. */
  begin(listId: number | undefined): CopyProgress {
    const progress: CopyProgress = { segments: 0, bytes: 0, result: undefined };
    this.#underWay += 1;
    if (listId !== undefined) {
      this.#byListId.delete(listId); // a new copy of an old name is the youngest
      this.#byListId.set(listId, progress);
    }
    return progress;
  }

  end(progress: CopyProgress, result: ScsiResult): void {
    progress.result = result;
    this.#underWay -= 1;
    for (const [listId, old] of this.#byListId) {
      if (this.#byListId.size <= MAX_KEPT_OUTCOMES) return;
      if (old.result !== undefined) this.#byListId.delete(listId);
    }
  }

  /** The initiator has been told. */
  forget(listId: number): void {
    this.#byListId.delete(listId);
  }
}

/** They are lost with the nexus. */
const OUTCOMES = new WeakMap<UnitNexus, CopyOutcomes>();

export function copyOutcomes(nexus: UnitNexus): CopyOutcomes {
  let outcomes = OUTCOMES.get(nexus);
  if (outcomes === undefined) {
    outcomes = new CopyOutcomes();
    OUTCOMES.set(nexus, outcomes);
  }
  return outcomes;
}

/** RECEIVE COPY RESULTS and its kin about LID1 copies (SPC-4 6.21 - 6.25). */
export function copyResults(nexus: UnitNexus, command: CopyResults): ScsiResult {
  if (command.results === 'operating-parameters') return parameterData(operatingParameters(), command.allocationLength);
  const outcomes = copyOutcomes(nexus);
  const progress = outcomes.find(command.listId);
  if (progress === undefined) return invalidCdbField(2, 7);
  switch (command.results) {
    case 'status': {
      const data = copyStatus(progress);
      // What has been told in full need not be kept.
      if (progress.result?.status === STATUS.good && command.allocationLength >= data.length) {
        outcomes.forget(command.listId);
      }
      return parameterData(data, command.allocationLength);
    }
    case 'data':
      return parameterData(Buffer.alloc(4), command.allocationLength); // no segment descriptor of ours holds data
    case 'failed-segment': {
      const data = failedSegment(progress);
      if (progress.result !== undefined && command.allocationLength >= data.length) outcomes.forget(command.listId);
      return parameterData(data, command.allocationLength);
    }
  }
}

/** COPY MANAGER STATUS (SPC-4). */
const IN_PROGRESS = 0;
const COMPLETED = 1;
const COMPLETED_WITH_ERRORS = 2;

/** COPY STATUS (SPC-4 6.25): the transfer count is in the smallest unit it fits. */
function copyStatus({ segments, bytes, result }: CopyProgress): Buffer {
  const data = Buffer.alloc(12);
  data.writeUInt32BE(data.length - 4, 0);
  if (result === undefined) data[4] = IN_PROGRESS;
  else data[4] = result.status === STATUS.good ? COMPLETED : COMPLETED_WITH_ERRORS;
  data.writeUInt16BE(segments, 5);
  let unit = 0;
  let count = bytes;
  for (; count > 0xffff_ffff; unit += 1) count = Math.floor(count / 1024);
  data[7] = unit;
  data.writeUInt32BE(count, 8);
  return data;
}

/** FAILED SEGMENT DETAILS (SPC-4 6.22): status and sense data of a copy that failed. */
function failedSegment({ result }: CopyProgress): Buffer {
  if (result === undefined || result.status === STATUS.good) return Buffer.alloc(4);
  const sense = result.sense === undefined ? Buffer.alloc(0) : fixedSense(result.sense);
  const data = Buffer.alloc(60 + sense.length);
  data.writeUInt32BE(data.length - 4, 0);
  data[56] = result.status;
  data.writeUInt16BE(sense.length, 58);
  sense.copy(data, 60);
  return data;
}

/** OPERATING PARAMETERS (SPC-4 6.23). Nothing is inlined or held. */
function operatingParameters(): Buffer {
  const data = Buffer.alloc(46);
  data.writeUInt32BE(data.length - 4, 0);
  data[4] = 0x01; // SNLID: copies without a list identifier
  data.writeUInt16BE(MAX_CSCD_DESCRIPTORS, 8);
  data.writeUInt16BE(MAX_SEGMENT_DESCRIPTORS, 10);
  data.writeUInt32BE(MAX_DESCRIPTOR_LIST_BYTES, 12);
  data.writeUInt32BE(MAX_SEGMENT_BYTES, 16);
  data.writeUInt16BE(MAX_CONCURRENT_COPIES, 34);
  data[36] = MAX_CONCURRENT_COPIES;
  data[37] = SEGMENT_GRANULARITY_LOG2;
  data[43] = 2;
  data.set([BLOCK_TO_BLOCK, IDENTIFICATION], 44);
  return data;
}
