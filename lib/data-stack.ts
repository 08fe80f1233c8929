import { CfnOutput, Duration, RemovalPolicy, Stack, type StackProps, Validations } from 'aws-cdk-lib';
import { AttributeType, Billing, TableEncryptionV2, TableV2 } from 'aws-cdk-lib/aws-dynamodb';
import { Key } from 'aws-cdk-lib/aws-kms';
import { BlockPublicAccess, Bucket, BucketEncryption, type IBucket, ObjectOwnership } from 'aws-cdk-lib/aws-s3';
import type { Construct } from 'constructs';
import { TABLE_SCHEMA } from '../gateway/cloud/table-schema.ts';

export interface DataStackProps extends StackProps {
  /** Defaults to a generated, globally unique name. */
  readonly bucketName?: string;
  /** Defaults to `farshore`. */
  readonly tableName?: string;
}

/**
 * The far shore itself: the bucket of immutable objects, the table with the version log, and the key both are encrypted
 * with. All of it outlives the stack (RETAIN): it is the only other copy of somebody's data.
 */
export class DataStack extends Stack {
  readonly bucket: Bucket;
  readonly table: TableV2;
  readonly key: Key;

  constructor(scope: Construct, id: string, props: DataStackProps) {
    super(scope, id, props);

    this.key = new Key(this, 'Key', {
      description: 'Encrypts the Farshore bucket and table',
      enableKeyRotation: true,
      pendingWindow: Duration.days(30),
      removalPolicy: RemovalPolicy.RETAIN,
    });

    // Who read, wrote or deleted what: kept apart from the data, for a quarter.
    const accessLogs = new Bucket(this, 'AccessLogs', {
      // The log delivery service cannot write to a bucket with a customer key.
      encryption: BucketEncryption.S3_MANAGED,
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      enforceSSL: true,
      minimumTLSVersion: 1.2,
      lifecycleRules: [{ id: 'expire', expiration: Duration.days(90) }],
      removalPolicy: RemovalPolicy.RETAIN,
    });
    Validations.of(accessLogs).acknowledge({
      id: 'AwsSolutions-S1',
      reason: 'It is the bucket of access logs; logging its own accesses would never end.',
    });

    this.bucket = new Bucket(this, 'Bucket', {
      // The construct library's own types disagree under exactOptionalPropertyTypes; a Bucket is an IBucket.
      serverAccessLogsBucket: accessLogs as IBucket,
      serverAccessLogsPrefix: 'data/',
      ...(props.bucketName === undefined ? {} : { bucketName: props.bucketName }),
      encryption: BucketEncryption.KMS,
      encryptionKey: this.key,
      // One data-key request a while instead of one per object.
      bucketKeyEnabled: true,
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      enforceSSL: true,
      minimumTLSVersion: 1.2,
      versioned: true,
      lifecycleRules: [
        { id: 'abort-unfinished-uploads', abortIncompleteMultipartUploadAfter: Duration.days(7) },
        // What maintenance deletes stays recoverable for a week, then really goes.
        { id: 'expire-deleted', noncurrentVersionExpiration: Duration.days(7), expiredObjectDeleteMarker: true },
      ],
      removalPolicy: RemovalPolicy.RETAIN,
    });

    this.table = new TableV2(this, 'Table', {
      tableName: props.tableName ?? 'farshore',
      partitionKey: { name: TABLE_SCHEMA.partitionKey, type: AttributeType.STRING },
      sortKey: { name: TABLE_SCHEMA.sortKey, type: AttributeType.STRING },
      billing: Billing.onDemand(),
      encryption: TableEncryptionV2.customerManagedKey(this.key),
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      deletionProtection: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });

    new CfnOutput(this, 'BucketName', { value: this.bucket.bucketName, description: 'cloud.bucket of gateway.yaml' });
    new CfnOutput(this, 'TableName', { value: this.table.tableName, description: 'cloud.table of gateway.yaml' });
    new CfnOutput(this, 'KeyArn', { value: this.key.keyArn, description: 'Key of bucket and table' });
  }
}
