#!/usr/bin/env python3
"""Ends a run of ctest: every skipped test with its reason, so that nothing is skipped silently, and last what failed and how.

The failures come last, and short, because the end of a log is what one is shown of a run elsewhere.

usage: tools/test-summary.py LastTest.log
"""

import collections
import re
import sys

LINES_PER_FAILURE = 12


def skipped(text):
    """Yields (test, reason) from GoogleTest's and unittest's output inside a ctest log."""
    for match in re.finditer(r"^[^\n]*: Skipped\n(?P<reason>(?:(?!\[)[^\n]+\n)*)(?:.*\n)*?\[  SKIPPED \] (?P<name>\S+)", text, re.MULTILINE):
        yield match.group("name"), " ".join(match.group("reason").split()) or "no reason given"
    for match in re.finditer(r"^(?P<name>test\w*) \((?P<where>[\w.]+)\).*?\.\.\. skipped ['\"](?P<reason>.*)['\"]$", text, re.MULTILINE):
        where = [word for word in match.group("where").split(".") if word not in ("__main__", match.group("name"))]
        yield ".".join([*where, match.group("name")]), match.group("reason")
    for match in re.finditer(r"^SKIPPED: (?P<name>\S+): (?P<reason>.*)$", text, re.MULTILINE):
        yield match.group("name"), match.group("reason")


def failed(text):
    """Yields (test, verdict, the lines that say why) for every test of a ctest log that did not pass."""
    for part in re.split(r"^(?=\d+/\d+ Testing: )", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"\d+/\d+ Testing: (.*)", part).group(1)
        verdict = re.search(r"^Test (Failed|Timeout|Exception)\b.*", part, re.MULTILINE) or re.search(r"^\*\*\*(\w+).*", part, re.MULTILINE)
        if verdict is None:
            continue
        lines = part.splitlines()
        telling = []
        for number, line in enumerate(lines):
            if re.match(r"(FAIL|ERROR): |\[  FAILED  \]", line):
                telling += [line]
            elif re.match(r"\S+: Failure$", line):
                telling += lines[number:number + 6]
            elif re.match(r"\w*(Error|Exception)\b.*|subprocess\.\w+: .*", line):
                telling += lines[number:number + 2]
        yield name, verdict.group(0), [line for line in dict.fromkeys(telling) if line.strip()] or lines[-LINES_PER_FAILURE:]


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
        text = file.read()
    by_reason = collections.defaultdict(list)
    for name, reason in skipped(text):
        if name not in by_reason[reason]:
            by_reason[reason].append(name)
    if by_reason:
        print(f"\nSkipped tests ({sum(map(len, by_reason.values()))}), by reason:")
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        shown = ", ".join(sorted(names)[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        print(f"  {reason}\n    {shown}")
    failures = list(failed(text))
    if failures:
        print(f"\nFailed tests ({len(failures)}):")
    for name, verdict, lines in failures:
        print(f"  {name}: {verdict}")
        for line in lines[:LINES_PER_FAILURE]:
            print(f"    {line[:240]}")


if __name__ == "__main__":
    main()
