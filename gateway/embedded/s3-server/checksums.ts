import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { crc32c } from '@node-rs/crc32';
import { crc32 } from '../../base/crc32.ts';
import { crc64nvme } from './crc64nvme.ts';

export const CHECKSUM_ALGORITHMS = ['crc32', 'crc32c', 'crc64nvme', 'sha1', 'sha256'] as const;
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];
/** Base64 of the digest, as in the headers x-amz-checksum-…. */
export type Checksums = Partial<Record<ChecksumAlgorithm, string>>;

const DIGEST_BYTES: Readonly<Record<ChecksumAlgorithm, number>> = {
  crc32: 4,
  crc32c: 4,
  crc64nvme: 8,
  sha1: 20,
  sha256: 32,
};

export function isChecksumAlgorithm(name: string): name is ChecksumAlgorithm {
  return CHECKSUM_ALGORITHMS.some((algorithm) => algorithm === name);
}

export function isDigest(algorithm: ChecksumAlgorithm, value: string): boolean {
  return Buffer.from(value, 'base64').length === DIGEST_BYTES[algorithm] && /^[A-Za-z0-9+/]+={0,2}$/.test(value);
}

/** Digests of a body as it passes. MD5 is always there: it is the entity tag. So is CRC-32, which costs next to nothing. */
export class BodyDigest {
  readonly #md5 = createHash('md5');
  readonly #hashes: ReadonlyMap<'sha1' | 'sha256', Hash>;
  #crc32 = 0;
  #crc32c: number | undefined;
  #crc64: bigint | undefined;
  bytes = 0;

  constructor(wanted: Iterable<ChecksumAlgorithm>) {
    const hashes = new Map<'sha1' | 'sha256', Hash>();
    for (const algorithm of wanted) {
      if (algorithm === 'sha1' || algorithm === 'sha256') hashes.set(algorithm, createHash(algorithm));
      if (algorithm === 'crc32c') this.#crc32c = 0;
      if (algorithm === 'crc64nvme') this.#crc64 = 0n;
    }
    this.#hashes = hashes;
  }

  update(chunk: Buffer): void {
    this.bytes += chunk.length;
    this.#md5.update(chunk);
    this.#crc32 = crc32(chunk, this.#crc32);
    if (this.#crc32c !== undefined) this.#crc32c = crc32c(chunk, this.#crc32c);
    if (this.#crc64 !== undefined) this.#crc64 = crc64nvme(chunk, this.#crc64);
    for (const hash of this.#hashes.values()) hash.update(chunk);
  }

  finish(): { readonly md5: Buffer; readonly checksums: Checksums } {
    const checksums: Checksums = { crc32: bigEndian(BigInt(this.#crc32), 4) };
    if (this.#crc32c !== undefined) checksums.crc32c = bigEndian(BigInt(this.#crc32c), 4);
    if (this.#crc64 !== undefined) checksums.crc64nvme = bigEndian(this.#crc64, 8);
    for (const [algorithm, hash] of this.#hashes) checksums[algorithm] = hash.digest('base64');
    return { md5: this.#md5.digest(), checksums };
  }
}

function bigEndian(value: bigint, bytes: 4 | 8): string {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(value);
  return buffer.subarray(8 - bytes).toString('base64');
}
