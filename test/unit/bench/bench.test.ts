import { describe, expect, it } from 'vitest';
import { CASES } from '../../../bench/cases.ts';
import type { PeerName } from '../../../bench/cases.ts';
import { LatencyHistogram } from '../../../bench/histogram.ts';
import { Scatter, SlotData, wrongStamp } from '../../../bench/load-data.ts';
import type { LoadResult } from '../../../bench/generator.ts';
import { parseOptions } from '../../../bench/options.ts';
import { median, renderReplication, renderTable, summarise } from '../../../bench/report.ts';
import type { RoundRecord } from '../../../bench/report.ts';

describe('the latency histogram', () => {
  it('gives quantiles right to two percent, over five orders of magnitude', () => {
    const histogram = new LatencyHistogram();
    for (let i = 1; i <= 100_000; i += 1) histogram.record(i / 1000);
    for (const share of [0.001, 0.01, 0.5, 0.9, 0.99, 0.999]) {
      const exact = share * 100;
      expect(Math.abs(histogram.quantileMs(share) - exact) / exact, String(share)).toBeLessThan(0.02);
    }
    expect(histogram.quantileMs(1)).toBe(100);
    expect(histogram.maxMs()).toBe(100);
    expect(histogram.count()).toBe(100_000);
  });

  it('is zero when nothing was recorded', () => {
    expect(new LatencyHistogram().quantileMs(0.5)).toBe(0);
  });
});

describe('the data of the load', () => {
  it('stamps every block with its number, and a foreign or old block is noticed', () => {
    const slot = new SlotData(16384);
    const from = slot.next(40);
    const data = slot.pool.subarray(from, from + 16384);
    expect(wrongStamp(data, 0, 16384, 0, 40)).toBeUndefined();
    expect(wrongStamp(data, 0, 16384, 0, 41)).toMatch(/block 41 holds foreign bytes/);
    expect(wrongStamp(Buffer.alloc(4096), 0, 4096, 0, 0)).toMatch(/block 0/);
    data.writeUInt32BE(7, 4096 + 4);
    expect(wrongStamp(data, 0, 16384, 0, 40)).toMatch(/block 41/);
  });

  it('is looked at in pieces of any length, and a stamp cut by the end of a piece is left out', () => {
    const slot = new SlotData(16384);
    const from = slot.next(7);
    const data = Buffer.concat([Buffer.alloc(5), slot.pool.subarray(from, from + 16384)]);
    for (const cut of [0, 1, 7, 8, 100, 4095, 4096, 4100, 16384]) {
      expect(wrongStamp(data, 5, 5 + cut, 0, 7), String(cut)).toBeUndefined();
      expect(wrongStamp(data, 5 + cut, 5 + 16384, cut, 7), String(cut)).toBeUndefined();
    }
    data.writeUInt32BE(99, 5 + 8192 + 4);
    expect(wrongStamp(data, 5 + 4100, 5 + 8192 + 7, 4100, 7)).toBeUndefined();
    expect(wrongStamp(data, 5 + 4100, 5 + 8192 + 8, 4100, 7)).toMatch(/block 9/);
  });

  it('scatters over the whole range', () => {
    const scatter = new Scatter(5);
    const buckets = new Array<number>(16).fill(0);
    for (let i = 0; i < 16_000; i += 1) {
      const bucket = Math.floor(scatter.below(262_144) / 16_384);
      buckets[bucket] = (buckets[bucket] ?? 0) + 1;
    }
    expect(Math.min(...buckets)).toBeGreaterThan(800);
    expect(Math.max(...buckets)).toBeLessThan(1200);
  });
});

describe('the report', () => {
  const result = (operations: number): LoadResult => ({
    operations,
    bytes: operations * 4096,
    seconds: 2,
    p50Ms: 0.5,
    p99Ms: 5,
    p999Ms: 9,
    maxMs: 10,
    busy: 0,
    blocksChecked: 0,
    generatorLoad: 0.5,
  });

  const rounds = (name: string, peer: PeerName, rates: readonly number[], load = 0.5): RoundRecord[] =>
    rates.map((operations, index) => ({
      case: name,
      peer,
      round: index + 1,
      result: { ...result(operations), generatorLoad: load },
      targetLoad: 1,
      replication: undefined,
      process: undefined,
    }));
  const one = CASES.find(({ load }) => load.name === 'random-write-4k-qd32');
  if (one === undefined) throw new Error('the case has another name');

  it('compares medians over the rounds, with the target and with the null target', () => {
    expect(median([5, 1, 3])).toBe(3);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    const { name } = one.load;
    const measured = [
      ...rounds(name, 'farshore', [100, 900, 400]),
      ...rounds(name, 'tgtd', [100, 100, 100], 0.96),
      ...rounds(name, 'null', [500]),
      ...rounds(name, 'farshore-paused', [500]),
      ...rounds(name, 'farshore-uncapped', [250]),
    ];
    const [summary] = summarise([one], measured);
    expect(summary).toMatchObject({ ratio: 4, target: 4, met: true, overNull: 0.8, costUncapped: 0.5 });
    expect(summary?.costCapped).toBeCloseTo(0.2);
    expect(summary?.generatorLimited).toEqual(['tgtd']);
    expect(summary?.peers.farshore).toMatchObject({ medianPerSecond: 200, lowestPerSecond: 50, highestPerSecond: 450 });
    expect(summarise([{ ...one, target: 4.1 }], measured)[0]?.met).toBe(false);
    const lines = renderTable(summarise([one], measured)).split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[2]).toMatch(/200 +50\* +4\.00 +4\.0 +yes +0\.80 +yes/);
    expect(renderReplication(summarise([one], measured))).toMatch(/capped at 200 Mbit\/s +200 +20 % +yes/);
  });

  it('leaves a dash where a peer was not measured', () => {
    expect(renderTable(summarise(CASES.slice(0, 1), []))).toContain('-');
  });
});

describe('the options', () => {
  it('have a preset per mode that single options override', () => {
    expect(parseOptions([])).toMatchObject({
      mode: 'full',
      rounds: 3,
      roundMs: 4000,
      lunBytes: 2 ** 30,
      ramSize: '1280M',
    });
    expect(parseOptions(['--smoke', '--rounds', '2', '--only', 'random-read-4k-qd1'])).toMatchObject({
      mode: 'smoke',
      rounds: 2,
      cases: [{ load: { name: 'random-read-4k-qd1' } }],
    });
    const alone = parseOptions(['--peers', 'farshore-disk']);
    expect(alone).toMatchObject({ cases: [{ peers: ['farshore-disk'] }] });
  });

  it('are refused with a sentence when they make no sense', () => {
    expect(() => parseOptions(['--rounds', 'x'])).toThrow(/not a positive number/);
    expect(() => parseOptions(['--only', 'nothing'])).toThrow(/there is no case nothing/);
    expect(() => parseOptions(['--peers', 'lio'])).toThrow(/there is no peer lio/);
  });
});
