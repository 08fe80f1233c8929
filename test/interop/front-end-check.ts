import { FarshoreError } from '../../gateway/base/errors.ts';
import { RawInitiator } from '../support/raw-initiator.ts';
import { cdb } from '../support/iscsi-wire.ts';
import type { TestOutcome } from './libiscsi-suite.ts';

/** A LUN to check, Farshore's or a peer's; its data is lost. */
export interface CheckedLun {
  readonly host: string;
  readonly port: number;
  readonly target: string;
  readonly lun: number;
  /** Targets that ask for CHAP with this user and secret; the three users are spelled in three ways. */
  readonly chap?: {
    readonly secret: string;
    readonly plain: ChapUser;
    readonly hexLike: ChapUser;
    readonly base64Like: ChapUser;
  };
}

/** A user name, and the target and initiator it is for. */
export interface ChapUser {
  readonly target: string;
  readonly initiator: string;
  readonly user: string;
}

/** One check by our own initiator: what libiscsi's newer releases test and Debian's 1.19 does not. Throws what is wrong. */
export interface Check {
  /** As libiscsi names the test. */
  readonly test: string;
  readonly run: (lun: CheckedLun) => Promise<void>;
}

/** Thrown by a check that the target gives no occasion for. */
export class NotApplicable extends Error {}

export function demand(condition: boolean, sentence: string): asserts condition {
  if (!condition) throw new FarshoreError('damaged', sentence);
}

const CHECK_LIMIT_MS = 20_000;

/** Runs the checks one after the other; a target that stops answering fails the check and not the run. */
export async function runChecks(checks: readonly Check[], lun: CheckedLun): Promise<TestOutcome[]> {
  const outcomes: TestOutcome[] = [];
  for (const { test, run } of checks) {
    const from = performance.now();
    const done = (verdict: TestOutcome['verdict'], detail: string): void => {
      outcomes.push({ test, verdict, detail, seconds: (performance.now() - from) / 1000 });
    };
    let limit: NodeJS.Timeout | undefined;
    const hang = new Promise<'hang'>((resolve) => {
      limit = setTimeout(() => {
        resolve('hang');
      }, CHECK_LIMIT_MS);
    });
    try {
      const ended = await Promise.race([run(lun), hang]);
      if (ended === 'hang') done('hang', 'the target did not answer');
      else done('pass', '');
    } catch (error) {
      const sentence = error instanceof Error ? error.message : String(error);
      done(error instanceof NotApplicable ? 'skip' : 'fail', sentence);
    } finally {
      clearTimeout(limit);
    }
  }
  return outcomes;
}

/** Logs in for a normal session with everything small at its default, reports the unit attentions, and ends afterwards. */
export async function withSession<T>(lun: CheckedLun, use: (raw: RawInitiator) => Promise<T>): Promise<T> {
  const raw = await RawInitiator.connect(lun.port, lun.host);
  try {
    const answer = await raw.login({ target: lun.target, isid: randomIsid() });
    demand(answer.word36 >>> 16 === 0, `the login was refused with ${(answer.word36 >>> 16).toString(16)}h`);
    await raw.clear(lun.lun);
    return await use(raw);
  } finally {
    raw.destroy();
  }
}

/** Type "random"; different each time, so that no check reinstates the session of another. */
export function randomIsid(): string {
  return `80${Math.floor(Math.random() * 0x1_0000_0000)
    .toString(16)
    .padStart(8, '0')}00`;
}

/** A command that must end with GOOD; its Data-In. */
export async function good(
  raw: RawInitiator,
  lun: CheckedLun,
  block: Buffer,
  transfer: { readonly in?: number; readonly out?: Buffer } = {},
): Promise<Buffer> {
  const { status, data } = await raw.run({
    cdb: block,
    lun: lun.lun,
    read: transfer.in !== undefined,
    write: transfer.out !== undefined,
    expectedBytes: transfer.in ?? transfer.out?.length ?? 0,
    ...(transfer.out === undefined ? {} : { data: transfer.out }),
  });
  demand(status === 0, `command ${block.toString('hex', 0, 1)}h ended with status ${status}`);
  return data;
}

export function inquiry(allocation: number, page?: number): Buffer {
  return cdb(0x12, page === undefined ? 0 : 1, page ?? 0, allocation >> 8, allocation & 0xff);
}

/** The logical block length, from READ CAPACITY (10). */
export async function blockBytes(raw: RawInitiator, lun: CheckedLun): Promise<number> {
  return (await good(raw, lun, cdb(0x25), { in: 8 })).readUInt32BE(4);
}
