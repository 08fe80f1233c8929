import type { Command } from 'commander';
import { FarshoreError } from '../base/errors.ts';
import type { ArgumentsOf, Operation, Results } from './gateway-api.ts';
import * as show from './show-access.ts';
import { toJson } from './output.ts';
import { printable } from '../base/text.ts';
import { giveSecret, readSecret, type SecretOptions, writePrivateFile, readSmallFile } from './secrets.ts';

/** What the command line gives to those who add commands to it. */
export interface CommandTools {
  /** A command that understands --config and --json. */
  readonly command: (parent: Command, name: string, description: string) => Command;
  /** Calls the gateway and prints what it answers. */
  readonly tell: <Op extends Operation>(
    op: Op,
    args: ArgumentsOf<Op>,
    print: (result: Results[Op]) => string,
  ) => Promise<void>;
  /** Calls it and prints nothing. */
  readonly call: <Op extends Operation>(op: Op, args: ArgumentsOf<Op>) => Promise<Results[Op]>;
  readonly json: () => boolean;
}

interface ChapOptions extends SecretOptions {
  readonly user?: string;
  readonly mutualUser?: string;
  readonly clear?: boolean;
}

/** Targets, initiators, maps, sessions and the auditor's report. */
export function addAccessCommands(program: Command, tools: CommandTools): void {
  const { command, tell } = tools;

  const target = command(program, 'target', 'targets beside the one that every volume has');
  command(target, 'create <name>', "make a target; a short name stands behind the gateway's").action((name: string) =>
    tell('target-create', { name }, show.target),
  );
  command(target, 'list', 'every target, and what is mapped there').action(() => tell('target-list', {}, show.targets));
  command(target, 'delete <name>', 'remove a target that nothing is mapped at').action((name: string) =>
    tell('target-delete', { name }, (result) => `${result.name} is gone`),
  );

  const initiator = command(program, 'initiator', 'who may be let in');
  command(initiator, 'add <name>', 'make an initiator known (iqn., eui. or naa. name)').action((name: string) =>
    tell('initiator-add', { initiator: name }, show.initiator),
  );
  command(initiator, 'list', 'every initiator, with its credentials (never their secrets) and volumes').action(() =>
    tell('initiator-list', {}, show.initiators),
  );
  command(initiator, 'remove <name>', 'forget an initiator that nothing is mapped for').action((name: string) =>
    tell('initiator-remove', { initiator: name }, (result) => `${result.initiator} is not known any more`),
  );
  const chap = command(initiator, 'chap <name>', 'the CHAP credential an initiator has to prove').option(
    '--target <target>',
    'for this target alone; otherwise for all that have none of their own',
  );
  withChapOptions(chap).action(async (name: string, options: ChapOptions & { readonly target?: string }) => {
    const given = givenChap(options, tools.json());
    const args = {
      initiator: name,
      ...(options.target === undefined ? {} : { target: options.target }),
      ...given.args,
    };
    await tell('initiator-chap', args, show.initiator);
    given.print();
  });

  command(program, 'map <volume>', 'let an initiator use a volume, or change how')
    .requiredOption('--initiator <name>', 'who')
    .option('--target <target>', "where; otherwise at the volume's own target")
    .option('--lun <number>', 'LUN from 0 to 255; otherwise the lowest that is free', parseLun)
    .option('--read-only', 'reads only')
    .option('--address <address>', 'only from this address or network; may be repeated', collect, [])
    .action(
      (
        volume: string,
        options: { initiator: string; target?: string; lun?: number; readOnly?: boolean; address: string[] },
      ) =>
        tell(
          'map',
          {
            name: volume,
            initiator: options.initiator,
            ...(options.target === undefined ? {} : { target: options.target }),
            ...(options.lun === undefined ? {} : { lun: options.lun }),
            readOnly: options.readOnly === true,
            addresses: options.address,
          },
          show.mapped,
        ),
    );
  command(program, 'unmap <volume>', 'take a volume away from an initiator, at once')
    .requiredOption('--initiator <name>', 'who')
    .option('--target <target>', 'at this target alone; otherwise everywhere')
    .action((volume: string, options: { initiator: string; target?: string }) =>
      tell(
        'unmap',
        {
          name: volume,
          initiator: options.initiator,
          ...(options.target === undefined ? {} : { target: options.target }),
        },
        show.unmapped,
      ),
    );

  const session = command(program, 'session', 'who is logged in');
  command(session, 'list', 'every session').action(() => tell('session-list', {}, show.sessions));
  command(session, 'kill <id>', 'end a session; its initiator may log in again').action((id: string) => {
    if (!/^\d{1,5}$/.test(id))
      throw new FarshoreError('input', `"${id}" is no session; farshore session list shows them`);
    return tell('session-kill', { id: Number(id) }, show.killed);
  });

  const reservation = command(program, 'reservation', 'what hosts have reserved for themselves');
  command(reservation, 'list <volume>', 'reservations and registrations of a volume').action((volume: string) =>
    tell('reservation-list', { name: volume }, show.reservations),
  );
  command(reservation, 'clear <volume>', 'end them all, when the hosts that hold them are gone')
    .option('--discard-unreadable', 'also when what the volume kept of them cannot be understood')
    .action((volume: string, options: { discardUnreadable?: boolean }) =>
      tell(
        'reservation-clear',
        { name: volume, discardUnreadable: options.discardUnreadable === true },
        (before) => `nothing is reserved on ${volume} any more; there was:\n${show.reservations(before)}`,
      ),
    );

  addAuditCommands(program, tools);
}

function addAuditCommands(program: Command, tools: CommandTools): void {
  const { command, tell } = tools;
  const access = command(program, 'access', 'who may reach what, and who did; the key of the secrets');
  command(access, 'report', 'who can reach which volume, by what right, since when, and who did')
    .option('--volume <name>', 'of this volume alone')
    .option('--initiator <name>', 'of this initiator alone')
    .action((options: { volume?: string; initiator?: string }) =>
      tell(
        'access-report',
        {
          ...(options.volume === undefined ? {} : { name: options.volume }),
          ...(options.initiator === undefined ? {} : { initiator: options.initiator }),
        },
        show.report,
      ),
    );
  const discovery = command(access, 'discovery-chap', 'the CHAP credential of discovery sessions').option(
    '--initiator <name>',
    'of this initiator alone; otherwise of all that have none of their own',
  );
  withChapOptions(discovery).action(async (options: ChapOptions & { readonly initiator?: string }) => {
    const given = givenChap(options, tools.json());
    const args = { ...(options.initiator === undefined ? {} : { initiator: options.initiator }), ...given.args };
    await tell('discovery-chap', args, show.discovery(options.clear === true));
    given.print();
  });

  const key = command(access, 'key', 'the key that CHAP secrets are wrapped by');
  command(
    key,
    'export <file>',
    'write the keys there are to a new file that only you can read; keep it apart from the table',
  ).action(async (file: string) => {
    const { key: text } = await tools.call('access-key-export', {});
    writePrivateFile(file, `${text}\n`);
    const done = `${text.includes('\n') ? 'the keys are' : 'the key is'} in ${file}; whoever has it and the table can read every CHAP secret`;
    process.stdout.write(`${tools.json() ? toJson({ file }) : printable(done)}\n`);
  });
  command(
    key,
    'import <file>',
    'take the key of another gateway, whose volumes come here; - for standard input',
  ).action((file: string) =>
    tell('access-key-import', { key: readSmallFile(file) }, (result) =>
      result.ids.map((id) => `key ${id} is there`).join('\n'),
    ),
  );
}

function withChapOptions(command: Command): Command {
  return command
    .option('--user <name>', 'what the initiator calls itself (CHAP_N)')
    .option('--secret-file <file>', 'file with the secret, 12 to 255 bytes; - for standard input')
    .option('--generate', 'make a secret and print it, this once')
    .option('--mutual-user <name>', 'what the target calls itself when the initiator asks it to prove who it is')
    .option('--mutual-secret-file <file>', 'file with its secret, which must be another one')
    .option('--mutual-generate', 'make one and print it, this once')
    .option('--clear', 'remove the credential');
}

/** What is asked of the gateway, and what is to be printed once it has been done. */
function givenChap(
  options: ChapOptions,
  isJson: boolean,
): { readonly args: Pick<ArgumentsOf<'discovery-chap'>, 'chap'>; readonly print: () => void } {
  const { user, mutualUser, clear, ...sources } = options;
  const nothing = { args: {}, print: () => undefined };
  if (clear === true) {
    const { secretFile, generate, mutualSecretFile, mutualGenerate } = sources;
    if ([user, mutualUser, secretFile, generate, mutualSecretFile, mutualGenerate].some((each) => each !== undefined)) {
      throw new FarshoreError('input', '--clear removes the credential; it goes with no other option');
    }
    return nothing;
  }
  if (user === undefined)
    throw new FarshoreError('input', 'name the user with --user, or remove the credential with --clear');
  const { secretFile, generate, mutualSecretFile, mutualGenerate } = sources;
  const own = readSecret({ file: secretFile, generate, option: '--secret-file', isJson });
  const isMutual = mutualUser !== undefined || mutualSecretFile !== undefined || mutualGenerate === true;
  if (isMutual && mutualUser === undefined)
    throw new FarshoreError('input', 'mutual authentication needs --mutual-user');
  const theirs = isMutual
    ? readSecret({ file: mutualSecretFile, generate: mutualGenerate, option: '--mutual-secret-file', isJson })
    : undefined;
  return {
    args: {
      chap: {
        user,
        secret: own.secret.toString('base64'),
        ...(theirs === undefined || mutualUser === undefined
          ? {}
          : { mutual: { user: mutualUser, secret: theirs.secret.toString('base64') } }),
      },
    },
    print: () => {
      giveSecret('secret', own);
      if (theirs !== undefined) giveSecret('mutual secret', theirs);
    },
  };
}

function parseLun(text: string): number {
  if (/^\d{1,3}$/.test(text) && Number(text) <= 255) return Number(text);
  throw new FarshoreError('input', `"${text}" is no LUN; it is a number from 0 to 255`);
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
