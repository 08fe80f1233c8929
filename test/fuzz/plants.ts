/* eslint-disable @typescript-eslint/unbound-method -- what is taken from a prototype is called with the `this` it is given */
import { BudgetShare } from '../../gateway/iscsi/budget.ts';
import { HeldRequests } from '../../gateway/iscsi/held-requests.ts';
import { Outbox } from '../../gateway/iscsi/outbox.ts';
import { TaskSet } from '../../gateway/iscsi/task-set.ts';
import { WriteTransfer } from '../../gateway/iscsi/write-transfer.ts';
import type { RamDevice } from '../support/ram-device.ts';
import { MASKED_LUN } from './fuzz-world.ts';

interface Devices {
  readonly plain: RamDevice;
  readonly readOnly: RamDevice;
  readonly private: RamDevice;
  readonly masked: RamDevice;
}

const hoard: unknown[] = [];

/** Bugs to be found: each breaks one promise of the server, in a way only some damaged conversation meets. */
export const PLANTS = {
  /** A Reject is forgotten in a way that ends the process. */
  crash: () => {
    const reject = Outbox.prototype.reject;
    Outbox.prototype.reject = function (reason, header) {
      if (reason === 0x09) throw new TypeError('planted');
      reject.call(this, reason, header);
    };
  },
  'unhandled rejection': () => {
    const abort = HeldRequests.prototype.abort;
    HeldRequests.prototype.abort = function (cmdSn) {
      void Promise.reject(new Error('planted'));
      abort.call(this, cmdSn);
    };
  },
  'lost memory of the budget': () => {
    const release = BudgetShare.prototype.release;
    let count = 0;
    BudgetShare.prototype.release = function (bytes) {
      count += 1;
      release.call(this, count % 500 === 0 ? 0 : bytes);
    };
  },
  'growing heap': () => {
    const fail = WriteTransfer.prototype.fail;
    WriteTransfer.prototype.fail = function (sense, final) {
      hoard.push(Buffer.alloc(512 * 1024, 1));
      fail.call(this, sense, final);
    };
  },
  'forgotten timers': () => {
    const hold = HeldRequests.prototype.hold;
    HeldRequests.prototype.hold = function (...words) {
      setInterval(() => undefined, 60_000);
      hold.apply(this, words);
    };
  },
  'LUN mapping that is not asked': (devices: Devices) => {
    const nexusOf = TaskSet.prototype.nexusOf;
    TaskSet.prototype.nexusOf = function (lun) {
      const seen = nexusOf.call(this, lun);
      if (seen !== undefined || lun !== MASKED_LUN) return seen;
      const nexus = nexusOf.call(this, 0);
      if (nexus !== undefined) Object.defineProperty(nexus.unit, 'device', { value: devices.masked });
      return nexus;
    };
  },
  'a write that goes astray': (devices: Devices) => {
    devices.plain.gathersWrites = false;
    const write = devices.plain.write.bind(devices.plain);
    devices.plain.write = (lba, data, options) => {
      if (lba === 77) devices.private.bytes.write('astray', 5000);
      return write(lba, data, options);
    };
  },
  'a read-only LUN that is written': (devices: Devices) => {
    devices.plain.gathersWrites = false;
    const write = devices.plain.write.bind(devices.plain);
    devices.plain.write = (lba, data, options) => {
      if (lba % 64 === 33) devices.readOnly.bytes.writeUInt8(1, 9);
      return write(lba, data, options);
    };
  },
  'a command that keeps everybody waiting': () => {
    const abort = TaskSet.prototype.abort;
    TaskSet.prototype.abort = function (matches) {
      const count = abort.call(this, matches);
      const until = performance.now() + (count > 2 ? 20_000 : 0);
      while (performance.now() < until);
      return count;
    };
  },
} satisfies Record<string, (devices: Devices) => void>;

/** Breaks the server of this process. */
export function plant(name: string, devices: Devices): void {
  const known: Readonly<Record<string, (devices: Devices) => void>> = PLANTS;
  const planting = known[name];
  if (planting === undefined) throw new Error(`no such bug; there are: ${Object.keys(PLANTS).join(', ')}`);
  planting(devices);
}
