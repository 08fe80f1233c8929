import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestS3 } from '../../../support/s3-server.ts';
import type { TestS3 } from '../../../support/s3-server.ts';

/** The SDK as anybody would use it, with its default checksums and signatures: not only in the ways of our own adapter. */
const KEY_PAIR = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' };
const MIB = 1024 * 1024;

process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';

let s3: TestS3;
let client: S3Client;
beforeAll(async () => {
  s3 = await startTestS3(KEY_PAIR);
  client = clientWith(KEY_PAIR);
});
afterAll(async () => {
  client.destroy();
  await s3.close();
});

function clientWith(credentials: typeof KEY_PAIR): S3Client {
  return new S3Client({
    region: 'eu-west-1',
    endpoint: s3.server.endpoint,
    forcePathStyle: true,
    credentials,
    maxAttempts: 1,
  });
}

async function content(Key: string): Promise<Buffer> {
  const answer = await client.send(new GetObjectCommand({ Bucket: 'bucket', Key, ChecksumMode: 'ENABLED' }));
  return Buffer.from((await answer.Body?.transformToByteArray()) ?? []);
}

describe('the SDK', () => {
  it.each(['CRC32', 'CRC32C', 'SHA1', 'SHA256'] as const)('puts buffers and streams with %s', async (algorithm) => {
    const body = randomBytes(200_000);
    const buffer = new PutObjectCommand({
      Bucket: 'bucket',
      Key: `b ${algorithm}`,
      Body: body,
      ChecksumAlgorithm: algorithm,
    });
    await client.send(buffer);
    const stream = new PutObjectCommand({
      Bucket: 'bucket',
      Key: `s ${algorithm}`,
      Body: Readable.from([body.subarray(0, 1), body.subarray(1, 100_000), body.subarray(100_000)]),
      ContentLength: body.length,
      ChecksumAlgorithm: algorithm,
    });
    await client.send(stream);
    expect((await content(`b ${algorithm}`)).equals(body)).toBe(true);
    expect((await content(`s ${algorithm}`)).equals(body)).toBe(true);
  });

  it('is told of a wrong key and a wrong secret', async () => {
    const wrongSecret = clientWith({ ...KEY_PAIR, secretAccessKey: 'wrong' });
    const wrongKey = clientWith({ ...KEY_PAIR, accessKeyId: 'AKIDOTHER' });
    const list = () => new ListObjectsV2Command({ Bucket: 'bucket' });
    await expect(wrongSecret.send(list())).rejects.toMatchObject({ name: 'SignatureDoesNotMatch' });
    await expect(wrongKey.send(list())).rejects.toMatchObject({ name: 'InvalidAccessKeyId' });
    expect((await s3.get('b%20CRC32')).code).toBe('AccessDenied');
    wrongSecret.destroy();
    wrongKey.destroy();
  });

  it('uploads in parts, and sees nothing until they are completed', async () => {
    const target = { Bucket: 'bucket', Key: 'dir/multi part' };
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ ...target, Metadata: { kind: 'test' } }));
    const parts = [randomBytes(5 * MIB), randomBytes(5 * MIB + 1), randomBytes(10)];
    const uploaded: { PartNumber: number; ETag: string | undefined }[] = [];
    for (const [index, Body] of parts.entries()) {
      const PartNumber = index * 2 + 1;
      const { ETag } = await client.send(new UploadPartCommand({ ...target, UploadId, PartNumber, Body }));
      uploaded.push({ PartNumber, ETag });
    }
    await expect(client.send(new HeadObjectCommand(target))).rejects.toMatchObject({ name: 'NotFound' });
    const listed = await client.send(new ListPartsCommand({ ...target, UploadId }));
    expect(listed.Parts?.map(({ PartNumber, Size }) => [PartNumber, Size])).toEqual([
      [1, 5 * MIB],
      [3, 5 * MIB + 1],
      [5, 10],
    ]);
    const complete = (Parts: typeof uploaded) =>
      client.send(new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload: { Parts } }));
    await expect(complete([...uploaded].reverse())).rejects.toMatchObject({ name: 'InvalidPartOrder' });
    await expect(complete([{ PartNumber: 2, ETag: '"x"' }])).rejects.toMatchObject({ name: 'InvalidPart' });
    const { ETag } = await complete(uploaded);
    expect(ETag).toMatch(/^"[0-9a-f]{32}-3"$/);
    expect((await content(target.Key)).equals(Buffer.concat(parts))).toBe(true);
    expect((await client.send(new HeadObjectCommand(target))).Metadata).toEqual({ kind: 'test' });
    await expect(complete(uploaded)).rejects.toMatchObject({ name: 'NoSuchUpload' });
    expect((await client.send(new ListMultipartUploadsCommand({ Bucket: 'bucket' }))).Uploads).toBeUndefined();
  });

  it('refuses parts that are too small, and forgets an aborted upload', async () => {
    const target = { Bucket: 'bucket', Key: 'small' };
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(target));
    const Parts: { PartNumber: number; ETag: string | undefined }[] = [];
    for (const PartNumber of [1, 2]) {
      const { ETag } = await client.send(
        new UploadPartCommand({ ...target, UploadId, PartNumber, Body: Buffer.alloc(100) }),
      );
      Parts.push({ PartNumber, ETag });
    }
    const complete = () =>
      client.send(new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload: { Parts } }));
    await expect(complete()).rejects.toMatchObject({ name: 'EntityTooSmall' });
    await client.send(new AbortMultipartUploadCommand({ ...target, UploadId }));
    await expect(complete()).rejects.toMatchObject({ name: 'NoSuchUpload' });
  });

  it('completes an upload only on the condition it names', async () => {
    const target = { Bucket: 'bucket', Key: 'multi-once' };
    const outcomes = await Promise.allSettled(
      [1, 2, 3].map(async () => {
        const { UploadId } = await client.send(new CreateMultipartUploadCommand(target));
        const { ETag } = await client.send(
          new UploadPartCommand({ ...target, UploadId, PartNumber: 1, Body: randomBytes(9) }),
        );
        const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
        await client.send(
          new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload, IfNoneMatch: '*' }),
        );
      }),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('copies, deletes, and makes buckets', async () => {
    await client.send(new PutObjectCommand({ Bucket: 'bucket', Key: 'from here', Body: 'text' }));
    await client.send(new CopyObjectCommand({ Bucket: 'bucket', Key: 'to there', CopySource: 'bucket/from%20here' }));
    expect((await content('to there')).toString()).toBe('text');
    await client.send(new DeleteObjectCommand({ Bucket: 'bucket', Key: 'to there' }));
    await expect(content('to there')).rejects.toMatchObject({ name: 'NoSuchKey' });
    const CreateBucketConfiguration = { LocationConstraint: 'eu-west-1' } as const;
    await client.send(new CreateBucketCommand({ Bucket: 'made-by-sdk', CreateBucketConfiguration }));
    const again = client.send(new CreateBucketCommand({ Bucket: 'made-by-sdk' }));
    await expect(again).rejects.toMatchObject({ name: 'BucketAlreadyOwnedByYou' });
  });
});
