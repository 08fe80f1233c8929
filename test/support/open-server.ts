import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import type { Log } from '../../gateway/base/log.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { IscsiTargetServer } from '../../gateway/iscsi/server.ts';
import { DEFAULT_ISCSI_SETTINGS } from '../../gateway/iscsi/settings.ts';
import type { MappedLun } from '../../gateway/iscsi/target-registry.ts';

/** The gateway's target server with one target that is open to everybody. */
export function openServer(
  name: string,
  luns: ReadonlyMap<number, MappedLun>,
  log: Log = silentLog,
): IscsiTargetServer {
  const target = { name, luns: () => luns };
  return new IscsiTargetServer({
    log,
    clock: systemClock,
    random: systemRandom,
    targets: {
      authorize: (asked) => (asked === name ? { kind: 'allowed', target, chap: undefined } : { kind: 'not-found' }),
      discover: () => [target],
      discoveryChap: () => undefined,
      onEvent: () => undefined,
    },
    settings: DEFAULT_ISCSI_SETTINGS,
  });
}
