import { join } from 'node:path';
import type { PeerName } from './cases.ts';
import { FarshoreSite } from './farshore-site.ts';
import type { UploadMode } from './farshore-site.ts';
import type { LoadProcess } from './load-process.ts';
import type { BenchOptions } from './options.ts';
import { farshorePeer, startNull, startTgtd } from './peers.ts';
import type { Peer } from './peers.ts';

/** Which gateway stands behind a name, and what its uploads do. */
const GATEWAYS: Readonly<Partial<Record<PeerName, { readonly site: 'main' | 'disk'; readonly mode: UploadMode }>>> = {
  farshore: { site: 'main', mode: 'capped' },
  'farshore-paused': { site: 'main', mode: 'paused' },
  'farshore-uncapped': { site: 'main', mode: 'uncapped' },
  'farshore-disk': { site: 'disk', mode: 'capped' },
};

/** The peers there are now: started and filled when first asked for, ended when nobody needs them any more. */
export class Roster {
  private readonly directory: string;
  private readonly options: BenchOptions;
  private readonly load: LoadProcess;
  private readonly say: (text: string) => void;
  private readonly peers = new Map<PeerName, Peer>();
  private readonly sites = new Map<'main' | 'disk', FarshoreSite>();
  private readonly described: Record<string, string> = {};

  constructor(directory: string, options: BenchOptions, load: LoadProcess, say: (text: string) => void) {
    this.directory = directory;
    this.options = options;
    this.load = load;
    this.say = say;
  }

  async peer(name: PeerName): Promise<Peer> {
    const known = this.peers.get(name);
    if (known !== undefined) return known;
    const behind = GATEWAYS[name];
    const { lunBytes } = this.options;
    let peer: Peer;
    if (behind !== undefined) peer = farshorePeer(name, await this.site(behind.site), behind.mode);
    else peer = await (name === 'tgtd' ? startTgtd : startNull)(this.directory, lunBytes);
    this.peers.set(name, peer);
    this.described[name] = peer.description;
    if (name === 'tgtd') await this.fill(name, peer);
    return peer;
  }

  /** By name, of all that have taken part. */
  descriptions(): Readonly<Record<string, string>> {
    return this.described;
  }

  /** Between rounds: a site whose cloud holds too much is begun anew and filled again. */
  async renewIfLarge(): Promise<void> {
    for (const [which, site] of this.sites)
      if (await site.renewedWhenLarge())
        await this.fill(`farshore (${which}, anew)`, farshorePeer('farshore', site, 'uncapped'));
  }

  async dismiss(isDone: (name: PeerName) => boolean): Promise<void> {
    for (const [name, peer] of [...this.peers]) {
      if (!isDone(name)) continue;
      this.peers.delete(name);
      await peer.stop();
    }
    for (const [which, site] of [...this.sites]) {
      if ([...this.peers.keys()].some((name) => GATEWAYS[name]?.site === which)) continue;
      this.sites.delete(which);
      await site.stop();
    }
  }

  private async site(which: 'main' | 'disk'): Promise<FarshoreSite> {
    const known = this.sites.get(which);
    if (known !== undefined) return known;
    const { lunBytes, cacheSize, ramSize, smallRamSize } = this.options;
    const tier = which === 'main' ? ramSize : smallRamSize;
    const directory = join(this.directory, which);
    const site = await FarshoreSite.start({ directory, lunBytes, cacheSize, ramSize: tier }, this.load);
    this.sites.set(which, site);
    await this.fill(`farshore (${which})`, farshorePeer('farshore', site, 'uncapped'));
    return site;
  }

  private async fill(name: string, peer: Peer): Promise<void> {
    const from = performance.now();
    await this.load.fill(peer.portal, this.options.lunBytes);
    const filled = performance.now();
    await peer.settle();
    const seconds = (ms: number): string => (ms / 1000).toFixed(1);
    this.say(`${name}: filled in ${seconds(filled - from)} s, settled ${seconds(performance.now() - filled)} s later`);
  }
}
