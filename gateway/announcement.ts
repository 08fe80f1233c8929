import type { GatewayReport } from './admin/gateway-api.ts';
import { systemClock, systemRandom } from './base/clock.ts';
import type { Log } from './base/log.ts';
import type { Settings } from './config.ts';
import { connectOverTcp } from './isns/connection.ts';
import { type IsnsRegistration, startIsnsRegistration } from './isns/registration.ts';
import { PORTAL_GROUP_TAG } from './iscsi/constants.ts';
import type { OpenPortal } from './iscsi/portals.ts';

/** What is told to an iSNS server, if one is configured. */
export class Announcement {
  #registration: IsnsRegistration | undefined;

  /** Once the portals are open. */
  start(settings: Settings, portals: readonly OpenPortal[], access: { announced(): Iterable<string> }, log: Log): void {
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
      targets: () => [...access.announced()].map((name) => ({ name, alias: undefined })),
      portals: () => portals.flatMap((portal) => portal.advertise ?? [portal]),
    });
  }

  /** Targets came or went. */
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
