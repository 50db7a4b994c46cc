# Reads folded stacks (`thread;frame;…;frame count`, frames of the kernel marked `_[k]`) and prints the shares of kernel
# and user time, and the functions with the largest self time.

{
    count = $NF
    sub(/ [0-9]+$/, "")
    depth = split($0, frames, ";")
    leaf = frames[depth]
    # The vdso is mapped by the kernel and runs as user code.
    if (leaf ~ /^__vdso_/) sub(/_\[k\]$/, "", leaf)
    self[leaf] += count
    total += count
    if (leaf ~ /_\[k\]$/) kernel += count
}

END {
    if (total == 0) {
        print "profile: no samples; was the server idle?"
        exit 1
    }
    printf "\n%d samples: %.1f %% kernel, %.1f %% user\n\n", total, 100 * kernel / total, 100 * (total - kernel) / total
    print "  self   function ([k] is the kernel)"
    sorted = "sort -rn | head -20"
    for (name in self) {
        shown = name
        sub(/_\[k\]$/, " [k]", shown)
        printf "%5.1f %%  %s\n", 100 * self[name] / total, shown | sorted
    }
    close(sorted)
}
