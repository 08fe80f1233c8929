import { expect, it } from 'vitest';
import { VERSION } from '../../gateway/version.ts';
import manifest from '../../package.json' with { type: 'json' };

it('tells the same release as package.json', () => {
  expect(VERSION).toBe(manifest.version);
});
