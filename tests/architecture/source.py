"""Reads the C++ sources for the architecture tests: which files there are, their includes, their code without comments."""

import os
import re
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Tree:
    """The files below a `src` folder, by path relative to it."""

    def __init__(self, src):
        self.src = src
        self.files = {}
        for folder, _, names in os.walk(src):
            for name in sorted(names):
                if name.endswith((".hpp", ".cpp", ".c", ".h")):
                    path = os.path.join(folder, name)
                    with open(path, encoding="utf-8") as file:
                        self.files[os.path.relpath(path, src)] = file.read()

    @staticmethod
    def real():
        return Tree(os.path.join(ROOT, "src"))


def planted(files):
    """A Tree that holds only `files` (path → text): how a self-test plants a violation."""
    tree = Tree.__new__(Tree)
    tree.src = ""
    tree.files = dict(files)
    return tree


def blank_comments_and_strings(text):
    """`text` with comments, string and character literals blanked out; line numbers stay."""
    out = []
    i = 0
    n = len(text)
    while i < n:
        if text.startswith("//", i):
            end = text.find("\n", i)
            end = n if end < 0 else end
            i = end
        elif text.startswith("/*", i):
            end = text.find("*/", i + 2)
            end = n if end < 0 else end + 2
            out.append("\n" * text.count("\n", i, end))
            i = end
        elif (raw := re.match(r'R"([^()\\ ]{0,16})\(', text[i : i + 20])) and (i == 0 or not (text[i - 1].isalnum() or text[i - 1] == "_")):
            end = text.find(")" + raw.group(1) + '"', i)
            end = n if end < 0 else end + len(raw.group(1)) + 2
            out.append('""' + "\n" * text.count("\n", i, end))
            i = end
        elif text[i] == '"' or (text[i] == "'" and not (i > 0 and text[i - 1].isalnum())):
            quote = text[i]
            end = i + 1
            while end < n and text[end] != quote and text[end] != "\n":
                end += 2 if text[end] == "\\" else 1
            out.append(quote + quote)
            i = end + 1
        else:
            out.append(text[i])
            i += 1
    return "".join(out)


INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def includes(text):
    """(line, kind, name) of every include; kind is '<' or '"'. Includes inside comments do not count."""
    # Comments are blanked, but not strings: an include's name looks like one.
    code = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.DOTALL)
    for match in INCLUDE.finditer(code):
        yield code.count("\n", 0, match.start()) + 1, match.group(1), match.group(2)


def report(violations, rule):
    """Prints violations as FILE:LINE: TEXT and ends the program with 1 when there are any."""
    for where, text in violations:
        print(f"src/{where}: {text}")
    if violations:
        print(f"{len(violations)} violation(s). {rule}")
        sys.exit(1)
    sys.exit(0)


def main(check, rule, self_tests):
    """`--self-test` runs the TestCase that plants violations; otherwise checks the real tree."""
    if "--self-test" in sys.argv:
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(self_tests)
        sys.exit(0 if unittest.TextTestRunner(verbosity=1).run(suite).wasSuccessful() else 1)
    report(check(Tree.real()), rule)
