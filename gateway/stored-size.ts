import type { Clock } from './base/clock.ts';
import { FarshoreError } from './base/errors.ts';
import type { ByteCount } from './base/units.ts';
import type { ObjectStore } from './cloud/object-store.ts';
import { lineagePrefix } from './format/keys.ts';

/** Objects per LIST request: the most there can be. */
const PAGE = 1000;
/** A volume of 64 TiB has some eight million segments: 8,400 requests, or four cents. */
const LOOK_EVERY_MS = 86_400_000;
/** After the cloud was away. */
const AGAIN_MS = 600_000;

/** What S3 has of one lineage, by listing its objects once a day while somebody asks. */
export class StoredSize {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #list: ObjectStore['list'];
  readonly #prefix: string;
  #bytes: ByteCount | undefined;
  #nextMs = -Infinity;
  #looking = false;

  constructor(clock: Pick<Clock, 'monotonicMs'>, list: ObjectStore['list'], lineage: string) {
    this.#clock = clock;
    this.#list = list;
    this.#prefix = lineagePrefix(lineage);
  }

  /** As last counted; undefined before that. */
  get bytes(): ByteCount | undefined {
    return this.#bytes;
  }

  /** Counts anew when it is time to; called now and then. Does not reject for what the cloud says: there is another day. */
  async look(signal: AbortSignal): Promise<void> {
    if (this.#looking || this.#clock.monotonicMs() < this.#nextMs) return;
    this.#looking = true;
    try {
      const bytes = await this.#count(signal);
      if (bytes === undefined) return;
      this.#bytes = bytes;
      this.#nextMs = this.#clock.monotonicMs() + LOOK_EVERY_MS;
    } catch (error) {
      if (!(error instanceof FarshoreError)) throw error;
      this.#nextMs = this.#clock.monotonicMs() + AGAIN_MS;
    } finally {
      this.#looking = false;
    }
  }

  /** undefined when it was given up. */
  async #count(signal: AbortSignal): Promise<ByteCount | undefined> {
    let bytes = 0;
    let after: string | undefined;
    do {
      if (signal.aborted) return undefined;
      const page = await this.#list(this.#prefix, PAGE, after);
      for (const object of page.objects) bytes += object.bytes;
      after = page.next;
    } while (after !== undefined);
    return bytes;
  }
}
