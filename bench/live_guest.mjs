// Runs in the guest of live.ts: measures an edu and a GPU by the kernel's VFIO, then as `linkfence serve --live` serves them
// to a client, then by the kernel's VFIO again. All times are in nanoseconds, medians unless they say otherwise.
// Environment: GPU, its address.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { createEventfd, drainEventfd, Mapping, POLLIN, pollOne } from "/linkfence/dist/os/index.js";
import { VFIO_PCI_MSI_IRQ_INDEX } from "/linkfence/dist/vfio/index.js";
import { VfioUserClient } from "/linkfence/dist/vfio-user/index.js";
import { ClientDevice, listen, PAGE, setCommand, silence } from "/linkfence/guest/driven_device.mjs";
import { EDU_IDS } from "/linkfence/guest/edu.mjs";
import { LiveServer } from "/linkfence/guest/live_server.mjs";
import { COMMAND_BUS_MASTER, COMMAND_MEMORY, PciFunction } from "/linkfence/guest/pci_function.mjs";
import { result } from "/linkfence/guest/report.mjs";
import { VfioFunction } from "/linkfence/guest/vfio_function.mjs";

const edu = PciFunction.find(...EDU_IDS);
const gpu = new PciFunction(process.env.GPU);
/** Registers of an edu (docs/specs/edu.rst of QEMU), in words: RAISE raises what is written, ACKNOWLEDGE ends it. */
const [ID, RAISE, ACKNOWLEDGE] = [0, 0x60 / 4, 0x64 / 4];
/** A server's code is compiled when it has run some thousand times. */
const [WARM_UP, BLOCKS, READS] = [20, 10, 400];
const [ROUNDS, MAPPED_READS] = [41, 2000];
const INTERRUPTS = 4000;

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const nanoseconds = (run) => {
  const start = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - start);
};

function runClient(access, blocks, target, fd) {
  const stdio = ["ignore", "pipe", "inherit", ...(fd === undefined ? [] : [fd])];
  const { stdout, status } = spawnSync("/latency_client", [access, blocks, READS, target].map(String), { stdio });
  assert.equal(status, 0, target);
  const [p50, p99, mean] = stdout.toString().split(" ").map(Number);
  return { p50, p99, mean };
}

/** One 4-byte register, read by a program in C: by messages to a socket, or by pread of a file that it inherits. */
function readsOf(target, fd) {
  runClient("register", WARM_UP, target, fd);
  return runClient("register", BLOCKS, target, fd);
}

/** The least that a server can do, in C: what a message there and back costs on this machine. */
async function messages() {
  const socket = "/tmp/minimal.sock";
  const server = spawn("/minimal_server", [socket, "0"], { stdio: "inherit" });
  while (!existsSync(socket)) await sleep(10);
  await sleep(100);
  const found = runClient("read", BLOCKS, socket);
  server.kill();
  return found;
}

function mappedReads(words) {
  return nanoseconds(() => {
    // Atomic, for others whose value nobody uses are optimised away.
    for (let count = 0; count < MAPPED_READS; count++) Atomics.load(words, ID);
  });
}

/** One read of a register of what a client has mapped, and of the same BAR mapped by whoever is root, in turns. */
function inTurns(words) {
  const own = edu.mapBar(0, PAGE);
  const times = { client: [], own: [] };
  for (let round = 0; round < ROUNDS; round++) {
    times.client.push(mappedReads(words));
    times.own.push(mappedReads(wordsOf(own)));
  }
  own.unmap();
  return { client: median(times.client) / MAPPED_READS, own: median(times.own) / MAPPED_READS };
}

/** From the write that raises it, to its being seen by whoever waits for the eventfd. */
function interruptTime(words, device, silenceIt) {
  const event = createEventfd();
  listenTo(device, event);
  const times = Array.from({ length: INTERRUPTS }, () => {
    const time = nanoseconds(() => {
      words[RAISE] = 1;
      assert.equal(pollOne(event, POLLIN, 10_000), POLLIN);
    });
    drainEventfd(event);
    words[ACKNOWLEDGE] = 1;
    return time;
  });
  silenceIt();
  event.close();
  return median(times);
}

function listenTo(device, event) {
  if (device instanceof VfioFunction) device.listen(VFIO_PCI_MSI_IRQ_INDEX, [event]);
  else listen(device, VFIO_PCI_MSI_IRQ_INDEX, [event]);
}

const wordsOf = (mapping) => new Uint32Array(mapping.bytes.buffer, mapping.bytes.byteOffset, PAGE / 4);

function direct(pci, run) {
  const fn = new VfioFunction(pci);
  fn.setCommand(COMMAND_MEMORY | COMMAND_BUS_MASTER);
  const found = run(fn, readsOf(`fd:3:${fn.region(0).offset}`, fn.fd));
  fn.close();
  return found;
}

function directly() {
  for (const each of [edu, gpu]) each.bind("vfio-pci");
  const found = {
    gpu: direct(gpu, (_, read) => ({ read })),
    edu: direct(edu, (fn, read) => {
      const mapping = fn.map(0);
      const words = wordsOf(mapping);
      const interrupt = interruptTime(words, fn, () => fn.silence(VFIO_PCI_MSI_IRQ_INDEX));
      mapping.unmap();
      return { read, interrupt };
    }),
  };
  for (const each of [edu, gpu]) each.unbind();
  return found;
}

/** An edu's BAR0, mapped by its client. */
function byClient(socket) {
  const client = new VfioUserClient(socket, { timeout: 30_000 });
  const device = new ClientDevice(client);
  setCommand(device, COMMAND_MEMORY | COMMAND_BUS_MASTER);
  const { info, fd } = client.regionInfo(0);
  const mapping = new Mapping(fd, Number(info.offset), PAGE, "read-write");
  const words = wordsOf(mapping);
  const mapped = inTurns(words);
  const interrupt = interruptTime(words, device, () => silence(device, VFIO_PCI_MSI_IRQ_INDEX));
  mapping.unmap();
  fd.close();
  client.close();
  return { mapped, interrupt };
}

async function served(measure, ...options) {
  const server = await LiveServer.start("--yes", "--assign", `vm1=${edu.address}`, ...options);
  const found = measure(server);
  assert.equal(await server.end(), 0, server.errors);
  return found;
}

/** The edu's by messages where nothing else is served: looking after a GPU's fence takes an emulated machine long. */
const ofBoth = (server) => ({
  gpu: { read: readsOf(server.socket(gpu.address)) },
  edu: byClient(server.socket(edu.address)),
});
const ofEdu = (server) => ({ read: readsOf(server.socket(edu.address)), ...byClient(server.socket(edu.address)) });

const before = directly();
const mediated = await served(ofBoth, "--assign", `vm2=${gpu.address}`);
const trusted = { edu: await served(ofEdu, "--trust-vmm") };
const after = directly();
result("found", JSON.stringify({ direct: [before, after], mediated, trusted, message: await messages() }));
process.exit(0);
