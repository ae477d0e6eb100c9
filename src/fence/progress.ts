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
  | "failed";

/** One event for a person who watches: the GPU by its name, and a detail in words where there is one. */
export interface FenceEvent {
  gpu: string;
  step: FenceStep;
  detail?: string;
}
