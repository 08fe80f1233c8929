import type { Command } from 'commander';
import { FarshoreError } from '../base/errors.ts';
import { DIRECTIONS } from '../replication/throttle.ts';
import type { CommandTools } from './access-commands.ts';
import * as show from './show.ts';

/** What the line may be used for: `farshore limit [upload|download RATE]`. */
export function addLimitCommands(program: Command, { command, tell }: Pick<CommandTools, 'command' | 'tell'>): void {
  const limit = command(program, 'limit', 'what all volumes together may upload and download; changes it').action(() =>
    tell('limit', {}, show.limits),
  );
  for (const direction of DIRECTIONS) {
    const pause = direction === 'upload' ? ', `pause`' : '';
    command(
      limit,
      `${direction} <rate>`,
      `a rate like 200Mbit/s, \`none\`${pause}, or \`configured\`: what the configuration says; until the next start`,
    )
      .option(
        '--schedule <entry>',
        'another rate for a part of the week, like "Mon-Fri 08:00-18:00=20Mbit/s"; may be repeated',
        (entry: string, before: readonly string[]) => [...before, entry],
        [],
      )
      .action(async (rate: string, { schedule }: { readonly schedule: readonly string[] }) => {
        if (rate === 'configured') {
          if (schedule.length > 0)
            throw new FarshoreError('input', 'the configuration has its own schedule; leave --schedule out');
          await tell('limit', { set: { direction } }, show.limits);
          return;
        }
        const plan = schedule.length === 0 ? rate : { default: rate, schedule: entriesOf(schedule) };
        await tell('limit', { set: { direction, plan } }, show.limits);
      });
  }
}

function entriesOf(schedule: readonly string[]): Record<string, string> {
  const entries = schedule.map((entry): [string, string] => {
    const at = entry.indexOf('=');
    if (at !== -1) return [entry.slice(0, at), entry.slice(at + 1)];
    throw new FarshoreError('input', `--schedule "${entry}" has no rate; write it like "Mon-Fri 08:00-18:00=20Mbit/s"`);
  });
  const twice = entries.find(([span], at) => entries.findIndex(([other]) => other === span) !== at);
  if (twice !== undefined) throw new FarshoreError('input', `--schedule "${twice[0]}" is given twice`);
  return Object.fromEntries(entries);
}
