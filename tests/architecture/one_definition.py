#!/usr/bin/env python3
"""architecture/one_definition: no type's name is given twice in one namespace. Two files that never meet may each define it; the linker then
mixes their constructors, which the compiler cannot see."""

import os
import re
import sys
import tempfile

import source

NAMESPACE = re.compile(r"^namespace ?([\w:]*) ?\{")
TYPE = re.compile(r"^(?:struct|class|enum class|union) (?:\[\[\w+\]\] )?(\w+)(?: final)?(?: : .*)? \{")


def definitions(path):
    """Qualified names of the types that a file defines outside of other types and of unnamed namespaces."""
    names, around = [], []
    with open(path, encoding="utf-8") as file:
        for line in file:
            opened = NAMESPACE.match(line)
            if opened:
                around.append(opened.group(1))
            elif line.startswith("}  // namespace") and around:
                around.pop()
            else:
                found = TYPE.match(line)
                if found and "" not in around:
                    names.append("::".join([*around, found.group(1)]))
    return names


def doubled(root):
    places = {}
    for folder, _, files in os.walk(root):
        for name in sorted(files):
            if name.endswith((".cpp", ".hpp")):
                path = os.path.join(folder, name)
                for defined in definitions(path):
                    places.setdefault(defined, set()).add(os.path.relpath(path, root))
    # Programs of tests are linked apart from each other, but with all of the module's own files.
    return [f"{name}: {', '.join(sorted(files))}" for name, files in sorted(places.items()) if len(files) > 1]


def main():
    if "--self-test" in sys.argv:
        with tempfile.TemporaryDirectory() as root:
            for name, text in (("a.hpp", "namespace x {\nstruct A {\n};\n}  // namespace x\n"), ("b.cpp", "namespace x {\nnamespace {\nstruct A {\n};\n}  // namespace\nclass A final : B {\n};\n}  // namespace x\n")):
                with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                    file.write(text)
            return 0 if doubled(root) == ["x::A: a.hpp, b.cpp"] else 1
    wrong = doubled(os.path.join(source.ROOT, "src"))
    for line in wrong:
        print("defined twice: " + line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
