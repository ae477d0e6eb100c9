import type { ChangeRequest } from "../cli/serve/control_protocol.js";
import type { Seen } from "../cli/serve/messages.js";
import type { Changer, ServerStatus } from "../cli/serve/server_status.js";
import type { Machine } from "../machine/machine.js";

/** A serving, as the web sees it. */
export interface Watched {
  /** As it was described; what its registers say is in {@link seen}. */
  readonly machine: Machine;
  readonly planning: { includeHost: boolean; isolateNvlink?: boolean };
  /** What is fenced, served and attached at this moment. */
  status(): Promise<ServerStatus>;
  /** What is different of the machine now. */
  seen(): Promise<Seen>;
  /**
   * Changes assignments as the control socket does.
   * @throws UsageError when it is refused; nothing has changed then
   */
  change(request: ChangeRequest, by: Changer): Promise<ServerStatus>;
}
