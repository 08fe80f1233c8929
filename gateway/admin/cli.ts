import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command, CommanderError, type CommandOptions, Option } from 'commander';
import { PHYSICAL_SIZES, type PhysicalSize } from '../base/block-device.ts';
import { describeError, EXIT_CODES, FarshoreError, isKind } from '../base/errors.ts';
import { parseSize } from '../base/size.ts';
import { ON_REMOTE_LOSS, REPLICATION_MODES, type OnRemoteLoss, type ReplicationMode } from '../cloud/version-log.ts';
import { MAX_THREADS } from '../threads/io-thread.ts';
import { loadSettings, type Settings } from '../config.ts';
import { addAccessCommands } from './access-commands.ts';
import { addLimitCommands } from './limit-commands.ts';
import { addSalvageCommands } from './salvage-commands.ts';
import { connectToGateway } from './control-client.ts';
import {
  type ArgumentsOf,
  type Finding,
  MAX_VERSIONS_LISTED,
  type Operation,
  type Results,
  type Warned,
} from './gateway-api.ts';
import { inVisibleText, progressBar, toJson } from './output.ts';
import { printable } from '../base/text.ts';
import { metricsText } from './metrics.ts';
import * as show from './show.ts';

/** The long-running commands, wired by the program's entry. Each resolves when it has ended. */
export interface Programs {
  serve(settings: Settings): Promise<void>;
  cloud(options: CloudOptions): Promise<void>;
  /** The checks of `doctor` where no gateway runs. */
  doctor(settings: Settings): Promise<readonly Finding[]>;
  demo(options: { readonly keep: boolean; readonly megabytes: number }): Promise<void>;
}

export interface CloudOptions {
  readonly dir: string;
  readonly s3Port: number;
  readonly dynamodbPort: number;
  readonly bucket: string;
  readonly table: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined;
}

/** Below it an ext4 filesystem has no room for a package; above it the demo is no demo any more. */
const MIN_DEMO_MEGABYTES = 16;
const MAX_DEMO_MEGABYTES = 64 * 1024;

interface VolumeOptions {
  readonly size?: string;
  readonly stored?: string;
  readonly seed?: boolean;
  readonly replication: ReplicationMode;
  readonly onRemoteLoss?: OnRemoteLoss;
  readonly sector: string;
  readonly physical?: string;
  readonly removable?: boolean;
  readonly quota?: string;
  readonly thread?: number;
}

const DEFAULT_CONFIGS = ['gateway.yaml', '/etc/farshore/gateway.yaml'];

/** Runs one command line; the number is the exit code (base/errors EXIT_CODES). Results go to stdout, everything else to stderr. */
export async function runCli(argv: readonly string[], programs: Programs, version: string): Promise<number> {
  const program = buildProgram(programs, version);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_CODES.input;
    if (error instanceof FarshoreError && error.kind !== 'bug') {
      process.stderr.write(`farshore: ${printable(error.message)}\n`);
      return EXIT_CODES[error.kind];
    }
    process.stderr.write(
      `farshore: this is a bug: ${error instanceof Error ? (error.stack ?? error.message) : describeError(error)}\n`,
    );
    return EXIT_CODES.bug;
  }
}

function buildProgram(programs: Programs, version: string): Command {
  const program = new Command('farshore')
    .description('An iSCSI gateway whose LUNs also live, version by version, in S3 and DynamoDB.')
    .version(version)
    .showHelpAfterError('(farshore --help lists the commands)')
    // `restore --version N` is not `farshore --version`: what stands behind a command belongs to it.
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeErr: (text) => process.stderr.write(text.split('\n').map(printable).join('\n')),
    })
    .addOption(new Option('--config <file>', 'gateway configuration').env('FARSHORE_CONFIG'))
    .option('--json', 'print the result as JSON');

  const settings = (): Settings => loadSettings(configPath(program.opts<{ config?: string }>().config));
  const json = (): boolean => program.opts<{ json?: boolean }>().json === true;

  const call = async <Op extends Operation>(op: Op, args: ArgumentsOf<Op>): Promise<Results[Op]> => {
    const bar = progressBar();
    try {
      return await connectToGateway(settings().stateDir).call(op, args, bar.show);
    } finally {
      bar.stop();
    }
  };
  /** Calls the running gateway and prints what it answers. */
  const ask = async <Op extends Operation>(
    op: Op,
    args: ArgumentsOf<Op>,
    print: (result: Results[Op]) => string,
  ): Promise<Results[Op]> => {
    const result = await call(op, args);
    process.stdout.write(`${json() ? toJson(result) : print(inVisibleText(result))}\n`);
    warn(result);
    return result;
  };
  const tell = async <Op extends Operation>(
    op: Op,
    args: ArgumentsOf<Op>,
    print: (result: Results[Op]) => string,
  ): Promise<void> => {
    await ask(op, args, print);
  };
  // --config and --json are understood after the command too, and between the words of one that has two.
  const command = (parent: Command, name: string, description: string, options: CommandOptions = {}): Command =>
    parent
      .command(name, options)
      .description(description)
      .addOption(new Option('--config <file>', 'gateway configuration'))
      .addOption(new Option('--json', 'print the result as JSON'))
      .hook('preAction', (hooked) => {
        const own = hooked.opts<{ config?: string; json?: boolean }>();
        if (own.config !== undefined) program.setOptionValue('config', own.config);
        if (own.json === true) program.setOptionValue('json', true);
      });

  command(program, 'serve', 'run the gateway').action(async () => {
    await programs.serve(settings());
  });

  command(program, 'cloud', 'run the embedded S3 and DynamoDB servers (loopback only)')
    .requiredOption('--dir <dir>', 'where the data lives')
    .option('--s3-port <port>', 'port of the S3 server, 0 for any', parsePort, 9000)
    .option('--dynamodb-port <port>', 'port of the DynamoDB server, 0 for any', parsePort, 8000)
    .option('--bucket <name>', 'bucket to create', 'farshore')
    .option('--table <name>', 'table to create', 'farshore')
    .option('--access-key-id <id>', 'accept only this key pair (the secret comes from FARSHORE_SECRET_ACCESS_KEY)')
    .action(
      async (options: {
        dir: string;
        s3Port: number;
        dynamodbPort: number;
        bucket: string;
        table: string;
        accessKeyId?: string;
      }) => {
        const { accessKeyId, ...rest } = options;
        await programs.cloud({
          ...rest,
          credentials: accessKeyId === undefined ? undefined : { accessKeyId, secretAccessKey: secretFor(accessKeyId) },
        });
      },
    );

  command(program, 'demo', 'the main job, start to end, on the embedded cloud')
    .option('--keep', 'leave everything running at the end and say how to attach')
    .option('--megabytes <count>', 'how much data to write, 16 or more', parseMegabytes, 256)
    .action(async (options: { keep?: boolean; megabytes: number }) => {
      await programs.demo({ keep: options.keep === true, megabytes: options.megabytes });
    });

  command(program, 'status', 'how the gateway and its volumes are').action(() => tell('status', {}, show.status));
  command(program, 'metrics', 'the same in figures, as Prometheus reads them').action(() =>
    tell('status', {}, (report) => metricsText(report).trimEnd()),
  );
  addLimitCommands(program, { command, tell });
  command(program, 'doctor', 'check configuration, disk, clock, credentials, bucket and table').action(async () => {
    const findings = await examineAnyhow(settings(), programs);
    process.stdout.write(`${json() ? toJson(findings) : show.findings(inVisibleText(findings))}\n`);
    const failed = findings.filter((finding) => finding.verdict === 'fail');
    if (failed.length > 0) throw new FarshoreError('input', `${failed.length} of ${findings.length} checks failed`);
  });

  const volume = command(program, 'volume', 'create, list, show, resize, move, delete, undelete, forget volumes');
  command(volume, 'create <name>', 'create a volume and serve it')
    .option('--size <size>', 'like 100M, 10G, 16T; with --seed it is that of the image')
    .option(
      '--stored <file>',
      'keep the whole volume on site too, in this raw image, which is made, or on this block device',
    )
    .option('--seed', 'take over what is in the image or on the device: it is replicated while it is served')
    .addOption(new Option('--replication <mode>', 'when a write is acked').choices(REPLICATION_MODES).default('async'))
    .addOption(
      new Option(
        '--on-remote-loss <what>',
        'what becomes of writes (sync) and flushes (flush, sync) when the cloud does not answer (default: block)',
      ).choices(ON_REMOTE_LOSS),
    )
    .addOption(new Option('--sector <bytes>', 'sector size the initiators see').choices(['512', '4096']).default('512'))
    .addOption(
      new Option(
        '--physical <bytes>',
        'physical block the initiators are told of (default: 4096); 512 is slower, and for hosts that take nothing else',
      ).choices(PHYSICAL_SIZES.map(String)),
    )
    .option('--removable', 'the disk says that its medium can be ejected')
    .option('--quota <size>', 'the most that may be mapped (default: all of it)')
    .option('--thread <number>', 'the I/O thread that is to have it (default: the one with the fewest)', parseThread)
    .action((name: string, options: VolumeOptions) =>
      tell(
        'volume-create',
        {
          name,
          ...(options.size === undefined ? {} : { bytes: parseSize(options.size, '--size') }),
          ...imageOf(options),
          sectorSize: options.sector === '4096' ? 4096 : 512,
          ...physicalSize(options.physical),
          ...(options.removable === true ? { removable: true as const } : {}),
          ...(options.quota === undefined ? {} : { quotaBytes: parseSize(options.quota, '--quota') }),
          replication: options.replication,
          ...(options.onRemoteLoss === undefined ? {} : { onRemoteLoss: options.onRemoteLoss }),
          ...(options.thread === undefined ? {} : { thread: options.thread }),
        },
        show.volume,
      ),
    );
  command(volume, 'list', 'every volume in the cloud, here or elsewhere').action(() =>
    tell('volume-list', {}, show.catalogue),
  );
  command(volume, 'show <name>', 'everything about one volume').action((name: string) =>
    tell('volume-show', { name }, show.volume),
  );
  command(volume, 'delete <name>', 'stop serving a volume; its history is kept for 7 days')
    .option('--purge', 'remove its history too, for ever; --confirm must repeat the name')
    .option('--confirm <name>', 'the name once more, with --purge')
    .action((name: string, options: { purge?: boolean; confirm?: string }) =>
      options.purge === true
        ? tell('volume-purge', { name, confirm: options.confirm ?? '' }, show.purged(name))
        : tell('volume-delete', { name }, show.deleted(name)),
    );
  command(volume, 'resize <name> <size>', 'make a volume larger (or smaller) while it is served')
    .option('--force', 'also to a smaller size, if no data lies beyond the new end')
    .action((name: string, size: string, options: { force?: boolean }) =>
      tell('volume-resize', { name, bytes: parseSize(size, 'SIZE'), force: options.force === true }, show.volume),
    );
  command(
    volume,
    'quota <name> <size>',
    'the most that a volume may have mapped, or "none"; data beyond it stays',
  ).action((name: string, size: string) =>
    tell('volume-quota', { name, ...(size === 'none' ? {} : { bytes: parseSize(size, 'SIZE') }) }, show.volume),
  );
  command(volume, 'set <name>', 'change what acks of a volume mean, while it is served')
    .addOption(new Option('--replication <mode>', 'when a write is acked').choices(REPLICATION_MODES))
    .addOption(
      new Option('--on-remote-loss <what>', 'what becomes of acks that wait when the cloud does not answer').choices(
        ON_REMOTE_LOSS,
      ),
    )
    .action((name: string, options: Partial<Pick<VolumeOptions, 'replication' | 'onRemoteLoss'>>) =>
      tell(
        'volume-set',
        {
          name,
          ...(options.replication === undefined ? {} : { replication: options.replication }),
          ...(options.onRemoteLoss === undefined ? {} : { onRemoteLoss: options.onRemoteLoss }),
        },
        show.volume,
      ),
    );
  command(volume, 'move <name>', 'give a volume to another I/O thread; its initiators log in again')
    .requiredOption('--thread <number>', 'the I/O thread that is to have it', parseThread)
    .action((name: string, options: { thread: number }) =>
      tell('volume-move', { name, thread: options.thread }, show.volume),
    );
  command(volume, 'undelete <name>', 'take a deletion back').action((name: string) =>
    tell('volume-undelete', { name }, show.volume),
  );

  command(volume, 'forget <name>', 'drop what is kept here of a volume that another gateway has taken over').action(
    (name: string) => tell('volume-forget', { name }, show.forgotten(name)),
  );
  addAccessCommands(program, { command, tell, call, json });
  addSalvageCommands(program, { command, tell });

  command(program, 'flush <name>', 'return once everything acked so far is a committed version').action(
    (name: string) => tell('flush', { name }, show.flushed(name)),
  );
  command(program, 'versions <name>', 'the newest versions of a volume')
    .option('--limit <count>', 'how many', parseLimit, 20)
    .action((name: string, options: { limit: number }) =>
      tell('versions', { name, limit: options.limit }, show.versions),
    );
  command(program, 'fold <name>', 'fold the version log into a checkpoint now').action((name: string) =>
    tell('fold', { name }, show.folded(name)),
  );
  command(program, 'restore <name>', 'open a volume of the cloud here')
    .requiredOption('--takeover', 'take it from whichever gateway has it')
    .option('--version <n>', 'as it was at this version (what came after stays in the history)', parseVersion)
    .action((name: string, options: { version?: number }) =>
      tell('restore', { name, ...(options.version === undefined ? {} : { version: options.version }) }, show.volume),
    );
  command(program, 'handover <name>', 'give a volume to another gateway, without loss; its initiators log in there')
    .requiredOption('--to <gateway>', 'the other gateway, as its own status names it')
    .action((name: string, { to }: { to: string }) => tell('handover', { name, to }, show.handedOver(name, to)));
  command(program, 'scrub <name>', 'check every block in the cache and in S3 now, and mend what can be mended')
    .option('--local', 'the cache alone')
    .option('--remote', 'S3 alone')
    .option('--now', 'as fast as disk and cloud allow, instead of at the rate of the configuration')
    .action(async (name: string, options: { local?: boolean; remote?: boolean; now?: boolean }) => {
      const both = options.local === options.remote;
      const sides = (['local', 'remote'] as const).filter((side) => both || options[side] === true);
      const report = await ask('scrub', { name, sides, now: options.now === true }, show.scrubbed(name));
      const left = sides.reduce((sum, side) => sum + (report[side]?.unrepairable ?? 0), 0);
      if (left > 0) throw new FarshoreError('damaged', `${name}: ${left} damaged blocks could not be repaired`);
    });
  command(program, 'verify <name>', 'read S3 back and check every object of the present version').action(
    async (name: string) => {
      const report = await ask('verify', { name }, show.verified(name));
      if (report.verdict === 'fail')
        throw new FarshoreError('damaged', `${name}: the copy in the cloud is damaged; see the findings`);
      if (report.verdict === 'inconclusive')
        throw new FarshoreError('retry', `${name}: the check could not be finished; run it again`);
    },
  );
  return program;
}

/** The running gateway looks itself over; where none runs, its configuration is. */
async function examineAnyhow(settings: Settings, programs: Programs): Promise<readonly Finding[]> {
  try {
    return await connectToGateway(settings.stateDir).call('doctor', {}, () => undefined);
  } catch (error) {
    if (!isKind(error, 'not-found')) throw error;
    process.stderr.write('no gateway runs here; checking the configuration on its own\n');
    return programs.doctor(settings);
  }
}

function configPath(given: string | undefined): string {
  if (given !== undefined) return given;
  const found = DEFAULT_CONFIGS.find((path) => existsSync(path));
  if (found === undefined) {
    throw new FarshoreError(
      'input',
      `there is no configuration at ${DEFAULT_CONFIGS.join(' or ')}; name yours with --config FILE`,
    );
  }
  return found;
}

function secretFor(accessKeyId: string): string {
  const secret = process.env['FARSHORE_SECRET_ACCESS_KEY'];
  if (secret === undefined || secret === '') {
    throw new FarshoreError('input', `--access-key-id ${accessKeyId} needs its secret in FARSHORE_SECRET_ACCESS_KEY`);
  }
  return secret;
}

function imageOf({ stored, seed }: VolumeOptions): Pick<ArgumentsOf<'volume-create'>, 'stored' | 'seed'> {
  return {
    ...(stored === undefined ? {} : { stored: resolve(stored) }),
    ...(seed === true ? { seed: true as const } : {}),
  };
}

/** Commander has let only such through as there are. */
function physicalSize(text: string | undefined): { readonly physicalSize?: PhysicalSize } {
  const size = PHYSICAL_SIZES.find((each) => String(each) === text);
  return size === undefined ? {} : { physicalSize: size };
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65535)
    throw new FarshoreError('input', `"${text}" is not a port; it is a number from 0 to 65535`);
  return port;
}

function parseVersion(text: string): number {
  return parseCount('--version', text, 1, Number.MAX_SAFE_INTEGER);
}

function parseLimit(text: string): number {
  return parseCount('--limit', text, 1, MAX_VERSIONS_LISTED);
}

function parseThread(text: string): number {
  return parseCount('--thread', text, 0, MAX_THREADS - 1);
}

function parseMegabytes(text: string): number {
  return parseCount('--megabytes', text, MIN_DEMO_MEGABYTES, MAX_DEMO_MEGABYTES);
}

function parseCount(option: string, text: string, least: number, most: number): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= least && count <= most) return count;
  throw new FarshoreError(
    'input',
    `${option} "${text}" is not a whole number ${most === Number.MAX_SAFE_INTEGER ? `of ${least} or more` : `from ${least} to ${most}`}`,
  );
}

/** A change was made, and something may yet become of it: said beside the answer, which stays what scripts read. */
function warn(result: object): void {
  const { warnings = [] } = result as Warned; // absent from what changes nothing
  for (const warning of warnings) process.stderr.write(`farshore: warning: ${printable(warning)}\n`);
}
