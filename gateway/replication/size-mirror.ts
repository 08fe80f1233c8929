import { describeError } from '../base/errors.ts';
import type { ByteCount, Epoch } from '../base/units.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { MaintenanceDeps } from '../maintenance/maintenance-deps.ts';
import { MAINTENANCE_ATTEMPTS, withRetries } from '../maintenance/retry.ts';

/**
 * Copies the size of a volume, which the version log decides, into its item, where listings look. What cannot be copied now is copied at the
 * next start of the volume: nothing but listings depends on it.
 */
export class SizeMirror {
  readonly #deps: MaintenanceDeps;
  readonly #ref: VolumeRef;
  readonly #epoch: Epoch;
  readonly #signal: AbortSignal;
  #there: ByteCount;
  #wanted: ByteCount;
  #running: Promise<void> | undefined;

  /** `there`: what the item says. */
  constructor(deps: MaintenanceDeps, ref: VolumeRef, epoch: Epoch, there: ByteCount, signal: AbortSignal) {
    this.#deps = deps;
    this.#ref = ref;
    this.#epoch = epoch;
    this.#there = there;
    this.#wanted = there;
    this.#signal = signal;
  }

  /** The volume has this size, as of a committed version. Never rejects; resolves when the item says so, or it was given up. */
  tell(bytes: ByteCount): Promise<void> {
    this.#wanted = bytes;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #run(): Promise<void> {
    const { versions, log } = this.#deps;
    const rules = { attempts: MAINTENANCE_ATTEMPTS, signal: this.#signal };
    while (this.#there !== this.#wanted) {
      const bytes = this.#wanted;
      try {
        // A conflict: the volume has another owner now, who copies what the log says then.
        const change = (): Promise<'ok' | 'conflict'> => versions.changeVolume(this.#ref, this.#epoch, { bytes });
        if ((await withRetries(this.#deps, rules, change)) === 'conflict') return;
        this.#there = bytes;
      } catch (error) {
        log.warn({ ...this.#ref, bytes, reason: describeError(error) }, 'listings show an old size of the volume');
        return;
      }
    }
  }
}
