import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { runCommand } from "./run_command.js";
import { VmUnavailable } from "./vm_unavailable.js";

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

function isInstalled(program: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Says why packages cannot be had on this machine. @throws {VmUnavailable} */
export function requireApt(): void {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new VmUnavailable(`virtual machines need an amd64 Linux, this is ${process.platform}/${process.arch}`);
  }
  for (const program of ["apt-get", "apt-cache", "dpkg-deb", "flock"]) {
    if (!isInstalled(program)) throw new VmUnavailable(`virtual machines need ${program}, which is not installed`);
  }
  if (!existsSync(KEYRING)) throw new VmUnavailable(`virtual machines need Debian's archive keys in ${KEYRING}`);
}

/** Where this machine gets Debian from. @throws {VmUnavailable} when its sources name no mirror */
function mirror(): string {
  for (const file of ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"]) {
    if (!existsSync(file)) continue;
    const address = /^(?:URIs:|deb\s(?:\[.*?\]\s)?)\s*(https?:\/\/\S+?\/debian)\/*(?:\s|$)/m.exec(
      readFileSync(file, "utf8"),
    );
    if (address?.[1] !== undefined) return address[1];
  }
  throw new VmUnavailable("no Debian mirror in /etc/apt/sources.list or sources.list.d");
}

/**
 * Packages of one Debian suite and architecture, downloaded with lists and a cache of its own: the system's packages
 * are never touched, and nothing is installed.
 */
export class AptArchive {
  readonly #options: string[];
  readonly #debs: string;

  private constructor(folder: string, suite: string, architecture: string) {
    this.#debs = join(folder, "cache", "archives");
    mkdirSync(join(folder, "lists", "partial"), { recursive: true });
    mkdirSync(join(this.#debs, "partial"), { recursive: true });
    // No package counts as installed: every dependency is downloaded.
    writeFileSync(join(folder, "status"), "");
    writeFileSync(join(folder, "sources.list"), `deb [signed-by=${KEYRING}] ${mirror()} ${suite} main\n`);
    const settings: Record<string, string> = {
      "Dir::State": folder,
      "Dir::State::Lists": join(folder, "lists"),
      "Dir::State::status": join(folder, "status"),
      "Dir::Cache": join(folder, "cache"),
      "Dir::Etc::sourcelist": join(folder, "sources.list"),
      "Dir::Etc::sourceparts": "/nonexistent",
      "Dir::Etc::preferences": "/nonexistent",
      "Dir::Etc::preferencesparts": "/nonexistent",
      "APT::Architecture": architecture,
      "APT::Architectures::": architecture,
      "APT::Install-Recommends": "false",
      // The folder may be one that only its owner can enter.
      "APT::Sandbox::User": process.getuid?.() === 0 ? "root" : "",
      "APT::Update::Error-Mode": "any",
      "Acquire::Languages": "none",
      "Acquire::Retries": "2",
      "Acquire::http::Timeout": "20",
    };
    this.#options = ["-q", ...Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`])];
  }

  /**
   * Fetches the lists of a suite.
   * @throws {VmUnavailable} without network
   */
  static async open(folder: string, suite: string, architecture: string): Promise<AptArchive> {
    const archive = new AptArchive(folder, suite, architecture);
    await archive.#get(["update"]);
    return archive;
  }

  /** A field of a package's newest version, e.g. `Depends`. @throws {VmUnavailable} when the suite lacks the package */
  async field(name: string, field: string): Promise<string> {
    const args = [...this.#options, "show", "--no-all-versions", name];
    const text = (await runCommand("apt-cache", args)).toString("utf8");
    const value = new RegExp(`^${field}: (.*)$`, "m").exec(text)?.[1];
    if (value === undefined) throw new VmUnavailable(`Debian's package ${name} has no field ${field}`);
    return value;
  }

  /** Whether the suite has a package. */
  async has(name: string): Promise<boolean> {
    const names = (await runCommand("apt-cache", [...this.#options, "pkgnames", name])).toString("utf8");
    return names.split("\n").includes(name);
  }

  /** Downloads packages, all that they depend on too, and unpacks them. @throws {VmUnavailable} without network */
  async unpackAll(names: readonly string[], into: string): Promise<void> {
    await this.#get(["-y", "--download-only", "install", ...names]);
    await this.#unpack(into);
  }

  /** Downloads just these packages and unpacks them. @throws {VmUnavailable} without network */
  async unpackOnly(names: readonly string[], into: string): Promise<void> {
    await this.#get(["download", ...names]);
    await this.#unpack(into);
  }

  async #get(args: readonly string[]): Promise<void> {
    try {
      await runCommand("apt-get", [...this.#options, ...args], { cwd: this.#debs, timeoutS: 600 });
    } catch (error) {
      throw new VmUnavailable(`cannot download from ${mirror()}: ${(error as Error).message}`);
    }
  }

  async #unpack(into: string): Promise<void> {
    mkdirSync(into, { recursive: true });
    for (const deb of readdirSync(this.#debs).filter((name) => name.endsWith(".deb"))) {
      await runCommand("dpkg-deb", ["-x", join(this.#debs, deb), into]);
    }
  }
}
