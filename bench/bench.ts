/**
 * Measures Farshore against tgtd on this machine: same LUN size, both written full first, one load generator in a process
 * of its own, rounds taken in turn, the disk settled and replication drained between them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { describeError } from '../gateway/base/errors.ts';
import { makeSiteDirectory, removeSiteDirectory } from '../test/support/gateway-process.ts';
import { writes } from './cases.ts';
import type { LoadCase } from './cases.ts';
import { LoadProcess } from './load-process.ts';
import { USAGE, parseOptions } from './options.ts';
import type { BenchOptions } from './options.ts';
import { startFarshore, startTgtd } from './peers.ts';
import type { Peer } from './peers.ts';
import { renderTable, summarise } from './report.ts';
import type { ReplicationRound, RoundRecord } from './report.ts';

const WARM_UP_MS = 700;
/** Share of a core from which the load generator counts as the limit. */
const SATURATED = 0.95;

async function main(options: BenchOptions): Promise<boolean> {
  const directory = makeSiteDirectory();
  const peers: Peer[] = [];
  const load = new LoadProcess();
  try {
    for (const name of options.peers) {
      const start = name === 'farshore' ? startFarshore : startTgtd;
      peers.push(await start({ ...options, directory }));
    }
    for (const peer of peers) {
      const from = performance.now();
      await load.fill(peer.portal, options.lunBytes);
      const filled = performance.now();
      await peer.settle();
      say(
        `${peer.name}: filled in ${seconds(filled - from)} s, settled ${seconds(performance.now() - filled)} s later`,
      );
    }
    for (const peer of peers) {
      for (const one of options.cases) await measure(peer, load, options, one, 0, WARM_UP_MS);
    }
    const rounds: RoundRecord[] = [];
    for (let round = 1; round <= options.rounds; round += 1) {
      for (const one of options.cases) {
        // Who goes first changes, so that neither always runs on what the other left behind.
        for (const peer of round % 2 === 1 ? peers : peers.toReversed()) {
          rounds.push(await measure(peer, load, options, one, round, options.roundMs));
        }
      }
    }
    return report(options, peers, rounds);
  } finally {
    load.stop();
    for (const peer of peers) await peer.stop();
    removeSiteDirectory(directory);
  }
}

async function measure(
  peer: Peer,
  process: LoadProcess,
  options: BenchOptions,
  load: LoadCase,
  round: number,
  durationMs: number,
): Promise<RoundRecord> {
  const before = await peer.replication();
  const cpuBefore = peer.cpuMs();
  const result = await process.run(peer.portal, {
    load,
    lunBytes: options.lunBytes,
    rampMs: options.rampMs,
    durationMs,
    seed: round * 1000 + options.cases.indexOf(load) + 1,
  });
  const cpuMs = peer.cpuMs() - cpuBefore;
  const after = await peer.replication();
  const drainFrom = performance.now();
  await peer.settle();
  const drainSeconds = (performance.now() - drainFrom) / 1000;
  const settled = await peer.replication();
  let replication: ReplicationRound | undefined;
  if (before !== undefined && after !== undefined && settled !== undefined) {
    replication = {
      versionsDuringLoad: after.committedN - before.committedN,
      versionsInAll: settled.committedN - before.committedN,
      lagBytesAtEnd: after.lagBytes,
      drainSeconds,
      uploadedBytes: settled.uploadedBytes - before.uploadedBytes,
      s3Puts: settled.s3Puts - before.s3Puts,
      dynamoWrites: settled.dynamoWrites - before.dynamoWrites,
    };
  }
  const perSecond = Math.round(result.operations / result.seconds);
  const uploads =
    replication === undefined || !writes(load)
      ? ''
      : `, ${replication.versionsDuringLoad} versions committed meanwhile, ${replication.versionsInAll} in all after a drain of ${drainSeconds.toFixed(1)} s, ${Math.round(replication.uploadedBytes / 1e6)} MB uploaded`;
  say(
    `${round === 0 ? 'warm-up' : `round ${round}`}  ${peer.name.padEnd(8)}  ${load.title}: ${perSecond.toLocaleString('en')}/s${uploads}`,
  );
  // The ramp is in the CPU time too, so it counts for the whole run.
  const targetLoad = cpuMs / (options.rampMs + durationMs);
  return { case: load.name, peer: peer.name, round, result, targetLoad, replication };
}

/** Prints and writes the figures; false when Farshore's replication did not do its part. */
function report(options: BenchOptions, peers: readonly Peer[], rounds: readonly RoundRecord[]): boolean {
  const summaries = summarise(options.cases, rounds);
  console.log(`\n${renderTable(summaries)}\n`);
  if (options.mode === 'smoke')
    console.log('A smoke run: it shows that the benchmark works; the figures mean nothing.');
  const replicated = rounds.flatMap((round) => round.replication ?? []);
  const versions = replicated.reduce((sum, round) => sum + round.versionsInAll, 0);
  const megabytes = Math.round(replicated.reduce((sum, round) => sum + round.uploadedBytes, 0) / 1e6);
  const puts = replicated.reduce((sum, round) => sum + round.s3Puts, 0);
  if (replicated.length > 0)
    console.log(`Replicated meanwhile: ${versions} versions, ${megabytes} MB in ${puts} S3 PUTs.`);
  const idle = rounds.filter(
    (round) =>
      round.replication !== undefined &&
      writes(options.cases.find((load) => load.name === round.case) ?? impossibleCase(round.case)) &&
      // Long rounds must see versions while the load is on; short ones end before the first is due.
      (options.mode === 'full' ? round.replication.versionsDuringLoad : round.replication.versionsInAll) < 1,
  );
  for (const round of idle) console.log(`FAILED: no version was committed in round ${round.round} of ${round.case}.`);
  const busiest = Math.max(...rounds.map((round) => round.result.generatorLoad));
  if (busiest > SATURATED) console.log('Note: in some rounds the load generator itself was the limit.');
  const file = options.out ?? (options.mode === 'smoke' ? undefined : defaultFile(options.mode));
  if (file !== undefined) {
    mkdirSync(dirname(file), { recursive: true });
    const settings = {
      mode: options.mode,
      rounds: options.rounds,
      roundMs: options.roundMs,
      lunBytes: options.lunBytes,
    };
    const machine = { cpus: cpus().length, model: cpus()[0]?.model, memoryBytes: totalmem(), node: process.version };
    const descriptions = Object.fromEntries(peers.map((peer) => [peer.name, peer.description]));
    const document = { at: new Date().toISOString(), machine, settings, peers: descriptions, summaries, rounds };
    writeFileSync(file, `${JSON.stringify(document, null, 2)}\n`);
    console.log(`Written to ${file}`);
  }
  return idle.length === 0;
}

function defaultFile(mode: string): string {
  const day = new Date().toISOString().slice(0, 10);
  return join(resolve(import.meta.dirname, '../docs/bench'), `${day}-${mode}.json`);
}

function impossibleCase(name: string): never {
  throw new Error(`a round of the unknown case ${name}`);
}

function say(text: string): void {
  console.log(text);
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') console.log(USAGE);
  else process.exitCode = (await main(options)) ? 0 : 1;
} catch (error) {
  console.error(`bench: ${describeError(error)}`);
  process.exitCode = 1;
}
