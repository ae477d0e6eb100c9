import type { Steps } from "../vfio/steps.js";
import type { GpuPort } from "./gpu_port.js";
import type { FenceStep } from "./progress.js";
import { restoreConfig, saveConfig } from "./saved_config.js";
import type { FenceStrategy } from "./strategy.js";

/**
 * Resets the GPU, which clears its disable bits, and cuts the given links again at once. The NPU's ends are in reset from
 * before the reset until after the read-back: a link that goes down under the NPU raises a hardware management interrupt
 * that freezes its bridge. When anything fails they stay in reset, since nobody knows what is at their far end then.
 * @throws FenceError of the step that failed, or what the port throws. Whatever a failed reset left behind is cut first.
 */
export function* resetAndCut(
  port: GpuPort,
  strategy: FenceStrategy,
  links: readonly number[],
  onStep: (step: FenceStep) => void,
): Steps {
  strategy.identify(port);
  const saved = saveConfig(port);
  if (port.holdNpuLinks !== undefined) {
    onStep("npu reset");
    port.holdNpuLinks();
  }
  onStep("sbr");
  let failed: { error: unknown } | undefined;
  try {
    yield* port.secondaryBusReset();
  } catch (error) {
    failed = { error };
  }
  onStep("restore");
  restoreConfig(port, saved);
  onStep("sequence");
  strategy.cut(port, links);
  if (failed !== undefined) throw failed.error;
  port.releaseNpuLinks?.();
}
