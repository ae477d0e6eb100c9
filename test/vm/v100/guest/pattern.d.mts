export const BLOCK: number;
export class Pattern {
  constructor(seed: number);
  block(n: number): Uint8Array;
}
