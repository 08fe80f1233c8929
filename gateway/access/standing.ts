import type { AccessBook } from './access-book.ts';
import type { AccessSync } from './access-sync.ts';
import type { VolumePart } from './document.ts';

/** Longest that an answer waits for the table to have what was just changed. */
const ANSWER_WITHIN_MS = 1_500;

/**
 * What an administrator has to know of a change that was made here and may yet come to nothing: sentences about the volumes it `concerns`
 * that the table does not have in this form yet, after a short wait, and about those that another gateway has (`isElsewhere`, or the table
 * says so; `isLost`). No sentence: whoever takes one of them over from now on finds the change.
 */
export async function warningsAbout(
  {
    book,
    sync,
  }: { readonly book: Pick<AccessBook, 'document'>; readonly sync: Pick<AccessSync, 'standing' | 'isLost'> },
  concerns: (part: VolumePart, isLost: boolean) => boolean,
  isElsewhere: (volume: string) => boolean,
): Promise<readonly string[]> {
  const isLost = ({ volume, name }: VolumePart): boolean => isElsewhere(name) || sync.isLost(volume);
  const parts = book.document.volumes.filter((part) => concerns(part, isLost(part)));
  const standings = await Promise.all(
    parts.map(async (part) => ({
      name: part.name,
      standing: isLost(part) ? ('elsewhere' as const) : await sync.standing(part.volume, ANSWER_WITHIN_MS),
    })),
  );
  const named = (...kinds: readonly (typeof standings)[number]['standing'][]): string =>
    standings
      .filter(({ standing }) => kinds.includes(standing))
      .map(({ name }) => name)
      .join(', ');
  const waiting = named('waiting');
  const elsewhere = named('elsewhere', 'not-open');
  return [
    ...(waiting === ''
      ? []
      : [
          `in force here, but not in the table yet for ${waiting}: a takeover before that brings the former state back; farshore status shows when it is there`,
        ]),
    ...(elsewhere === ''
      ? []
      : [
          `not in force for ${elsewhere}, which this gateway does not serve: who may use a volume is changed where it is served (farshore volume list shows where)`,
        ]),
  ];
}
