import type { Clock, Random } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { VersionLog } from '../cloud/version-log.ts';
import type { Compression } from '../format/compression.ts';

/** What maintenance works with, in the gateway and in a Lambda alike. */
export interface MaintenanceDeps {
  readonly store: ObjectStore;
  readonly versions: VersionLog;
  readonly compression: Compression;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}
