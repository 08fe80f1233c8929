import { afterEach, describe, expect, it } from 'vitest';
import { Initiator } from '../../../gateway/initiator/initiator.ts';
import { ScsiError } from '../../../gateway/initiator/scsi-error.ts';
import { ManualClock } from './manual-clock.ts';
import { ScriptedTarget } from './scripted-target.ts';
import type { Request } from './scripted-target.ts';

const TEST_UNIT_READY = 0x00;
const READ = 0x88;
const WRITE = 0x8a;
const SERVICE_ACTION_IN = 0x9e;
const SECTORS = 4096;

const targets: ScriptedTarget[] = [];

afterEach(async () => {
  for (const target of targets.splice(0)) await target.close();
});

const opcodeOf = (request: Request): number => request.header[32] ?? 0;

/** A disk of 2 MiB in RAM; `first` may answer a command in the disk's place by returning true. */
async function disk(
  first: (request: Request, target: ScriptedTarget) => boolean = () => false,
): Promise<{ port: number; content: Buffer; target: ScriptedTarget }> {
  const content = Buffer.alloc(SECTORS * 512);
  const target = new ScriptedTarget({
    keys: {
      MaxRecvDataSegmentLength: '1048576',
      InitialR2T: 'No',
      FirstBurstLength: '1048576',
      MaxBurstLength: '1048576',
    },
    onRequest: (request, self) => {
      if (request.opcode === 6) {
        self.respond({ opcode: 0x26, words: { 16: request.tag } });
        return;
      }
      if (request.opcode === 5) {
        const write = writes.get(request.tag) ?? { at: 0, bytes: 0 };
        const from = request.header.readUInt32BE(40);
        request.data.copy(content, write.at + from);
        if ((request.flags & 0x80) !== 0) goOn(request.tag, from + request.data.length, write.bytes);
        return;
      }
      if (first(request, self)) return;
      const at = request.header.readUInt32BE(38) * 512;
      const answer = (data: Buffer): void => {
        const expected = request.header.readUInt32BE(20);
        const flags = data.length < expected ? 0x83 : 0x81;
        self.respond({ opcode: 0x25, flags, words: { 16: request.tag, 44: expected - data.length }, data });
      };
      switch (opcodeOf(request)) {
        case SERVICE_ACTION_IN: {
          const capacity = Buffer.alloc(32);
          capacity.writeUInt32BE(SECTORS - 1, 4);
          capacity.writeUInt32BE(512, 8);
          answer(capacity);
          return;
        }
        case READ: {
          const whole = content.subarray(at, at + request.header.readUInt32BE(42) * 512);
          let dataSn = 0;
          for (let from = 0; from < whole.length; from += 262144, dataSn += 1) {
            const last = from + 262144 >= whole.length;
            const fields = {
              opcode: 0x25,
              flags: last ? 0x81 : 0,
              words: { 16: request.tag, 36: dataSn, 40: from },
              data: whole.subarray(from, from + 262144),
            };
            if (last) self.respond(fields);
            else self.send(fields);
          }
          return;
        }
        case WRITE:
          request.data.copy(content, at);
          writes.set(request.tag, { at, bytes: request.header.readUInt32BE(20) });
          if ((request.flags & 0x80) !== 0) goOn(request.tag, request.data.length, request.header.readUInt32BE(20));
          return;
        default:
          self.scsiResponse(request.tag);
      }
    },
  });
  const writes = new Map<number, { readonly at: number; readonly bytes: number }>();
  const goOn = (tag: number, got: number, bytes: number): void => {
    if (got === bytes) target.scsiResponse(tag);
    else target.send({ opcode: 0x31, words: { 16: tag, 20: 9, 40: got, 44: bytes - got } });
  };
  targets.push(await target.listen());
  return { port: target.port, content, target };
}

const sense = (key: number, asc: number): Buffer => {
  const fixed = Buffer.alloc(18);
  fixed[0] = 0x70;
  fixed[2] = key;
  fixed[12] = asc;
  return fixed;
};

const connect = (port: number, clock = new ManualClock()): Promise<Initiator> =>
  Initiator.connect({ host: '127.0.0.1', port, target: 'iqn.disk', clock, busyTimeoutMs: 1000 });

describe('the initiator', () => {
  it('cuts long transfers and puts them together again', async () => {
    const { port, content, target } = await disk();
    const initiator = await connect(port);
    expect(await initiator.readCapacity()).toEqual({ sectorSize: 512, sectors: SECTORS, bytes: content.length });
    const data = Buffer.from(Array.from({ length: content.length - 512 }, (_, at) => (at >>> 3) & 0xff));
    await initiator.write(1, data);
    expect(content.subarray(512).equals(data)).toBe(true);
    expect((await initiator.read(1, SECTORS - 1)).equals(data)).toBe(true);
    const sizes = target.requests
      .filter((request) => opcodeOf(request) === READ)
      .map(({ header }) => header.readUInt32BE(42));
    expect(sizes).toEqual([1024, 1024, 1024, 1023]);
    await initiator.close();
  });

  it('repeats a command after unit attentions, but not without end', async () => {
    let attentions = 2;
    const { port } = await disk((request, target) => {
      if (opcodeOf(request) !== TEST_UNIT_READY || attentions === 0) return false;
      attentions -= 1;
      target.scsiResponse(request.tag, 2, sense(6, 0x29));
      return true;
    });
    const initiator = await connect(port);
    attentions = 1000;
    await expect(initiator.testUnitReady()).rejects.toThrow(/UNIT ATTENTION/);
    await initiator.close();
  });

  it('waits while the target is busy, up to its limit', async () => {
    const clock = new ManualClock();
    let busy = 0;
    const { port } = await disk((request, target) => {
      if (busy === 0 || opcodeOf(request) !== TEST_UNIT_READY) return false;
      busy -= 1;
      target.scsiResponse(request.tag, 8);
      // The answer is on its way; the pause after it passes once it has arrived.
      setImmediate(function pass() {
        clock.advance(50);
        if (clock.monotonicMs() < 5000) setImmediate(pass);
      });
      return true;
    });
    const initiator = await connect(port, clock);
    busy = 3;
    await initiator.testUnitReady();
    expect(busy).toBe(0);
    busy = 1_000_000;
    await expect(initiator.testUnitReady()).rejects.toMatchObject({ kind: 'busy' });
    await initiator.close();
  });

  it('decodes the sense of a failure', async () => {
    const { port } = await disk((request, target) => {
      if (opcodeOf(request) !== READ) return false;
      target.scsiResponse(request.tag, 2, sense(3, 0x11));
      return true;
    });
    const initiator = await connect(port);
    const failure: unknown = await initiator.read(0, 8).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ScsiError);
    expect(failure).toMatchObject({ kind: 'damaged', sense: { key: 3, asc: 0x11, ascq: 0 } });
    await initiator.close();
  });

  it('refuses data that is not whole sectors', async () => {
    const { port } = await disk();
    const initiator = await connect(port);
    await expect(initiator.write(0, Buffer.alloc(100))).rejects.toMatchObject({ kind: 'input' });
    await initiator.close();
  });
});
