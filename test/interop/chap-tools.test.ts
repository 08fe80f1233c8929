import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ChapRequirement } from '../../gateway/iscsi/target-registry.ts';
import { IscsiWorld, TARGET } from '../support/iscsi-world.ts';
import { requireTools } from './required-tools.ts';

const run = promisify(execFile);

const REQUIRED: ChapRequirement = {
  initiator: { user: 'host', secret: Buffer.from('secret-of-host') },
  target: { user: 'farshore', secret: Buffer.from('secret-of-target') },
};

describe("libiscsi's tools, which have an implementation of CHAP of their own", () => {
  let world: IscsiWorld;

  beforeAll(async () => {
    requireTools('iscsi-ls', 'iscsi-inq');
    world = await IscsiWorld.start();
    world.registry.chap = REQUIRED;
    world.registry.chapForDiscovery = () => ({ initiator: REQUIRED.initiator, target: undefined });
  });

  afterAll(() => world.stop());

  it('find the target with the credentials of discovery, and not without', async () => {
    const found = await run('iscsi-ls', [`iscsi://host%secret-of-host@127.0.0.1:${world.port}`]);
    expect(found.stdout).toContain(`Target:${TARGET} Portal:127.0.0.1:${world.port},1`);
    for (const user of ['', 'host%secret-of-hosts@', 'hosts%secret-of-host@'])
      await expect(run('iscsi-ls', [`iscsi://${user}127.0.0.1:${world.port}`])).rejects.toThrow(/authentication fail/i);
  });

  it('use the target with its credentials, one way and mutually, and not without', async () => {
    const url = (user: string, query = ''): string => `iscsi://${user}127.0.0.1:${world.port}/${TARGET}/0${query}`;
    expect((await run('iscsi-inq', [url('host%secret-of-host@')])).stdout).toContain('Vendor:FARSHORE');
    const mutual = '?target_user=farshore&target_password=';
    expect((await run('iscsi-inq', [url('host%secret-of-host@', `${mutual}secret-of-target`)])).stdout).toContain(
      'Vendor',
    );
    for (const wrong of [
      url(''),
      url('host%secret-of-hosts@'),
      url('hosts%secret-of-host@'),
      url('host%secret-of-host@', `${mutual}secret-of-another`),
    ])
      await expect(run('iscsi-inq', [wrong]), wrong).rejects.toThrow(/authentication fail/i);
    expect(world.registry.events.flatMap((event) => (event.kind === 'login' ? [event.proof.kind] : []))).toContain(
      'mutual-chap',
    );
  });
});
