import { randomBytes } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Initiator } from '../../gateway/initiator/initiator.ts';
import { type Site, startSite } from '../support/gateway-process.ts';

const BUNDLE = resolve(import.meta.dirname, '../../dist/lambdas/fold/index.mjs');
const MIB = 1024 * 1024;

describe('the fold handler as it is deployed', () => {
  let site: Site;
  beforeAll(async () => {
    site = await startSite({ rpoSeconds: 1 });
  });
  afterAll(async () => {
    await site.close();
  });

  /** Runs the bundle in a process of its own, with the environment and the memory limit of a Lambda. */
  function invoke(event: object): { status: number | null; answer: unknown; stderr: string } {
    const script = `import { handler } from ${JSON.stringify(pathToFileURL(BUNDLE).href)};
      const answer = await handler(${JSON.stringify(event)});
      process.stdout.write('\\nANSWER ' + JSON.stringify(answer) + '\\n');
      process.exit(0);`;
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--max-old-space-size=512', '--input-type=module', '-e', script],
      {
        encoding: 'utf8',
        timeout: 60_000,
        env: {
          PATH: process.env['PATH'],
          AWS_REGION: 'us-east-1',
          AWS_LAMBDA_FUNCTION_NAME: 'fold',
          AWS_ACCESS_KEY_ID: 'local',
          AWS_SECRET_ACCESS_KEY: 'local',
          AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${site.cloud.s3Port}`,
          AWS_ENDPOINT_URL_DYNAMODB: `http://127.0.0.1:${site.cloud.dynamodbPort}`,
          FARSHORE_BUCKET: 'farshore',
          FARSHORE_TABLE: 'farshore',
        },
      },
    );
    const answer = /ANSWER (.*)/.exec(stdout)?.[1];
    return { status, answer: answer === undefined ? undefined : (JSON.parse(answer) as unknown), stderr };
  }

  it('folds the log beside the gateway that writes it, which reads the same bytes afterwards', async () => {
    const target = site.gateway.createVolume('folded', '64M');
    const disk = await Initiator.connect({ host: site.gateway.host, port: site.gateway.port, target });
    const data = randomBytes(2 * MIB);
    await disk.write(0, data);
    const { n } = await site.gateway.call('flush', { name: 'folded' });
    const { id } = await site.gateway.call('volume-show', { name: 'folded' });

    const { status, answer, stderr } = invoke({ lineage: id, volume: id });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(answer).toMatchObject({ skipped: false, n });

    await disk.write(8192, data);
    await site.gateway.call('flush', { name: 'folded' });
    expect(await site.gateway.call('verify', { name: 'folded' })).toMatchObject({ verdict: 'pass', problems: [] });
    expect((await disk.read(0, (2 * MIB) / 512)).equals(data)).toBe(true);
    await disk.close();
  });

  it('refuses an event that names no volume', () => {
    const { status, stderr } = invoke({ volume: 7 });
    expect(status).not.toBe(0);
    expect(stderr).toContain('lineage');
  });
});
