import { afterEach, describe, expect, it } from 'vitest';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { read16, testUnitReady, write16 } from '../../../gateway/initiator/cdb.ts';
import { ScsiCommand } from '../../../gateway/initiator/command.ts';
import { closeSession, openSession } from '../../../gateway/initiator/connect.ts';
import { discover } from '../../../gateway/initiator/discovery.ts';
import type { NegotiationOffer } from '../../../gateway/initiator/negotiation.ts';
import type { Session } from '../../../gateway/initiator/session.ts';
import { ManualClock } from './manual-clock.ts';
import { ScriptedTarget } from './scripted-target.ts';
import type { Request, Script } from './scripted-target.ts';

const SMALL_KEYS = {
  InitialR2T: 'No',
  ImmediateData: 'Yes',
  MaxBurstLength: '8192',
  FirstBurstLength: '6144',
  MaxRecvDataSegmentLength: '4096',
};

const SCSI_COMMAND = 0x01;
const DATA_OUT = 0x05;

let opened: { target: ScriptedTarget; session: Session | undefined }[] = [];
const clock = new ManualClock();

afterEach(async () => {
  for (const { target, session } of opened) {
    session?.destroy(new FarshoreError('stopped', 'end of test'));
    await target.close();
  }
  opened = [];
});

async function start(script: Script): Promise<ScriptedTarget> {
  const target = await new ScriptedTarget(script).listen();
  opened.push({ target, session: undefined });
  return target;
}

async function logIn(script: Script, negotiation: Partial<NegotiationOffer> = {}): Promise<[Session, ScriptedTarget]> {
  const target = await start(script);
  const session = await openSession(
    { host: '127.0.0.1', port: target.port, clock, random: systemRandom, negotiation, commandTimeoutMs: 5000 },
    'iqn.test:t',
  );
  opened.push({ target, session });
  return [session, target];
}

function run(session: Session, command: ScsiCommand): Promise<ScsiCommand> {
  return new Promise((resolve) => {
    command.done = resolve;
    session.submit(command);
  });
}

function readCommand(bytes: number): ScsiCommand {
  const command = new ScsiCommand();
  read16(command.cdb, 0, bytes / 512);
  command.dataIn = Buffer.alloc(bytes);
  command.expectedIn = bytes;
  return command;
}

function turOf(): ScsiCommand {
  const command = new ScsiCommand();
  testUnitReady(command.cdb);
  return command;
}

/** Turns of the event loop until something the other end sends has come; the test's own time limit ends a hang. */
async function turnsUntil(happened: () => boolean): Promise<void> {
  while (!happened()) await new Promise((resolve) => setImmediate(resolve));
}

const pattern = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, (_, at) => (at * 7) & 0xff));

describe('a session', () => {
  it('gathers a read from several Data-In PDUs, the last with the status', async () => {
    const bytes = pattern(10240);
    const [session] = await logIn({
      onRequest: (request, target) => {
        let dataSn = 0;
        for (let at = 0; at < bytes.length; at += 4096, dataSn += 1) {
          const last = at + 4096 >= bytes.length;
          const fields = {
            opcode: 0x25,
            flags: last ? 0x81 : 0,
            words: { 16: request.tag, 20: 0xffffffff, 36: dataSn, 40: at },
            data: bytes.subarray(at, at + 4096),
          };
          if (last) target.respond(fields);
          else target.send(fields);
        }
      },
    });
    const command = await run(session, readCommand(10240));
    expect(command.error).toBeUndefined();
    expect(command.dataIn?.equals(bytes)).toBe(true);
  });

  it('sends immediate data, unsolicited data up to the first burst, and the rest as asked by R2T', async () => {
    const bytes = pattern(16384);
    const pieces: { offset: number; length: number; final: boolean; transferTag: number; dataSn: number }[] = [];
    const received = Buffer.alloc(bytes.length);
    let commandTag = 0;
    const [session] = await logIn({
      keys: SMALL_KEYS,
      onRequest: (request, target) => {
        if (request.opcode === SCSI_COMMAND) {
          commandTag = request.tag;
          request.data.copy(received, 0);
          expect(request.data.length).toBe(4096);
          expect(request.flags & 0x80, 'more follows').toBe(0);
          expect(request.header.readUInt32BE(20)).toBe(16384);
          return;
        }
        expect(request.opcode).toBe(DATA_OUT);
        expect(request.tag).toBe(commandTag);
        const offset = request.header.readUInt32BE(40);
        const transferTag = request.header.readUInt32BE(20);
        const final = (request.flags & 0x80) !== 0;
        request.data.copy(received, offset);
        pieces.push({
          offset,
          length: request.data.length,
          final,
          transferTag,
          dataSn: request.header.readUInt32BE(36),
        });
        if (!final) return;
        const got = offset + request.data.length;
        if (got === bytes.length) target.scsiResponse(commandTag);
        else
          target.send({
            opcode: 0x31,
            words: { 16: commandTag, 20: 77, 36: 0, 40: got, 44: Math.min(8192, 16384 - got) },
          });
      },
    });
    const command = new ScsiCommand();
    write16(command.cdb, 0, 32, false);
    command.dataOut = bytes;
    expect((await run(session, command)).error).toBeUndefined();
    expect(received.equals(bytes)).toBe(true);
    expect(pieces).toEqual([
      { offset: 4096, length: 2048, final: true, transferTag: 0xffffffff, dataSn: 0 },
      { offset: 6144, length: 4096, final: false, transferTag: 77, dataSn: 0 },
      { offset: 10240, length: 4096, final: true, transferTag: 77, dataSn: 1 },
      { offset: 14336, length: 2048, final: true, transferTag: 77, dataSn: 0 },
    ]);
  });

  it('sends no data before it is asked when nothing else was negotiated', async () => {
    const [session, target] = await logIn(
      {
        keys: { ...SMALL_KEYS, InitialR2T: 'Yes', ImmediateData: 'No' },
        onRequest: (request, self) => {
          if (request.opcode === SCSI_COMMAND) {
            self.send({ opcode: 0x31, words: { 16: request.tag, 20: 1, 40: 0, 44: 1024 } });
          } else {
            self.scsiResponse(request.tag);
          }
        },
      },
      { initialR2T: true, immediateData: false },
    );
    const command = new ScsiCommand();
    write16(command.cdb, 0, 2, false);
    command.dataOut = pattern(1024);
    await run(session, command);
    expect(target.requests.map(({ data, flags }) => [data.length, flags & 0x80])).toEqual([
      [0, 0x80],
      [1024, 0x80],
    ]);
  });

  it('keeps to the command window and goes on when it opens', async () => {
    const held: Request[] = [];
    const [session, target] = await logIn({
      window: 1,
      onRequest: (request, self) => {
        if (request.opcode === SCSI_COMMAND) held.push(request);
        else self.respond({ opcode: 0x20, words: { 16: request.tag, 20: 0xffffffff } });
      },
    });
    const both = [run(session, turOf()), run(session, turOf())];
    const pinged = session.control.ping();
    await turnsUntil(() => held.length === 1);
    // A ping that is answered after the first command went out proves that the second was held back.
    await pinged;
    expect(held).toHaveLength(1);
    target.maxCmdSn = 2;
    target.scsiResponse(held[0]?.tag ?? 0);
    await both[0];
    await turnsUntil(() => held.length === 2);
    const second = held[1];
    expect(second?.header.readUInt32BE(24)).toBe(2);
    target.scsiResponse(second?.tag ?? 0);
    expect((await both[1])?.error).toBeUndefined();
  });
});

describe('a session with a target that misbehaves', () => {
  const badAnswers: Record<string, (request: Request, target: ScriptedTarget) => void> = {
    'skips a StatSN': (request, target) => {
      target.statSn += 1;
      target.scsiResponse(request.tag);
    },
    'answers a task that is not under way': (request, target) => {
      target.scsiResponse(request.tag + 1);
    },
    'sends more than was asked for': (request, target) => {
      target.respond({ opcode: 0x25, flags: 0x81, words: { 16: request.tag, 36: 0, 40: 0 }, data: pattern(1024) });
    },
    'sends data out of order': (request, target) => {
      target.respond({ opcode: 0x25, flags: 0x81, words: { 16: request.tag, 36: 0, 40: 256 }, data: pattern(256) });
    },
    'skips a DataSN': (request, target) => {
      target.respond({ opcode: 0x25, flags: 0x81, words: { 16: request.tag, 36: 1, 40: 0 }, data: pattern(512) });
    },
    'answers a read without its data': (request, target) => {
      target.scsiResponse(request.tag);
    },
    'asks for data of a read': (request, target) => {
      target.send({ opcode: 0x31, words: { 16: request.tag, 20: 1, 40: 0, 44: 512 } });
    },
    'sends a login response': (_request, target) => {
      target.respond({ opcode: 0x23 });
    },
  };
  for (const [what, answer] of Object.entries(badAnswers)) {
    it(`fails every command with "damaged" when it ${what}`, async () => {
      const [session] = await logIn({ onRequest: answer });
      const command = await run(session, readCommand(512));
      expect(command.error?.kind).toBe('damaged');
      expect((await run(session, turOf())).error?.kind).toBe('damaged');
    });
  }

  it('fails commands with "retry" when the connection breaks, and later ones too', async () => {
    const [session] = await logIn({
      onRequest: (_request, target) => {
        target.hangUp();
      },
    });
    expect((await run(session, readCommand(512))).error?.kind).toBe('retry');
    expect((await run(session, turOf())).error?.kind).toBe('retry');
    await expect(session.control.ping()).rejects.toMatchObject({ kind: 'retry' });
  });

  it('gives up on a command that stays unanswered, and leaves no timer behind', async () => {
    let seen: () => void = () => undefined;
    const sent = new Promise<void>((resolve) => {
      seen = resolve;
    });
    const [session] = await logIn({
      onRequest: () => {
        seen();
      },
    });
    const pending = run(session, readCommand(512));
    await sent;
    clock.advance(6000);
    expect((await pending).error?.message).toMatch(/did not answer a command within 5000 ms/);
    expect(clock.pending()).toBe(0);
  });

  it('gives up on a command window that never opens', async () => {
    const [session, target] = await logIn({ window: 0, onRequest: () => undefined });
    const pending = run(session, turOf());
    clock.advance(4000);
    expect(target.requests).toEqual([]);
    clock.advance(2000);
    expect((await pending).error?.kind).toBe('retry');
  });

  it('fails a rejected command alone', async () => {
    const [session] = await logIn({
      onRequest: (request, target) => {
        if (target.requests.length === 1) {
          target.respond({ opcode: 0x3f, bytes: { 2: 9 }, words: { 16: 0xffffffff }, data: request.header });
        } else {
          target.scsiResponse(request.tag);
        }
      },
    });
    expect((await run(session, turOf())).error?.kind).toBe('input');
    expect((await run(session, turOf())).error).toBeUndefined();
  });
});

describe('control requests', () => {
  it('answers a ping of the target with its transfer tag', async () => {
    let answer: Request | undefined;
    const [session] = await logIn({
      onRequest: (request, target) => {
        if (request.opcode === SCSI_COMMAND) {
          target.send({ opcode: 0x20, bytes: { 9: 3 }, words: { 16: 0xffffffff, 20: 4711 } });
          return;
        }
        answer = request;
        target.scsiResponse(target.requests[0]?.tag ?? 0);
      },
    });
    await run(session, turOf());
    expect(answer?.opcode).toBe(0);
    expect(answer?.tag).toBe(0xffffffff);
    expect(answer?.header.readUInt32BE(20)).toBe(4711);
    expect(answer?.header[9]).toBe(3);
    expect((answer?.header[0] ?? 0) & 0x40, 'immediate').toBe(0x40);
  });

  it('pings, resets the LUN and logs out', async () => {
    const [session, target] = await logIn({
      onRequest: (request, self) => {
        const opcode = { 0: 0x20, 2: 0x22, 6: 0x26 }[request.opcode] ?? 0x3f;
        self.respond({ opcode, bytes: opcode === 0x22 ? { 2: 5 } : {}, words: { 16: request.tag, 20: 0xffffffff } });
      },
    });
    await session.control.ping();
    expect(await session.control.taskManagement(5)).toBe(5);
    await closeSession(session);
    expect(target.requests.map(({ opcode }) => opcode)).toEqual([0, 2, 6]);
    // Immediate requests do not use up a command number.
    expect(target.requests.map(({ header }) => header.readUInt32BE(24))).toEqual([1, 1, 1]);
  });

  it('collects a SendTargets answer that comes in several PDUs', async () => {
    const target = await start({
      onRequest: (request, self) => {
        if (request.opcode === 6) {
          self.respond({ opcode: 0x26, words: { 16: request.tag } });
          return;
        }
        const first = request.header.readUInt32BE(20) === 0xffffffff;
        self.respond({
          opcode: 0x24,
          flags: first ? 0x40 : 0x80,
          words: { 16: request.tag, 20: first ? 5 : 0xffffffff },
          data: Buffer.from(first ? 'TargetName=iqn.a\0TargetAddr' : 'ess=1.2.3.4:3260,1\0TargetName=iqn.b\0'),
        });
      },
    });
    const found = await discover({ host: '127.0.0.1', port: target.port, clock, random: systemRandom });
    expect(found).toEqual([
      { name: 'iqn.a', addresses: ['1.2.3.4:3260,1'] },
      { name: 'iqn.b', addresses: [] },
    ]);
  });
});
