/** Why this machine cannot run the virtual machines, in one line: a check is then skipped, which is not a pass. */
export class VmUnavailable extends Error {
  override name = "VmUnavailable";
}
