/** A cgroup that limits the memory of a process like a small machine. */

import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";

/** Mount points of both cgroup versions and the name of the file with the limit. */
const VERSIONS = [
  { root: "/sys/fs/cgroup/memory", limit: "memory.limit_in_bytes" },
  { root: "/sys/fs/cgroup", limit: "memory.max" },
];

/** Creates a cgroup of `bytes`; null without permission. Process ids are written to `procs`. */
export function makeCgroup(bytes) {
  for (const { root, limit } of VERSIONS) {
    const path = `${root}/stentor-hostile-${process.pid}`;
    try {
      mkdirSync(path);
      const remove = () => existsSync(path) && rmdirSync(path);
      if (!existsSync(`${path}/${limit}`)) {
        remove();
        continue;
      }
      writeFileSync(`${path}/${limit}`, String(bytes));
      return { procs: `${path}/cgroup.procs`, remove };
    } catch {
      // Not mounted or not permitted.
    }
  }
  return null;
}
