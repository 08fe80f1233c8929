import type { BitRate } from './base/bit-rate.ts';
import type { ReplicationWorker } from './replication/worker-client.ts';

const BITS_PER_BYTE = 8;

/** As the configuration and people have it: bits per second, 0 while uploads are paused, undefined without a limit. */
export type UploadLimitSetting = BitRate | undefined;

/** As the throttle takes it. */
export function uploadRateOf(limit: UploadLimitSetting): number | undefined {
  return limit === undefined ? undefined : limit / BITS_PER_BYTE;
}

/**
 * What the limit on uploads is at the moment, all volumes together. Whoever decides it (now the configuration at the start and the
 * administrator afterwards, until the next start) sets it here.
 */
export class UploadLimit {
  readonly #worker: ReplicationWorker;
  #limit: UploadLimitSetting;

  /** `limit` is what the worker was started with. */
  constructor(worker: ReplicationWorker, limit: UploadLimitSetting) {
    this.#worker = worker;
    this.#limit = limit;
  }

  get current(): UploadLimitSetting {
    return this.#limit;
  }

  /** Holds for uploads that have not begun when this resolves. Rejects with `retry` when the worker is gone. */
  async set(limit: UploadLimitSetting): Promise<void> {
    await this.#worker.limitUploads(uploadRateOf(limit));
    this.#limit = limit;
  }
}
