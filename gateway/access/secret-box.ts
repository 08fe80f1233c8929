import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { z } from 'zod';
import type { Random } from '../base/clock.ts';
import { decodeChecked, encodeChecked } from '../base/checked-json.ts';
import { type Disk, readWhole, replaceFile } from '../base/disk.ts';
import { FarshoreError } from '../base/errors.ts';

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_ID_DIGITS = 16;
/** Keys one gateway holds: its own and those of gateways whose volumes it took over. */
const MAX_KEYS = 64;
const MAX_FILE_BYTES = 64 * 1024;
/** What an exported key begins with, so that it is known for what it is. */
const EXPORT_PREFIX = 'farshore-access-key-1:';

/** A secret as it is stored: AES-256-GCM, `data` being ciphertext and tag, both base64. */
export const wrappedSchema = z.strictObject({
  key: z.string().regex(/^[0-9a-f]{16}$/),
  nonce: z.string().max(64),
  data: z.string().max(1024),
});
export type Wrapped = Readonly<z.infer<typeof wrappedSchema>>;

/** What a secret is for; bound to it, so that nobody with write access to the table can make one initiator's secret another's. */
export interface SecretUse {
  readonly role: 'initiator' | 'target';
  readonly initiator: string;
  /** A target's name, `*` for every target, or `discovery`. */
  readonly target: string;
  readonly user: string;
}

const fileSchema = z.strictObject({
  format: z.literal(1),
  /** The first one wraps; all of them unwrap. */
  keys: z
    .array(z.string().regex(/^[0-9a-f]{64}$/))
    .min(1)
    .max(MAX_KEYS),
});

/**
 * The keys that wrap CHAP secrets: a file of the gateway (`access.key` of the state directory unless configured elsewhere), 0600. Made at
 * the first secret. The table holds wrapped secrets only, so whoever reads it learns none.
 */
export class SecretBox {
  readonly #disk: Disk;
  readonly #file: string;
  readonly #random: Random;
  #keys: readonly Buffer[];
  #tail: Promise<unknown> = Promise.resolve();

  private constructor(disk: Disk, file: string, random: Random, keys: readonly Buffer[]) {
    this.#disk = disk;
    this.#file = file;
    this.#random = random;
    this.#keys = keys;
  }

  /** Reads the file. Rejects with `damaged` when it is not what `farshore access key export` or this class wrote. */
  static async open(disk: Disk, file: string, random: Random): Promise<SecretBox> {
    const content = await readWhole(disk, file, MAX_FILE_BYTES);
    if (content === undefined) return new SecretBox(disk, file, random, []);
    const text = content.toString('utf8').trim();
    try {
      const keys = text.startsWith(EXPORT_PREFIX)
        ? parseExport(text)
        : fileSchema.parse(decodeChecked(content)).keys.map((key) => Buffer.from(key, 'hex'));
      return new SecretBox(disk, file, random, keys);
    } catch {
      // The parser's message might quote what it could not read: it is a key.
      throw new FarshoreError(
        'damaged',
        `the key file ${file} cannot be understood; put the exported key in its place, or move it aside and import the key with: farshore access key import`,
      );
    }
  }

  /** Identities of the keys there are, the wrapping one first. */
  keyIds(): readonly string[] {
    return this.#keys.map(keyId);
  }

  /** The keys as another thread of this process takes them over with `follow`. */
  get keys(): readonly Uint8Array[] {
    return this.#keys;
  }

  /** The keys are these now: of the box in another thread, which has written them to the file already. */
  follow(keys: readonly Uint8Array[]): void {
    this.#keys = keys.map((key) => Buffer.from(key));
  }

  canUnwrap(wrapped: Wrapped): boolean {
    return this.#keyOf(wrapped) !== undefined;
  }

  /** Makes the key first if there is none; it is durable before anything is wrapped by it. */
  async wrap(secret: Buffer, use: SecretUse): Promise<Wrapped> {
    const key = this.#keys[0] ?? (await this.#makeKey());
    const nonce = this.#random.bytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    cipher.setAAD(boundTo(use));
    const data = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
    return { key: keyId(key), nonce: nonce.toString('base64'), data: data.toString('base64') };
  }

  /** Throws `not-found` when the key is another one, `damaged` when the secret was wrapped for another use or changed. */
  unwrap(wrapped: Wrapped, use: SecretUse): Buffer {
    const key = this.#keyOf(wrapped);
    if (key === undefined) {
      throw new FarshoreError(
        'not-found',
        `the CHAP secret of ${use.initiator} is wrapped by key ${wrapped.key}, which this gateway does not have; on the gateway that has it: farshore access key export FILE, here: farshore access key import FILE`,
      );
    }
    const data = Buffer.from(wrapped.data, 'base64');
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(wrapped.nonce, 'base64'));
      decipher.setAAD(boundTo(use));
      decipher.setAuthTag(data.subarray(-TAG_BYTES));
      return Buffer.concat([decipher.update(data.subarray(0, -TAG_BYTES)), decipher.final()]);
    } catch {
      throw new FarshoreError(
        'damaged',
        `the CHAP secret of ${use.initiator} is not what was wrapped for it; set it again with: farshore initiator chap ${use.initiator}`,
      );
    }
  }

  /**
   * Every key as text, one a line, the wrapping one first; makes it if there is none. All of them: what was wrapped by a gateway that is gone
   * is still read by its key.
   */
  async export(): Promise<string> {
    if (this.#keys.length === 0) await this.#makeKey();
    return this.#keys.map((key) => `${EXPORT_PREFIX}${key.toString('hex')}`).join('\n');
  }

  /** Adds the keys of another gateway; the first also wraps from now on if there was none. Resolves with their identities. */
  async import(text: string): Promise<readonly string[]> {
    const given = parseExport(text.trim());
    await this.#inTurn(async () => {
      const added = given.filter((key) => !this.#keys.some((each) => each.equals(key)));
      if (this.#keys.length + added.length > MAX_KEYS) {
        throw new FarshoreError('input', `a gateway holds at most ${MAX_KEYS} keys; remove some from ${this.#file}`);
      }
      if (added.length > 0) await this.#save([...this.#keys, ...added]);
    });
    return given.map(keyId);
  }

  #keyOf(wrapped: Wrapped): Buffer | undefined {
    return this.#keys.find((key) => keyId(key) === wrapped.key);
  }

  #makeKey(): Promise<Buffer> {
    return this.#inTurn(async () => {
      const present = this.#keys[0];
      if (present !== undefined) return present;
      const key = this.#random.bytes(KEY_BYTES);
      await this.#save([key]);
      return key;
    });
  }

  /** One change of the file after the other: of two at once the first would be lost, and with it what it wraps. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#tail.then(work);
    this.#tail = mine.catch(() => undefined);
    return mine;
  }

  async #save(keys: readonly Buffer[]): Promise<void> {
    const content = { format: 1, keys: keys.map((key) => key.toString('hex')) };
    await replaceFile(this.#disk, this.#file, encodeChecked(content));
    this.#keys = keys;
  }
}

function parseExport(text: string): Buffer[] {
  const keys = text.split(/\s+/).map((line) => {
    const match = /^farshore-access-key-1:([0-9a-f]{64})$/.exec(line);
    if (match?.[1] === undefined) {
      throw new FarshoreError(
        'input',
        `that is no key of Farshore; each is a line that begins with ${EXPORT_PREFIX}, as farshore access key export writes it`,
      );
    }
    return Buffer.from(match[1], 'hex');
  });
  return keys.filter((key, index) => keys.findIndex((each) => each.equals(key)) === index);
}

function keyId(key: Buffer): string {
  return createHash('sha256').update('farshore access key ').update(key).digest('hex').slice(0, KEY_ID_DIGITS);
}

/** Unambiguous: none of the parts can contain a zero byte. */
function boundTo({ role, initiator, target, user }: SecretUse): Buffer {
  return Buffer.from(['farshore-chap-1', role, initiator, target, user].join('\0'));
}
