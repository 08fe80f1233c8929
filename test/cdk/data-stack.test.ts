import { App } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';
import { describe, expect, it } from 'vitest';
import cdkJson from '../../cdk.json' with { type: 'json' };
import { DataStack } from '../../lib/data-stack.ts';

const synth = (): Template => {
  const app = new App({ context: cdkJson.context });
  return Template.fromStack(new DataStack(app, 'Data', { env: { region: 'eu-central-1' } }));
};

describe('the data stack', () => {
  const template = synth();

  it('keeps bucket, table and key when the stack goes', () => {
    for (const type of ['AWS::S3::Bucket', 'AWS::DynamoDB::GlobalTable', 'AWS::KMS::Key']) {
      expect(Object.keys(template.findResources(type)).length).toBeGreaterThan(0);
      template.allResources(type, { DeletionPolicy: 'Retain', UpdateReplacePolicy: 'Retain' });
    }
  });

  it('lets nobody in without TLS, and nobody from the public', () => {
    template.hasResourceProperties('AWS::S3::Bucket', {
      PublicAccessBlockConfiguration: {
        BlockPublicAcls: true,
        BlockPublicPolicy: true,
        IgnorePublicAcls: true,
        RestrictPublicBuckets: true,
      },
      VersioningConfiguration: { Status: 'Enabled' },
    });
    template.hasResourceProperties('AWS::S3::BucketPolicy', {
      PolicyDocument: {
        Statement: Match.arrayWith([
          Match.objectLike({ Effect: 'Deny', Condition: { Bool: { 'aws:SecureTransport': 'false' } } }),
        ]),
      },
    });
  });

  it('makes the table as the gateway expects it: pk and sk strings, on demand, protected, recoverable', () => {
    template.hasResourceProperties('AWS::DynamoDB::GlobalTable', {
      TableName: 'farshore',
      KeySchema: [
        { AttributeName: 'pk', KeyType: 'HASH' },
        { AttributeName: 'sk', KeyType: 'RANGE' },
      ],
      BillingMode: 'PAY_PER_REQUEST',
      Replicas: [
        Match.objectLike({
          DeletionProtectionEnabled: true,
          PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true },
        }),
      ],
    });
    expect(Object.values(template.findResources('AWS::DynamoDB::GlobalTable'))[0]).not.toHaveProperty(
      'Properties.TimeToLiveSpecification',
    );
  });
});
