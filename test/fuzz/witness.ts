import type { SimRandom } from '../sim/sim-random.ts';
import { KIND, buildLogin, buildRequest, cdb, keysOf, read10, write10 } from '../support/iscsi-wire.ts';
import type { Response } from '../support/iscsi-wire.ts';
import { RawInitiator } from '../support/raw-initiator.ts';
import { chapAnswer } from './chap.ts';
import * as world from './fuzz-world.ts';

const UNIT_ATTENTION = 6;
const PAUSE_MS = 3;

/** What the witness has seen that no well-behaved initiator should. */
export class Complaint extends Error {}

export interface WitnessOptions {
  readonly port: number;
  readonly target: string;
  readonly lun: number;
  /** How long any answer may take. */
  readonly boundMs: number;
  /** Whether its session may be ended: a TARGET COLD RESET by another initiator of the same target does that. */
  readonly mayBeEnded: boolean;
  readonly random: SimRandom;
}

/**
 * A well-behaved initiator beside the fuzzer. It reads and writes its own LUN all the time, and knows what every sector
 * of it holds.
 */
export class Witness {
  readonly #options: WitnessOptions;
  readonly #versions = new Uint32Array(world.WITNESS_SECTORS);
  #initiator: RawInitiator | undefined;
  #stopped = false;
  #paused: Promise<void> | undefined;
  #idle: () => void = () => undefined;
  /** A write whose session was ended before its answer: nobody knows whether it was executed, so it is sent again first. */
  #unsure: { readonly lba: number; readonly sectors: number } | undefined;
  /** For how many sessions it had to log in. */
  logins = 0;
  answers = 0;
  slowestMs = 0;

  constructor(options: WitnessOptions) {
    this.#options = options;
  }

  /** Works until `stop`; rejects with a Complaint. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      if (this.#paused !== undefined) {
        this.#idle();
        await this.#paused;
      }
      await this.#attempt(() => this.#act());
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    this.#initiator?.destroy();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Nothing is outstanding, and nothing more is asked, until the returned function is called. */
  async pause(): Promise<() => void> {
    let resume: () => void = () => undefined;
    this.#paused = new Promise((resolve) => {
      resume = () => {
        this.#paused = undefined;
        resolve();
      };
    });
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
    return resume;
  }

  /** Reads all of the LUN and compares it with what it must be. */
  async audit(): Promise<void> {
    const stride = 64;
    for (let lba = 0; lba < world.WITNESS_SECTORS; lba += stride) await this.#attempt(() => this.#read(lba, stride));
  }

  /** Another time in a new session, where the old one may be ended. */
  async #attempt(act: () => Promise<void>): Promise<void> {
    for (;;) {
      const initiator = this.#initiator;
      try {
        if (this.#unsure !== undefined) await this.#write(this.#unsure.lba, this.#unsure.sectors);
        await act();
        return;
      } catch (error) {
        if (error instanceof Complaint) throw error;
        const ended = initiator === undefined || initiator.isClosed || initiator !== this.#initiator;
        if (!this.#options.mayBeEnded || (!ended && this.#initiator !== undefined))
          throw new Complaint(`${this.#name} ${error instanceof Error ? error.message : String(error)}`);
        this.#initiator = undefined;
      }
    }
  }

  get #name(): string {
    return `The witness of LUN ${this.#options.lun} of ${this.#options.target}:`;
  }

  async #act(): Promise<void> {
    const { random } = this.#options;
    const initiator = await this.#session();
    const sectors = random.between(1, 8);
    const lba = random.between(0, world.WITNESS_SECTORS - sectors);
    switch (random.pick(['read', 'read', 'write', 'write', 'ping', 'inquiry'] as const)) {
      case 'read':
        await this.#read(lba, sectors);
        return;
      case 'write':
        await this.#write(lba, sectors);
        return;
      case 'inquiry':
        await this.#command({ cdb: cdb(0x12, 0, 0, 0, 96), read: true, expectedBytes: 96 });
        return;
      case 'ping':
        initiator.send(
          buildRequest({ opcode: 0, itt: initiator.nextItt++, word20: 0xffff_ffff, cmdSn: initiator.cmdSn++ }),
        );
        await this.#within(this.#next(initiator, KIND.nopIn), 'a ping');
        return;
    }
  }

  async #read(lba: number, sectors: number): Promise<void> {
    const data = await this.#command({ cdb: read10(lba, sectors), read: true, expectedBytes: sectors * 512 });
    for (let index = 0; index < sectors; index += 1) {
      const wanted = world.witnessSector(lba + index, this.#versions[lba + index] ?? 0);
      if (!data.subarray(index * 512, index * 512 + 512).equals(wanted))
        throw new Complaint(`${this.#name} sector ${lba + index} does not hold what it wrote there`);
    }
  }

  async #write(lba: number, sectors: number): Promise<void> {
    const parts: Buffer[] = [];
    for (let at = lba; at < lba + sectors; at += 1) parts.push(world.witnessSector(at, (this.#versions[at] ?? 0) + 1));
    const data = Buffer.concat(parts);
    this.#unsure = { lba, sectors };
    await this.#command({ cdb: write10(lba, sectors), write: true, expectedBytes: data.length, data });
    this.#unsure = undefined;
    for (let at = lba; at < lba + sectors; at += 1) this.#versions[at] = (this.#versions[at] ?? 0) + 1;
  }

  async #command(fields: Parameters<RawInitiator['command']>[0]): Promise<Buffer> {
    const initiator = await this.#session();
    const itt = initiator.command({ lun: this.#options.lun, ...fields });
    const parts: Buffer[] = [];
    for (;;) {
      const response = await this.#within(this.#next(initiator), `a command (${fields.cdb.toString('hex')})`);
      if (response.itt !== itt) throw new Complaint(`${this.#name} an answer to ${response.itt} instead of ${itt}`);
      const hasStatus = response.opcode === KIND.scsiResponse || (response.flags & 1) === 1;
      if (response.opcode === KIND.dataIn) parts.push(response.data);
      if (!hasStatus) continue;
      if (response.byte3 !== 0)
        throw new Complaint(`${this.#name} status ${response.byte3}, ${response.data.toString('hex')}`);
      return Buffer.concat(parts);
    }
  }

  /** The next PDU that is about a request of ours; the target's own pings are answered. */
  async #next(initiator: RawInitiator, opcode?: number): Promise<Response> {
    for (;;) {
      const response = await initiator.receive();
      if (response === undefined) throw new Error('its connection was closed');
      if (response.opcode === KIND.nopIn && response.itt === 0xffff_ffff) {
        initiator.send(
          buildRequest({
            opcode: 0,
            immediate: true,
            itt: 0xffff_ffff,
            word20: response.word20,
            cmdSn: initiator.cmdSn,
          }),
        );
        continue;
      }
      if (response.opcode === KIND.async && this.#options.mayBeEnded) continue; // its session is about to end
      if (opcode !== undefined && response.opcode !== opcode)
        throw new Error(`a ${response.opcode.toString(16)}h came`);
      return response;
    }
  }

  async #within<T>(answer: Promise<T>, what: string): Promise<T> {
    const start = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new Complaint(`${this.#name} ${what} was not answered within ${this.#options.boundMs} ms`));
      }, this.#options.boundMs);
    });
    try {
      const result = await Promise.race([answer, late]);
      this.answers += 1;
      return result;
    } finally {
      clearTimeout(timer);
      this.slowestMs = Math.max(this.slowestMs, performance.now() - start);
    }
  }

  async #session(): Promise<RawInitiator> {
    if (this.#initiator?.isClosed === false) return this.#initiator;
    const { port, target, lun } = this.#options;
    if (this.logins > 0 && !this.#options.mayBeEnded) throw new Complaint(`${this.#name} its session was ended`);
    const initiator = await RawInitiator.connect(port);
    this.logins += 1;
    const isid = `00023d${(lun + 1).toString(16).padStart(2, '0')}${this.#options.mayBeEnded ? '01' : '02'}00`;
    const ask = async (csg: number, nsg: number | undefined, keys: Readonly<Record<string, string>>) => {
      initiator.send(buildLogin({ csg, isid, cmdSn: 1, keys, ...(nsg === undefined ? {} : { transit: true, nsg }) }));
      const response = await this.#within(this.#next(initiator, KIND.login), 'a login');
      if (response.word36 >>> 16 !== 0)
        throw new Complaint(`${this.#name} its login was refused with ${(response.word36 >>> 16).toString(16)}h`);
      return keysOf(response.data);
    };
    const names = { InitiatorName: world.WITNESS, SessionType: 'Normal', TargetName: target };
    const offered = await ask(0, undefined, { ...names, AuthMethod: 'CHAP,None' });
    if (offered['AuthMethod'] === 'CHAP') {
      const asked = await ask(0, undefined, { CHAP_A: '7,5' });
      await ask(0, 1, chapAnswer(asked, world.WITNESS_CHAP.initiator) ?? {});
    } else await ask(0, 1, {});
    await ask(1, 3, {});
    this.#initiator = initiator;
    await this.#clear(initiator, lun);
    return initiator;
  }

  /** Power on, and nothing else, is told to a new session. */
  async #clear(initiator: RawInitiator, lun: number): Promise<void> {
    for (let tries = 0; tries < 4; tries += 1) {
      initiator.command({ cdb: cdb(0), lun });
      const response = await this.#within(this.#next(initiator), 'TEST UNIT READY');
      if (response.byte3 === 0) return;
      if ((response.data.readUInt8(4) & 0x0f) !== UNIT_ATTENTION) break;
    }
    throw new Complaint(`${this.#name} its unit does not become ready`);
  }
}
