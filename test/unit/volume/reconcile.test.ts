import { describe, expect, test } from 'vitest';
import type { LogOrigin } from '../../../gateway/replication/remote-volume.ts';
import { reconcile, type LocalHistory, type Reconciliation } from '../../../gateway/volume/reconcile.ts';

const BASE: LogOrigin = { epoch: 3, logId: 'before', throughSeq: 50 };
const LAST_SEQ = 80;

const locals: Record<string, LocalHistory | undefined> = {
  nothing: undefined,
  'begun on an empty remote': { logId: 'mine', base: undefined, lastSeq: LAST_SEQ },
  'begun on a remote with data': { logId: 'mine', base: BASE, lastSeq: LAST_SEQ },
};

const remotes: Record<string, LogOrigin | undefined> = {
  nothing: undefined,
  'the base': { ...BASE },
  'the base of another epoch': { ...BASE, epoch: 4 },
  'the base further on': { ...BASE, throughSeq: 51 },
  'mine, behind': { epoch: 4, logId: 'mine', throughSeq: LAST_SEQ - 1 },
  'mine, equal': { epoch: 4, logId: 'mine', throughSeq: LAST_SEQ },
  'mine, ahead': { epoch: 4, logId: 'mine', throughSeq: LAST_SEQ + 1 },
  'mine, rolled back': { epoch: 4, logId: 'mine', throughSeq: 0 },
  "somebody else's": { epoch: 5, logId: 'other', throughSeq: 7 },
};

const fresh: Reconciliation = { kind: 'fresh' };
const lost: Reconciliation = { kind: 'history-lost' };
const resume = (through: number): Reconciliation => ({ kind: 'resume', through });
const ahead = (through: number): Reconciliation => ({ kind: 'remote-ahead', through });
const foreign = (salvageAfter: number): Reconciliation => ({ kind: 'foreign', salvageAfter });

const table: readonly (readonly [local: string, remote: string, expected: Reconciliation])[] = [
  ['nothing', 'nothing', fresh],
  ['nothing', 'the base', fresh],
  ['nothing', 'the base of another epoch', fresh],
  ['nothing', 'the base further on', fresh],
  ['nothing', 'mine, behind', fresh],
  ['nothing', 'mine, equal', fresh],
  ['nothing', 'mine, ahead', fresh],
  ['nothing', 'mine, rolled back', fresh],
  ['nothing', "somebody else's", fresh],
  ['begun on an empty remote', 'nothing', resume(0)],
  ['begun on an empty remote', 'the base', foreign(0)],
  ['begun on an empty remote', 'the base of another epoch', foreign(0)],
  ['begun on an empty remote', 'the base further on', foreign(0)],
  ['begun on an empty remote', 'mine, behind', resume(79)],
  ['begun on an empty remote', 'mine, equal', resume(80)],
  ['begun on an empty remote', 'mine, ahead', ahead(81)],
  ['begun on an empty remote', 'mine, rolled back', resume(0)],
  ['begun on an empty remote', "somebody else's", foreign(0)],
  ['begun on a remote with data', 'nothing', lost],
  ['begun on a remote with data', 'the base', resume(50)],
  ['begun on a remote with data', 'the base of another epoch', foreign(50)],
  ['begun on a remote with data', 'the base further on', foreign(50)],
  ['begun on a remote with data', 'mine, behind', resume(79)],
  ['begun on a remote with data', 'mine, equal', resume(80)],
  ['begun on a remote with data', 'mine, ahead', ahead(81)],
  ['begun on a remote with data', 'mine, rolled back', resume(0)],
  ['begun on a remote with data', "somebody else's", foreign(50)],
];

describe('bringing local and remote history together', () => {
  test('every combination has exactly one row', () => {
    const pairs = Object.keys(locals).flatMap((local) => Object.keys(remotes).map((remote) => `${local} / ${remote}`));
    expect(table.map(([local, remote]) => `${local} / ${remote}`).sort()).toEqual(pairs.sort());
  });

  test.each(table)('local %s, remote %s', (local, remote, expected) => {
    expect(reconcile(locals[local], remotes[remote])).toEqual(expected);
  });

  test('a log that lost what the base already had is behind the remote', () => {
    expect(reconcile({ logId: 'mine', base: BASE, lastSeq: 49 }, BASE)).toEqual(ahead(50));
  });
});
