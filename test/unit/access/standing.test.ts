import { expect, it } from 'vitest';
import type { Standing } from '../../../gateway/access/access-sync.ts';
import { EMPTY_DOCUMENT, type VolumePart } from '../../../gateway/access/document.ts';
import { warningsAbout } from '../../../gateway/access/standing.ts';

const part = (name: string): VolumePart => ({
  volume: `id-${name}`,
  name,
  target: `iqn.2026-11.dev.farshore:${name}`,
  mode: 'mapped',
  maps: [],
  stamp: { epoch: 1, revision: 1 },
});

/** What is told of a change that concerns these volumes. */
function warnings(standings: Record<string, Standing>, fenced: readonly string[] = []): Promise<readonly string[]> {
  const volumes = Object.keys(standings).map(part);
  return warningsAbout(
    {
      book: { document: { ...EMPTY_DOCUMENT, volumes: [...volumes, part('unconcerned')] } },
      sync: {
        isLost: (volume) => standings[volume.replace('id-', '')] === 'elsewhere',
        standing: (volume) => {
          const standing = standings[volume.replace('id-', '')];
          return standing === undefined
            ? Promise.reject(new Error(`asked about ${volume}`))
            : Promise.resolve(standing);
        },
      },
    },
    ({ name }, isLost) => isLost || (name !== 'unconcerned' && name !== 'gone'),
    (name) => fenced.includes(name),
  );
}

it('a change that the table has needs no word', async () => {
  expect(await warnings({ v: 'there', w: 'there' })).toEqual([]);
});

it('a change that would be lost with this gateway says so, and what a takeover would bring back', async () => {
  expect(await warnings({ v: 'waiting', w: 'there', x: 'waiting' })).toEqual([
    expect.stringMatching(
      /^in force here, but not in the table yet for v, x: a takeover before that brings the former/,
    ),
  ]);
});

it('volumes that another gateway has are named, whether this one has heard of it or the table has', async () => {
  expect(await warnings({ v: 'elsewhere', w: 'there', x: 'not-open', gone: 'elsewhere' }, ['w'])).toEqual([
    expect.stringMatching(/^not in force for v, w, x, gone, .* is changed where it is served/),
  ]);
});
