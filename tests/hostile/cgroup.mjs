/** A cgroup that bounds the memory of a process as a small machine does. */

import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";

/** Where the two versions of cgroups are mounted, and which file has the limit. */
const VERSIONS = [
  { root: "/sys/fs/cgroup/memory", limit: "memory.limit_in_bytes" },
  { root: "/sys/fs/cgroup", limit: "memory.max" },
];

/** Makes one of `bytes`; null where this process may not. `procs` takes the process ids. */
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
      // Not mounted, or not permitted.
    }
  }
  return null;
}
