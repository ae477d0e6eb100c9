import { isIP, isIPv6 } from "node:net";
import { UsageError } from "../cli/failure.js";

/** Where the page is to be served, and by which names it may be asked for. */
export interface HttpSettings {
  /** A host name or an address to listen on, IPv6 without brackets. */
  host: string;
  /** 0 to 65535; 0 has the system choose one. */
  port: number;
  /** What others call this host, in the `Host` of what they ask for: lower case, IPv6 in brackets, no port. */
  names: string[];
}

const MAX_PORT = 65_535;
const HOST_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;

/**
 * Reads `--http HOST:PORT`, and `--http-name`, each a name or an address of this host. A port alone is one of 127.0.0.1.
 * @throws UsageError for what is none, and for a HOST that is not loopback without a name: that is how linkfence is told
 * that others may look
 */
export function readHttpSettings(address: string, names: readonly string[] = []): HttpSettings {
  const match = /^(?:(?:\[([^\]]*)\]|([^:[\]]+)):)?(\d{1,5})$/.exec(address);
  const [, bracketed, plain, digits] = match ?? [];
  const given = (bracketed ?? plain ?? "127.0.0.1").toLowerCase();
  const port = Number(digits);
  const isHost = bracketed === undefined ? isIP(given) === 4 || isHostName(given) : isUnscoped(given);
  if (match === null || !isHost || port > MAX_PORT) {
    throw new UsageError(`--http ${address}: expected HOST:PORT, as in 127.0.0.1:8080 or [::1]:8080`);
  }
  const host = bracketed === undefined ? given : hostInUrl(given).slice(1, -1);
  const called = names.map(readName);
  if (!isLoopback(host) && called.length === 0) {
    throw new UsageError(
      `--http ${address}: ${host} is not loopback, so others could look at this host; if they shall, say by which name: --http-name NAME`,
    );
  }
  return { host, port, names: called };
}

/** Whether only this host reaches it. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** As it stands in a URL: of an IPv6 address the one spelling that browsers have for it. */
export function hostInUrl(host: string): string {
  return isIPv6(host) ? new URL(`http://[${host}]`).hostname : host;
}

/**
 * What its URL calls the host.
 * @param address what is listened on: of the two that `localhost` may be, the one that is
 */
export function urlHost({ host, names }: HttpSettings, address: string): string {
  return names[0] ?? hostInUrl(host === "localhost" ? address : host);
}

function readName(text: string): string {
  const name = text.toLowerCase();
  const inner = /^\[(.*)\]$/.exec(name)?.[1] ?? name;
  if (isUnscoped(inner)) return hostInUrl(inner);
  if (isIP(name) === 4 || isHostName(name)) return name;
  throw new UsageError(`--http-name ${text}: expected a host name or an address, without a port`);
}

/** An IPv6 address, of no one interface: URLs have no place for that. */
function isUnscoped(text: string): boolean {
  return isIPv6(text) && !text.includes("%");
}

/** Letters, digits and hyphens between dots; what is all digits and dots is an address, or nothing. */
function isHostName(name: string): boolean {
  return name.length <= 253 && HOST_NAME.test(name) && !/^[\d.]+$/.test(name);
}
