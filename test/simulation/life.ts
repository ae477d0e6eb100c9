import { Command, commandName, FLAG_ERROR, type Header } from "../../src/vfio-user/header.js";
import { Random } from "../fuzz/random.js";
import { SimulatedClient } from "./client.js";
import { clock } from "./clock.js";
import { Crowd } from "./crowd.js";
import { Finding } from "./finding.js";
import { randomChange, randomMachine } from "./machines.js";
import type { Connected } from "./system_calls.js";
import { Trace } from "./trace.js";
import { type Ground, World } from "./world.js";

/** How soon a fence is looked after that somebody else may have opened: with a client, and without, in milliseconds. */
const LOOK_INTERVAL = 20;
const IDLE_LOOK_INTERVAL = 200;
/** How long anything may take once nothing is broken any more, in virtual milliseconds. */
const PATIENCE = 300_000;
/** The stream of random numbers by which a life is set up is that of no step. */
const SETTING_UP = -1;

/** What may happen next, and how often it does. */
type Choice = readonly [weight: number, happen: (random: Random) => void | Promise<void>];

/**
 * One machine's life: clients, hardware, disk and the people around it do in each step what the seed says, until all of it
 * comes to rest. Each step has a stream of random numbers of its own, so that steps can be left out.
 */
export class Life {
  readonly trace = new Trace();
  readonly #seed: number;
  readonly #ground: Ground;
  readonly #world: World;
  readonly #crowd: Crowd;
  /** Fences that will be looked after, and when. */
  #looks: { at: number; gpu: string }[] = [];
  readonly #count: number;
  /** How rarely the disk and system calls fail in this life, and how often the hardware; 0 is never. */
  readonly #temper: { disk: number; calls: number; hardware: number };
  /** Calls of the disk until the server is killed in the middle of one; 0 is not at all. */
  #killAtDisk = 0;
  readonly #noteHardware: (what: string) => void;

  /** @param faults counts what is made to fail, by kind */
  constructor(seed: number, ground: Ground, faults: Map<string, number>) {
    clock.restart();
    this.#seed = seed;
    this.#ground = ground;
    const random = new Random(seed, SETTING_UP);
    this.#world = new World(ground, this.trace, randomMachine(random), random);
    this.#crowd = new Crowd(this.#world, ground.calls, this.trace);
    this.#count = 200 + random.below(1000);
    this.#temper = {
      disk: random.pick([0, 0, 15, 40, 100]),
      calls: random.pick([0, 0, 8, 30, 120]),
      hardware: random.pick([0, 0, 1, 3, 8]),
    };
    clock.pace = random.pick([0.001, 0.001, 0.01, 0.2]);
    const note = (kind: string) => (what: string) => {
      this.#world.faults++;
      this.trace.add(`${kind} fault: ${what}`);
      faults.set(what, (faults.get(what) ?? 0) + 1);
    };
    this.#noteHardware = note("hardware");
    ground.calls.onFault = note("call");
    ground.disk.onFault = note("disk");
    ground.calls.onAnswer = (peer, header) => this.#hear(peer, header);
    ground.disk.kills = () => this.#killsAtDisk();
  }

  /** How often the judge has looked. */
  get looks(): number {
    return this.#world.judge.looks;
  }

  /**
   * Lives.
   * @param steps those that are done; all of them when absent
   * @throws Finding
   */
  async run(steps?: (step: number) => boolean): Promise<void> {
    const { calls, disk } = this.#ground;
    try {
      for (let step = 0; step < this.#count; step++) {
        if (steps === undefined || steps(step)) await this.#step(new Random(this.#seed, step));
      }
      calls.chance = undefined;
      disk.chance = undefined;
      this.#killAtDisk = 0;
      await this.#comeToRest();
    } finally {
      calls.chance = undefined;
      disk.chance = undefined;
    }
  }

  /** Lets everything go, however it ended. */
  async clear(): Promise<void> {
    this.#crowd.vanish();
    this.#crowd.forgetFiles();
    const isOver = this.#world.worker === undefined && !this.#world.isChanging;
    if (!isOver) await this.#world.kill(new Random(0), { power: false }).catch(() => {});
    this.#world.remove();
  }

  async #step(random: Random): Promise<void> {
    const { calls, disk } = this.#ground;
    calls.rarity = Math.max(1, this.#temper.calls);
    calls.chance = this.#temper.calls === 0 ? undefined : new Random(random.u32());
    disk.rarity = Math.max(1, this.#temper.disk);
    disk.chance = this.#temper.disk === 0 ? undefined : new Random(random.u32());
    const choices = this.#choices();
    let left = random.below(choices.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, happen] of choices) {
      left -= weight;
      if (left >= 0) continue;
      await happen(random);
      break;
    }
    await this.#after();
  }

  /** What is due after every event: what waits for nobody goes on to where it does, and the judge looks. */
  async #after(): Promise<void> {
    const world = this.#world;
    await world.settled();
    if (this.#ground.calls.dead) await world.kill(new Random(this.#seed, this.trace.events), { power: false });
    this.#crowd.takeAnswers();
    world.judge.look();
    if (world.judge.finding !== undefined) throw new Finding(world.judge.finding);
  }

  #choices(): Choice[] {
    const world = this.#world;
    const { worker } = world;
    const choices: Choice[] = [
      [60, (random) => this.#crowd.act(random)],
      [10, (random) => this.#passTime(random)],
      [2, (random) => this.#crowd.useFile(random)],
    ];
    if (worker !== undefined) choices.push([30, () => this.#serverTurn()]);
    if (worker?.hasMail === true) choices.push([20, (random) => worker.deliver(random.once(2))]);
    if (this.#temper.hardware > 0) choices.push([this.#temper.hardware, (random) => this.#breakHardware(random)]);
    if (!world.isUp && !world.isChanging) choices.push([20, () => world.start()]);
    if (worker?.server === undefined) return choices;
    choices.push([1, (random) => this.#resetFromOutside(random)]);
    if (world.listens) {
      choices.push([1, () => world.askStatus()]);
      choices.push([world.isChanging ? 1 : 3, (random) => this.#change(random)]);
    }
    // Rare, for a life is short.
    choices.push([1, (random) => (random.once(5) ? this.#kill(random) : undefined)]);
    if (!world.isChanging) choices.push([1, (random) => (random.once(12) ? world.stop() : undefined)]);
    return choices;
  }

  /** Whoever is let in, or told that its GPU was reset, has a GPU whose fence is in force at this moment. */
  #hear(peer: Connected, { command, flags }: Header): void {
    if (!(peer instanceof SimulatedClient) || peer.served.kind !== "gpu" || (flags & FLAG_ERROR) !== 0) return;
    if (command !== Command.VERSION && command !== Command.DEVICE_RESET) return;
    const { fences, judge } = this.#world;
    const state = fences?.of(peer.served.address).state.kind;
    judge.look();
    if (state === "in force") return;
    judge.finding ??= `${peer.label} gets an answer to ${commandName(command)}, and its fence is ${state}`;
  }

  #serverTurn(): void {
    this.trace.add("the server has its turn");
    this.#world.worker?.turn();
  }

  #change(random: Random): void {
    this.#killAtDisk = random.once(25) ? 1 + random.below(12) : 0;
    this.#healBut(1);
    this.#world.change(randomChange(random, this.#world.machine, this.#world.assignments));
  }

  async #kill(random: Random): Promise<void> {
    this.#killAtDisk = 0;
    const power = random.once(3);
    if (power) this.#crowd.vanish();
    await this.#world.kill(random, { power });
  }

  #killsAtDisk(): boolean {
    if (this.#killAtDisk === 0) return false;
    this.#killAtDisk--;
    if (this.#killAtDisk > 0) return false;
    this.trace.add("the server is killed in the middle of a call of the disk");
    this.#ground.calls.dead = true;
    return true;
  }

  /** Mostly until something is due, sometimes a little, rarely long. */
  #passTime(random: Random): void {
    const way = random.below(100);
    const far = clock.now + 10_000;
    this.trace.add("time passes");
    if (way < 35) this.#advance(Math.min(this.#nextDeadline(), far));
    else if (way < 70) this.#advance(Math.min(this.#world.hardware.deadline, far));
    else if (way < 90) this.#advance(clock.now + random.below(3000) / 1000);
    else this.#advance(clock.now + random.below(way < 99 ? 200 : 8000));
  }

  #nextDeadline(): number {
    const looks = this.#looks.map(({ at }) => at);
    return Math.min(this.#world.worker?.deadline ?? Number.POSITIVE_INFINITY, this.#world.hardware.deadline, ...looks);
  }

  #advance(to: number): void {
    clock.advanceTo(to);
    this.#world.hardware.run();
    const due = this.#looks.filter(({ at }) => at <= clock.now);
    this.#looks = this.#looks.filter(({ at }) => at > clock.now);
    for (const { gpu } of due) {
      const opened = this.#world.fences?.of(gpu).lookAfter();
      this.trace.add(`the fence of ${gpu} is looked after${opened === true ? ": it was open" : ""}`);
    }
  }

  #breakHardware(random: Random): void {
    const { hardware, machine } = this.#world;
    const gpu = machine.gpus[random.below(machine.gpus.length)]?.address ?? "";
    const [broken] = hardware.broken.keys();
    if (broken !== undefined && random.once(2)) {
      hardware.heal(broken);
      this.trace.add(`${broken} is whole again`);
    } else if (!this.#world.isChanging || broken === undefined) {
      this.#noteHardware(hardware.break(gpu, random));
      this.trace.add(`of ${gpu}`);
    }
  }

  /** While links come to lie between other owners than before, no more than so many GPUs may fail to be cut. */
  #healBut(count: number): void {
    for (const gpu of [...this.#world.hardware.broken.keys()].slice(count)) this.#world.hardware.heal(gpu);
  }

  #resetFromOutside(random: Random): void {
    const { judge, machine, fences, hardware } = this.#world;
    const gpu = machine.gpus[random.below(machine.gpus.length)]?.address ?? "";
    if (this.#world.isChanging || fences === undefined || !judge.mayBeResetFromOutside(gpu)) return;
    this.trace.add(`somebody else resets ${gpu}`);
    judge.resetFromOutside(gpu);
    hardware.resetFromOutside(gpu);
    const within = fences.of(gpu).attached ? LOOK_INTERVAL : IDLE_LOOK_INTERVAL;
    this.#looks.push({ at: clock.now + random.below(within), gpu });
  }

  /** Nothing is broken any more: everybody gets what is due, every GPU can be had again, and nothing is left over. */
  async #comeToRest(): Promise<void> {
    const world = this.#world;
    const crowd = this.#crowd;
    this.trace.add("everything is whole from now on");
    this.#healBut(0);
    await this.#until("the server is up and at rest", () => world.isUp && !world.isChanging);
    await this.#until("the hardware is at rest", () => world.hardware.deadline === Number.POSITIVE_INFINITY);
    world.checkLedger();
    world.checkServed();
    await this.#until("every client has what it is owed", () => crowd.isContent);
    crowd.leave();
    await this.#until("nothing is left to do", () => this.#isIdle());
    await this.#recover();
    crowd.leave();
    await this.#until("nothing is left to do", () => this.#isIdle());
    world.stop();
    await this.#until("the server has stopped", () => !world.isUp);
    crowd.forgetFiles();
    for (const actor of ["server", "client"] as const) {
      const { descriptors, mappings } = this.#ground.calls.count(actor);
      if (descriptors + mappings === 0) continue;
      throw new Finding(`the ${actor} has left ${descriptors} descriptors and ${mappings} mappings behind`);
    }
  }

  #isIdle(): boolean {
    const { hardware, worker } = this.#world;
    const rests = worker?.server?.tasks.isIdle === true && hardware.deadline === Number.POSITIVE_INFINITY;
    return rests && this.#crowd.isGone && this.#looks.length === 0;
  }

  /** Whatever has happened: each GPU that is served lets a client in. */
  async #recover(): Promise<void> {
    const world = this.#world;
    const isServed = (address: string) => !["host", "nobody"].includes(world.ownerOf(address));
    const served = world.paths.filter(({ address, kind }) => kind === "gpu" && isServed(address));
    const comers = this.#crowd.comeTo(served);
    if (comers.length < served.length && world.faults === 0) {
      throw new Finding("a function is served, and nobody can connect to it");
    }
    await this.#until("every GPU lets a client in", () => comers.every(({ session }) => session !== undefined));
  }

  /** Goes on, with everybody taking what comes, until something holds. */
  async #until(what: string, holds: () => boolean): Promise<void> {
    const end = clock.now + PATIENCE;
    for (let round = 0; !holds(); round++) {
      if (clock.now > end) {
        const when = `for ${PATIENCE / 1000} seconds in which nothing was broken`;
        throw new Finding(`${when} it was not so that ${what}${this.#crowd.owed}`);
      }
      const { worker } = this.#world;
      if (!this.#world.isUp && !this.#world.isChanging) this.#world.start();
      if (worker?.hasMail === true) worker.deliver(true);
      worker?.turn();
      this.#crowd.settle();
      if (round % 2 === 1) this.#advance(Math.min(Math.max(this.#nextDeadline(), clock.now + 20), clock.now + 1000));
      await this.#after();
    }
  }
}
