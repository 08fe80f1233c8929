import { resolve } from 'node:path';
import type { Command, CommandOptions } from 'commander';
import { FarshoreError } from '../base/errors.ts';
import { MAX_THREADS } from '../threads/io-thread.ts';
import type { ArgumentsOf, Operation, Results } from './gateway-api.ts';
import * as show from './show-salvage.ts';

interface SalvageCommandParts {
  readonly command: (parent: Command, name: string, description: string, options?: CommandOptions) => Command;
  readonly tell: <Op extends Operation>(
    op: Op,
    args: ArgumentsOf<Op>,
    print: (result: Results[Op]) => string,
  ) => Promise<void>;
}

interface ExportOptions {
  readonly out?: string;
  readonly as?: string;
  readonly tailOnly?: boolean;
  readonly file?: string;
  readonly version?: string;
  readonly thread?: string;
  readonly damaged?: boolean;
}

/** `farshore salvage …`: what is done with writes that another gateway's takeover has left behind here. */
export function addSalvageCommands(program: Command, { command, tell }: SalvageCommandParts): void {
  const salvage = command(
    program,
    'salvage',
    'export writes that were acked here and are in no version, because another gateway took the volume over',
  );
  command(salvage, 'list', 'what there is').action(() => tell('salvage-list', {}, show.salvageList));
  command(salvage, 'export <name>', 'make an image (--out) or a volume (--as) of them', { isDefault: true })
    .option('--out <file>', 'a raw image of the last common version with the writes over it')
    .option('--tail-only', 'with --out: the writes alone; everything else reads zeros')
    .option('--as <volume>', 'a new volume: a clone of the last common version with the writes over it')
    .option('--file <file>', 'which of several salvage files, as listed')
    .option('--version <n>', 'the version that the writes follow, where nobody knows')
    .option('--thread <number>', 'with --as: the I/O thread that is to have the new volume')
    .option('--damaged', 'pass over records that are damaged; what they wrote is lost')
    .action((name: string, options: ExportOptions) => {
      const { out, as, file } = options;
      const version = options.version === undefined ? {} : { version: count('--version', options.version, 1) };
      const common = { name, ...(file === undefined ? {} : { file }), ...version, damaged: options.damaged === true };
      if ((out === undefined) === (as === undefined))
        throw new FarshoreError(
          'input',
          'say what is to become of the writes: --out FILE (an image) or --as NAME (a volume)',
        );
      if (out !== undefined) {
        const path = resolve(out);
        const args = { ...common, out: path, tailOnly: options.tailOnly === true };
        return tell('salvage-export', args, (result) => show.salvageExported(path, result));
      }
      const thread =
        options.thread === undefined ? {} : { thread: count('--thread', options.thread, 0, MAX_THREADS - 1) };
      return tell('salvage-import', { ...common, as: as ?? '', ...thread }, show.salvageImported);
    });
  command(salvage, 'remove <name>', 'remove what is no longer needed, for ever; --confirm must repeat the name')
    .option('--file <file>', 'only this one')
    .option('--confirm <name>', 'the name once more')
    .action((name: string, { file, confirm = '' }: { file?: string; confirm?: string }) =>
      tell('salvage-remove', { name, ...(file === undefined ? {} : { file }), confirm }, show.salvageRemoved),
    );
}

function count(option: string, text: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new FarshoreError('input', `${option} "${text}" is not a whole number that is allowed there`);
}
