import { once } from 'node:events';
import { SimRandom } from '../sim/sim-random.ts';
import { buildLogin, keysOf } from '../support/iscsi-wire.ts';
import { chapAnswer } from './chap.ts';
import { converse } from './conversation.ts';
import * as world from './fuzz-world.ts';
import { damage, digested, mutate } from './mutate.ts';
import type { Outgoing } from './mutate.ts';
import { Peer } from './peer.ts';
import type { Misdeed } from './peer.ts';

export interface ScenarioResult {
  readonly sent: number;
  readonly mutated: number;
  readonly connections: number;
  /** Connections that got into full feature phase. */
  readonly sessions: number;
  readonly received: number;
  readonly good: number;
  readonly refused: number;
}

export interface ScenarioDeps {
  readonly port: number;
  readonly onMisdeed: (misdeed: Misdeed) => void;
}

/** How long the fuzzer waits for a login answer: to a damaged request none need ever come. */
const LOGIN_PATIENCE_MS = 10_000;
const DAMAGED_LOGIN_PATIENCE_MS = 400;
/** How long it waits for the end of a connection before it hangs up itself. */
const END_PATIENCE_MS = 150;

/** One session of the fuzzer under way. */
interface Line {
  readonly peer: Peer;
  readonly random: SimRandom;
  readonly digests: { readonly header: boolean; readonly data: boolean };
  readonly pdus: Outgoing[];
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * One step of a campaign: one to three connections of the fuzzer, each a valid login and conversation with some of it
 * damaged, sent in any fragments, interleaved, and ended in any way. What is sent follows from seed and step alone, but
 * for what answers the challenge of the target.
 */
export class Scenario {
  readonly #deps: ScenarioDeps;
  readonly #random: SimRandom;
  readonly #peers: Peer[] = [];
  readonly #isid: string;
  #sent = 0;
  #mutated = 0;
  #sessions = 0;

  constructor(deps: ScenarioDeps, seed: number, step: number) {
    this.#deps = deps;
    this.#random = new SimRandom(`${seed}/${step}`);
    this.#isid = this.#random.bytes(6).toString('hex');
  }

  async run(): Promise<ScenarioResult> {
    const random = this.#random;
    const count = random.pick([1, 1, 1, 1, 2, 2, 3]);
    const lines: Line[] = [];
    try {
      for (let index = 0; index < count; index += 1) {
        const line = await this.#open(random.split(`line ${index}`));
        if (line !== undefined) lines.push(line);
      }
      await this.#interleave(lines);
      for (const { peer, random: own } of lines) await this.#end(peer, own);
    } finally {
      for (const peer of this.#peers) peer.socket.destroy();
    }
    const sum = (of: (peer: Peer) => number): number => this.#peers.reduce((total, peer) => total + of(peer), 0);
    return {
      sent: this.#sent,
      mutated: this.#mutated,
      connections: this.#peers.length,
      sessions: this.#sessions,
      received: sum((peer) => peer.received),
      good: sum((peer) => peer.good),
      refused: sum((peer) => peer.refused),
    };
  }

  /** Connects and logs in; undefined when it did not come to a session. */
  async #open(random: SimRandom): Promise<Line | undefined> {
    const { port, onMisdeed } = this.#deps;
    // Refused logins are held against an address: each connection has its own, and none that of the witnesses.
    const address = `127.${random.between(1, 250)}.${random.between(0, 255)}.${random.between(2, 254)}`;
    const peer = new Peer(port, address, onMisdeed);
    this.#peers.push(peer);
    const connected = await Promise.race([
      once(peer.socket, 'connect').then(() => true),
      once(peer.socket, 'close').then(() => false),
    ]).catch(() => false);
    if (!connected) return undefined;
    if (random.chance(0.01)) {
      this.#count(
        { bytes: random.bytes(random.between(1, 600)), mutated: true, badDigest: undefined },
        peer,
        NO_DIGESTS,
      );
      await peer.untilClosed(END_PATIENCE_MS);
      return undefined;
    }
    const settled = await this.#login(peer, random);
    if (settled === undefined) return undefined;
    this.#sessions += 1;
    const { digests } = settled;
    peer.useDigests(digests.header, digests.data);
    const valid = converse(random, settled, random.between(4, 40));
    return { peer, random, digests, pdus: mutate(random, valid, random.pick([0.03, 0.03, 0.1, 0.2, 0.4, 1])) };
  }

  /** The whole login; any request of it may be damaged, which mostly is the end of it. */
  async #login(peer: Peer, random: SimRandom) {
    const discovery = random.chance(0.08);
    const firstCmdSn = random.pick([1, 0, 0x7fff_fffe, 0xffff_fff0, random.uint32()]);
    const isid = random.chance(0.3) ? this.#isid : random.bytes(6).toString('hex');
    const wanted = { header: random.chance(0.12), data: random.chance(0.12) };
    const names: Record<string, string> = discovery
      ? { InitiatorName: world.FUZZER, SessionType: 'Discovery' }
      : { InitiatorName: world.FUZZER, SessionType: 'Normal', TargetName: world.SHARED_TARGET };
    const operational = {
      HeaderDigest: wanted.header ? 'CRC32C' : 'None',
      DataDigest: wanted.data ? 'CRC32C' : 'None',
      InitialR2T: random.pick(['Yes', 'No', 'No']),
      ImmediateData: random.pick(['Yes', 'Yes', 'No']),
      MaxRecvDataSegmentLength: String(random.pick([512, 8192, 65_536, 262_144])),
      MaxBurstLength: '262144',
      FirstBurstLength: '65536',
    };
    const damaged = random.chance(0.15) ? random.between(0, 3) : -1;
    let sent = 0;
    const ask = async (csg: number, nsg: number | undefined, keys: Readonly<Record<string, string>>) => {
      const bytes = buildLogin({
        csg,
        cmdSn: firstCmdSn,
        isid,
        keys,
        ...(nsg === undefined ? {} : { transit: true, nsg }),
      });
      const item: Outgoing = { bytes, mutated: false, badDigest: undefined };
      if (sent === damaged) damage(random, item);
      sent += 1;
      this.#count(item, peer, NO_DIGESTS);
      return peer.login(damaged >= 0 && sent > damaged ? DAMAGED_LOGIN_PATIENCE_MS : LOGIN_PATIENCE_MS);
    };
    // A target without authentication goes on to operational negotiation by itself.
    const offered = await ask(0, undefined, { ...names, AuthMethod: discovery ? 'None' : 'CHAP,None' });
    if (offered?.status !== 0) return undefined;
    if (keysOf(offered.data)['AuthMethod'] === 'CHAP') {
      const asked = await ask(0, undefined, { CHAP_A: random.pick(['5', '7', '8,7,6,5', '5,99', '6']) });
      if (asked?.status !== 0) return undefined;
      const answer = chapAnswer(keysOf(asked.data), world.FUZZER_CHAP.initiator) ?? { CHAP_N: 'x', CHAP_R: '0x00' };
      const mutual = random.chance(0.3) ? { CHAP_I: '7', CHAP_C: `0x${random.bytes(16).toString('hex')}` } : {};
      const proved = await ask(0, 1, { ...answer, ...mutual });
      if (proved?.status !== 0) return undefined;
    } else {
      const moved = await ask(0, 1, {});
      if (moved?.status !== 0) return undefined;
    }
    const last = await ask(1, 3, discovery ? {} : operational);
    if (last?.done !== true) return undefined;
    const keys = keysOf(last.data);
    return {
      digests: { header: keys['HeaderDigest'] === 'CRC32C', data: keys['DataDigest'] === 'CRC32C' },
      immediateData: keys['ImmediateData'] === 'Yes',
      initialR2t: keys['InitialR2T'] === 'Yes',
      firstCmdSn,
    };
  }

  #count(item: Outgoing, peer: Peer, digests: { readonly header: boolean; readonly data: boolean }): void {
    this.#sent += 1;
    if (item.mutated) this.#mutated += 1;
    peer.socket.write(digested(item, digests));
  }

  /** Sends what all have to say in any order among them, in fragments that are no PDUs. */
  async #interleave(lines: readonly Line[]): Promise<void> {
    const random = this.#random;
    for (const line of lines) if (line.random.chance(0.03)) line.peer.socket.pause();
    const waiting = lines.filter(({ pdus }) => pdus.length > 0);
    while (waiting.length > 0) {
      const at = random.between(0, waiting.length - 1);
      const line = waiting[at];
      if (line === undefined) break;
      if (this.#sendSome(line)) waiting.splice(at, 1);
      if (random.chance(0.4)) await turn();
    }
  }

  /** Some PDUs of a line at once; true when it has nothing more to say, or breaks off. */
  #sendSome({ peer, random, digests, pdus }: Line): boolean {
    if (peer.closed) return true;
    const batch = pdus.splice(0, random.pick([1, 1, 3, 10, 40]));
    const parts: Buffer[] = [];
    for (const item of batch) {
      this.#sent += 1;
      if (item.mutated) this.#mutated += 1;
      parts.push(digested(item, digests));
    }
    let bytes = Buffer.concat(parts);
    const breaksOff = random.chance(0.01);
    if (breaksOff) bytes = bytes.subarray(0, random.between(0, bytes.length));
    while (bytes.length > 0 && random.chance(0.3)) {
      const cut = random.between(1, bytes.length);
      peer.socket.write(bytes.subarray(0, cut));
      bytes = bytes.subarray(cut);
    }
    peer.socket.write(bytes);
    if (breaksOff) peer.socket.resetAndDestroy();
    return breaksOff || pdus.length === 0;
  }

  /** Hangs up: at once, after some answers, politely, or not at all until the target does. */
  async #end(peer: Peer, random: SimRandom): Promise<void> {
    switch (random.weighted({ wait: 6, end: 3, reset: 2, destroy: 2, stay: 0.03 })) {
      case 'wait':
        await peer.untilClosed(random.between(2, END_PATIENCE_MS));
        return;
      case 'end':
        peer.socket.end();
        await peer.untilClosed(END_PATIENCE_MS);
        return;
      case 'reset':
        await turn();
        peer.socket.resetAndDestroy();
        return;
      case 'destroy':
        await turn();
        peer.socket.destroy();
        return;
      case 'stay':
        await peer.untilClosed(1500);
        return;
    }
  }
}

const NO_DIGESTS = { header: false, data: false };
