import { z } from 'zod';
import { decodeChecked, encodeChecked } from './base/checked-json.ts';
import type { Random } from './base/clock.ts';
import { type Disk, readWhole, replaceFile } from './base/disk.ts';
import { describeError, FarshoreError } from './base/errors.ts';
import { Mutex } from './cache/mutex.ts';
import type { VolumeRef } from './cloud/version-log.ts';
import { MAX_THREADS } from './threads/io-thread.ts';

const FILE = 'gateway.json';
const MAX_BYTES = 1024 * 1024;
/** LUNs of one gateway (architecture, section 6). */
export const MAX_VOLUMES = 256;

const schema = z.strictObject({
  format: z.literal(1),
  gateway: z.string().regex(/^[0-9a-f]{16}$/),
  volumes: z
    .array(
      z.strictObject({
        name: z.string(),
        lineage: z.string(),
        volume: z.string(),
        /** Set by delete; the entry goes when the volume is purged or undeleted. */
        deletedAt: z.number().int().optional(),
        /** The I/O thread that has it; absent: the main one. */
        thread: z
          .number()
          .int()
          .min(1)
          .max(MAX_THREADS - 1)
          .optional(),
      }),
    )
    .max(MAX_VOLUMES),
});

export interface CatalogueVolume extends VolumeRef {
  readonly name: string;
  readonly deletedAt?: number | undefined;
  /** The I/O thread that has it; undefined: the main one. */
  readonly thread?: number | undefined;
}

/** The gateway's identity and which volumes it serves: `gateway.json` of the state directory, replaced atomically at each change. */
export class Catalogue {
  readonly gateway: string;
  readonly #disk: Disk;
  #volumes: readonly CatalogueVolume[];
  /** Works on different volumes run side by side, and all of them end in this one file. */
  readonly #saving = new Mutex();
  #isClosed = false;

  private constructor(disk: Disk, gateway: string, volumes: readonly CatalogueVolume[]) {
    this.#disk = disk;
    this.gateway = gateway;
    this.#volumes = volumes;
  }

  /** Reads it; an empty directory gets a new identity. */
  static async open(disk: Disk, random: Random): Promise<Catalogue> {
    // What the last process did may be visible and not durable yet; an identity that is acted on must not be another one after a power cut.
    await disk.syncDirectory('');
    const content = await readWhole(disk, FILE, MAX_BYTES);
    if (content === undefined) {
      const fresh = new Catalogue(disk, random.bytes(8).toString('hex'), []);
      await fresh.#change((volumes) => volumes);
      return fresh;
    }
    try {
      const { gateway, volumes } = schema.parse(decodeChecked(content));
      return new Catalogue(disk, gateway, volumes);
    } catch (error) {
      throw new FarshoreError(
        'damaged',
        `${FILE} in the state directory cannot be understood (${describeError(error).split('\n')[0] ?? ''}); move the state directory aside and restore the volumes with --takeover`,
        { cause: error },
      );
    }
  }

  get volumes(): readonly CatalogueVolume[] {
    return this.#volumes;
  }

  /** Resolves when nothing is written any more, and nothing will be: the state directory may be another process's then. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#saving.run(() => Promise.resolve());
  }

  /** Adds or replaces the entry of this volume. Rejects with `stopped` once it is closed, and with the disk's failures: here nothing has changed then, and what lies on the disk may. */
  put(entry: CatalogueVolume): Promise<void> {
    return this.#change((volumes) => {
      const others = volumes.filter((each) => each.volume !== entry.volume);
      if (others.length >= MAX_VOLUMES) {
        throw new FarshoreError('input', `a gateway serves at most ${MAX_VOLUMES} volumes; use another gateway`);
      }
      return [...others, entry];
    });
  }

  /** The same. */
  remove(volume: string): Promise<void> {
    return this.#change((volumes) => volumes.filter((each) => each.volume !== volume));
  }

  /** What could not be saved must not come to light with the next change that can. */
  #change(work: (volumes: readonly CatalogueVolume[]) => readonly CatalogueVolume[]): Promise<void> {
    const { gateway } = this;
    if (this.#isClosed) {
      return Promise.reject(
        new FarshoreError('stopped', `${FILE} was not written, because the gateway has been stopped`),
      );
    }
    return this.#saving.run(async () => {
      const volumes = work(this.#volumes);
      await replaceFile(this.#disk, FILE, encodeChecked({ format: 1, gateway, volumes }));
      this.#volumes = volumes;
    });
  }
}
