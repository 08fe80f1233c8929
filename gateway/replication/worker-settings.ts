import type { MessagePort } from 'node:worker_threads';
import type { CloudSettings } from '../cloud/aws-clients.ts';
import type { HostSettings } from './replication-host.ts';
import type { Unheard } from './told-bounded.ts';

/** What the replication worker is started with; plain data. */
export interface WorkerSettings extends HostSettings {
  readonly cloud: CloudSettings & { readonly bucket: string; readonly table: string };
  /** State directory of the gateway; the cache log lies in it. */
  readonly stateDir: string;
  /** What initiators wait for goes first where processors are short (see thread-priority); without it, yes. */
  readonly standsBack?: boolean;
  /** The worker ends the process when the main thread has stopped turning its loop (see watch-main). */
  readonly watchMain?: boolean;
  /** Bounds the lines of its log that are on their way (see told-bounded). */
  readonly unheard: Unheard;
  /** Other threads with volumes: their ports, moved to the worker, and where their cache logs lie. */
  readonly links?: readonly { readonly port: MessagePort; readonly stateDir: string }[];
}
