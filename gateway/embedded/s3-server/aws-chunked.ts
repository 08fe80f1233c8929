import { createHash } from 'node:crypto';
import { S3Error } from './s3-error.ts';
import { equal } from './sigv4.ts';
import type { ChunkSigner } from './sigv4.ts';

/** The framing `aws-chunked`: `size-in-hex[;chunk-signature=…] CRLF data CRLF … 0 … CRLF [trailers] CRLF`. */
export interface ChunkedOptions {
  /** Chunks carry signatures (checked only when there is a signer). */
  readonly signed: boolean;
  readonly signer: ChunkSigner | undefined;
  /** Trailers are announced, lower case; others are refused. */
  readonly trailers: readonly string[];
  /** x-amz-decoded-content-length. */
  readonly decodedBytes: number;
}

const MAX_LINE_BYTES = 4096;
const MAX_TRAILERS = 8;

type State = 'size' | 'data' | 'data-end' | 'trailer' | 'end';

/** Takes the raw body in pieces of any size and gives back the payload; strict about every byte of the framing. */
export class ChunkedDecoder {
  readonly trailers = new Map<string, string>();
  readonly #options: ChunkedOptions;
  #state: State = 'size';
  #line = Buffer.alloc(0);
  #left = 0;
  #decoded = 0;
  #chunkHash = createHash('sha256');
  #claimed: string | undefined;
  #previous: string;
  #trailerText = '';

  constructor(options: ChunkedOptions) {
    this.#options = options;
    this.#previous = options.signer?.seedSignature ?? '';
  }

  /** Payload pieces contained in `input` (views of it). */
  push(input: Buffer): Buffer[] {
    const out: Buffer[] = [];
    let at = 0;
    while (at < input.length) {
      if (this.#state === 'data') {
        const piece = input.subarray(at, at + this.#left);
        at += piece.length;
        this.#left -= piece.length;
        if (this.#options.signer !== undefined) this.#chunkHash.update(piece);
        out.push(piece);
        if (this.#left === 0) this.#state = 'data-end';
        continue;
      }
      if (this.#state === 'end') throw malformed('there are bytes after the last chunk');
      const newline = input.indexOf(0x0a, at);
      const end = newline < 0 ? input.length : newline + 1;
      this.#line = Buffer.concat([this.#line, input.subarray(at, end)]);
      if (this.#line.length > MAX_LINE_BYTES) throw malformed('a line is too long');
      at = end;
      if (newline < 0) break;
      const line = this.#line.toString('latin1');
      this.#line = Buffer.alloc(0);
      if (!line.endsWith('\r\n')) throw malformed('a line does not end with CR LF');
      this.#onLine(line.slice(0, -2));
    }
    return out;
  }

  /** Call at the end of the body. */
  finish(): void {
    if (this.#state !== 'end') throw incomplete();
    if (this.#decoded !== this.#options.decodedBytes) throw incomplete();
    for (const name of this.#options.trailers)
      if (!this.trailers.has(name)) throw malformed(`the announced trailer ${name} is missing`);
  }

  #onLine(line: string): void {
    switch (this.#state) {
      case 'size':
        this.#onSize(line);
        return;
      case 'data-end':
        if (line !== '') throw malformed('a chunk is longer than its size');
        this.#checkChunk();
        this.#state = 'size';
        return;
      case 'trailer':
        this.#onTrailer(line);
        return;
      case 'data':
      case 'end':
        throw malformed('a line where none belongs');
    }
  }

  #onSize(line: string): void {
    const match = /^([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?$/.exec(line);
    if (match?.[1] === undefined) throw malformed('a chunk does not begin with its size');
    if (this.#options.signed !== (match[2] !== undefined))
      throw malformed('a chunk signature is missing, or unexpected');
    this.#left = Number.parseInt(match[1], 16);
    this.#claimed = match[2];
    this.#decoded += this.#left;
    if (this.#decoded > this.#options.decodedBytes) throw incomplete();
    if (this.#left > 0) {
      this.#state = 'data';
      return;
    }
    this.#checkChunk();
    this.#state = 'trailer';
  }

  #checkChunk(): void {
    const { signer } = this.#options;
    if (signer === undefined) return;
    const expected = signer.sign('AWS4-HMAC-SHA256-PAYLOAD', this.#previous, this.#chunkHash.digest('hex'));
    if (this.#claimed === undefined || !equal(expected, this.#claimed)) throw wrongSignature();
    this.#previous = expected;
    this.#chunkHash = createHash('sha256');
  }

  #onTrailer(line: string): void {
    if (line === '') {
      this.#checkTrailerSignature();
      this.#state = 'end';
      return;
    }
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).trim().toLowerCase();
    const known = name === 'x-amz-trailer-signature' ? this.#options.signed : this.#options.trailers.includes(name);
    if (colon < 1 || !known || this.trailers.has(name) || this.trailers.size >= MAX_TRAILERS)
      throw malformed(`the trailer ${name} was not announced`);
    const value = line.slice(colon + 1).trim();
    this.trailers.set(name, value);
    if (name !== 'x-amz-trailer-signature') this.#trailerText += `${name}:${value}\n`;
  }

  #checkTrailerSignature(): void {
    const { signer, trailers } = this.#options;
    if (signer === undefined || trailers.length === 0) return;
    const hash = createHash('sha256').update(this.#trailerText).digest('hex');
    const expected = signer.sign('AWS4-HMAC-SHA256-TRAILER', this.#previous, hash);
    if (!equal(expected, this.trailers.get('x-amz-trailer-signature') ?? '')) throw wrongSignature();
  }
}

function malformed(why: string): S3Error {
  return new S3Error('InvalidRequest', `The aws-chunked body is malformed: ${why}.`);
}

function incomplete(): S3Error {
  return new S3Error(
    'IncompleteBody',
    'You did not provide the number of bytes specified by x-amz-decoded-content-length.',
  );
}

function wrongSignature(): S3Error {
  return new S3Error('SignatureDoesNotMatch', 'The signature of a chunk does not match.');
}
