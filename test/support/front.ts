import type { BlockDevice } from '../../gateway/base/block-device.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { KIB, MIB } from '../../gateway/base/units.ts';
import { ByteBudget } from '../../gateway/iscsi/budget.ts';
import { CommandWindow } from '../../gateway/iscsi/command-window.ts';
import { Framer } from '../../gateway/iscsi/framer.ts';
import { Outbox } from '../../gateway/iscsi/outbox.ts';
import { Sender } from '../../gateway/iscsi/sender.ts';
import type { OutgoingSocket } from '../../gateway/iscsi/sender.ts';
import { Session } from '../../gateway/iscsi/session.ts';
import { DEFAULT_ISCSI_SETTINGS } from '../../gateway/iscsi/settings.ts';
import { TaskOrder } from '../../gateway/iscsi/task-order.ts';
import { LogicalUnits } from '../../gateway/scsi/logical-unit.ts';
import { PromptClock } from './prompt-clock.ts';

const NAME = 'iqn.2026-11.dev.farshore:load';

/** The kernel takes everything at once. */
class Sink implements OutgoingSocket {
  readonly writable = true;
  readonly writableLength = 0;
  bytes = 0;
  /** Copies of what was sent, for those who look at it. */
  sent: Buffer[] | undefined;

  cork(): void {
    return undefined;
  }

  uncork(): void {
    return undefined;
  }

  write(bytes: Buffer): boolean {
    this.bytes += bytes.length;
    this.sent?.push(Buffer.from(bytes));
    return true;
  }

  end(): void {
    return undefined;
  }
}

export interface FrontOptions {
  readonly maxRecvBytes?: number;
  readonly headerDigest?: boolean;
  readonly dataDigest?: boolean;
}

/** Framer, session and outbox of one initiator that has logged in, without a socket. CmdSN and StatSN begin at 1. */
export class Front {
  readonly sink = new Sink();
  readonly session: Session;
  /** What the initiator sees; may change. */
  readonly luns = new Map<number, { device: BlockDevice; readOnly: boolean; state: undefined }>();
  readonly readBudget = new ByteBudget(256 * MIB);
  readonly #sender = new Sender(this.sink, () => undefined);
  readonly #framer: Framer;

  constructor(device: BlockDevice, options: FrontOptions = {}) {
    const { maxRecvBytes = 256 * KIB, headerDigest = false, dataDigest = false } = options;
    this.luns.set(0, { device, readOnly: false, state: undefined });
    const window = new CommandWindow(1, () => DEFAULT_ISCSI_SETTINGS.queueDepth);
    const outbox = new Outbox(this.#sender, window, 1);
    outbox.setLimits(maxRecvBytes, MIB);
    this.#sender.setDigests(headerDigest, dataDigest);
    const target = { name: 'iqn.2026-11.dev.farshore:front', luns: () => this.luns };
    this.session = new Session({
      identity: {
        initiatorName: NAME,
        sessionType: 'normal',
        targetName: target.name,
        isid: '00023d000001',
        connectionId: 0,
        reinstates: 0,
      },
      initiator: { name: NAME, address: '127.0.0.1' },
      tsih: 1,
      target,
      parameters: {
        headerDigest,
        dataDigest,
        initiatorMaxRecvBytes: maxRecvBytes,
        maxBurstBytes: MIB,
        firstBurstBytes: 256 * KIB,
        initialR2t: false,
        immediateData: true,
      },
      settings: DEFAULT_ISCSI_SETTINGS,
      window,
      outbox,
      link: { sendSoon: () => undefined, keepChunk: () => undefined, closeAfterSending: () => undefined },
      units: new LogicalUnits(() => undefined, new PromptClock()),
      order: new TaskOrder(),
      writeBudget: new ByteBudget(256 * MIB).shareOf('127.0.0.1', NAME),
      readBudget: this.readBudget.shareOf('127.0.0.1', NAME),
      log: silentLog,
      sessions: () => [this.session],
      sendTargets: () => [],
    });
    this.#framer = new Framer(
      {
        destination: (header, bytes) => this.session.destination(header, bytes),
        pdu: (header, _additional, data, intact) => {
          this.session.receive(header, data, intact);
        },
        error: (error) => {
          throw new Error(error);
        },
      },
      { maxDataBytes: 256 * KIB, headerDigest: false, dataDigest: false },
    );
  }

  /** A chunk from the initiator, and whatever can be answered by now. */
  push(chunk: Buffer): void {
    this.#framer.push(chunk);
    this.session.finishGathered();
    this.flush();
  }

  flush(): void {
    this.#sender.flush();
    this.session.sent();
    this.#sender.flush();
  }
}
