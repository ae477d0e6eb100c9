import { connect, type Socket } from "node:net";
import { errnoInWords, errnoOf } from "../../host/error.js";
import { MAX_SOCKET_PATH } from "../../os/index.js";
import { UsageError } from "../failure.js";
import { type ControlReply, type ControlRequest, controlPath, linesOf, MAX_REPLY } from "./control_protocol.js";

/** How long a server may say nothing, in milliseconds. */
const PATIENCE = 30_000;

/**
 * Asks the server of a socket directory.
 * @param onProgress told what the server does meanwhile, a line each
 * @returns what the server answers; undefined when no server runs there
 * @throws UsageError with the server's own line when it refuses, or one that says why it cannot be asked
 */
export async function askServer(
  socketDir: string,
  request: ControlRequest,
  onProgress: (line: string) => void = () => {},
): Promise<unknown> {
  const path = controlPath(socketDir);
  const socket = await connectTo(path);
  if (socket === undefined) return undefined;
  try {
    socket.setTimeout(PATIENCE, () => socket.destroy(new UsageError(`the server at ${path} does not answer`)));
    socket.write(`${JSON.stringify(request)}\n`);
    for await (const line of linesOf(socket, MAX_REPLY)) {
      const reply = JSON.parse(line) as ControlReply;
      if ("error" in reply) throw new UsageError(reply.error);
      if ("result" in reply) return reply.result;
      onProgress(reply.progress);
    }
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`talking to the server at ${path} failed: ${inWords(errnoOf(error))}`);
  } finally {
    socket.destroy();
  }
  throw new UsageError(`the server at ${path} hung up before it answered; ask for its status`);
}

/** A server with as many connections as it takes hangs up on the next one. */
function inWords(errno: string): string {
  const hungUp = errno === "EPIPE" || errno === "ECONNRESET";
  return hungUp ? "it hung up, as it does when too many ask at once; try again" : errnoInWords(errno);
}

/** The connection; undefined when nobody listens. */
async function connectTo(path: string): Promise<Socket | undefined> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) return undefined;
  try {
    return await new Promise((resolve, reject) => {
      const socket = connect(path, () => resolve(socket));
      socket.once("error", reject);
    });
  } catch (error) {
    const errno = errnoOf(error);
    if (["ENOENT", "ENOTDIR", "ECONNREFUSED", "ENOTSOCK"].includes(errno)) return undefined;
    throw new UsageError(
      `cannot connect to ${path}: ${errnoInWords(errno)}${errno === "EACCES" ? "; only the server's own user may" : ""}`,
    );
  }
}
