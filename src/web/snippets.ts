import { libvirtLines } from "../cli/serve/libvirt_xml.js";
import { qemuArguments, shellLines } from "../cli/serve/qemu_arguments.js";
import type { ServerStatus } from "../cli/serve/server_status.js";
import type { PageSnippet } from "./snapshot.js";

/** What to paste for each assignment that has something served. */
export function snippetsOf(status: ServerStatus): PageSnippet[] {
  return status.assignments.flatMap(({ name }) => {
    const served = status.functions.filter(({ assignment, socket }) => assignment === name && socket !== null);
    const sockets = served.map(({ socket }) => socket ?? "");
    if (sockets.length === 0) return [];
    const qemu = shellLines(qemuArguments(sockets, status)).join("\n");
    return [{ name, qemu, libvirt: libvirtLines(sockets, status).join("\n") }];
  });
}
