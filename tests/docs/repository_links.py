"""Preprocessor of mdBook: relative links that leave docs/ become links to the repository that
Cargo.toml names, and links to a README.md those to its page.

https://rust-lang.github.io/mdBook/for_developers/preprocessors.html"""

import json
import posixpath
import re
import sys
import tomllib

if sys.argv[1:2] == ["supports"]:
    sys.exit(0)

with open("Cargo.toml", "rb") as manifest:
    REPOSITORY = tomllib.load(manifest)["package"]["repository"]
LINK = re.compile(r"(\]\(|\]: +|(?:href|src)=\")(?![a-z]+:|#)([^)\s\"]+)")


def rewrite(chapter):
    def link(found):
        target, hash, anchor = found[2].partition("#")
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(chapter["path"] or ""), target))
        if path.startswith("docs/"):
            # The book has such pages as index.html.
            return found[1] + re.sub(r"\bREADME\.md$", "index.md", target) + hash + anchor
        return f"{found[1]}{REPOSITORY}/blob/main/{path}{hash}{anchor}"

    chapter["content"] = LINK.sub(link, chapter["content"])
    for item in chapter["sub_items"]:
        if "Chapter" in item:
            rewrite(item["Chapter"])


_, book = json.load(sys.stdin)
for item in book.get("items", book.get("sections", [])):
    if "Chapter" in item:
        rewrite(item["Chapter"])
json.dump(book, sys.stdout)
