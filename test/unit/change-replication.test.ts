import { describe, expect, it } from 'vitest';
import { changeReplication } from '../../gateway/change-replication.ts';
import type { VersionLog } from '../../gateway/cloud/version-log.ts';
import type { ServedVolume } from '../../gateway/served-volume.ts';

describe('volume set --replication', () => {
  it('changes nothing, not even the table, while an image is being replicated and nothing can be promised', async () => {
    let asked = 0;
    const table = {
      changeVolume: () => {
        asked += 1;
        return Promise.resolve('ok');
      },
    } as unknown as VersionLog; // no more than it needs of them
    const volume = {
      status: () =>
        Promise.resolve({
          replication: { mode: 'async', onRemoteLoss: 'block' },
          stored: { catchUp: { why: 'seed' } },
        }),
      setReplication: () => Promise.resolve(),
    };
    const served = {
      entry: { name: 'v' },
      serving: () => volume,
      report: () => Promise.resolve({}),
    } as unknown as ServedVolume;
    const sync = { replication: 'sync', onRemoteLoss: undefined } as const;
    await expect(changeReplication(table, served, sync)).rejects.toMatchObject({ kind: 'busy' });
    expect(asked).toBe(0);
    await changeReplication(table, served, { replication: 'async', onRemoteLoss: 'degrade' });
    expect(asked).toBe(1);
  });
});
