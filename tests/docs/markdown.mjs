/** Fenced blocks, headings and links of Markdown files. */

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";

export const ROOT = path.resolve(process.env.STENTOR_DOCUMENTS ?? path.resolve(import.meta.dirname, "../.."));

/** Paths of the repository's files, without those that git ignores. */
export function files() {
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" });
  return [...new Set(listed.split("\0"))].filter(Boolean);
}

export const markdownFiles = () => files().filter((file) => file.endsWith(".md") && existsSync(path.join(ROOT, file)));

export const read = (file) => readFileSync(path.join(ROOT, file), "utf8");

/**
 * Fenced blocks of a page, and its lines in which the blocks are empty.
 * @returns {{ blocks: { line: number, language: string, words: string[], prelude: string, text: string }[], lines: string[] }}
 * `words` are those behind the language; `prelude` is the text of a comment
 * `<!-- snippet: … -->` above the block.
 */
export function parse(text) {
  const blocks = [];
  const lines = [];
  let block = null;
  for (const [at, line] of text.split("\n").entries()) {
    const fence = /^( *)(`{3,}|~{3,})\s*(.*)$/.exec(line);
    if (block) {
      if (fence?.[2].startsWith(block.fence) && fence[3] === "") {
        blocks.push({ ...block, text: block.content.join("\n") });
        block = null;
      } else {
        block.content.push(line.startsWith(block.indent) ? line.slice(block.indent.length) : line.trimStart());
      }
      lines.push("");
    } else if (fence) {
      const [language, ...words] = fence[3].split(/[\s,]+/);
      const comment = /<!-- snippet:((?:(?!-->)[^])*)-->\s*$/.exec(lines.join("\n"));
      block = { line: at + 1, indent: fence[1], fence: fence[2], language, words, prelude: comment?.[1].trim() ?? "", content: [] };
      lines.push("");
    } else {
      lines.push(line);
    }
  }
  if (block) throw new Error(`the block of line ${block.line} has no end`);
  return { blocks, lines };
}

/** A line without its inline code, so that brackets in code are no links. */
const withoutCode = (line) => line.replace(/(`+)(?!`)(.*?[^`])\1(?!`)/g, (code) => "x".repeat(code.length));

/** Anchors of a page by GitHub's rule: headings, then `id` and `name` of HTML elements. */
export function anchors(text) {
  const found = new Set();
  for (const line of parse(text).lines) {
    const heading = /^#{1,6}\s+(.*?)\s*#*$/.exec(line);
    if (heading) {
      const plain = heading[1].replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/<[^>]*>/g, "");
      const slug = plain.toLowerCase().replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, "").replaceAll(" ", "-");
      let unique = slug;
      for (let repeated = 1; found.has(unique); repeated += 1) unique = `${slug}-${repeated}`;
      found.add(unique);
    }
    for (const [, id] of line.matchAll(/<[a-z]+\s[^>]*\b(?:id|name)="([^"]+)"/g)) found.add(id);
  }
  return found;
}

/** Targets of links and pictures of a page, with their lines. */
export function links(text) {
  const { lines } = parse(text);
  const patterns = [/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g, /^\s*\[[^\]]+\]:\s*(\S+)/g, /\b(?:href|src)="([^"]+)"/g, /<(https?:[^>\s]+)>/g];
  return lines.flatMap((line, at) =>
    patterns.flatMap((pattern) => [...withoutCode(line).matchAll(pattern)].map(([, target]) => ({ line: at + 1, target }))),
  );
}
