import type { BlockDevice, MaybePromise } from '../base/block-device.ts';
import type { ByteCount, Lba, SectorCount } from '../base/units.ts';
import { ABORTED, isAborted } from './command-life.ts';
import type { CommandLife } from './command-life.ts';
import { firstDifference } from './compare.ts';
import { INTERNAL_CHUNK_BYTES } from './limits.ts';
import { GOOD, mediumData } from './result.ts';
import type { ScsiResult } from './result.ts';
import { KEY, SENSE, checkCondition, resultOfError } from './sense.ts';
import type { ByteCheck } from './cdb.ts';
import type { UnitMedia } from './unit-media.ts';

const PLAIN_WRITE = { fua: false } as const;
const FORCED_WRITE = { fua: true } as const;

const returnGood = (): ScsiResult => GOOD;

interface Extent {
  readonly lba: Lba;
  readonly sectors: SectorCount;
}

/**
 * READ (6) - (16). With FUA what was written before must be on stable storage first (SBC-3). No more is read than the
 * initiator takes; the result still counts all that was asked for, since that is what the residual is about.
 */
export function read(
  device: BlockDevice,
  media: UnitMedia,
  command: Extent & { readonly fua: boolean },
  announcedBytes: ByteCount,
): MaybePromise<ScsiResult> {
  if (command.sectors === 0) return GOOD;
  const { sectorSize } = device.geometry();
  const bytes = command.sectors * sectorSize;
  const sectors = Math.min(command.sectors, Math.ceil(announcedBytes / sectorSize));
  if (sectors === 0) return mediumData([], bytes);
  try {
    const pieces = command.fua ? forcedRead(device, command.lba, sectors) : device.read(command.lba, sectors);
    media.counters.reads += 1;
    media.counters.readBytes += sectors * sectorSize;
    media.counters.readSectors += sectors;
    if (!(pieces instanceof Promise)) return mediumData(pieces, bytes);
    const inFlight = media.extents.enter();
    return pieces.then(
      (read) => {
        inFlight.leave();
        return mediumData(read, bytes);
      },
      (error: unknown) => {
        inFlight.leave();
        return readFailure(media, error);
      },
    );
  } catch (error) {
    return readFailure(media, error);
  }
}

function readFailure(media: UnitMedia, error: unknown): ScsiResult {
  const result = resultOfError(error);
  if (result.sense?.key === KEY.mediumError) media.counters.readErrors += 1;
  return result;
}

async function forcedRead(device: BlockDevice, lba: Lba, sectors: SectorCount): Promise<readonly Buffer[]> {
  await device.flush();
  return device.read(lba, sectors);
}

/**
 * WRITE (6) - (16). When the initiator announced fewer sectors than the extent has, those are written and the transport
 * reports the rest as a residual (SAM-5 5.4.2, FCP-4 9.4.2 leave the choice); for part of a sector there is writePart.
 */
export function write(
  device: BlockDevice,
  media: UnitMedia,
  command: Extent & { readonly fua: boolean },
  data: readonly Buffer[],
  announcedBytes: ByteCount,
): MaybePromise<ScsiResult> {
  const bytes = bytesToWrite(device, command, announcedBytes);
  if (bytes === undefined) return checkCondition(SENSE.wrongDataLength);
  if (bytes === 0) return GOOD;
  try {
    const done = device.write(command.lba, data, command.fua ? FORCED_WRITE : PLAIN_WRITE);
    countWritten(device, media, bytes);
    if (!(done instanceof Promise)) return GOOD;
    const inFlight = media.extents.enter();
    return done.then(inFlight.good, inFlight.failed);
  } catch (error) {
    return resultOfError(error);
  }
}

/** What of the extent is written; undefined: the announced data ends inside a sector. */
function bytesToWrite(device: BlockDevice, { sectors }: Extent, announcedBytes: ByteCount): ByteCount | undefined {
  const { sectorSize } = device.geometry();
  const bytes = Math.min(announcedBytes, sectors * sectorSize);
  return bytes % sectorSize === 0 ? bytes : undefined;
}

function countWritten(device: BlockDevice, { counters }: UnitMedia, bytes: ByteCount): void {
  counters.writes += 1;
  counters.writtenBytes += bytes;
  counters.writtenSectors += bytes / device.geometry().sectorSize;
}

/**
 * A write whose announced data ends inside a sector, under an exclusive claim: what has come is written and the rest of that
 * sector keeps its content; the transport reports the residual. libiscsi's tests write 512 bytes to disks of any sector size.
 */
export async function writePart(
  device: BlockDevice,
  media: UnitMedia,
  command: Extent & { readonly fua: boolean },
  data: readonly Buffer[],
): Promise<ScsiResult> {
  const { sectorSize } = device.geometry();
  const given = Buffer.concat(data);
  const sectors = Math.ceil(given.length / sectorSize);
  try {
    const last = Buffer.concat(await device.read(command.lba + sectors - 1, 1));
    const rest = last.subarray(given.length % sectorSize);
    await device.write(command.lba, [given, rest], command.fua ? FORCED_WRITE : PLAIN_WRITE);
    media.counters.writes += 1;
    media.counters.writtenBytes += given.length;
    media.counters.writtenSectors += sectors;
    return GOOD;
  } catch (error) {
    return resultOfError(error);
  }
}

/** SYNCHRONIZE CACHE (10), (16). IMMED is not honoured: the answer always means "on stable storage". */
export function synchronizeCache(device: BlockDevice): MaybePromise<ScsiResult> {
  try {
    const done = device.flush();
    return done instanceof Promise ? done.then(returnGood, resultOfError) : GOOD;
  } catch (error) {
    return resultOfError(error);
  }
}

/** VERIFY (10) - (16): reads the extent (a damaged medium shows), and compares it with the initiator's data if asked. */
export async function verify(
  device: BlockDevice,
  command: Extent & { readonly byteCheck: ByteCheck },
  data: readonly Buffer[],
  life: CommandLife,
): Promise<ScsiResult> {
  const { sectorSize } = device.geometry();
  const { byteCheck } = command;
  const needed = byteCheck === 'full' ? command.sectors * sectorSize : sectorSize;
  if (byteCheck !== 'none' && lengthOf(data) < needed) return checkCondition(SENSE.wrongDataLength);
  const chunkSectors = INTERNAL_CHUNK_BYTES / sectorSize;
  try {
    for (let done = 0; done < command.sectors; done += chunkSectors) {
      if (isAborted(life)) return ABORTED;
      const sectors = Math.min(chunkSectors, command.sectors - done);
      const actual = await device.read(command.lba + done, sectors);
      if (byteCheck === 'none') continue;
      const start = done * sectorSize;
      const bytes = sectors * sectorSize;
      const wanted =
        byteCheck === 'repeated' ? Buffer.alloc(bytes, Buffer.concat(data)) : partOf(data, start, start + bytes);
      const difference = firstDifference(actual, wanted);
      if (difference !== undefined) return checkCondition({ ...SENSE.miscompare, information: start + difference });
    }
    return isAborted(life) ? ABORTED : GOOD;
  } catch (error) {
    return resultOfError(error);
  }
}

function lengthOf(pieces: readonly Buffer[]): ByteCount {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

/** A copy of bytes [from, to) of the pieces: never of all of them, which may be a long write. */
function partOf(pieces: readonly Buffer[], from: ByteCount, to: ByteCount): Buffer {
  const part: Buffer[] = [];
  let at = 0;
  for (const piece of pieces) {
    if (at < to && at + piece.length > from) part.push(piece.subarray(Math.max(from - at, 0), to - at));
    at += piece.length;
  }
  return Buffer.concat(part);
}

/**
 * WRITE AND VERIFY (10) - (16): the data reaches stable storage before it is read back and compared. With BYTCHK under an exclusive claim:
 * what another command writes there in between is no miscompare.
 */
export async function writeAndVerify(
  device: BlockDevice,
  media: UnitMedia,
  command: Extent & { readonly byteCheck: ByteCheck },
  { data, announcedBytes }: { readonly data: readonly Buffer[]; readonly announcedBytes: ByteCount },
  life: CommandLife,
): Promise<ScsiResult> {
  const bytes = bytesToWrite(device, command, announcedBytes);
  if (bytes === undefined) return checkCondition(SENSE.wrongDataLength);
  if (bytes === 0) return GOOD;
  try {
    await device.write(command.lba, data, FORCED_WRITE);
  } catch (error) {
    return resultOfError(error);
  }
  countWritten(device, media, bytes);
  return verify(device, { ...command, sectors: bytes / device.geometry().sectorSize }, data, life);
}
