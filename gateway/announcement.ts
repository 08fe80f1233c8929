import type { GatewayReport } from './admin/gateway-api.ts';
import { systemClock, systemRandom } from './base/clock.ts';
import type { Log } from './base/log.ts';
import type { Settings } from './config.ts';
import { connectOverTcp } from './isns/connection.ts';
import { type IsnsRegistration, startIsnsRegistration } from './isns/registration.ts';
import type { IsnsPortal, IsnsTarget } from './isns/messages.ts';
import { PORTAL_GROUP_TAG } from './iscsi/constants.ts';

import { isLoopbackAddress } from './iscsi/target-registry.ts';
import type { OpenPortal } from './iscsi/target-registry.ts';

interface Announced {
  /** Targets that somebody may use at portals of this kind. */
  announced(loopback: boolean): Iterable<string>;
  /** Where another thread serves the target; undefined: it is the main one's. */
  portalsOf(name: string): readonly OpenPortal[] | undefined;
}

/** The portals that are open: those of the main thread, and of each of the others. */
interface OpenPortals {
  readonly main: readonly OpenPortal[];
  readonly others: readonly OpenPortal[];
}

/**
 * The targets others may use, and the portals to use them at, as SendTargets names them: with several threads each target has those of its own, since
 * an iSNS server takes all portals of an entity for ways to each of its targets that says nothing else. Targets that are open at loopback portals, and
 * these, are announced where there are no others.
 */
export function announced(
  { main, others }: OpenPortals,
  access: Announced,
): { readonly targets: readonly IsnsTarget[]; readonly portals: readonly IsnsPortal[] } {
  const isLocal = ({ host }: OpenPortal): boolean => isLoopbackAddress(host) || host === 'localhost';
  const loopback = main.every(isLocal);
  const told = (portals: readonly OpenPortal[]): readonly IsnsPortal[] =>
    portals
      .filter((each) => loopback || !isLocal(each) || each.advertise !== undefined)
      .flatMap((each) => each.advertise ?? [{ host: each.host, port: each.port }]);
  return {
    targets: [...access.announced(loopback)].map((name) => ({
      name,
      alias: undefined,
      portals: others.length === 0 ? undefined : told(access.portalsOf(name) ?? main),
    })),
    portals: told([...main, ...others]),
  };
}

/** What is told to an iSNS server, if one is configured. */
export class Announcement {
  #registration: IsnsRegistration | undefined;

  /** Once the portals are open. */
  start(settings: Settings, portals: OpenPortals, access: Announced, log: Log): void {
    const { isns } = settings;
    if (isns === undefined) return;
    this.#registration = startIsnsRegistration({
      clock: systemClock,
      random: systemRandom,
      log: log.child({ part: 'isns' }),
      server: isns.host.includes(':') ? `[${isns.host}]:${isns.port}` : `${isns.host}:${isns.port}`,
      connect: connectOverTcp(isns, systemClock),
      entity: settings.iqn,
      groupTag: PORTAL_GROUP_TAG,
      targets: () => announced(portals, access).targets,
      portals: () => announced(portals, access).portals,
    });
  }

  /** Targets came or went, or are served elsewhere. */
  changed(): void {
    this.#registration?.changed();
  }

  report(): GatewayReport['isns'] {
    if (this.#registration === undefined) return undefined;
    const { server, state, problem } = this.#registration.state();
    return { server, state, problem };
  }

  async close(): Promise<void> {
    await this.#registration?.close();
  }
}
