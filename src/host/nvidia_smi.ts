import { spawnSync } from "node:child_process";
import type { Unknown } from "../machine/machine.js";
import { printable } from "./printable.js";

/** The longest wait for one answer. */
const TIME_LIMIT_MS = 5_000;
const OUTPUT_LIMIT = 4 << 20;

/** What `nvidia-smi` printed about links: both empty when it is not installed. */
export interface NvidiaSmi {
  /** Output of `nvidia-smi nvlink -R`, or of `-p` where a driver is too old for that. */
  nvlink?: string;
  /** Output of `nvidia-smi topo -m`. */
  topo?: string;
  unknown: Unknown[];
}

/**
 * Asks `nvidia-smi`, when there is one on PATH, for the far ends of links and for the matrix. It speaks of GPUs that the
 * NVIDIA driver holds only, and may load that driver, so ask only where some GPU is bound to it. Never throws; waits so many
 * milliseconds per question at most, and does not ask on after a silence.
 */
export function runNvidiaSmi(timeLimitMs: number = TIME_LIMIT_MS): NvidiaSmi {
  const ask = (...words: string[]) => answerTo(words, timeLimitMs);
  const answers: NvidiaSmi = { unknown: [] };
  const remote = ask("nvlink", "-R");
  if (remote.kind === "absent") return answers;
  const nvlink = remote.kind === "refused" ? ask("nvlink", "-p") : remote;
  if (nvlink.kind === "text") answers.nvlink = nvlink.text;
  else answers.unknown.push(noAnswer("far ends of NVLinks", "nvlink -R", nvlink));
  if (nvlink.kind === "silent") return answers;
  const topo = ask("topo", "-m");
  if (topo.kind === "text") answers.topo = topo.text;
  else answers.unknown.push(noAnswer("the matrix to check links against", "topo -m", topo));
  return answers;
}

type Answer =
  | { kind: "text"; text: string }
  | { kind: "absent" }
  | { kind: "refused"; why: string }
  | { kind: "silent"; why: string };

function answerTo(words: readonly string[], timeLimitMs: number): Answer {
  const result = spawnSync("nvidia-smi", words, {
    encoding: "utf8",
    env: { ...process.env, LC_ALL: "C" },
    killSignal: "SIGKILL",
    maxBuffer: OUTPUT_LIMIT,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: timeLimitMs,
  });
  if (result.error !== undefined) {
    const errno = "code" in result.error ? result.error.code : undefined;
    if (errno === "ENOENT" || errno === "EACCES" || errno === "ENOTDIR") return { kind: "absent" };
    if (errno === "ETIMEDOUT") return { kind: "silent", why: `no answer in ${timeLimitMs / 1000} s` };
    return { kind: "refused", why: errno === "ENOBUFS" ? `more than ${OUTPUT_LIMIT} bytes` : result.error.message };
  }
  if (result.status === 0 && result.stdout.trim() !== "") return { kind: "text", text: result.stdout };
  const [line] = `${result.stdout}\n${result.stderr}`.split("\n").filter((text) => text.trim() !== "");
  return { kind: "refused", why: printable((line ?? "it printed nothing").trim().slice(0, 200)) };
}

function noAnswer(what: string, question: string, answer: Answer): Unknown {
  const why = "why" in answer ? answer.why : "it is gone";
  return {
    what: `${what}: nvidia-smi ${question} failed: ${why}`,
    functions: [],
    action: "run it while the NVIDIA driver holds the GPUs and give its output with --nvlink FILE",
  };
}
