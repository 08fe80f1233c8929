import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { ChunkedDecoder } from './aws-chunked.ts';
import { BodyDigest, CHECKSUM_ALGORITHMS, isChecksumAlgorithm, isDigest } from './checksums.ts';
import type { ChecksumAlgorithm, Checksums } from './checksums.ts';
import { S3Error, notImplemented } from './s3-error.ts';
import type { ChunkSigner } from './sigv4.ts';

/** What the headers say of the body, checked before the first byte of it is read. */
export interface BodyPlan {
  /** Length of the payload, without framing. */
  readonly bytes: number;
  readonly decoder: ChunkedDecoder | undefined;
  /** x-amz-content-sha256, when it is a hash. */
  readonly sha256: string | undefined;
  readonly md5: Buffer | undefined;
  /** Checksums given in headers. */
  readonly checksums: Checksums;
  /** The checksum that follows in the trailer. */
  readonly trailing: ChecksumAlgorithm | undefined;
}

export interface ReceivedBody {
  readonly bytes: number;
  readonly md5: Buffer;
  /** All verified. */
  readonly checksums: Checksums;
}

/** A single PUT ends at 5 GiB, as at S3. */
export const MAX_BODY_BYTES = 5 * 1024 ** 3;

const STREAMING = /^STREAMING-(AWS4-HMAC-SHA256-PAYLOAD|AWS4-HMAC-SHA256-PAYLOAD-TRAILER|UNSIGNED-PAYLOAD-TRAILER)$/;

export function planBody(
  request: IncomingMessage,
  signer: ChunkSigner | undefined,
  maxBytes = MAX_BODY_BYTES,
): BodyPlan {
  const header = (name: string): string | undefined => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(',') : value;
  };
  const contentHash = header('x-amz-content-sha256') ?? 'UNSIGNED-PAYLOAD';
  const streaming = STREAMING.exec(contentHash)?.[1];
  if (streaming === undefined && contentHash.startsWith('STREAMING-')) throw notImplemented(contentHash);
  if (streaming === undefined && contentHash !== 'UNSIGNED-PAYLOAD' && !/^[0-9a-f]{64}$/.test(contentHash))
    throw new S3Error(
      'InvalidArgument',
      'x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-…, or a valid sha256 value.',
    );
  if (streaming === undefined && request.headers['transfer-encoding'] !== undefined)
    throw notImplemented('Transfer-Encoding without aws-chunked');

  const lengthHeader = streaming === undefined ? header('content-length') : header('x-amz-decoded-content-length');
  if (lengthHeader === undefined || !/^\d{1,15}$/.test(lengthHeader))
    throw new S3Error('MissingContentLength', 'You must provide the Content-Length HTTP header.');
  const bytes = Number(lengthHeader);
  if (bytes > maxBytes) throw new S3Error('EntityTooLarge', 'Your proposed upload exceeds the maximum allowed size.');

  const announced = announcedTrailers(header('x-amz-trailer'), streaming);
  const trailing = announced
    .map((name) => name.slice('x-amz-checksum-'.length))
    .find((name) => isChecksumAlgorithm(name));
  return {
    bytes,
    decoder:
      streaming === undefined
        ? undefined
        : new ChunkedDecoder({
            signed: !streaming.startsWith('UNSIGNED'),
            signer: streaming.startsWith('UNSIGNED') ? undefined : signer,
            trailers: announced,
            decodedBytes: bytes,
          }),
    sha256: /^[0-9a-f]{64}$/.test(contentHash) ? contentHash : undefined,
    md5: md5Of(header('content-md5')),
    checksums: checksumHeaders(header),
    trailing,
  };
}

function announcedTrailers(header: string | undefined, streaming: string | undefined): string[] {
  const names = (header ?? '')
    .split(',')
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== '');
  const carries = streaming?.endsWith('TRAILER') ?? false;
  if (names.length > 0 && !carries)
    throw new S3Error('InvalidRequest', 'x-amz-trailer needs a STREAMING-…-TRAILER body.');
  if (names.length > 1 || names.some((name) => !isChecksumAlgorithm(name.replace(/^x-amz-checksum-/, ''))))
    throw new S3Error('InvalidRequest', 'The value specified in the x-amz-trailer header is not supported.');
  return names;
}

function md5Of(header: string | undefined): Buffer | undefined {
  if (header === undefined) return undefined;
  const md5 = Buffer.from(header, 'base64');
  if (md5.length !== 16) throw new S3Error('InvalidDigest', 'The Content-MD5 you specified is not valid.');
  return md5;
}

function checksumHeaders(header: (name: string) => string | undefined): Checksums {
  const checksums: Checksums = {};
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const value = header(`x-amz-checksum-${algorithm}`);
    if (value === undefined) continue;
    if (!isDigest(algorithm, value))
      throw new S3Error('InvalidRequest', `Value for x-amz-checksum-${algorithm} header is invalid.`);
    checksums[algorithm] = value;
  }
  if (Object.keys(checksums).length > 1)
    throw new S3Error(
      'InvalidRequest',
      'Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed.',
    );
  return checksums;
}

/**
 * Reads the body to its end, giving each piece of payload to `take` and waiting for it, and verifies length, framing, signatures and checksums.
 * Throws S3Error; the connection stays usable (what is left of the body is the server's to drain).
 */
export async function receiveBody(
  request: IncomingMessage,
  plan: BodyPlan,
  take: (piece: Buffer) => void | Promise<void>,
): Promise<ReceivedBody> {
  const wanted = new Set<ChecksumAlgorithm>(CHECKSUM_ALGORITHMS.filter((name) => plan.checksums[name] !== undefined));
  if (plan.trailing !== undefined) wanted.add(plan.trailing);
  const digest = new BodyDigest(wanted);
  const sha256 = plan.sha256 === undefined ? undefined : createHash('sha256');
  const accept = async (piece: Buffer): Promise<void> => {
    digest.update(piece);
    sha256?.update(piece);
    if (digest.bytes > plan.bytes) throw new S3Error('IncompleteBody', 'The request body is longer than announced.');
    const waiting = take(piece);
    if (waiting !== undefined) await waiting;
  };
  for await (const raw of request.iterator({ destroyOnReturn: false })) {
    const chunk = raw as Buffer;
    if (plan.decoder === undefined) await accept(chunk);
    else for (const piece of plan.decoder.push(chunk)) await accept(piece);
  }
  plan.decoder?.finish();
  const { md5, checksums } = digest.finish();
  if (digest.bytes !== plan.bytes)
    throw new S3Error(
      'IncompleteBody',
      'You did not provide the number of bytes specified by the Content-Length HTTP header.',
    );
  if (sha256 !== undefined && sha256.digest('hex') !== plan.sha256)
    throw new S3Error(
      'XAmzContentSHA256Mismatch',
      "The provided 'x-amz-content-sha256' header does not match what was computed.",
    );
  if (plan.md5 !== undefined && !plan.md5.equals(md5))
    throw new S3Error('BadDigest', 'The Content-MD5 you specified did not match what we received.');
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const trailer = plan.trailing === algorithm ? plan.decoder?.trailers.get(`x-amz-checksum-${algorithm}`) : undefined;
    for (const expected of [plan.checksums[algorithm], trailer])
      if (expected !== undefined && expected !== checksums[algorithm])
        throw new S3Error(
          'BadDigest',
          `The ${algorithm.toUpperCase()} you specified did not match the calculated checksum.`,
        );
  }
  return { bytes: digest.bytes, md5, checksums };
}

/** A whole small body, as the XML of DeleteObjects. */
export async function receiveWhole(request: IncomingMessage, plan: BodyPlan): Promise<Buffer> {
  const pieces: Buffer[] = [];
  await receiveBody(request, plan, (piece) => {
    pieces.push(piece);
  });
  return Buffer.concat(pieces);
}
