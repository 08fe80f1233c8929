import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { describeError, FarshoreError } from '../base/errors.ts';
import { hasUnprintable } from '../base/text.ts';

/** Where secrets come from: never from the command line's words, which every user of the machine can read. */
export interface SecretOptions {
  readonly secretFile?: string;
  readonly generate?: boolean;
  readonly mutualSecretFile?: string;
  readonly mutualGenerate?: boolean;
}

export interface Secret {
  readonly secret: Buffer;
  /** Made here: its owner has to be told. */
  readonly generated: boolean;
}

/** 96 bits of chance, in 16 characters that every initiator takes: Windows wants 12 to 16 bytes. */
const GENERATED_BYTES = 12;
const MAX_FILE_BYTES = 8192;

/** From the file (one line of text, without its end), or a fresh one. `input` when neither or both are named, or the file holds something else. */
export function readSecret(from: {
  readonly file: string | undefined;
  readonly generate: boolean | undefined;
  readonly option: string;
  readonly isJson: boolean;
}): Secret {
  const { file, generate, option, isJson } = from;
  const makes = option.replace('secret-file', 'generate');
  if ((file === undefined) !== (generate === true)) {
    throw new FarshoreError(
      'input',
      `give the secret with ${option} FILE (- for standard input), or have one made with ${makes}`,
    );
  }
  if (file !== undefined) return { secret: secretOf(readBytes(file), file), generated: false };
  if (isJson) {
    throw new FarshoreError(
      'input',
      `${makes} prints the secret for people, and --json never holds one; use ${option}`,
    );
  }
  return { secret: Buffer.from(randomBytes(GENERATED_BYTES).toString('base64url')), generated: true };
}

/** Prints one that was made here; nobody can be told it again. */
export function giveSecret(what: string, { secret, generated }: Secret): void {
  if (generated) process.stdout.write(`${what}: ${secret.toString()}  (shown this once; it is stored wrapped)\n`);
}

/**
 * The bytes of the line, as they are. What is no plain text is refused: initiators take their secrets from a line of a configuration file, and
 * whatever turns other bytes into text makes the same few characters of all of them, which anybody can guess.
 */
function secretOf(content: Buffer, file: string): Buffer {
  const end =
    content.at(-1) !== 0x0a ? content.length : content.at(-2) === 0x0d ? content.length - 2 : content.length - 1;
  const secret = content.subarray(0, end);
  const problem = problemOf(secret);
  if (problem === undefined) return secret;
  throw new FarshoreError(
    'input',
    `the secret in ${file === '-' ? 'standard input' : file} ${problem}; a secret is one line of plain text, 12 to 255 bytes long, such as head -c 12 /dev/urandom | base64 writes`,
  );
}

function problemOf(secret: Buffer): string | undefined {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(secret);
  } catch {
    return 'is no text (UTF-8)';
  }
  if (text.includes('\n') || text.includes('\r')) return 'has more than one line';
  if (hasUnprintable(text)) return 'holds control characters or invisible ones';
  return text.includes('\ufffd') ? 'holds U+FFFD, which stands where other bytes were lost' : undefined;
}

/** A small text file, or standard input for `-`. */
export function readSmallFile(file: string): string {
  return readBytes(file).toString('utf8');
}

function readBytes(file: string): Buffer {
  try {
    const descriptor = file === '-' ? 0 : openSync(file, 'r');
    try {
      const pieces: Buffer[] = [];
      let bytes = 0;
      for (;;) {
        const piece = Buffer.alloc(MAX_FILE_BYTES);
        const count = readSync(descriptor, piece);
        if (count === 0) break;
        bytes += count;
        if (bytes > MAX_FILE_BYTES) throw new Error(`it has more than ${MAX_FILE_BYTES} bytes`);
        pieces.push(piece.subarray(0, count));
      }
      return Buffer.concat(pieces);
    } finally {
      if (descriptor !== 0) closeSync(descriptor);
    }
  } catch (error) {
    throw new FarshoreError('input', `cannot read ${file === '-' ? 'standard input' : file}: ${describeError(error)}`, {
      cause: error,
    });
  }
}

/** A new file for this user alone; one that is there is never written over. */
export function writePrivateFile(file: string, text: string): void {
  try {
    const descriptor = openSync(file, 'wx', 0o600);
    try {
      writeSync(descriptor, text);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw new FarshoreError('input', `cannot write ${file}: ${describeError(error)}; name a new file`, {
      cause: error,
    });
  }
}
