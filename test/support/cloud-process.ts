import { silentLog } from '../../gateway/base/log.ts';
import { startEmbeddedCloud } from '../../gateway/embedded/embedded-cloud.ts';

/** An embedded cloud as a process of its own, to be killed: `cloud-process.ts DIR` prints its two endpoints as JSON. */
const cloud = await startEmbeddedCloud({
  dir: process.argv[2] ?? '',
  s3Port: 0,
  dynamodbPort: 0,
  bucket: 'farshore',
  table: 'farshore',
  log: silentLog,
});
console.log(JSON.stringify({ s3Endpoint: cloud.s3Endpoint, dynamodbEndpoint: cloud.dynamodbEndpoint }));
