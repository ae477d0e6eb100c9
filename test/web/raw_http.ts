import { connect, type Socket } from "node:net";

/** What came back, as much as tests look at. */
export interface RawAnswer {
  status: number;
  /** Names in lower case. */
  headers: Record<string, string>;
  body: string;
}

/** A connection on which anything can be said. */
export class RawConnection {
  readonly socket: Socket;
  text = "";

  constructor(port: number, host = "127.0.0.1") {
    this.socket = connect(port, host);
    this.socket.setEncoding("latin1");
    this.socket.on("error", () => {});
    this.socket.on("data", (data: string) => {
      this.text += data;
    });
  }

  /** What has come by the time that the server closes the connection. */
  async all(): Promise<string> {
    // Not by `once`, which an error would end first: being hung up on is none here.
    if (!this.socket.closed) await new Promise((resolve) => this.socket.once("close", resolve));
    return this.text;
  }
}

/** Says this, and has the answer to it: the connection is one for it alone. */
export async function sayRaw(port: number, text: string): Promise<RawAnswer> {
  const connection = new RawConnection(port);
  connection.socket.write(text);
  return readAnswer(await connection.all());
}

/** A request by its parts; `Host` is as it should be unless given, and left out when it is null. */
export function ask(
  port: number,
  target: string,
  { method = "GET", host = `127.0.0.1:${port}` as string | null, headers = {}, body = "" } = {},
): Promise<RawAnswer> {
  const all = { ...(host === null ? {} : { host }), ...headers, connection: "close" } as Record<string, string>;
  if (body !== "" && all["transfer-encoding"] === undefined) all["content-length"] ??= String(Buffer.byteLength(body));
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  return sayRaw(port, `${[`${method} ${target} HTTP/1.1`, ...lines].join("\r\n")}\r\n\r\n${body}`);
}

function readAnswer(text: string): RawAnswer {
  const [head = "", ...rest] = text.split("\r\n\r\n");
  const [first = "", ...lines] = head.split("\r\n");
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]),
  );
  return { status: Number(first.split(" ")[1] ?? 0), headers, body: rest.join("\r\n\r\n") };
}
