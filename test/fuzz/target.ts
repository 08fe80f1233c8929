/** The server under test in a process of its own: RAM devices, two targets, CHAP, LUNs by initiator. Started by campaign.ts. */
import { createHash } from 'node:crypto';
import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { MIB } from '../../gateway/base/units.ts';
import { IscsiTargetServer } from '../../gateway/iscsi/server.ts';
import { DEFAULT_ISCSI_SETTINGS } from '../../gateway/iscsi/settings.ts';
import type { Initiator, IscsiTarget, MappedLun, TargetRegistry } from '../../gateway/iscsi/target-registry.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { RamDevice } from '../support/ram-device.ts';
import * as world from './fuzz-world.ts';
import type { FromTarget, ToTarget } from './fuzz-world.ts';
import { plant } from './plants.ts';

const [seed = '1', planted = ''] = process.argv.slice(2);
const random = new SimRandom(seed);

/** A device that answers at once or a little later, and now and then not at all well. */
function device(name: string, bytes: number, sectorSize: 512 | 4096, trouble: number): RamDevice {
  const made = new RamDevice({ bytes, sectorSize, name });
  const mood = random.split(name);
  const laterMs = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  made.intercept = () => {
    const roll = mood.fraction();
    if (roll < 0.05) return new Promise((resolve) => setImmediate(resolve));
    if (roll < 0.06) return laterMs(mood.between(1, 5));
    if (roll < 0.06 + trouble) {
      const kind = mood.pick(['busy', 'retry', 'damaged', 'stopped'] as const);
      if (mood.chance(0.5)) throw new FarshoreError(kind, 'as the fuzzer wants it');
      return laterMs(1).then(() => Promise.reject(new FarshoreError(kind, 'as the fuzzer wants it')));
    }
    return undefined;
  };
  return made;
}

const { FUZZER_LUNS, FUZZER_LUN_BYTES, WITNESS_LUN_BYTES } = world;
const devices = {
  plain: device('plain', FUZZER_LUN_BYTES, 512, 0.002),
  large: device('large', FUZZER_LUN_BYTES, 4096, 0.002),
  readOnly: device('read-only', FUZZER_LUN_BYTES, 512, 0),
  reserved: device('reserved', FUZZER_LUN_BYTES, 512, 0),
  private: device('private', WITNESS_LUN_BYTES, 512, 0),
  beside: device('beside', WITNESS_LUN_BYTES, 512, 0),
  masked: device('masked', WITNESS_LUN_BYTES, 512, 0),
};
for (const name of ['private', 'beside', 'masked'] as const)
  for (let lba = 0; lba < world.WITNESS_SECTORS; lba += 1)
    world.witnessSector(lba, 0).copy(devices[name].bytes, lba * world.SECTOR_BYTES);

const mapped = (of: RamDevice, readOnly = false): MappedLun => ({ device: of, readOnly, state: undefined });
const NOTHING: ReadonlyMap<number, MappedLun> = new Map();
const FOR_FUZZER: ReadonlyMap<number, MappedLun> = new Map([
  [FUZZER_LUNS.plain, mapped(devices.plain)],
  [FUZZER_LUNS.large, mapped(devices.large)],
  [FUZZER_LUNS.readOnly, mapped(devices.readOnly, true)],
  [FUZZER_LUNS.reserved, mapped(devices.reserved)],
]);
const FOR_WITNESS: ReadonlyMap<number, MappedLun> = new Map([
  [0, mapped(devices.beside)],
  [world.MASKED_LUN, mapped(devices.masked)],
]);
const PRIVATE_LUNS: ReadonlyMap<number, MappedLun> = new Map([[0, mapped(devices.private)]]);

const shared: IscsiTarget = {
  name: world.SHARED_TARGET,
  luns: ({ name }) => (name === world.FUZZER ? FOR_FUZZER : name === world.WITNESS ? FOR_WITNESS : NOTHING),
};
const privateTarget: IscsiTarget = {
  name: world.PRIVATE_TARGET,
  luns: ({ name }) => (name === world.WITNESS ? PRIVATE_LUNS : NOTHING),
};

function targetsOf({ name }: Initiator): IscsiTarget[] {
  if (name === world.FUZZER) return [shared];
  return name === world.WITNESS ? [shared, privateTarget] : [];
}

const registry: TargetRegistry = {
  authorize: (targetName, initiator) => {
    const target = targetsOf(initiator).find(({ name }) => name === targetName);
    if (target === undefined) return { kind: 'not-found' };
    const chap = initiator.name === world.FUZZER ? world.FUZZER_CHAP : world.WITNESS_CHAP;
    return { kind: 'allowed', target, chap };
  },
  discover: targetsOf,
  discoveryChap: ({ name }) => (name === world.FUZZER ? undefined : world.WITNESS_CHAP),
  onEvent: () => undefined,
};

const server = new IscsiTargetServer({
  log: silentLog,
  clock: systemClock,
  random: systemRandom,
  targets: registry,
  settings: {
    ...DEFAULT_ISCSI_SETTINGS,
    maxConnections: 48,
    queueDepth: 32,
    writeBytesInFlight: 8 * MIB,
    readBytesInFlight: 8 * MIB,
    sessionWriteBytes: 2 * MIB,
    sessionReadBytes: MIB,
    loginTimeoutSeconds: 3,
    pingAfterSeconds: 2,
    pingTimeoutSeconds: 2,
    stallTimeoutSeconds: 3,
    dataTimeoutSeconds: 2,
    logoutGraceSeconds: 2,
  },
});
if (planted !== '') plant(planted, devices);

const tell = (message: FromTarget): void => {
  process.send?.(message);
};

function state(): FromTarget {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return {
    kind: 'state',
    ...server.usage(),
    heapBytes: heapUsed + external,
    handles: process.getActiveResourcesInfo().length,
    readOnlyDigest: createHash('sha256').update(devices.readOnly.bytes).digest('hex'),
  };
}

process.on('message', (message: ToTarget) => {
  if (message.kind === 'state') {
    tell(state());
    return;
  }
  // Nothing of the server may keep the process alive after this.
  void server.close(true).then(() => {
    process.disconnect();
  });
});

const [portal] = await server.listen([{ host: '127.0.0.1', port: 0 }]);
tell({ kind: 'ready', port: portal?.port ?? 0 });
