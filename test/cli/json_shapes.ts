/** What tests look at of the JSON that commands print; docs/schema has all of it. */

export interface GpuJson {
  name: string;
  address: string;
  part: string;
  assignment: string;
  keptLinks: number[];
  cutLinks: number[];
  disableMask: string | null;
  resetNeeded: boolean;
  untouched: boolean;
}

export interface ProblemJson {
  kind: string;
  severity: string;
  gpus: string[];
  message: string;
}

export interface PlanJson<Gpu = GpuJson> {
  machine: string;
  virtual?: true;
  isolated: boolean;
  gpus: Gpu[];
  problems: ProblemJson[];
  notes: string[];
  steps: { action: string; gpu: string; farEndsFirst: { gpu: string; link: number }[] }[];
  iovaHoles: { assignment: string; holes: { start: string; end: string; functions: string[] }[] }[];
}

export interface SnapshotJson {
  disableMask: string | null;
  cut: number[] | null;
  linksUp: number[] | null;
}

export interface FencedGpuJson extends GpuJson {
  before: SnapshotJson;
  after: SnapshotJson;
  reset: boolean;
  verified: boolean;
}

export interface FenceJson extends PlanJson<FencedGpuJson> {
  verified: boolean;
}

export interface VerifyJson {
  machine: string;
  virtual?: true;
  open: boolean;
  gpus: { name: string; expected: string; actual: string | null; open: boolean; readable: boolean; reason?: string }[];
}

export interface AuditJson {
  machine: string;
  virtual?: true;
  findings: { kind: string; functions: string[]; links: { gpu: string; link: number }[]; reason: string }[];
  unknown: { what: string; functions: string[] }[];
  notes: string[];
}

export interface GroupsJson {
  machine: string;
  virtual?: true;
  kernel: string[][];
  computed: string[][];
  now: string[][];
  possible: string[][];
  pairs: { a: string; b: string; via: string; reason: string; action: string | null }[];
}

export interface TopoJson {
  machine: string;
  virtual?: true;
  gpus: { name: string; assignment?: string; links: { number: number; state: string }[] }[];
  matrix: string[][];
}

/** A capture file, as much as tests change of it. */
export interface CaptureJson {
  machine: {
    name: string;
    gpus: { address: string; name: string; part: string; links: LinkJson[] }[];
    assignments?: { name: string; members: string[] }[];
  };
}

export interface LinkJson {
  number: number;
  far: { kind: string; gpu?: string };
  state: string;
  evidence?: { registers: { offset: string; value: string }[] };
}
