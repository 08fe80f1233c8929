import { mkdir, readFile, readdir, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock, Random } from '../../base/clock.ts';
import { invariant } from '../../base/errors.ts';
import { DurableDirectories, isCode } from './durable-directories.ts';
import { KeyLocks } from './key-locks.ts';
import { bytesOf, pathOfKey } from './key-path.ts';
import { walkKeys } from './key-walk.ts';
import type { ObjectMeta } from './object-file.ts';
import { OpenObjects } from './open-objects.ts';
import type { OpenObject } from './open-objects.ts';
import { S3Error } from './s3-error.ts';
import { StagedFile } from './staged-file.ts';

/** Decides, seeing what lies at the key now, whether it may be replaced; throws S3Error when not. */
export type Precondition = (present: ObjectMeta | undefined) => void;

export interface Bucket {
  readonly name: string;
  readonly createdAt: number;
}

interface BucketState extends Bucket {
  readonly objects: string;
  commits: number;
  deleting: boolean;
}

const BUCKET_NAME = /^(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;

/**
 * Buckets and objects in a directory that belongs to this process alone:
 * `buckets/<name>/bucket.json`, `buckets/<name>/objects/…` (see key-path), `staging/` (what is being received; emptied at the start).
 * Whatever has been answered with success is on stable storage.
 */
export class ObjectFiles {
  readonly clock: Clock;
  readonly root: string;
  readonly #random: Random;
  readonly #directories = new DurableDirectories();
  readonly #open = new OpenObjects();
  readonly #locks = new KeyLocks();
  readonly #buckets = new Map<string, BucketState>();

  private constructor(root: string, clock: Clock, random: Random) {
    this.root = root;
    this.clock = clock;
    this.#random = random;
  }

  static async load(root: string, clock: Clock, random: Random): Promise<ObjectFiles> {
    const files = new ObjectFiles(root, clock, random);
    await rm(files.#staging, { recursive: true, force: true });
    await mkdir(join(root, 'buckets'), { recursive: true, mode: 0o700 });
    await mkdir(files.#staging, { recursive: true, mode: 0o700 });
    await files.#directories.sync(dirname(root));
    await files.#directories.sync(root);
    for (const name of await readdir(join(root, 'buckets'))) {
      if (!BUCKET_NAME.test(name)) continue;
      const parsed: unknown = JSON.parse(await readFile(join(root, 'buckets', name, 'bucket.json'), 'utf8'));
      const createdAt: unknown = typeof parsed === 'object' && parsed !== null ? Reflect.get(parsed, 'createdAt') : 0;
      files.#remember(name, typeof createdAt === 'number' ? createdAt : 0);
    }
    return files;
  }

  buckets(): Bucket[] {
    return [...this.#buckets.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  bucket(name: string): Bucket {
    return this.#bucket(name);
  }

  createBucket(name: string): Promise<void> {
    if (!BUCKET_NAME.test(name)) throw new S3Error('InvalidBucketName', 'The specified bucket is not valid.');
    return this.#locks.run(`bucket ${name}`, async () => {
      if (this.#buckets.has(name))
        throw new S3Error(
          'BucketAlreadyOwnedByYou',
          'Your previous request to create the named bucket succeeded and you already own it.',
        );
      const createdAt = this.clock.now();
      const staged = this.stagingPath();
      await mkdir(join(staged, 'objects'), { recursive: true, mode: 0o700 });
      await writeFile(join(staged, 'bucket.json'), JSON.stringify({ createdAt }), { flush: true });
      await this.#directories.sync(staged);
      await rename(staged, join(this.root, 'buckets', name));
      await this.#directories.sync(join(this.root, 'buckets'));
      this.#remember(name, createdAt);
    });
  }

  deleteBucket(name: string): Promise<void> {
    return this.#locks.run(`bucket ${name}`, async () => {
      const bucket = this.#bucket(name);
      if (bucket.commits > 0) throw new S3Error('OperationAborted', 'An object is being written to the bucket.');
      bucket.deleting = true;
      try {
        for await (const entry of walkKeys(bucket.objects, { prefix: '', after: undefined, stopAtSlash: false })) {
          throw new S3Error(
            'BucketNotEmpty',
            `The bucket you tried to delete is not empty (${entry.key.length} bytes of key).`,
          );
        }
        const gone = this.stagingPath();
        await rename(dirname(bucket.objects), gone);
        await this.#directories.sync(join(this.root, 'buckets'));
        this.#buckets.delete(name);
        this.#directories.forget(dirname(bucket.objects));
        await rm(gone, { recursive: true, force: true });
      } finally {
        bucket.deleting = false;
      }
    });
  }

  /** Directory of a bucket's objects, for listings. */
  objectsOf(bucket: string): string {
    return this.#bucket(bucket).objects;
  }

  /** A new name in the staging directory. */
  stagingPath(): string {
    return join(this.#staging, this.#random.bytes(12).toString('hex'));
  }

  stage(): Promise<StagedFile> {
    return StagedFile.create(this.stagingPath());
  }

  /** Puts a finished file in the place of the key, if `precondition` agrees. Of several at once one comes after the other. */
  async commit(bucketName: string, key: string, staged: StagedFile, precondition?: Precondition): Promise<void> {
    const bucket = this.#bucket(bucketName);
    const names = pathOfKey(bytesOf(key));
    const path = join(bucket.objects, ...names);
    bucket.commits += 1;
    try {
      await this.#locks.run(path, async () => {
        if (bucket.deleting || this.#buckets.get(bucketName) !== bucket)
          throw new S3Error('OperationAborted', 'The bucket is being deleted.');
        precondition?.(await this.#peek(path));
        await this.#moveIn(staged, bucket.objects, names, path);
      });
    } finally {
      bucket.commits -= 1;
    }
  }

  /** undefined when there is no such object. Release it. */
  open(bucket: string, key: string): Promise<OpenObject | undefined> {
    return this.#open.acquire(join(this.#bucket(bucket).objects, ...pathOfKey(bytesOf(key))));
  }

  head(bucket: string, key: string): Promise<ObjectMeta | undefined> {
    return this.#peek(join(this.#bucket(bucket).objects, ...pathOfKey(bytesOf(key))));
  }

  /** `key` as a byte string. */
  headBytes(bucket: string, key: string): Promise<ObjectMeta | undefined> {
    return this.#peek(join(this.#bucket(bucket).objects, ...pathOfKey(key)));
  }

  /** Deletes what is there; durable when it resolves. */
  async delete(bucketName: string, keys: readonly string[]): Promise<void> {
    const bucket = this.#bucket(bucketName);
    const { objects } = bucket;
    const touched = new Set<string>();
    for (const key of keys) {
      const path = join(objects, ...pathOfKey(bytesOf(key)));
      await this.#locks.run(path, async () => {
        try {
          await unlink(path);
        } catch (error) {
          if (isCode(error, 'ENOENT', 'ENOTDIR')) return;
          throw error;
        }
        this.#open.invalidate(path);
        touched.add(dirname(path));
      });
    }
    for (const directory of touched) await this.#syncIfThere(directory);
    // Not while somebody may be about to rename a file into one of them; an empty directory left behind is harmless.
    if (bucket.commits === 0) for (const directory of touched) this.#directories.prune(objects, directory);
  }

  close(): void {
    this.#open.close();
  }

  async #moveIn(staged: StagedFile, objects: string, names: readonly string[], path: string): Promise<void> {
    const directory = await this.#directories.create(objects, names.slice(0, -1));
    await rename(staged.path, path);
    this.#open.invalidate(path);
    await this.#directories.sync(directory);
  }

  async #syncIfThere(directory: string): Promise<void> {
    try {
      await this.#directories.sync(directory);
    } catch (error) {
      // Pruned by another deletion, which is an even stronger removal.
      if (!isCode(error, 'ENOENT')) throw error;
    }
  }

  async #peek(path: string): Promise<ObjectMeta | undefined> {
    return this.#open.peek(path);
  }

  #bucket(name: string): BucketState {
    const bucket = this.#buckets.get(name);
    if (bucket === undefined) throw new S3Error('NoSuchBucket', `The specified bucket does not exist: ${name}`);
    return bucket;
  }

  #remember(name: string, createdAt: number): void {
    invariant(!this.#buckets.has(name), `bucket ${name} is new`);
    const objects = join(this.root, 'buckets', name, 'objects');
    this.#buckets.set(name, { name, createdAt, objects, commits: 0, deleting: false });
  }

  get #staging(): string {
    return join(this.root, 'staging');
  }
}
