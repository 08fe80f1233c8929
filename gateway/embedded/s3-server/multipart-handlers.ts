import { writePrecondition } from './conditions.ts';
import { refuseUnsupportedHeaders, sendEmpty, sendXml } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { MAX_PARTS } from './multipart.ts';
import { checksumHeaders, metadataOf } from './object-headers.ts';
import type { ObjectMeta } from './object-file.ts';
import { planBody, receiveBody, receiveWhole } from './request-body.ts';
import { S3Error, notImplemented } from './s3-error.ts';
import { childText, parseXml, writeXml } from './xml.ts';
import type { XmlNode } from './xml.ts';

const MAX_XML_BYTES = 4 * 1024 * 1024;

export async function createMultipartUpload({
  request,
  response,
  files,
  multipart,
  bucket,
  key,
}: Exchange): Promise<void> {
  refuseUnsupportedHeaders(request);
  files.bucket(bucket);
  const upload = await multipart.begin(bucket, key, metadataOf(request));
  const document = writeXml('InitiateMultipartUploadResult', [
    ['Bucket', bucket],
    ['Key', key],
    ['UploadId', upload.id],
  ]);
  sendXml(response, 200, document);
}

export async function uploadPart({
  request,
  response,
  files,
  multipart,
  bucket,
  key,
  query,
  signer,
}: Exchange): Promise<void> {
  if (request.headers['x-amz-copy-source'] !== undefined) throw notImplemented('UploadPartCopy');
  const upload = multipart.find(bucket, key, query.get('uploadId'));
  const number = Number(query.get('partNumber'));
  if (!Number.isInteger(number) || number < 1 || number > MAX_PARTS)
    throw new S3Error('InvalidArgument', `Part number must be an integer between 1 and ${MAX_PARTS}, inclusive`);
  const plan = planBody(request, signer);
  const staged = await files.stage();
  try {
    const received = await receiveBody(request, plan, (piece) => staged.write(piece));
    const meta: ObjectMeta = {
      key,
      bytes: received.bytes,
      etag: received.md5.toString('hex'),
      modifiedAt: files.clock.now(),
      checksums: received.checksums,
      headers: {},
      user: {},
    };
    await staged.finish(meta);
    await multipart.putPart(upload, number, staged);
    const { 'x-amz-checksum-type': _, ...checksums } = checksumHeaders(meta);
    sendEmpty(response, 200, { ETag: `"${meta.etag}"`, ...checksums });
  } finally {
    await staged.discard();
  }
}

export async function completeMultipartUpload(exchange: Exchange): Promise<void> {
  const { request, response, multipart, bucket, key, query, signer } = exchange;
  const upload = multipart.find(bucket, key, query.get('uploadId'));
  const body = await receiveWhole(request, planBody(request, signer, MAX_XML_BYTES));
  const root = parseXml(body.toString('utf8'));
  const parts = root.children
    .filter(({ name }) => name === 'Part')
    .map((part) => ({ number: Number(childText(part, 'PartNumber')), etag: childText(part, 'ETag') ?? '' }));
  if (root.name !== 'CompleteMultipartUpload' || parts.length === 0 || parts.length > MAX_PARTS)
    throw new S3Error('MalformedXML', `The XML you provided does not name 1 to ${MAX_PARTS} parts.`);
  const meta = await multipart.complete(upload, parts, writePrecondition(request.headers));
  const document = writeXml('CompleteMultipartUploadResult', [
    ['Location', `/${bucket}/${key}`],
    ['Bucket', bucket],
    ['Key', key],
    ['ETag', `"${meta.etag}"`],
    ['ChecksumCRC32', meta.checksums.crc32 ?? ''],
    ['ChecksumType', 'FULL_OBJECT'],
  ]);
  sendXml(response, 200, document);
}

export async function abortMultipartUpload({ response, multipart, bucket, key, query }: Exchange): Promise<void> {
  await multipart.abort(multipart.find(bucket, key, query.get('uploadId')));
  sendEmpty(response, 204);
}

/** All parts in one page: there are at most 10,000. */
export async function listParts({ response, multipart, bucket, key, query }: Exchange): Promise<void> {
  const upload = multipart.find(bucket, key, query.get('uploadId'));
  const parts = (await multipart.parts(upload)).map(({ number, meta }): XmlNode => [
    'Part',
    [
      ['PartNumber', number],
      ['LastModified', new Date(meta.modifiedAt).toISOString()],
      ['ETag', `"${meta.etag}"`],
      ['Size', meta.bytes],
    ],
  ]);
  const document = writeXml('ListPartsResult', [
    ['Bucket', bucket],
    ['Key', key],
    ['UploadId', upload.id],
    ['IsTruncated', false],
    ...parts,
  ]);
  sendXml(response, 200, document);
}

export function listMultipartUploads({ response, files, multipart, bucket, query }: Exchange): Promise<void> {
  files.bucket(bucket);
  const prefix = query.get('prefix') ?? '';
  const uploads = multipart
    .list(bucket)
    .filter(({ key }) => key.startsWith(prefix))
    .map(({ key, id, createdAt }): XmlNode => [
      'Upload',
      [
        ['Key', key],
        ['UploadId', id],
        ['Initiated', new Date(createdAt).toISOString()],
      ],
    ]);
  const document = writeXml('ListMultipartUploadsResult', [['Bucket', bucket], ['IsTruncated', false], ...uploads]);
  sendXml(response, 200, document);
  return Promise.resolve();
}
