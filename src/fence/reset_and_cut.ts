import type { Steps } from "../vfio/steps.js";
import type { GpuPort } from "./gpu_port.js";
import type { FenceStep } from "./progress.js";
import { restoreConfig, type SavedConfig, saveConfig } from "./saved_config.js";
import type { FenceStrategy } from "./strategy.js";

/**
 * Resets the GPU, which clears its disable bits, and cuts the given links again at once. The NPU's ends are in reset from
 * before the reset until after the read-back: a link that goes down under the NPU raises a hardware management interrupt
 * that freezes its bridge. When anything fails they stay in reset, since nobody knows what is at their far end then.
 *
 * Once the reset has begun, config space is restored and the links are cut whatever happens, also when the steps are
 * cancelled.
 * @param links asked when the moment to cut has come
 * @param known config space as it was when it was known to be good; without it the GPU is identified and its config space
 * saved now
 * @throws FenceError of the step that failed, or what the port throws.
 */
export function* resetAndCut(
  port: GpuPort,
  strategy: FenceStrategy,
  links: () => readonly number[],
  onStep: (step: FenceStep) => void,
  known?: SavedConfig,
): Steps {
  const saved = known ?? identifyAndSave(port, strategy);
  if (port.holdNpuLinks !== undefined) {
    onStep("npu reset");
    port.holdNpuLinks();
  }
  onStep("sbr");
  let open = true;
  try {
    let failed: { error: unknown } | undefined;
    try {
      yield* port.secondaryBusReset();
    } catch (error) {
      failed = { error };
    }
    try {
      onStep("restore");
      restoreConfig(port, saved);
      onStep("sequence");
      strategy.cut(port, links());
    } catch (error) {
      // A GPU that does not come back cannot be cut either: the first reason is the one to know.
      throw failed === undefined ? error : failed.error;
    }
    open = false;
    if (failed !== undefined) throw failed.error;
  } finally {
    if (open) cutAtOnce(port, strategy, links(), saved);
  }
  port.releaseNpuLinks?.();
}

/**
 * What a reset will lose, of a GPU that has said which chip it is.
 * @throws FenceError as {@link FenceStrategy.identify} and {@link saveConfig} do
 */
export function identifyAndSave(port: GpuPort, strategy: FenceStrategy): SavedConfig {
  strategy.identify(port);
  return saveConfig(port);
}

/** Does what can still be done about a GPU that was left in the middle: each step counts even when the other fails. */
function cutAtOnce(port: GpuPort, strategy: FenceStrategy, links: readonly number[], saved: SavedConfig): void {
  for (const step of [() => restoreConfig(port, saved), () => strategy.cut(port, links)]) {
    try {
      step();
    } catch {
      // What led here is thrown already, or nobody listens any more.
    }
  }
}
