import { App } from 'aws-cdk-lib';
import { DataStack } from '../lib/data-stack.ts';

const app = new App();
const context = (key: string): string | undefined => {
  const value: unknown = app.node.tryGetContext(key);
  return typeof value === 'string' && value !== '' ? value : undefined;
};

const bucketName = context('bucket');
const tableName = context('table');
new DataStack(app, 'FarshoreData', {
  env: {
    region: context('region') ?? process.env['CDK_DEFAULT_REGION'] ?? 'us-east-1',
    ...(process.env['CDK_DEFAULT_ACCOUNT'] === undefined ? {} : { account: process.env['CDK_DEFAULT_ACCOUNT'] }),
  },
  ...(bucketName === undefined ? {} : { bucketName }),
  ...(tableName === undefined ? {} : { tableName }),
});
app.synth();
