/** Runs the works of one key one after the other; works of different keys run side by side. */
export class SerialByKey {
  readonly #tails = new Map<string, Promise<unknown>>();

  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const mine = before.then(work, work);
    this.#tails.set(key, mine);
    const clear = (): void => {
      if (this.#tails.get(key) === mine) this.#tails.delete(key);
    };
    mine.then(clear, clear);
    return mine;
  }

  /** Keys something is done for, or waits to be done. */
  keys(): readonly string[] {
    return [...this.#tails.keys()];
  }

  /** Resolves when all that was asked for by now has been done, or has failed. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#tails.values());
  }
}
