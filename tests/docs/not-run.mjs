/**
 * Blocks of documents that a test cannot run, by page and first line, with the reason. Shell blocks
 * among them are checked without running them: syntax, targets of make, options of `stentor`, files.
 */
export const NOT_RUN = [
];
