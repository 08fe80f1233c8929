import type { AccessAdmin, GivenChap } from './access/access-admin.ts';
import type { AccessControl } from './access/access-control.ts';
import type { AuditLog } from './access/audit-log.ts';
import type { ArgumentsOf, Caller, Operation, Results, SessionReport } from './admin/gateway-api.ts';
import { FarshoreError } from './base/errors.ts';
import type { EndedSession, SessionInfo } from './iscsi/server.ts';

/** What the operations on access control are carried out with. */
export interface AccessOperationsDeps {
  readonly admin: AccessAdmin;
  readonly control: AccessControl;
  readonly audit: AuditLog;
  readonly sessions: {
    sessions(): readonly SessionInfo[];
    /** Resolves with undefined when there is no such session, and in bounded time. */
    endSession(tsih: number, reason?: string): Promise<EndedSession | undefined>;
  };
  /** Name of a volume by its identifier. */
  readonly volumeName: (volume: string) => string;
  /** Targets came or went, for whoever announces them. */
  readonly targetsChanged: () => void;
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
 * changed here would be in force nowhere.
 */
export function accessOperations(deps: AccessOperationsDeps, requireOwned: (volume: string) => void): AccessHandlers {
  const { admin, audit, sessions, targetsChanged } = deps;
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
    'initiator-add': ({ initiator }, _, { by }) => admin.addInitiator(initiator, by),
    'initiator-list': () => Promise.resolve(admin.initiators()),
    'initiator-remove': async ({ initiator }, _, { by }) => {
      await admin.removeInitiator(initiator, by);
      return { initiator };
    },
    'initiator-chap': ({ initiator, target, chap }, _, { by }) =>
      admin.setChap(initiator, target, chap && givenOf(chap), by),
    'discovery-chap': async ({ initiator, chap }, _, { by }) => {
      await admin.setDiscoveryChap(initiator, chap && givenOf(chap), by);
      return { initiator };
    },
    map: async ({ name, initiator, target, lun, readOnly, addresses }, _, { by }) => {
      requireOwned(name);
      const map = await admin.map({ volume: name, initiator, target, lun, readOnly, addresses }, by);
      targetsChanged();
      return map;
    },
    unmap: async ({ name, initiator, target }, _, { by }) => {
      requireOwned(name);
      const maps = await admin.unmap({ volume: name, initiator, target }, by);
      targetsChanged();
      return { maps: maps.map((map) => ({ volume: name, ...map })) };
    },
    'session-list': () => Promise.resolve(sessions.sessions().map((session) => sessionReport(session, deps))),
    'session-kill': async ({ id }, _, { by }) => {
      const session = sessions.sessions().find((each) => each.tsih === id);
      if (session === undefined) throw noSession(id);
      const { initiatorName: initiator, targetName: target, peer } = session;
      await audit.change({ event: 'session-kill', by, session: id, initiator, target: target ?? null, peer });
      const ended = await sessions.endSession(id, `ended by ${by}`);
      if (ended === undefined) throw noSession(id);
      return { id, unsettled: ended.unsettled };
    },
    'access-report': ({ name, initiator }) => admin.report({ volume: name, initiator }),
    'access-key-export': async (_args, _, { by }) => ({ key: await admin.exportKey(by) }),
    'access-key-import': async ({ key }, _, { by }) => ({ ids: await admin.importKey(key, by) }),
  };
}

function sessionReport(session: SessionInfo, { control, volumeName }: AccessOperationsDeps): SessionReport {
  const { initiatorName, targetName, peer, portal, proof, since, outstandingTasks, tsih } = session;
  return {
    id: tsih,
    initiator: initiatorName,
    target: targetName,
    peer,
    portal,
    authentication: proof.kind,
    since,
    outstandingTasks,
    volumes: control.volumesOf(session).map(volumeName),
  };
}

function givenOf(chap: NonNullable<ArgumentsOf<'initiator-chap'>['chap']>): GivenChap {
  const credential = ({ user, secret }: { readonly user: string; readonly secret: string }) => ({
    user,
    secret: Buffer.from(secret, 'base64'),
  });
  return { initiator: credential(chap), mutual: chap.mutual && credential(chap.mutual) };
}

function noSession(id: number): FarshoreError {
  return new FarshoreError('not-found', `there is no session ${id}; farshore session list shows those there are`);
}
