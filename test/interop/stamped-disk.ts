import { randomBytes } from 'node:crypto';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { Initiator } from '../../gateway/initiator/initiator.ts';

const SECTOR = 512;
const MAGIC = 0x57a3b10c;
const MAX_SECTORS_PER_WRITE = 64;
const READ_SECTORS = 2048;

/** A short time limit: in these tests an answer that does not come is a killed gateway. */
export async function connectStamped(endpoint: { host: string; port: number; target: string }): Promise<Initiator> {
  return Initiator.connect({ ...endpoint, commandTimeoutMs: 20_000 });
}

/**
 * What a disk must hold after a crash: every sector is stamped with its own number and the number of the write it came from.
 * A sector may hold the last acked write to it, or one that was under way when the gateway died; nothing older, nothing
 * else. Writes never overlap while under way, so that the order of acks is the order of the data.
 */
export class StampedDisk {
  acked = 0;
  private readonly sectors: number;
  /** Per sector the number of the last acked write, 0 for none. */
  private readonly lastAcked: Uint32Array;
  /** Per sector the write that was under way at the crash, 0 for none. */
  private readonly inDoubt: Uint32Array;
  private writeNumber = 0;
  private readonly busy = new Set<number>();
  private state: number;

  constructor(bytes: number, seed: number) {
    this.sectors = bytes / SECTOR;
    this.lastAcked = new Uint32Array(this.sectors);
    this.inDoubt = new Uint32Array(this.sectors);
    this.state = seed * 2654435761 || 1;
  }

  /** Seeded, uniform enough. */
  below(bound: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) % bound;
  }

  /** Keeps `writers` writes under way; calls `breakIt` after `acks` of them, and returns once all have failed. */
  async writeUntilBroken(
    initiator: Initiator,
    writers: number,
    acks: number,
    breakIt: () => Promise<void>,
  ): Promise<void> {
    const goal = this.acked + acks;
    // What failed stays claimed: its sectors are in doubt by that write alone.
    this.busy.clear();
    let breaking: Promise<void> | undefined;
    const writer = async (): Promise<void> => {
      for (;;) {
        const { lba, count } = this.claim();
        this.writeNumber += 1;
        const number = this.writeNumber;
        this.inDoubt.fill(number, lba, lba + count);
        try {
          await initiator.write(lba, stamped(lba, count, number), { fua: number % 7 === 0 });
        } catch (error) {
          // A broken connection leaves the write in doubt; a SCSI error would be the gateway's fault.
          if (error instanceof FarshoreError && error.kind === 'retry' && error.name === 'FarshoreError') return;
          throw error;
        }
        this.unclaim(lba, count);
        this.lastAcked.fill(number, lba, lba + count);
        this.inDoubt.fill(0, lba, lba + count);
        this.acked += 1;
        if (this.acked >= goal) breaking ??= breakIt();
      }
    };
    await Promise.all(Array.from({ length: writers }, writer));
    await breaking;
  }

  /** Reads the whole disk; a sentence for every sector that holds what it must not, at most twenty. */
  async lostOrForeign(initiator: Initiator): Promise<string[]> {
    const wrong: string[] = [];
    for (let from = 0; from < this.sectors && wrong.length < 20; from += READ_SECTORS) {
      const count = Math.min(READ_SECTORS, this.sectors - from);
      const data = await initiator.read(from, count);
      for (let index = 0; index < count; index += 1) {
        const complaint = this.checkSector(from + index, data.subarray(index * SECTOR, (index + 1) * SECTOR));
        if (complaint !== undefined && wrong.length < 20) wrong.push(complaint);
      }
    }
    return wrong;
  }

  private checkSector(sector: number, data: Buffer): string | undefined {
    const acked = this.lastAcked[sector] ?? 0;
    const doubtful = this.inDoubt[sector] ?? 0;
    const found = numberIn(sector, data);
    if (found === undefined) return `sector ${sector} holds foreign bytes: ${data.toString('hex', 0, 16)}`;
    if (found !== acked && (doubtful === 0 || found !== doubtful)) {
      return `sector ${sector} holds write ${found}; acked last was ${acked}${doubtful === 0 ? '' : `, in doubt ${doubtful}`}`;
    }
    // From now on what was found is what must stay.
    this.lastAcked[sector] = found;
    this.inDoubt[sector] = 0;
    return undefined;
  }

  /** A range that no write under way touches. */
  private claim(): { lba: number; count: number } {
    for (;;) {
      const count = 1 + this.below(MAX_SECTORS_PER_WRITE);
      const lba = this.below(this.sectors - count);
      let free = true;
      for (let sector = lba; sector < lba + count && free; sector += 1) free = !this.busy.has(sector);
      if (!free) continue;
      for (let sector = lba; sector < lba + count; sector += 1) this.busy.add(sector);
      return { lba, count };
    }
  }

  private unclaim(lba: number, count: number): void {
    for (let sector = lba; sector < lba + count; sector += 1) this.busy.delete(sector);
  }
}

function stamped(lba: number, count: number, number: number): Buffer {
  const data = randomBytes(count * SECTOR);
  for (let index = 0; index < count; index += 1) {
    const at = index * SECTOR;
    data.writeUInt32BE(MAGIC, at);
    data.writeUInt32BE(lba + index, at + 4);
    data.writeUInt32BE(number, at + 8);
    // Repeated at the end, so that a torn sector shows.
    data.writeUInt32BE(number, at + SECTOR - 4);
  }
  return data;
}

/** The write a sector came from; 0 when it was never written, undefined when it is nothing we ever wrote there. */
function numberIn(sector: number, data: Buffer): number | undefined {
  if (data.readUInt32BE(0) === 0 && data.every((byte) => byte === 0)) return 0;
  const number = data.readUInt32BE(8);
  const whole = data.readUInt32BE(0) === MAGIC && data.readUInt32BE(4) === sector;
  return whole && data.readUInt32BE(SECTOR - 4) === number ? number : undefined;
}
