/** Sets of keys that only ever merge (union by size, path halving): near constant time per call. */
export class DisjointSets<Key> {
  readonly #index = new Map<Key, number>();
  readonly #keys: Key[] = [];
  readonly #parent: number[] = [];
  readonly #size: number[] = [];

  /** Adds a key as a set of its own; a known key is left where it is. */
  add(key: Key): void {
    if (this.#index.has(key)) return;
    this.#index.set(key, this.#keys.length);
    this.#parent.push(this.#keys.length);
    this.#size.push(1);
    this.#keys.push(key);
  }

  /** Merges the sets of two keys, adding them where they are new. */
  join(a: Key, b: Key): void {
    this.add(a);
    this.add(b);
    let low = this.#root(a);
    let high = this.#root(b);
    if (low === high) return;
    if (this.#at(this.#size, low) > this.#at(this.#size, high)) [low, high] = [high, low];
    this.#parent[low] = high;
    this.#size[high] = this.#at(this.#size, high) + this.#at(this.#size, low);
  }

  /** Whether two keys are in one set; an unknown key is in none. */
  joined(a: Key, b: Key): boolean {
    return a === b || (this.#index.has(a) && this.#index.has(b) && this.#root(a) === this.#root(b));
  }

  /** All sets: members in the order they were added, sets in the order of their first members. */
  sets(): Key[][] {
    const sets = new Map<number, Key[]>();
    for (const key of this.#keys) {
      const root = this.#root(key);
      const members = sets.get(root);
      if (members === undefined) sets.set(root, [key]);
      else members.push(key);
    }
    return [...sets.values()];
  }

  #root(key: Key): number {
    let node = this.#index.get(key);
    if (node === undefined) throw new RangeError("key is in no set");
    for (let parent = this.#at(this.#parent, node); parent !== node; parent = this.#at(this.#parent, node)) {
      const grandparent = this.#at(this.#parent, parent);
      this.#parent[node] = grandparent;
      node = grandparent;
    }
    return node;
  }

  #at(array: number[], index: number): number {
    const value = array[index];
    if (value === undefined) throw new RangeError("set index out of range");
    return value;
  }
}
