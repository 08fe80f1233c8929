import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { S3Client } from '@aws-sdk/client-s3';
import { FarshoreError } from '../base/errors.ts';
import { isThisMachine, proxyRule, type Environment } from './proxy.ts';
import { ForwardingHandler, plainAgent, TunnelAgent } from './proxy-agent.ts';
import { REFRESH_CREDENTIALS, refreshRefusedCredentials } from './refresh-credentials.ts';
import { trustedRoots } from './trusted-roots.ts';

export interface KeyPair {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

export interface CloudSettings {
  readonly region: string;
  /** Absent on AWS. */
  readonly s3Endpoint?: string | undefined;
  readonly dynamodbEndpoint?: string | undefined;
  /** URL of an HTTP proxy, perhaps with user and password, or `none`; left out: as the environment has it. */
  readonly proxy?: string | undefined;
  /** PEM file of certificates that are trusted beside the usual ones. */
  readonly caFile?: string | undefined;
  /** Absent: the default chain of the AWS SDK (environment, profile, role), or LOCAL_KEY_PAIR on loopback endpoints. */
  readonly credentials?: KeyPair | undefined;
}

export interface AwsClients {
  readonly s3: S3Client;
  readonly dynamo: DynamoDBClient;
  /** Where requests go, for messages. */
  readonly s3Place: string;
  readonly dynamoPlace: string;
  /** Closes idle connections; requests under way fail. */
  close(): void;
}

/** Accepted by an embedded cloud that has no key pair configured; not a secret. */
export const LOCAL_KEY_PAIR: KeyPair = { accessKeyId: 'farshore', secretAccessKey: 'farshore-embedded-cloud' };

/** Segments in flight, cold reads and maintenance share them; more requests wait in the agent. */
export const MAX_S3_SOCKETS = 64;
/** Version puts are pipelined; reads are few. */
export const MAX_DYNAMODB_SOCKETS = 32;
const CONNECTION_TIMEOUT_MS = 5_000;
/** Silence on a socket while a request is under way; the whole request has its own deadline in cloud-call. */
const SOCKET_TIMEOUT_MS = 20_000;

/** It would tell the console of uploads that broke off; callers are told by an error. */
const nothing = (): void => undefined;
const SILENT = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/**
 * The two clients, over kept-alive connections in bounded number. The SDK makes one attempt per call: repeating is decided in
 * cloud-call. `environment` is the process's.
 */
export function createAwsClients(settings: CloudSettings, environment: Environment = process.env): AwsClients {
  // The SDK would warn, on every start, that releases from 2027 on need Node 22; ours is pinned.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  const rule = proxyRule(settings.proxy, environment);
  const ca = trustedRoots(settings.caFile, environment);
  const common = (maxSockets: number, endpoint: string | undefined) => {
    const credentials = settings.credentials ?? localCredentials(settings, environment);
    return {
      region: settings.region,
      maxAttempts: 1,
      logger: SILENT,
      requestHandler: new ForwardingHandler(
        {
          connectionTimeout: CONNECTION_TIMEOUT_MS,
          socketTimeout: SOCKET_TIMEOUT_MS,
          httpAgent: plainAgent(maxSockets),
          httpsAgent: new TunnelAgent(
            { keepAlive: true, maxSockets, noDelay: true, ...(ca === undefined ? {} : { ca }) },
            rule,
          ),
          // Queueing for a socket is normal here and bounded by the callers.
          socketAcquisitionWarningTimeout: 2 ** 31 - 1,
        },
        rule,
      ),
      ...(endpoint === undefined ? {} : { endpoint: checkedEndpoint(endpoint) }),
      ...(credentials === undefined ? {} : { credentials: plainPair(credentials) }),
    };
  };
  const s3 = new S3Client({
    ...common(MAX_S3_SOCKETS, settings.s3Endpoint),
    forcePathStyle: settings.s3Endpoint !== undefined,
    // We send the CRC-32 we computed when the bytes were made, and every format has its own checksums on the way back.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // Costs a round trip per object, and a connection of its own.
    expectContinueHeader: false,
    followRegionRedirects: false,
  });
  const dynamo = new DynamoDBClient(common(MAX_DYNAMODB_SOCKETS, settings.dynamodbEndpoint));
  s3.middlewareStack.add(refreshRefusedCredentials(s3.config.credentials), REFRESH_CREDENTIALS);
  dynamo.middlewareStack.add(refreshRefusedCredentials(dynamo.config.credentials), REFRESH_CREDENTIALS);
  return {
    s3,
    dynamo,
    s3Place: settings.s3Endpoint ?? `S3 in ${settings.region}`,
    dynamoPlace: settings.dynamodbEndpoint ?? `DynamoDB in ${settings.region}`,
    close: () => {
      s3.destroy();
      dynamo.destroy();
    },
  };
}

function plainPair({ accessKeyId, secretAccessKey, sessionToken }: KeyPair) {
  return sessionToken === undefined ? { accessKeyId, secretAccessKey } : { accessKeyId, secretAccessKey, sessionToken };
}

function checkedEndpoint(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return endpoint;
  throw new FarshoreError('input', `the endpoint ${endpoint} is not a URL such as http://127.0.0.1:9000.`);
}

function isLoopback(endpoint: string | undefined): boolean {
  if (endpoint === undefined || !URL.canParse(endpoint)) return false;
  return isThisMachine(new URL(endpoint).hostname);
}

/** Where both endpoints are on this machine and nothing names credentials, none are needed. */
function localCredentials(settings: CloudSettings, environment: Environment): KeyPair | undefined {
  const named = environment['AWS_ACCESS_KEY_ID'] !== undefined || environment['AWS_PROFILE'] !== undefined;
  const local = isLoopback(settings.s3Endpoint) && isLoopback(settings.dynamodbEndpoint);
  return local && !named ? LOCAL_KEY_PAIR : undefined;
}
