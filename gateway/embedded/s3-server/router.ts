import {
  createBucket,
  deleteBucket,
  deleteObjects,
  getBucketLocation,
  getBucketVersioning,
  headBucket,
  listBuckets,
  listObjectsV2,
} from './bucket-handlers.ts';
import type { Handler } from './exchange.ts';
import {
  abortMultipartUpload,
  completeMultipartUpload,
  createMultipartUpload,
  listMultipartUploads,
  listParts,
  uploadPart,
} from './multipart-handlers.ts';
import { deleteObject, getObject, putObject } from './object-handlers.ts';
import { S3Error, notImplemented } from './s3-error.ts';

export interface Route {
  readonly operation: string;
  readonly handler: Handler;
}

type Scope = 'service' | 'bucket' | 'object';

/** By scope, method and the query parameters that select an operation ('' for none of them). */
const ROUTES: Readonly<Record<Scope, Readonly<Record<string, Route>>>> = {
  service: {
    'GET ': { operation: 'ListBuckets', handler: listBuckets },
  },
  bucket: {
    'PUT ': { operation: 'CreateBucket', handler: createBucket },
    'HEAD ': { operation: 'HeadBucket', handler: headBucket },
    'DELETE ': { operation: 'DeleteBucket', handler: deleteBucket },
    'GET list-type': { operation: 'ListObjectsV2', handler: listObjectsV2 },
    'GET location': { operation: 'GetBucketLocation', handler: getBucketLocation },
    'GET versioning': { operation: 'GetBucketVersioning', handler: getBucketVersioning },
    'GET uploads': { operation: 'ListMultipartUploads', handler: listMultipartUploads },
    'POST delete': { operation: 'DeleteObjects', handler: deleteObjects },
  },
  object: {
    'PUT ': { operation: 'PutObject', handler: putObject },
    'GET ': { operation: 'GetObject', handler: getObject },
    'HEAD ': { operation: 'HeadObject', handler: getObject },
    'DELETE ': { operation: 'DeleteObject', handler: deleteObject },
    'POST uploads': { operation: 'CreateMultipartUpload', handler: createMultipartUpload },
    'PUT uploadId': { operation: 'UploadPart', handler: uploadPart },
    'POST uploadId': { operation: 'CompleteMultipartUpload', handler: completeMultipartUpload },
    'DELETE uploadId': { operation: 'AbortMultipartUpload', handler: abortMultipartUpload },
    'GET uploadId': { operation: 'ListParts', handler: listParts },
  },
};

/** Parameters that select an operation here. */
const SELECTORS = ['list-type', 'location', 'versioning', 'uploads', 'uploadId', 'delete'];

/** Parameters that select an operation of S3 that this server does not have. */
const UNSUPPORTED = new Set([
  'accelerate',
  'acl',
  'analytics',
  'attributes',
  'cors',
  'encryption',
  'intelligent-tiering',
  'inventory',
  'legal-hold',
  'lifecycle',
  'logging',
  'metrics',
  'notification',
  'object-lock',
  'ownershipControls',
  'policy',
  'policyStatus',
  'publicAccessBlock',
  'renameObject',
  'replication',
  'requestPayment',
  'restore',
  'retention',
  'select',
  'session',
  'tagging',
  'torrent',
  'versionId',
  'versions',
  'website',
]);

/** Finds the operation; throws NotImplemented for one of S3 that is not here, MethodNotAllowed for none at all. */
export function route(method: string, bucket: string, key: string, query: ReadonlyMap<string, string>): Route {
  for (const name of query.keys()) if (UNSUPPORTED.has(name)) throw notImplemented(`?${name}`);
  const scope: Scope = bucket === '' ? 'service' : key === '' ? 'bucket' : 'object';
  const selector = SELECTORS.find((name) => query.has(name)) ?? '';
  const found = ROUTES[scope][`${method} ${selector}`];
  if (found !== undefined && (selector !== 'list-type' || query.get(selector) === '2')) return found;
  if (scope === 'bucket' && method === 'GET') throw notImplemented('ListObjects version 1 (use list-type=2)');
  if (scope === 'bucket' && method === 'POST') throw notImplemented('uploading with a form');
  throw new S3Error('MethodNotAllowed', 'The specified method is not allowed against this resource.');
}
