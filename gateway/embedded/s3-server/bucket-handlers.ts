import { checkKey, refuseUnsupportedHeaders, sendEmpty, sendXml } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { listPage } from './listing.ts';
import type { ListedObject } from './listing.ts';
import { planBody, receiveWhole } from './request-body.ts';
import { S3Error } from './s3-error.ts';
import { encodeUri } from './uri.ts';
import { childText, parseXml, writeXml } from './xml.ts';
import type { XmlNode } from './xml.ts';

const MAX_XML_BYTES = 2 * 1024 * 1024;
const MAX_KEYS = 1000;

export function listBuckets({ response, files }: Exchange): Promise<void> {
  const buckets: XmlNode[] = files.buckets().map(({ name, createdAt }) => [
    'Bucket',
    [
      ['Name', name],
      ['CreationDate', new Date(createdAt).toISOString()],
    ],
  ]);
  const document = writeXml('ListAllMyBucketsResult', [
    ['Owner', [['ID', 'farshore']]],
    ['Buckets', buckets],
  ]);
  sendXml(response, 200, document);
  return Promise.resolve();
}

export async function createBucket({ request, response, files, bucket, signer }: Exchange): Promise<void> {
  refuseUnsupportedHeaders(request);
  if (Number(request.headers['content-length'] ?? 0) > 0) {
    // Only a location can be asked for; every region is this machine.
    const body = await receiveWhole(request, planBody(request, signer, MAX_XML_BYTES));
    if (parseXml(body.toString('utf8')).name !== 'CreateBucketConfiguration')
      throw new S3Error('MalformedXML', 'The XML you provided is not a CreateBucketConfiguration.');
  }
  await files.createBucket(bucket);
  sendEmpty(response, 200, { Location: `/${bucket}` });
}

export function headBucket({ response, files, bucket }: Exchange): Promise<void> {
  files.bucket(bucket);
  sendEmpty(response, 200, { 'x-amz-bucket-region': 'us-east-1' });
  return Promise.resolve();
}

export function getBucketLocation({ response, files, bucket }: Exchange): Promise<void> {
  files.bucket(bucket);
  sendXml(response, 200, writeXml('LocationConstraint', []));
  return Promise.resolve();
}

/** Versioning has never been switched on. */
export function getBucketVersioning({ response, files, bucket }: Exchange): Promise<void> {
  files.bucket(bucket);
  sendXml(response, 200, writeXml('VersioningConfiguration', []));
  return Promise.resolve();
}

export async function deleteBucket({ response, files, multipart, bucket }: Exchange): Promise<void> {
  files.bucket(bucket);
  if (multipart.hasUploads(bucket))
    throw new S3Error('BucketNotEmpty', 'The bucket you tried to delete has multipart uploads in progress.');
  await files.deleteBucket(bucket);
  sendEmpty(response, 204);
}

export async function listObjectsV2({ response, files, bucket, query }: Exchange): Promise<void> {
  const maxKeys = numberOf(query.get('max-keys'), MAX_KEYS);
  const prefix = query.get('prefix') ?? '';
  const delimiter = query.get('delimiter') ?? '';
  const startAfter = query.get('start-after');
  const token = query.get('continuation-token');
  const encoding = query.get('encoding-type');
  if (encoding !== undefined && encoding !== 'url')
    throw new S3Error('InvalidArgument', 'Invalid Encoding Method specified in Request');
  const shown = encoding === 'url' ? (text: string) => encodeUri(text, true) : (text: string) => text;
  const page = await listPage(files, bucket, {
    prefix,
    delimiter,
    limit: Math.min(maxKeys, MAX_KEYS),
    startAfter,
    token,
  });
  const document = writeXml('ListBucketResult', [
    ['Name', bucket],
    ['Prefix', shown(prefix)],
    delimiter === '' ? undefined : ['Delimiter', shown(delimiter)],
    startAfter === undefined ? undefined : ['StartAfter', shown(startAfter)],
    token === undefined ? undefined : ['ContinuationToken', token],
    page.nextToken === undefined ? undefined : ['NextContinuationToken', page.nextToken],
    ['KeyCount', page.objects.length + page.prefixes.length],
    ['MaxKeys', maxKeys],
    encoding === undefined ? undefined : ['EncodingType', encoding],
    ['IsTruncated', page.nextToken !== undefined],
    ...page.objects.map((object) => contents(object, shown)),
    ...page.prefixes.map((text): XmlNode => ['CommonPrefixes', [['Prefix', shown(text)]]]),
  ]);
  sendXml(response, 200, document);
}

function contents({ key, meta }: ListedObject, shown: (text: string) => string): XmlNode {
  return [
    'Contents',
    [
      ['Key', shown(key)],
      ['LastModified', new Date(meta.modifiedAt).toISOString()],
      ['ETag', `"${meta.etag}"`],
      ['Size', meta.bytes],
      ['StorageClass', 'STANDARD'],
    ],
  ];
}

function numberOf(text: string | undefined, fallback: number): number {
  if (text === undefined || text === '') return fallback;
  if (!/^\d{1,9}$/.test(text))
    throw new S3Error('InvalidArgument', 'Provided max-keys not an integer or within integer range');
  return Number(text);
}

export async function deleteObjects({ request, response, files, bucket, signer }: Exchange): Promise<void> {
  files.bucket(bucket);
  const plan = planBody(request, signer, MAX_XML_BYTES);
  if (plan.md5 === undefined && Object.keys(plan.checksums).length === 0 && plan.trailing === undefined)
    throw new S3Error('InvalidRequest', 'Missing required header for this request: Content-MD5 OR x-amz-checksum-*');
  const root = parseXml((await receiveWhole(request, plan)).toString('utf8'));
  const objects = root.children.filter(({ name }) => name === 'Object');
  const keys = objects.map((object) => childText(object, 'Key'));
  if (root.name !== 'Delete' || keys.length === 0 || keys.length > MAX_KEYS)
    throw new S3Error('MalformedXML', `The XML you provided does not name 1 to ${MAX_KEYS} objects.`);
  const valid = keys.map((key) => {
    if (key === undefined || key === '') throw new S3Error('MalformedXML', 'An object to delete has no key.');
    checkKey(key);
    return key;
  });
  if (objects.some((object) => object.children.some(({ name }) => name !== 'Key')))
    throw new S3Error('NotImplemented', 'Objects are deleted by key alone here, not by version or condition.');
  await files.delete(bucket, valid);
  const quiet = childText(root, 'Quiet') === 'true';
  const deleted = quiet ? [] : valid.map((key): XmlNode => ['Deleted', [['Key', key]]]);
  sendXml(response, 200, writeXml('DeleteResult', deleted));
}
