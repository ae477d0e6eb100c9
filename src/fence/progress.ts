/** What is being done to a GPU, in the order in which a person watches it happen. */
export type FenceStep =
  | "read"
  | "far ends"
  | "npu reset"
  | "sbr"
  | "restore"
  | "sequence"
  | "read back"
  | "done"
  | "failed"
  /** Links that are to be up stay cut until the next reset. */
  | "awaits reset"
  /** A fence that was in force is not: somebody else has reset the GPU. */
  | "found open"
  /** A client wrote to a register that cuts links. */
  | "guarded write";

/** One event for a person who watches: the GPU by its name, and a detail in words where there is one. */
export interface FenceEvent {
  gpu: string;
  step: FenceStep;
  detail?: string;
  /** Of a guarded write: the register's offset in BAR0, what was asked for, and what was written: null for nothing. */
  write?: GuardedWrite;
}

/** A client's write to a register that cuts links; values are unsigned 32 bits. */
export interface GuardedWrite {
  offset: number;
  asked: number;
  written: number | null;
}
