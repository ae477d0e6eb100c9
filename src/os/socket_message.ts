import { constants } from "node:os";
import { OsError } from "./error.js";
import { Fd } from "./fd.js";
import { type Libc, libc } from "./libc.js";
import { NativeMemory } from "./native_memory.js";

const { EAGAIN, EINTR, EINVAL } = constants.errno;
const MSG_CTRUNC = 8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;

/** The most descriptors the kernel passes at once (SCM_MAX_FD in net/scm.h). */
export const SCM_MAX_FD = 253;

/** Returned instead of a byte count when the call would have had to wait. */
export const WOULD_BLOCK = -1;

// struct msghdr of 64-bit Linux: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48.
const IOV = 56;
const CONTROL = 72;
const CONTROL_SIZE = 16 + 4 * SCM_MAX_FD + 4;
const CONTROL_HEADER = 16;

/**
 * Receives and sends bytes with descriptors on Unix stream sockets, never waiting. One object serves any number of
 * sockets: it holds only the structures that the calls take, allocated once.
 */
export class SocketMessenger {
  readonly #libc: Libc = libc();
  readonly #memory = new NativeMemory(CONTROL + CONTROL_SIZE);
  #truncated = false;

  constructor() {
    const { view, address } = this.#memory;
    view.setBigUint64(16, BigInt(address + IOV), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(32, BigInt(address + CONTROL), true);
  }

  /**
   * Receives what is there. Descriptors that came along wait for {@link takeFds}, which must be called when
   * {@link hasFds}; they belong to the last message whose first byte is among those received, because the kernel ends
   * a receive with the piece that carried them.
   * @returns bytes received, 0 at the end of the stream, or {@link WOULD_BLOCK}
   * @throws {OsError} ECONNRESET and the like
   */
  receive(fd: number, address: number, length: number): number {
    const { view } = this.#memory;
    this.#setVector(address, length);
    // Always with a control buffer: descriptors that find none are discarded without a word.
    view.setUint32(40, CONTROL_SIZE, true);
    const count = this.#libc.recvmsg(fd, this.#memory.address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0) {
      view.setUint32(40, 0, true);
      return this.#wouldBlock("recvmsg");
    }
    return count;
  }

  /** Whether the last {@link receive} brought descriptors. */
  get hasFds(): boolean {
    return this.#memory.view.getUint32(40, true) !== 0;
  }

  /** Whether the last {@link takeFds} found that the kernel had dropped some: this process has too many open. */
  get fdsTruncated(): boolean {
    return this.#truncated;
  }

  /** The descriptors of the last {@link receive}; the caller owns them. */
  takeFds(): Fd[] {
    const { view } = this.#memory;
    const end = view.getUint32(40, true);
    this.#truncated = (view.getUint32(48, true) & MSG_CTRUNC) !== 0;
    view.setUint32(40, 0, true);
    const fds: Fd[] = [];
    let at = 0;
    while (at + CONTROL_HEADER <= end) {
      const length = view.getUint32(CONTROL + at, true);
      if (length < CONTROL_HEADER) break;
      const level = view.getInt32(CONTROL + at + 8, true);
      const type = view.getInt32(CONTROL + at + 12, true);
      if (level === SOL_SOCKET && type === SCM_RIGHTS) {
        const last = Math.min(at + length, end) - 4;
        for (let fd = at + CONTROL_HEADER; fd <= last; fd += 4) fds.push(new Fd(view.getInt32(CONTROL + fd, true)));
      }
      at += (length + 7) & ~7;
    }
    return fds;
  }

  /**
   * Sends bytes.
   * @returns bytes sent, perhaps fewer, or {@link WOULD_BLOCK}
   * @throws {OsError} EPIPE and the like
   */
  send(fd: number, address: number, length: number): number {
    const count = this.#libc.send(fd, address, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    return count < 0 ? this.#wouldBlock("send") : count;
  }

  /** Sends bytes with descriptors, which the caller keeps. They travel with the first byte. Otherwise as {@link send}. */
  sendWithFds(fd: number, address: number, length: number, fds: readonly number[]): number {
    if (fds.length > SCM_MAX_FD) throw new OsError("sendmsg", EINVAL, `with ${fds.length} descriptors`);
    const { view } = this.#memory;
    this.#setVector(address, length);
    const controlLength = CONTROL_HEADER + 4 * fds.length;
    view.setUint32(40, controlLength, true);
    view.setUint32(48, 0, true);
    view.setBigUint64(CONTROL, BigInt(controlLength), true);
    view.setInt32(CONTROL + 8, SOL_SOCKET, true);
    view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
    for (const [index, passed] of fds.entries()) view.setInt32(CONTROL + CONTROL_HEADER + 4 * index, passed, true);
    const count = this.#libc.sendmsg(fd, this.#memory.address, MSG_NOSIGNAL | MSG_DONTWAIT);
    view.setUint32(40, 0, true);
    return count < 0 ? this.#wouldBlock("sendmsg") : count;
  }

  #setVector(address: number, length: number): void {
    const { view } = this.#memory;
    view.setUint32(IOV, address >>> 0, true);
    view.setUint32(IOV + 4, Math.floor(address / 2 ** 32), true);
    view.setUint32(IOV + 8, length, true);
  }

  #wouldBlock(syscall: string): number {
    const errno = this.#libc.errno();
    if (errno === EAGAIN || errno === EINTR) return WOULD_BLOCK;
    throw new OsError(syscall, errno);
  }
}
