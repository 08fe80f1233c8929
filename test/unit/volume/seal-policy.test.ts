import { describe, expect, test } from 'vitest';
import { decideSeal, MAX_BATCHES_IN_FLIGHT, SEAL_BLOCKS, type SealInput } from '../../../gateway/volume/seal-policy.ts';

const young: SealInput = { blocks: 5, isEmpty: false, ageMs: 100, urgent: false, rpoMs: 5000, ahead: 0 };

describe('sealing', () => {
  test('does nothing for an empty batch, however urgent', () => {
    expect(decideSeal({ ...young, isEmpty: true, blocks: 0, urgent: true, ageMs: 1e9 })).toEqual({ kind: 'nothing' });
  });

  test('waits until half the RPO target has passed', () => {
    expect(decideSeal(young)).toEqual({ kind: 'wait', waitMs: 2400 });
    expect(decideSeal({ ...young, ageMs: 2500 })).toEqual({ kind: 'seal' });
  });

  test('comes early when somebody waits', () => {
    expect(decideSeal({ ...young, urgent: true })).toEqual({ kind: 'seal' });
  });

  test('comes by size', () => {
    expect(decideSeal({ ...young, blocks: SEAL_BLOCKS })).toEqual({ kind: 'seal' });
  });

  test('lets a batch grow that would have to wait anyway, but not beyond a segment', () => {
    const behind = { ...young, ahead: MAX_BATCHES_IN_FLIGHT, ageMs: 1e6, urgent: true };
    expect(decideSeal(behind)).toEqual({ kind: 'nothing' });
    expect(decideSeal({ ...behind, blocks: SEAL_BLOCKS })).toEqual({ kind: 'seal' });
  });

  test('counts unmaps alone as something to seal', () => {
    expect(decideSeal({ ...young, blocks: 0, ageMs: 2500 })).toEqual({ kind: 'seal' });
  });
});
