import type { CloudSettings } from '../cloud/aws-clients.ts';
import type { HostSettings } from './replication-host.ts';

/** What the replication worker is started with; plain data. */
export interface WorkerSettings extends HostSettings {
  readonly cloud: CloudSettings & { readonly bucket: string; readonly table: string };
  /** State directory of the gateway; the cache log lies in it. */
  readonly stateDir: string;
}
