import * as fs from 'node:fs';
import { join } from 'node:path';
import type { SimRandom } from '../sim/sim-random.ts';

/** A change of a name, before it was made. `directory` is relative, as it will be synced; the other paths are absolute. */
export type NameChange =
  | { readonly kind: 'create' | 'remove'; readonly directory: string; readonly path: string }
  | { readonly kind: 'rename'; readonly directory: string; readonly from: string; readonly path: string };

/** `saved`: a link to what the change takes the name from. */
type Change = NameChange & { readonly saved: string | undefined };
type Entry = Change | { readonly kind: 'sync'; readonly directory: string };

const FILE = 'changes';
let lastSaved = 0;

/** Enters a change that is about to be made; what it removes stays reachable by a link. */
export function recordChange(journal: string, change: NameChange): void {
  let saved: string | undefined;
  if (change.kind !== 'create' && fs.existsSync(change.path)) {
    lastSaved += 1;
    saved = join(journal, `saved-${process.pid}-${lastSaved}`);
    fs.linkSync(change.path, saved);
  }
  append(journal, { ...change, saved });
}

/** The changes of this directory so far are durable. */
export function recordSync(journal: string, directory: string): void {
  append(journal, { kind: 'sync', directory });
}

/**
 * After the process was killed: undoes the newest of the changes of each directory that no sync has covered, a random number of them, and
 * empties the journal. Answers how many were undone. A file system with a journal of its own loses names in that way: the newest first.
 */
export function undoSomeChanges(journal: string, random: SimRandom): number {
  const file = join(journal, FILE);
  const open = new Map<string, Change[]>();
  for (const line of fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n') : []) {
    // The last line may be torn off: what it was about was not begun.
    if (!line.endsWith('}')) continue;
    const entry = JSON.parse(line) as Entry; // as append wrote it
    if (entry.kind === 'sync') open.delete(entry.directory);
    else open.set(entry.directory, [...(open.get(entry.directory) ?? []), entry]);
  }
  let undone = 0;
  for (const changes of open.values()) {
    const count = random.between(0, changes.length);
    for (const change of changes.slice(changes.length - count).reverse()) {
      undo(change);
      undone += 1;
    }
  }
  fs.rmSync(journal, { recursive: true, force: true });
  fs.mkdirSync(journal);
  return undone;
}

/** The kill may have come between the entry and the change. */
function undo(change: Change): void {
  const { path, saved } = change;
  if (change.kind === 'create') fs.rmSync(path, { force: true });
  if (change.kind === 'rename' && !fs.existsSync(change.from)) fs.renameSync(path, change.from);
  if (saved !== undefined && !fs.existsSync(path)) fs.renameSync(saved, path);
}

function append(journal: string, entry: Entry): void {
  fs.appendFileSync(join(journal, FILE), `${JSON.stringify(entry)}\n`);
}
