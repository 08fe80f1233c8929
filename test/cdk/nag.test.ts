import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { App, Stack, Validations } from 'aws-cdk-lib';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { AwsSolutionsChecks } from 'cdk-nag';
import { afterAll, describe, expect, it } from 'vitest';
import cdkJson from '../../cdk.json' with { type: 'json' };
import { DataStack } from '../../lib/data-stack.ts';

const outdir = mkdtempSync(join(tmpdir(), 'farshore-nag-'));
afterAll(() => {
  rmSync(outdir, { recursive: true });
});

function synthesize(name: string, fill: (app: App) => void): void {
  const app = new App({ outdir: join(outdir, name), context: cdkJson.context });
  fill(app);
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
  app.synth();
}

describe('the AWS Solutions rules', () => {
  it('are kept by the data stack, or set aside with a reason', () => {
    expect(() => {
      synthesize('data', (app) => new DataStack(app, 'Data', { env: { region: 'eu-central-1' } }));
    }).not.toThrow();
  });

  it('would be heard: a careless bucket fails', () => {
    expect(() => {
      synthesize('careless', (app) => new Bucket(new Stack(app, 'Careless'), 'Bucket'));
    }).toThrow();
  });
});
