/**
 * Measures Farshore against tgtd on this machine: same LUN size, both written full first, one load generator in a process
 * of its own, rounds taken in turn, the disk settled and replication drained between them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describeError } from '../gateway/base/errors.ts';
import { makeSiteDirectory, removeSiteDirectory } from '../test/support/gateway-process.ts';
import { writes } from './cases.ts';
import type { BenchCase } from './cases.ts';
import { LoadProcess } from './load-process.ts';
import { machineData } from './machine.ts';
import { USAGE, parseOptions } from './options.ts';
import type { BenchOptions } from './options.ts';
import type { Peer } from './peers.ts';
import { Roster } from './roster.ts';
import { renderReplication, renderTable, summarise } from './report.ts';
import type { ReplicationRound, RoundRecord } from './report.ts';

async function main(options: BenchOptions): Promise<boolean> {
  const directory = makeSiteDirectory();
  const load = new LoadProcess();
  const roster = new Roster(directory, options, load, say);
  const machine = machineData();
  try {
    const rounds: RoundRecord[] = [];
    for (const one of options.cases) {
      const peers: Peer[] = [];
      for (const name of one.peers) peers.push(await roster.peer(name));
      if (options.warmUpMs > 0) for (const peer of peers) await measure(peer, load, options, one, 0, options.warmUpMs);
      for (let round = 1; round <= options.rounds; round += 1) {
        // Who goes first changes, so that none always runs on what another left behind.
        for (const peer of round % 2 === 1 ? peers : peers.toReversed()) {
          await roster.renewIfLarge();
          rounds.push(await measure(peer, load, options, one, round, options.roundMs));
        }
      }
      const later = options.cases.slice(options.cases.indexOf(one) + 1);
      await roster.dismiss((name) => !later.some(({ peers: needed }) => needed.includes(name)));
    }
    return report(options, machine, roster.descriptions(), rounds);
  } finally {
    load.stop();
    await roster.dismiss(() => true);
    removeSiteDirectory(directory);
  }
}

async function measure(
  peer: Peer,
  process: LoadProcess,
  options: BenchOptions,
  { load }: BenchCase,
  round: number,
  durationMs: number,
): Promise<RoundRecord> {
  await peer.prepare();
  const before = await peer.mark();
  const cpuBefore = peer.cpuMs();
  const startedAt = performance.now();
  const result = await process.run(peer.portal, {
    load,
    lunBytes: options.lunBytes,
    rampMs: options.rampMs,
    durationMs,
    maxWriteBytes: options.maxWriteBytes,
    stores: peer.stores,
    seed: round * 1000 + options.cases.findIndex((one) => one.load === load) + 1,
  });
  const elapsedMs = performance.now() - startedAt;
  const cpuMs = peer.cpuMs() - cpuBefore;
  const after = await peer.mark();
  const drainFrom = performance.now();
  await peer.settle();
  const drainSeconds = (performance.now() - drainFrom) / 1000;
  const settled = await peer.mark();
  let replication: ReplicationRound | undefined;
  if (before !== undefined && after !== undefined && settled !== undefined) {
    const [first, loaded, last] = [before.replication, after.replication, settled.replication];
    replication = {
      versionsDuringLoad: loaded.committedN - first.committedN,
      versionsInAll: last.committedN - first.committedN,
      lagBytesAtEnd: loaded.lagBytes,
      drainSeconds,
      uploadedDuringLoad: loaded.uploadedBytes - first.uploadedBytes,
      uploadedBytes: last.uploadedBytes - first.uploadedBytes,
      s3Puts: last.s3Puts - first.s3Puts,
      dynamoWrites: last.dynamoWrites - first.dynamoWrites,
    };
  }
  const perSecond = Math.round(result.operations / result.seconds);
  const uploads =
    replication === undefined || !writes(load)
      ? ''
      : `, ${replication.versionsDuringLoad} versions committed meanwhile, ${replication.versionsInAll} in all after a drain of ${drainSeconds.toFixed(1)} s, ${Math.round(replication.uploadedBytes / 1e6)} MB uploaded`;
  say(
    `${round === 0 ? 'warm-up' : `round ${round}`}  ${peer.name.padEnd(17)}  ${load.title}: ${perSecond.toLocaleString('en')}/s${uploads}`,
  );
  // The ramp and the connecting are in the CPU time too, so it counts for the whole run.
  const targetLoad = cpuMs / elapsedMs;
  return { case: load.name, peer: peer.name, round, result, targetLoad, replication, process: after?.process };
}

/** Prints and writes the figures; false when Farshore's replication did not do its part. */
function report(
  options: BenchOptions,
  machine: object,
  descriptions: Readonly<Record<string, string>>,
  rounds: readonly RoundRecord[],
): boolean {
  const summaries = summarise(options.cases, rounds);
  console.log(`\n${renderTable(summaries)}\n\n${renderReplication(summaries)}\n`);
  console.log(
    'Farshore: uploads capped at 200 Mbit/s and counted. Its RAM tier holds the LUN, as the page cache holds tgtd’s file; but for the reads from the disk log.',
  );
  if (options.mode === 'smoke')
    console.log('A smoke run: it shows that the benchmark works; the figures mean nothing.');
  const replicated = rounds.flatMap((round) => round.replication ?? []);
  const versions = replicated.reduce((sum, round) => sum + round.versionsInAll, 0);
  const megabytes = Math.round(replicated.reduce((sum, round) => sum + round.uploadedBytes, 0) / 1e6);
  const puts = replicated.reduce((sum, round) => sum + round.s3Puts, 0);
  if (replicated.length > 0)
    console.log(`Replicated meanwhile: ${versions} versions, ${megabytes} MB in ${puts} S3 PUTs.`);
  const writing = new Set(options.cases.filter(({ load }) => writes(load)).map(({ load }) => load.name));
  const idle = rounds.filter(
    ({ replication, ...round }) =>
      replication !== undefined && writing.has(round.case) && replication.versionsInAll < 1,
  );
  for (const round of idle) console.log(`FAILED: no version was committed in round ${round.round} of ${round.case}.`);
  for (const { title, generatorLimited } of summaries)
    if (generatorLimited.length > 0)
      console.log(`* ${title}: the load generator was the limit against ${generatorLimited.join(', ')}.`);
  const file = options.out ?? (options.mode === 'smoke' ? undefined : defaultFile(options.mode));
  if (file !== undefined) {
    mkdirSync(dirname(file), { recursive: true });
    const { mode, rounds: count, roundMs, lunBytes, cacheSize, ramSize, smallRamSize, maxWriteBytes } = options;
    const settings = { mode, rounds: count, roundMs, lunBytes, cacheSize, ramSize, smallRamSize, maxWriteBytes };
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

function say(text: string): void {
  console.log(text);
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') console.log(USAGE);
  else process.exitCode = (await main(options)) ? 0 : 1;
} catch (error) {
  console.error(`bench: ${describeError(error)}`);
  process.exitCode = 1;
}
