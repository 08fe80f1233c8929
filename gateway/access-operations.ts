import type { AccessAdmin, GivenChap } from './access/access-admin.ts';
import type { AccessControl } from './access/access-control.ts';
import type { AuditLog } from './access/audit-log.ts';
import type { VolumePart } from './access/document.ts';
import { parseIscsiName } from './access/operations.ts';
import type { ArgumentsOf, Caller, Operation, Results, SessionReport, Warned } from './admin/gateway-api.ts';
import { describeError, FarshoreError } from './base/errors.ts';
import type { SeenSession, SessionsControl } from './sessions-control.ts';

/** What the operations on access control are carried out with. */
export interface AccessOperationsDeps {
  readonly admin: AccessAdmin;
  readonly control: Pick<AccessControl, 'problems'>;
  readonly audit: AuditLog;
  readonly sessions: SessionsControl;
  /** Name of a volume by its identifier. */
  readonly volumeName: (volume: string) => string;
  /** Targets came or went, for whoever announces them. */
  readonly targetsChanged: () => void;
  /** See warningsAbout. */
  readonly warnings: (
    concerns: (part: VolumePart, isLost: boolean) => boolean,
    isElsewhere: (volume: string) => boolean,
  ) => Promise<readonly string[]>;
}

type AccessOperation = Extract<
  Operation,
  | 'target-create'
  | 'target-list'
  | 'target-delete'
  | 'initiator-add'
  | 'initiator-list'
  | 'initiator-remove'
  | 'initiator-chap'
  | 'discovery-chap'
  | 'map'
  | 'unmap'
  | 'session-list'
  | 'session-kill'
  | 'reservation-list'
  | 'reservation-clear'
  | 'access-report'
  | 'access-key-export'
  | 'access-key-import'
>;

type AccessHandlers = {
  readonly [Op in AccessOperation]: (
    args: ArgumentsOf<Op>,
    onProgress: unknown,
    caller: Caller,
  ) => Promise<Results[Op]>;
};

/**
 * The operations on access control, as the control socket offers them. `requireOwned` throws when another gateway has the volume: what would be
 * changed here would be in force nowhere; `isElsewhere` says whether that is so.
 */
export function accessOperations(
  deps: AccessOperationsDeps,
  requireOwned: (volume: string) => void,
  isElsewhere: (volume: string) => boolean,
): AccessHandlers {
  const { admin, audit, sessions, targetsChanged } = deps;
  const warned = async (concerns: (part: VolumePart, isLost: boolean) => boolean): Promise<Warned> => {
    const warnings = await deps.warnings(concerns, isElsewhere);
    return warnings.length === 0 ? {} : { warnings };
  };
  const named = (name: string) => warned((part) => part.name === name);
  /** Of an initiator (undefined: all) that is known by another spelling perhaps. */
  const mappedFor = (text: string | undefined) => {
    const name = text === undefined ? undefined : parseIscsiName(text, 'the initiator');
    // Of those that were lost nobody knows here whom they are mapped for.
    return warned((part, isLost) => isLost || part.maps.some((map) => map.initiator === (name ?? map.initiator)));
  };
  const lost = () => warned((_part, isLost) => isLost);
  return {
    'target-create': async ({ name }, _, { by }) => {
      const report = await admin.createTarget(name, by);
      targetsChanged();
      return report;
    },
    'target-list': () => Promise.resolve(admin.targets()),
    'target-delete': async ({ name }, _, { by }) => {
      await admin.deleteTarget(name, by);
      targetsChanged();
      return { name: admin.targetName(name) };
    },
    'initiator-add': async ({ initiator }, _, { by }) => ({
      ...(await admin.addInitiator(initiator, by)),
      ...(await lost()),
    }),
    'initiator-list': () => Promise.resolve(admin.initiators()),
    'initiator-remove': async ({ initiator }, _, { by }) => {
      await admin.removeInitiator(initiator, by);
      return { initiator, ...(await lost()) };
    },
    'initiator-chap': async ({ initiator, target, chap }, _, { by }) => ({
      ...(await admin.setChap(initiator, target, chap && givenOf(chap), by)),
      ...(await mappedFor(initiator)),
    }),
    'discovery-chap': async ({ initiator, chap }, _, { by }) => {
      await admin.setDiscoveryChap(initiator, chap && givenOf(chap), by);
      return { initiator, ...(await mappedFor(initiator)) };
    },
    map: async ({ name, initiator, target, lun, readOnly, addresses }, _, { by }) => {
      requireOwned(name);
      const map = await admin.map({ volume: name, initiator, target, lun, readOnly, addresses }, by);
      targetsChanged();
      return { ...map, ...(await named(name)) };
    },
    unmap: async ({ name, initiator, target }, _, { by }) => {
      requireOwned(name);
      const maps = await admin.unmap({ volume: name, initiator, target }, by);
      targetsChanged();
      return { maps: maps.map((map) => ({ volume: name, ...map })), ...(await named(name)) };
    },
    'session-list': async () => (await sessions.sessions()).map((session) => sessionReport(session, deps)),
    'session-kill': async ({ id }, _, { by }) => {
      const session = await sessions.session(id);
      if (session === undefined) throw noSession(id);
      const { initiatorName: initiator, targetName: target, peer } = session;
      await audit.change({ event: 'session-kill', by, session: id, initiator, target: target ?? null, peer });
      const ended = await sessions.endSession(id, `ended by ${by}`);
      if (ended === undefined) throw noSession(id);
      return { id, unsettled: ended.unsettled };
    },
    'reservation-list': ({ name }) => sessions.reservations(name),
    'reservation-clear': async ({ name, discardUnreadable }, _, { by }) => {
      requireOwned(name);
      const before = await sessions.reservations(name);
      if (!before.readable && !discardUnreadable) throw unreadable(name);
      await audit.change({ event: 'reservation-clear', by, volume: name, before });
      try {
        await sessions.clearReservations(name);
      } catch (error) {
        audit.note({ event: 'change-failed', by, change: 'reservation-clear', reason: describeError(error) });
        throw error;
      }
      return before;
    },
    'access-report': ({ name, initiator }) => admin.report({ volume: name, initiator }, isElsewhere),
    'access-key-export': async (_args, _, { by }) => ({ key: await admin.exportKey(by) }),
    'access-key-import': async ({ key }, _, { by }) => ({ ids: await admin.importKey(key, by) }),
  };
}

function sessionReport(session: SeenSession, { volumeName }: AccessOperationsDeps): SessionReport {
  const { initiatorName, targetName, peer, portal, proof, since, outstandingTasks, tsih, volumes } = session;
  return {
    id: tsih,
    initiator: initiatorName,
    target: targetName,
    peer,
    portal,
    authentication: proof.kind,
    since,
    outstandingTasks,
    volumes: volumes.map(volumeName),
  };
}

function givenOf(chap: NonNullable<ArgumentsOf<'initiator-chap'>['chap']>): GivenChap {
  const credential = ({ user, secret }: { readonly user: string; readonly secret: string }) => ({
    user,
    secret: Buffer.from(secret, 'base64'),
  });
  return { initiator: credential(chap), mutual: chap.mutual && credential(chap.mutual) };
}

function unreadable(name: string): FarshoreError {
  return new FarshoreError(
    'input',
    `what the logical unit of ${name} kept cannot be understood: nobody knows who had reserved it, or whether a SANITIZE was under way; if no host is using it, and after a SANITIZE you begin another one: farshore reservation clear ${name} --discard-unreadable`,
  );
}

function noSession(id: number): FarshoreError {
  return new FarshoreError('not-found', `there is no session ${id}; farshore session list shows those there are`);
}
