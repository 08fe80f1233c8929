import type { BlockDevice } from '../../gateway/base/block-device.ts';
import { MIB } from '../../gateway/base/units.ts';
import { admit } from '../../gateway/scsi/admission.ts';
import { execute } from '../../gateway/scsi/dispatch.ts';
import type { CommandLife } from '../../gateway/scsi/dispatch.ts';
import { LogicalUnits } from '../../gateway/scsi/logical-unit.ts';
import type { AbortTasks, InitiatorPort, TargetPort, UnitNexus } from '../../gateway/scsi/logical-unit.ts';
import type { Sense } from '../../gateway/scsi/sense.ts';
import { dataOutBytes } from '../../gateway/scsi/traits.ts';
import type { UnitStateStore } from '../../gateway/scsi/unit-state.ts';
import { PromptClock } from './prompt-clock.ts';
import { RamDevice } from './ram-device.ts';

export interface Outcome {
  readonly status: number;
  readonly sense: Sense | undefined;
  readonly data: Buffer;
}

const PORT = { targetName: 'iqn.2026-11.dev.farshore:t', portalGroupTag: 1 };
const INITIATOR = { name: 'iqn.2026-11.dev.farshore:initiator', isid: '800000000001' };

/** One RAM device behind the SCSI layer, without any transport. */
export class ScsiBench {
  readonly device: RamDevice;
  readonly units: LogicalUnits = new LogicalUnits(
    (concerns, except) => this.abortTasks(concerns, except),
    new PromptClock(),
  );
  readonly nexus: UnitNexus;
  /** Stands in for what a transport does for PREEMPT AND ABORT. */
  abortTasks: AbortTasks = () => undefined;
  readonly #state: UnitStateStore | undefined;

  constructor(
    options: { readonly sectorSize?: 512 | 4096; readonly bytes?: number; readonly state?: UnitStateStore } = {},
  ) {
    this.#state = options.state;
    this.device = new RamDevice({ bytes: options.bytes ?? 4 * MIB, sectorSize: options.sectorSize ?? 512 });
    this.nexus = this.join();
  }

  /** Another initiator's nexus, its power on unit attention taken. */
  join(device: BlockDevice = this.device, initiator: InitiatorPort = INITIATOR, port: TargetPort = PORT): UnitNexus {
    const nexus = this.units.of(device, this.#state).join(port, initiator);
    nexus.takeAttention();
    return nexus;
  }

  /** Runs a CDB given in hexadecimal, with the data it takes; `announced` is the expected data transfer length. */
  async run(
    cdb: string | Buffer,
    data: Buffer = Buffer.alloc(0),
    nexus = this.nexus,
    announced = data.length,
    life: CommandLife = { state: 'executing' },
  ): Promise<Outcome> {
    const block = Buffer.alloc(16);
    (typeof cdb === 'string' ? Buffer.from(cdb.replaceAll(' ', ''), 'hex') : cdb).copy(block);
    const admission = admit(nexus, 0, () => [0], block);
    const result =
      admission.kind === 'answer'
        ? admission.result
        : await execute(
            nexus,
            admission.command,
            [data.subarray(0, dataOutBytes(nexus, admission.command))],
            { in: Number.MAX_SAFE_INTEGER, out: announced },
            life,
          );
    return { status: result.status, sense: result.sense, data: Buffer.concat(result.dataIn) };
  }
}
