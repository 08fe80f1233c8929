import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { runTool } from '../support/processes.ts';

const SCRIPT = join(import.meta.dirname, 'two-hosts.sh');
const BOOT_LIMIT_MS = 300_000;

export interface BootImage {
  readonly kernel: string;
  readonly initrd: string;
}

/** Debian's kernel and an initramfs, made in `directory`; the first time the kernel package is downloaded. */
export function prepareBootImage(directory: string): BootImage {
  const [kernel, initrd] = runTool('sh', [SCRIPT, directory], 300_000).trim().split('\n');
  if (kernel === undefined || initrd === undefined) throw new Error(`${SCRIPT} named no kernel`);
  return { kernel, initrd };
}

export interface MachineOptions {
  readonly name: string;
  readonly image: BootImage;
  readonly directory: string;
  readonly memoryMib: number;
  /** More words for qemu: network devices, captures. */
  readonly qemu: readonly string[];
}

interface Outcome {
  readonly status: number;
  readonly output: string;
}

/** A virtual machine on the programs of this one (see two-hosts.sh) that runs the scripts it is given, one after another. */
export class VirtualMachine {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #consoleFile: string;
  readonly #lines: string[] = [];
  #wake: () => void = () => undefined;
  #hasEnded = false;

  private constructor(options: MachineOptions) {
    this.name = options.name;
    this.#consoleFile = join(options.directory, `${options.name}.console`);
    const hasKvm = existsSync('/dev/kvm') && /\b(vmx|svm)\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
    const kernelWords =
      'console=ttyS0 quiet loglevel=4 panic=-1 rdinit=/init mitigations=off tsc=reliable audit=0 cryptomgr.notests';
    const words = [
      // Without KVM a processor of the emulator's with AES instructions, which is what IPsec would have.
      ...(hasKvm
        ? ['-accel', 'kvm', '-cpu', 'host']
        : ['-accel', 'tcg,thread=multi', '-cpu', 'Nehalem,+aes,+pclmulqdq']),
      ...['-machine', 'q35', '-smp', '1', '-m', String(options.memoryMib)],
      ...['-nodefaults', '-display', 'none', '-monitor', 'none', '-no-reboot'],
      ...['-kernel', options.image.kernel, '-initrd', options.image.initrd],
      ...['-append', `${kernelWords} host=${options.name}`],
      ...['-serial', `file:${this.#consoleFile}`, '-serial', 'stdio', '-device', 'virtio-rng-pci'],
      ...['-virtfs', 'local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap'],
      ...options.qemu,
    ];
    this.#child = spawn('qemu-system-x86_64', words, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.once('error', () => {
      this.#end();
    });
    this.#child.once('exit', () => {
      this.#end();
    });
    if (this.#child.stdout === null) throw new Error('qemu has no standard output');
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      this.#lines.push(line);
      this.#wake();
    });
  }

  static async boot(options: MachineOptions): Promise<VirtualMachine> {
    const machine = new VirtualMachine(options);
    try {
      await machine.#nextLine(BOOT_LIMIT_MS, 'to boot');
      return machine;
    } catch (error) {
      await machine.end();
      throw error;
    }
  }

  /** Runs a bash script to its end; its output, standard error included. Throws with that output unless it ends with 0. */
  async run(script: string, limitMs = 60_000): Promise<string> {
    const { status, output } = await this.attempt(`set -e\n${script}`, limitMs);
    if (status !== 0) throw new Error(`${this.name}: a script ended with ${status}:\n${script}\n---\n${output}`);
    return output;
  }

  async attempt(script: string, limitMs = 60_000): Promise<Outcome> {
    this.#child.stdin?.write(`${Buffer.from(script).toString('base64')}\n`);
    const line = await this.#nextLine(limitMs, `for\n${script}`);
    const [status, output = ''] = line.split(' ');
    return { status: Number(status), output: Buffer.from(output, 'base64').toString() };
  }

  writeFile(path: string, content: string, mode = '644'): Promise<string> {
    const encoded = Buffer.from(content).toString('base64');
    return this.run(`mkdir -p "$(dirname ${path})"; base64 -d <<< ${encoded} > ${path}; chmod ${mode} ${path}`);
  }

  async end(): Promise<void> {
    if (this.#hasEnded) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }

  #end(): void {
    this.#hasEnded = true;
    this.#wake();
  }

  async #nextLine(limitMs: number, what: string): Promise<string> {
    const enough = new AbortController();
    const limit = pause(limitMs, undefined, { signal: enough.signal }).catch(() => undefined);
    let problem: string | undefined;
    void limit.then(() => {
      if (!enough.signal.aborted) problem = `took more than ${limitMs / 1000} s`;
      this.#wake();
    });
    try {
      for (;;) {
        const line = this.#lines.shift();
        if (line !== undefined) return line;
        const why = this.#hasEnded ? 'has ended' : problem;
        if (why !== undefined) {
          const console = existsSync(this.#consoleFile) ? readFileSync(this.#consoleFile, 'utf8').slice(-2000) : '';
          throw new Error(`${this.name} ${why} ${what}\nconsole: ${console}`);
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      enough.abort();
    }
  }
}
