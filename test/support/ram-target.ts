/**
 * Serves a RAM device over iSCSI, or with --null one that keeps nothing, for trying things by hand:
 *   npx tsx test/support/ram-target.ts [--port 3260] [--size-mib 256] [--sector 512] [--iqn NAME] [--luns 1] [--null]
 */
import { parseArgs } from 'node:util';
import type { Log } from '../../gateway/base/log.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { MIB } from '../../gateway/base/units.ts';
import { NullDevice } from './null-device.ts';
import { openServer } from './open-server.ts';
import { RamDevice } from './ram-device.ts';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '3260' },
    'size-mib': { type: 'string', default: '256' },
    sector: { type: 'string', default: '512' },
    iqn: { type: 'string', default: 'iqn.2026-11.dev.farshore:ram' },
    luns: { type: 'string', default: '1' },
    null: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
});

const consoleLog: Log = {
  debug: (fields, message) => {
    console.log(message, JSON.stringify(fields));
  },
  info: (fields, message) => {
    console.log(message, JSON.stringify(fields));
  },
  warn: (fields, message) => {
    console.log(message, JSON.stringify(fields));
  },
  error: (fields, message) => {
    console.error(message, JSON.stringify(fields));
  },
  child: () => consoleLog,
};

const sectorSize = values.sector === '4096' ? 4096 : 512;
const bytes = Number(values['size-mib']) * MIB;
const luns = new Map(
  Array.from({ length: Number(values.luns) }, (_, lun) => [
    lun,
    {
      device: values.null
        ? new NullDevice({ bytes, sectorSize, name: `null${lun}` })
        : new RamDevice({ bytes, sectorSize, name: `ram${lun}` }),
      readOnly: false,
      state: { load: () => undefined, save: () => Promise.resolve() },
    },
  ]),
);
const server = openServer(values.iqn, luns, values.verbose ? consoleLog : silentLog);
const [portal] = await server.listen([{ host: '127.0.0.1', port: Number(values.port) }]);
console.log(`iscsi://127.0.0.1:${portal?.port ?? 0}/${values.iqn}/0`);
process.once('SIGINT', () => void server.close(true).then(() => process.exit(0)));
process.once('SIGTERM', () => void server.close(true).then(() => process.exit(0)));
