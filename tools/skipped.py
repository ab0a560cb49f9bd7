#!/usr/bin/env python3
"""Prints every skipped test of a ctest log with its reason, grouped by reason: nothing is skipped silently.

usage: tools/skipped.py LastTest.log
"""

import collections
import re
import sys


def skipped(text):
    """Yields (test, reason) from GoogleTest's and unittest's output inside a ctest log."""
    for match in re.finditer(r"^[^\n]*: Skipped\n(?P<reason>(?:(?!\[)[^\n]+\n)*)(?:.*\n)*?\[  SKIPPED \] (?P<name>\S+)", text, re.MULTILINE):
        yield match.group("name"), " ".join(match.group("reason").split()) or "no reason given"
    for match in re.finditer(r"^(?P<name>test\w*) \((?P<where>[\w.]+)\).*?\.\.\. skipped ['\"](?P<reason>.*)['\"]$", text, re.MULTILINE):
        where = [word for word in match.group("where").split(".") if word not in ("__main__", match.group("name"))]
        yield ".".join([*where, match.group("name")]), match.group("reason")
    for match in re.finditer(r"^SKIPPED: (?P<name>\S+): (?P<reason>.*)$", text, re.MULTILINE):
        yield match.group("name"), match.group("reason")


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
        text = file.read()
    by_reason = collections.defaultdict(list)
    for name, reason in skipped(text):
        if name not in by_reason[reason]:
            by_reason[reason].append(name)
    if not by_reason:
        return
    print(f"\nSkipped tests ({sum(map(len, by_reason.values()))}), by reason:")
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        shown = ", ".join(sorted(names)[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        print(f"  {reason}\n    {shown}")


if __name__ == "__main__":
    main()
