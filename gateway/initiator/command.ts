import type { FarshoreError } from '../base/errors.ts';
import { CDB_BYTES } from './cdb.ts';

/**
 * One SCSI command, reusable: fill in the request, submit it, and it is the caller's again when `done` is called. A
 * load generator keeps one per queue slot, so that an I/O allocates next to nothing.
 */
export class ScsiCommand {
  readonly cdb = Buffer.alloc(CDB_BYTES);
  /** Undefined: the session's own. */
  lun: number | undefined = undefined;
  /** What is sent; must stay unchanged until `done`. */
  dataOut: Buffer | undefined = undefined;
  /** Where `expectedIn` bytes go; undefined drops them. */
  dataIn: Buffer | undefined = undefined;
  /** Expected data transfer length of a read, in bytes. */
  expectedIn = 0;
  done: (command: ScsiCommand) => void = () => undefined;

  /** SCSI status; meaningful when `error` is undefined. */
  status = 0;
  /** Sense data as it came; undefined when there was none. */
  sense: Buffer | undefined = undefined;
  /** Positive: less was moved than expected; negative: more would have been. */
  residual = 0;
  /** The command has no SCSI outcome: the connection failed or the target rejected it. */
  error: FarshoreError | undefined = undefined;

  /** The rest belongs to the session. */
  taskTag = 0;
  cmdSn = 0;
  sentTick = 0;
  received = 0;
  nextDataSn = 0;
}
