import { tmpdir, userInfo } from "node:os";
import { isAbsolute, join } from "node:path";

/** Whom this process acts for, and its environment: what the directories that nobody named depend on. */
export interface Surroundings {
  uid: number;
  env: Readonly<Record<string, string | undefined>>;
}

const HERE: Surroundings = { uid: process.geteuid?.() ?? 0, env: process.env };

/**
 * Where sockets are when nobody says: what systemd made for its unit (RuntimeDirectory=), else `/run/linkfence` for root,
 * else in the user's own runtime directory, else one for this user among the temporary files.
 */
export function defaultSocketDir({ uid, env }: Surroundings = HERE): string {
  const ofUnit = firstPath(env.RUNTIME_DIRECTORY);
  if (ofUnit !== undefined) return ofUnit;
  if (uid === 0) return "/run/linkfence";
  const ofUser = absolute(env.XDG_RUNTIME_DIR);
  return ofUser === undefined ? join(tmpdir(), `linkfence-${uid}`) : join(ofUser, "linkfence");
}

/**
 * Where the ledger is when nobody says: what systemd made for its unit (StateDirectory=), else `/var/lib/linkfence` for
 * root, else below the user's own state directory; a user without a home has one among the temporary files.
 */
export function defaultStateDir({ uid, env }: Surroundings = HERE): string {
  const ofUnit = firstPath(env.STATE_DIRECTORY);
  if (ofUnit !== undefined) return ofUnit;
  if (uid === 0) return "/var/lib/linkfence";
  const ofUser = absolute(env.XDG_STATE_HOME);
  if (ofUser !== undefined) return join(ofUser, "linkfence");
  const home = absolute(env.HOME) ?? homeOf(uid);
  return home === undefined ? join(tmpdir(), `linkfence-${uid}-state`) : join(home, ".local/state/linkfence");
}

/** By the system's database of users, in which a container's need not be. */
function homeOf(uid: number): string | undefined {
  try {
    const user = userInfo();
    return user.uid === uid ? absolute(user.homedir) : undefined;
  } catch {
    return undefined;
  }
}

/** systemd separates several directories by colons (systemd.exec(5)); the first is ours. */
function firstPath(list: string | undefined): string | undefined {
  return absolute(list?.split(":")[0]);
}

/** A path in the environment counts only when it is absolute (XDG Base Directory Specification). */
function absolute(path: string | undefined): string | undefined {
  return path !== undefined && isAbsolute(path) ? path : undefined;
}
