import type { ByteCount, Lba } from '../../base/units.ts';
import { STATUS } from '../constants.ts';
import { INTERNAL_CHUNK_BYTES } from '../limits.ts';
import type { LogicalUnit, UnitNexus } from '../logical-unit.ts';
import { refuse } from '../refusals.ts';
import { GOOD, plainStatus } from '../result.ts';
import type { ScsiResult } from '../result.ts';
import { SENSE, checkCondition, invalidParameterField, resultOfError } from '../sense.ts';
import { MAX_CONCURRENT_COPIES, MAX_SEGMENT_BYTES, OWN_UNIT } from './limits.ts';
import { copyOutcomes } from './outcomes.ts';
import type { CopyProgress } from './outcomes.ts';
import { parseCopyRequest } from './parameter-list.ts';
import type { CopyRequest, Cscd, Segment } from './parameter-list.ts';

/** Looked at between the pieces: an aborted copy ends there. */
interface CommandLife {
  readonly state: string;
  /** Told what the copy does to the units it comes to: whoever changes access to them looks there. */
  readonly touches?: Map<LogicalUnit, 'reads' | 'writes'> | undefined;
}

const BUSY = plainStatus(STATUS.busy);
const ABORTED = plainStatus(STATUS.taskAborted);
/** Where a block to block segment descriptor has them. */
const SOURCE_LBA = 12;
const DESTINATION_LBA = 20;
const ZEROS = Buffer.alloc(INTERNAL_CHUNK_BYTES);

/**
 * EXTENDED COPY (LID1) (SPC-4 6.5): copies between the logical units that this initiator sees through its session, with its own rights
 * to each of them, which are looked at before every piece. A copy that is aborted or fails leaves what it has copied.
 */
export async function extendedCopy(nexus: UnitNexus, list: Buffer, life: CommandLife): Promise<ScsiResult> {
  if (list.length === 0) return GOOD;
  const parsed = parseCopyRequest(list);
  if (parsed.kind === 'refused') return parsed.result;
  const { request } = parsed;
  const outcomes = copyOutcomes(nexus);
  if (request.keepsOutcome && outcomes.isUnderWay(request.listId)) return checkCondition(SENSE.operationInProgress);
  if (outcomes.underWay >= MAX_CONCURRENT_COPIES) return BUSY;
  const progress = outcomes.begin(request.keepsOutcome ? request.listId : undefined);
  let result: ScsiResult = ABORTED;
  try {
    result = await copySegments(nexus, request, progress, life);
  } finally {
    outcomes.end(progress, result);
  }
  return result;
}

async function copySegments(
  nexus: UnitNexus,
  request: CopyRequest,
  progress: CopyProgress,
  life: CommandLife,
): Promise<ScsiResult> {
  for (const segment of request.segments) {
    const result = await new SegmentCopy(nexus, request.cscds, segment, progress, life).run();
    if (result !== GOOD) return result;
    progress.segments += 1;
  }
  return GOOD;
}

/** One segment descriptor on its way. */
class SegmentCopy {
  readonly #nexus: UnitNexus;
  readonly #cscds: readonly Cscd[];
  readonly #segment: Segment;
  readonly #progress: CopyProgress;
  readonly #life: CommandLife;

  constructor(nexus: UnitNexus, cscds: readonly Cscd[], segment: Segment, progress: CopyProgress, life: CommandLife) {
    this.#nexus = nexus;
    this.#cscds = cscds;
    this.#segment = segment;
    this.#progress = progress;
    this.#life = life;
  }

  async run(): Promise<ScsiResult> {
    if (this.#life.state === 'aborted') return ABORTED;
    const { sourceId, destinationId, countsDestination, count, sourceLba, destinationLba } = this.#segment;
    const source = this.#find(sourceId);
    const destination = this.#find(destinationId);
    if (source === undefined || destination === undefined) return checkCondition(SENSE.copyTargetNotReachable);
    const { touches } = this.#life;
    if (touches?.has(source.unit) === false) touches.set(source.unit, 'reads');
    touches?.set(destination.unit, 'writes');
    const from = source.unit.geometry();
    const to = destination.unit.geometry();
    const bytes = count * (countsDestination ? to.sectorSize : from.sectorSize);
    if (bytes > MAX_SEGMENT_BYTES) return invalidParameterField(0);
    // No padding: what does not come out even is not copied (SPC-4 6.4).
    if (bytes % from.sectorSize !== 0 || bytes % to.sectorSize !== 0) return checkCondition(SENSE.inexactSegment);
    if (sourceLba + bytes / from.sectorSize > from.sectors) return this.#beyondTheEnd(SOURCE_LBA);
    if (destinationLba + bytes / to.sectorSize > to.sectors) return this.#beyondTheEnd(DESTINATION_LBA);
    // Onto a later part of itself the end goes first, so that nothing is overwritten before it has been copied.
    const backwards = source.unit === destination.unit && destinationLba > sourceLba;
    const pieces = Math.ceil(bytes / INTERNAL_CHUNK_BYTES);
    for (let done = 0; done < pieces; done += 1) {
      const start = (backwards ? pieces - 1 - done : done) * INTERNAL_CHUNK_BYTES;
      const result = await this.#copyPiece(start, Math.min(INTERNAL_CHUNK_BYTES, bytes - start));
      if (result !== GOOD) return result;
    }
    return GOOD;
  }

  /**
   * A range past the end of a device: COPY ABORTED without an additional code, as libiscsi's tests demand, and what is wrong where the sense data has room
   * for it: the field of the segment descriptor. THIRD PARTY DEVICE FAILURE would say that the device cannot be used at all.
   */
  #beyondTheEnd(byte: number): ScsiResult {
    return checkCondition({
      ...SENSE.copyAborted,
      field: { inCdb: false, byte, segment: this.#progress.segments },
    });
  }

  /** Both units are looked up anew: a mapping may have been taken away, a reservation made, since the last piece. */
  async #copyPiece(start: ByteCount, bytes: ByteCount): Promise<ScsiResult> {
    if (this.#life.state === 'aborted') return ABORTED;
    const { sourceId, destinationId, sourceLba, destinationLba } = this.#segment;
    const source = this.#find(sourceId);
    const destination = this.#find(destinationId);
    if (source === undefined || destination === undefined) return checkCondition(SENSE.copyTargetNotReachable);
    const read = extentAt(source, sourceLba, start, bytes);
    const written = extentAt(destination, destinationLba, start, bytes);
    if (isRefused(source, 'read', read) || isRefused(destination, 'write', written)) {
      return checkCondition(SENSE.copyThirdPartyFailure);
    }
    const from = source.unit.media.extents;
    const to = destination.unit.media.extents;
    try {
      if (from === to) {
        // One claim on both: what another command writes to either in between must not be undone.
        return await to.runAll([claimOn(read), claimOn(written)], 'exclusive', async () => {
          if (this.#life.state === 'aborted') return ABORTED;
          if (isRefused(source, 'read', read)) return checkCondition(SENSE.copyThirdPartyFailure);
          return this.#put(destination, written, await readWhole(source, read));
        });
      }
      const data = await from.runAll([claimOn(read)], 'shared', () => readWhole(source, read));
      // What has become of the destination meanwhile: it must not wait for the end of a SANITIZE.
      if (isRefused(destination, 'write', written)) return checkCondition(SENSE.copyThirdPartyFailure);
      return await to.runAll([claimOn(written)], 'exclusive', () => this.#put(destination, written, data));
    } catch (error) {
      return copyFailure(error);
    }
  }

  /** Writes a piece, under a claim on its extent: unless that has become forbidden while it waited for its turn. */
  async #put(destination: UnitNexus, written: Extent, data: Buffer): Promise<ScsiResult> {
    if (this.#life.state === 'aborted') return ABORTED;
    if (isRefused(destination, 'write', written)) return checkCondition(SENSE.copyThirdPartyFailure);
    const { device } = destination.unit;
    // Zeros take no room: they are what a sector that was never written reads as.
    if (data.equals(ZEROS.subarray(0, data.length))) await device.unmap([written]);
    else await device.write(written.lba, [data], { fua: false });
    this.#progress.bytes += data.length;
    return GOOD;
  }

  #find(cscdId: number): UnitNexus | undefined {
    if (cscdId === OWN_UNIT) return this.#nexus;
    const cscd = this.#cscds[cscdId];
    if (cscd?.naa === undefined || !cscd.isDisk) return undefined;
    for (const nexus of this.#nexus.neighbours()) {
      const { device } = nexus.unit;
      if (!device.identity.naa.equals(cscd.naa)) continue;
      const fits = cscd.sectorSize === 0 || cscd.sectorSize === device.geometry().sectorSize;
      return fits ? nexus : undefined;
    }
    return undefined;
  }
}

interface Extent {
  readonly lba: Lba;
  readonly sectors: number;
}

function extentAt(nexus: UnitNexus, lba: Lba, start: ByteCount, bytes: ByteCount): Extent {
  const { sectorSize } = nexus.unit.device.geometry();
  return { lba: lba + start / sectorSize, sectors: bytes / sectorSize };
}

function isRefused(nexus: UnitNexus, kind: 'read' | 'write', extent: Extent): boolean {
  return refuse(nexus, { kind, ...extent, fua: false }) !== undefined;
}

function claimOn({ lba, sectors }: Extent): { readonly first: Lba; readonly end: Lba } {
  return { first: lba, end: lba + sectors };
}

/** A copy of the extent; under a claim on it, so that no atomic command tears it. */
async function readWhole(source: UnitNexus, { lba, sectors }: Extent): Promise<Buffer> {
  return Buffer.concat(await source.unit.device.read(lba, sectors));
}

/** A device that is only busy is no failure of the copy; anything else is one of a third party. */
function copyFailure(error: unknown): ScsiResult {
  const result = resultOfError(error);
  return result.status === STATUS.busy ? result : checkCondition(SENSE.copyThirdPartyFailure);
}
