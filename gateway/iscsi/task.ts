import type { ByteCount } from '../base/units.ts';
import type { UnitCommand } from '../scsi/traits.ts';
import type { LogicalUnit, UnitNexus } from '../scsi/logical-unit.ts';
import type { UnitOrder } from './task-order.ts';
import type { WriteTransfer } from './write-transfer.ts';

/**
 * - `collecting` waits for data from the initiator
 * - `held`       has its data, and waits for older commands to end (ORDERED, HEAD OF QUEUE)
 * - `waiting`    has its data, and waits for room for its answer
 * - `executing`  is in the device, and cannot be called back
 * - `aborted`    ends without an answer; if it was executing, only when the device has answered
 * - `done`
 */
export type TaskState = 'collecting' | 'held' | 'waiting' | 'executing' | 'aborted' | 'done';

/** One SCSI command between its arrival and its answer. */
export interface Task {
  state: TaskState;
  readonly initiatorTaskTag: number;
  readonly lun: number;
  readonly nexus: UnitNexus;
  /** Task attribute (RFC 7143 11.3.1). */
  readonly attribute: number;
  /** Undefined while every command of the unit is SIMPLE. */
  order: UnitOrder | undefined;
  readonly command: UnitCommand;
  /** Of a copy: the units it has come to. */
  readonly touches: Map<LogicalUnit, 'reads' | 'writes'> | undefined;
  /** Expected data transfer length, for the direction the initiator announced; 0 for the other. */
  readonly expectedInBytes: ByteCount;
  readonly expectedOutBytes: ByteCount;
  /** What the command takes from the initiator; compared with what was announced it gives the residual. */
  readonly dataOutBytes: ByteCount;
  /** Undefined when the command takes no data. */
  transfer: WriteTransfer | undefined;
  /** Bytes it holds of the write budget, and of the read budget. */
  writeReserved: ByteCount;
  readReserved: ByteCount;
}
