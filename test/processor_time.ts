/**
 * What something takes of this process's processor time, in milliseconds, whatever else the machine has to do meanwhile.
 * For code that takes a hundred times as long when it is wrong: how long exactly says nothing about it.
 */
export function processorTime(work: () => void): number {
  const began = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(began);
  return (user + system) / 1000;
}
