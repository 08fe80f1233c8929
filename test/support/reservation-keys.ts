import { ScsiCommand } from '../../gateway/initiator/command.ts';
import type { Initiator } from '../../gateway/initiator/initiator.ts';

/** Runs one command to its end, through unit attentions. */
async function scsi(disk: Initiator, fill: (command: ScsiCommand) => void): Promise<ScsiCommand> {
  for (;;) {
    const command = new ScsiCommand();
    command.lun = 0;
    fill(command);
    await new Promise<void>((done) => {
      command.done = () => {
        done();
      };
      disk.session.submit(command);
    });
    const isAttention = command.status === 2 && ((command.sense?.readUInt8(2) ?? 0) & 15) === 6;
    if (!isAttention) return command;
  }
}

/** PERSISTENT RESERVE OUT, REGISTER, with APTPL (SPC-4 6.14): the key has to outlive a power loss. */
export async function registerKey(disk: Initiator, key: bigint): Promise<number> {
  const parameters = Buffer.alloc(24);
  parameters.writeBigUInt64BE(key, 8);
  parameters.writeUInt8(1, 20);
  const { status } = await scsi(disk, (command) => {
    command.cdb.writeUInt8(0x5f, 0);
    command.cdb.writeUInt32BE(parameters.length, 5);
    command.dataOut = parameters;
  });
  return status;
}

/** PERSISTENT RESERVE IN, READ KEYS (SPC-4 6.13). */
export async function keysOf(disk: Initiator): Promise<bigint[]> {
  const into = Buffer.alloc(256);
  const { status, received } = await scsi(disk, (command) => {
    command.cdb.writeUInt8(0x5e, 0);
    command.cdb.writeUInt16BE(into.length, 7);
    command.dataIn = into;
    command.expectedIn = into.length;
  });
  if (status !== 0) throw new Error(`READ KEYS ended with ${status}`);
  const keys: bigint[] = [];
  for (let at = 8; at + 8 <= received; at += 8) keys.push(into.readBigUInt64BE(at));
  return keys;
}
