import { createHash } from 'node:crypto';
import { mkdir, open, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MIB } from '../../base/units.ts';
import { BodyDigest } from './checksums.ts';
import { DurableDirectories, isCode } from './durable-directories.ts';
import { KeyLocks } from './key-locks.ts';
import { readMeta } from './object-file.ts';
import type { ObjectMeta } from './object-file.ts';
import type { ObjectFiles, Precondition } from './object-files.ts';
import type { StagedFile } from './staged-file.ts';
import { S3Error } from './s3-error.ts';

export interface Upload {
  readonly id: string;
  readonly bucket: string;
  readonly key: string;
  readonly createdAt: number;
  readonly metadata: Pick<ObjectMeta, 'headers' | 'user'>;
}

export interface Part {
  readonly number: number;
  readonly meta: ObjectMeta;
}

export const MAX_PARTS = 10_000;
/** Every part but the last, as at S3. */
const MIN_PART_BYTES = 5 * MIB;
const COPY_BYTES = MIB;

/** Uploads in parts: `uploads/<id>/upload.json` and `uploads/<id>/p-<number>`, each part a file like an object's. */
export class Multipart {
  readonly #files: ObjectFiles;
  readonly #directories = new DurableDirectories();
  readonly #locks = new KeyLocks();
  readonly #uploads = new Map<string, Upload>();

  private constructor(files: ObjectFiles) {
    this.#files = files;
  }

  static async load(files: ObjectFiles): Promise<Multipart> {
    const multipart = new Multipart(files);
    await mkdir(multipart.#root, { recursive: true, mode: 0o700 });
    await multipart.#directories.sync(files.root);
    for (const id of await readdir(multipart.#root)) {
      const upload = await readUpload(join(multipart.#root, id), id);
      if (upload !== undefined) multipart.#uploads.set(id, upload);
    }
    return multipart;
  }

  hasUploads(bucket: string): boolean {
    return this.list(bucket).length > 0;
  }

  /** By key, then by time. */
  list(bucket: string): Upload[] {
    return [...this.#uploads.values()]
      .filter((upload) => upload.bucket === bucket)
      .sort((a, b) => (a.key === b.key ? a.createdAt - b.createdAt : a.key < b.key ? -1 : 1));
  }

  async begin(bucket: string, key: string, metadata: Upload['metadata']): Promise<Upload> {
    const staged = this.#files.stagingPath();
    const id = staged.slice(staged.lastIndexOf('/') + 1);
    const upload: Upload = { id, bucket, key, createdAt: this.#files.clock.now(), metadata };
    await mkdir(staged, { mode: 0o700 });
    await writeFile(join(staged, 'upload.json'), JSON.stringify(upload), { flush: true });
    await this.#directories.sync(staged);
    await rename(staged, join(this.#root, id));
    await this.#directories.sync(this.#root);
    this.#uploads.set(id, upload);
    return upload;
  }

  find(bucket: string, key: string, id: string | undefined): Upload {
    const upload = this.#uploads.get(id ?? '');
    if (upload?.bucket !== bucket || upload.key !== key)
      throw new S3Error(
        'NoSuchUpload',
        'The specified multipart upload does not exist. It may have been aborted or completed.',
      );
    return upload;
  }

  /** `staged` is finished. */
  putPart(upload: Upload, number: number, staged: StagedFile): Promise<void> {
    return this.#locks.run(upload.id, async () => {
      this.find(upload.bucket, upload.key, upload.id);
      await rename(staged.path, this.#partPath(upload, number));
      await this.#directories.sync(join(this.#root, upload.id));
    });
  }

  /** All parts, ascending. */
  async parts(upload: Upload): Promise<Part[]> {
    const parts: Part[] = [];
    for (const name of await readdir(join(this.#root, upload.id))) {
      const number = Number(/^p-(\d{5})$/.exec(name)?.[1]);
      if (!Number.isNaN(number)) parts.push({ number, meta: await this.#readPart(upload, number) });
    }
    return parts.sort((a, b) => a.number - b.number);
  }

  abort(upload: Upload): Promise<void> {
    return this.#locks.run(upload.id, () => this.#remove(upload));
  }

  /** Makes the object of the named parts. */
  complete(
    upload: Upload,
    wanted: readonly { readonly number: number; readonly etag: string }[],
    precondition: Precondition | undefined,
  ): Promise<ObjectMeta> {
    return this.#locks.run(upload.id, async () => {
      this.find(upload.bucket, upload.key, upload.id);
      const chosen = this.#choose(await this.parts(upload), wanted);
      const staged = await this.#files.stage();
      try {
        const digest = new BodyDigest([]);
        for (const part of chosen) await this.#append(staged, digest, upload, part);
        const partHashes = Buffer.concat(chosen.map(({ meta }) => Buffer.from(meta.etag, 'hex')));
        const meta: ObjectMeta = {
          key: upload.key,
          bytes: digest.bytes,
          etag: `${createHash('md5').update(partHashes).digest('hex')}-${chosen.length}`,
          modifiedAt: this.#files.clock.now(),
          checksums: digest.finish().checksums,
          ...upload.metadata,
        };
        await staged.finish(meta);
        await this.#files.commit(upload.bucket, upload.key, staged, precondition);
        await this.#remove(upload);
        return meta;
      } finally {
        await staged.discard();
      }
    });
  }

  #choose(present: readonly Part[], wanted: readonly { readonly number: number; readonly etag: string }[]): Part[] {
    const byNumber = new Map(present.map((part) => [part.number, part]));
    if (wanted.some(({ number }, index) => number <= (wanted[index - 1]?.number ?? 0)))
      throw new S3Error('InvalidPartOrder', 'The list of parts was not in ascending order.');
    return wanted.map(({ number, etag }, index) => {
      const part = byNumber.get(number);
      if (part === undefined || part.meta.etag !== etag.replace(/^"(.*)"$/, '$1'))
        throw new S3Error('InvalidPart', `Part ${number} could not be found, or its entity tag does not match.`);
      if (index < wanted.length - 1 && part.meta.bytes < MIN_PART_BYTES)
        throw new S3Error('EntityTooSmall', 'Your proposed upload is smaller than the minimum allowed size');
      return part;
    });
  }

  async #append(staged: StagedFile, digest: BodyDigest, upload: Upload, { number, meta }: Part): Promise<void> {
    const file = await open(this.#partPath(upload, number), 'r');
    try {
      for (let at = 0; at < meta.bytes; at += COPY_BYTES) {
        const piece = Buffer.allocUnsafeSlow(Math.min(COPY_BYTES, meta.bytes - at));
        const { bytesRead } = await file.read(piece, 0, piece.length, at);
        if (bytesRead !== piece.length) throw new Error(`part ${number} of upload ${upload.id} is shorter than it was`);
        digest.update(piece);
        await staged.write(piece);
      }
    } finally {
      await file.close();
    }
  }

  async #readPart(upload: Upload, number: number): Promise<ObjectMeta> {
    const file = await open(this.#partPath(upload, number), 'r');
    try {
      return await readMeta(file);
    } finally {
      await file.close();
    }
  }

  /** Out of sight first, in one step, then away. */
  async #remove(upload: Upload): Promise<void> {
    if (!this.#uploads.delete(upload.id)) return;
    const gone = this.#files.stagingPath();
    await rename(join(this.#root, upload.id), gone);
    await this.#directories.sync(this.#root);
    await rm(gone, { recursive: true, force: true });
  }

  #partPath({ id }: Upload, number: number): string {
    return join(this.#root, id, `p-${String(number).padStart(5, '0')}`);
  }

  get #root(): string {
    return join(this.#files.root, 'uploads');
  }
}

async function readUpload(directory: string, id: string): Promise<Upload | undefined> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(join(directory, 'upload.json'), 'utf8'));
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
  if (typeof parsed !== 'object' || parsed === null) return undefined;
  const text = (name: string): string => String(Reflect.get(parsed, name));
  const metadata: unknown = Reflect.get(parsed, 'metadata');
  const record = (name: string): Record<string, string> => {
    const value: unknown = typeof metadata === 'object' && metadata !== null ? Reflect.get(metadata, name) : undefined;
    return typeof value === 'object' && value !== null
      ? Object.fromEntries(Object.entries(value).map(([key, held]) => [key, String(held)]))
      : {};
  };
  return {
    id,
    bucket: text('bucket'),
    key: text('key'),
    createdAt: Number(text('createdAt')),
    metadata: { headers: record('headers'), user: record('user') },
  };
}
