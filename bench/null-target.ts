/** The gateway's protocol half with nothing behind it: what iSCSI and SCSI alone cost. Prints its port. `null-target.js BYTES` */
import { NullDevice } from '../test/support/null-device.ts';
import { openServer } from '../test/support/open-server.ts';

const NULL_TARGET = 'iqn.2026-11.dev.farshore:null';

const device = new NullDevice({ bytes: Number(process.argv[2]) });
const server = openServer(NULL_TARGET, new Map([[0, { device, readOnly: false, state: undefined }]]));
const [portal] = await server.listen([{ host: '127.0.0.1', port: 0 }]);
console.log(`listening on ${portal?.port ?? 0}`);
