import { listen } from '../../../gateway/embedded/loopback.ts';
import { controlServer } from './control.ts';
import { startFaultProxy } from './fault-proxy.ts';

/** A fault proxy as a process of its own: `process.ts S3PORT DYNAMODBPORT` prints its three ports as JSON. */
const [s3Port = 0, dynamodbPort = 0] = process.argv.slice(2).map(Number);
const proxy = await startFaultProxy({ s3Port, dynamodbPort });
const controlPort = await listen(controlServer(proxy), 0, 'the control of the fault proxy');
console.log(JSON.stringify({ s3Port: proxy.s3Port, dynamodbPort: proxy.dynamodbPort, controlPort }));
