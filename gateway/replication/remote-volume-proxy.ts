import { FarshoreError } from '../base/errors.ts';
import type {
  Committed,
  Copied,
  FoldOutcome,
  OpenedRemote,
  ReadHow,
  RemoteBlocks,
  RemoteStatus,
  RemoteVolume,
  VerifyReport,
  VersionSummary,
} from './remote-volume.ts';
import type { RpcClient } from './rpc.ts';
import { withBuffers } from './rpc.ts';

/**
 * A RemoteVolume whose engine lives at `target` behind the client. The answers are what the engine gave, through structured
 * cloning: their shapes are checked by both ends being compiled from the same types.
 */
export function remoteVolumeProxy(client: RpcClient, target: number): RemoteVolume {
  const call = async <Result>(method: string, ...args: readonly unknown[]): Promise<Result> =>
    (await client.call(target, method, args)) as Result;
  return {
    open: async (request) => withBuffers(await call('open', request)) as OpenedRemote,
    commit: (batch) => call<Committed>('commit', batch),
    copy: async (batch) => {
      const moved = batch.from === 'memory' ? [batch.data.buffer] : [];
      return withBuffers(await client.call(target, 'copy', [batch], moved)) as Copied;
    },
    noteCopies: (headers, isFirst) => call('noteCopies', headers, isFirst),
    commitCopies: (commit) => call<Committed>('commitCopies', commit),
    read: async (block, count, how) => {
      const answer = call<{ data: Uint8Array; present: Uint8Array }>('read', block, count, packReadHow(how));
      const { data, present } = await answer;
      const blocks: RemoteBlocks = { data: Buffer.from(data.buffer, data.byteOffset, data.byteLength), present };
      return blocks;
    },
    hurry: (block, count) => {
      // What it was about fails as well, and tells.
      call('hurry', block, count).catch(() => undefined);
    },
    mapped: (block, count) => call('mapped', block, count),
    countMapped: () => call('countMapped'),
    nextMapped: (from, limit) => call('nextMapped', from, limit),
    rollBackTo: (n) => call('rollBackTo', n),
    provenThrough: () => call<number>('provenThrough'),
    fold: () => call<FoldOutcome>('fold'),
    verify: () => call<VerifyReport>('verify'),
    versions: (limit) => call<readonly VersionSummary[]>('versions', limit),
    status: () => call<RemoteStatus>('status'),
    close: async () => {
      try {
        await call('close');
      } catch (error) {
        // A worker that is gone has closed everything.
        if (!(error instanceof FarshoreError) || error.kind !== 'retry') throw error;
      }
    },
  };
}

const FRESH = 1;
const BACKGROUND = 2;

/** As it travels in a message: reads of the remote are many, and numbers cost nothing to clone. */
function packReadHow(how: ReadHow | undefined): number {
  return (how?.fresh === true ? FRESH : 0) | (how?.background === true ? BACKGROUND : 0);
}

export function unpackReadHow(packed: number): ReadHow {
  return { fresh: (packed & FRESH) !== 0, background: (packed & BACKGROUND) !== 0 };
}

/** A port (table or bucket) whose methods are called behind the client. */
export function portProxy<Port extends object>(
  client: RpcClient,
  target: number,
  methods: readonly (keyof Port & string)[],
): Port {
  const proxy: Record<string, (...args: readonly unknown[]) => Promise<unknown>> = {};
  for (const method of methods) proxy[method] = async (...args) => withBuffers(await client.call(target, method, args));
  return proxy as Port; // `methods` names every method of the port
}
