#!/usr/bin/env python3
"""architecture/self_contained_headers: every header of src/ compiles when it is the only include, with our warnings on.

A header that some .cpp file includes before everything else is shown to be self-contained by the build itself; only the others are
compiled here, alone and twice in a row.
"""

import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile

import source

FLAGS = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Wno-missing-field-initializers", "-Werror", "-D_GNU_SOURCE",
         '-DCAISSON_VERSION="0"', "-O0"]
# A header is compiled alone in a translation unit; ccache answers what did not change since the last run.
COMPILER = (["ccache"] if shutil.which("ccache") else []) + [os.environ.get("CXX", "g++")]


def compile_alone(src, header, folder):
    # A relative name for the unit: ccache then recognises it although the folder is a new one each time.
    unit = header.replace("/", "__") + ".cpp"
    with open(os.path.join(folder, unit), "w", encoding="utf-8") as file:
        file.write(f'#include "{header}"\n#include "{header}"  // and twice: the guard works\n')
    run = subprocess.run([*COMPILER, *FLAGS, "-I", src, "-c", unit, "-o", unit + ".o"],
                         cwd=folder, capture_output=True, text=True, check=False)
    return header, run.returncode, run.stderr


def shown_by_the_build(files):
    """Headers that are the first include of a .cpp file of ours, and that have a guard."""
    first = set()
    for path, text in files.items():
        if path.endswith(".cpp"):
            for _, kind, name in source.includes(text):
                if kind == '"' and "#pragma once" in files.get(name, ""):
                    first.add(name)
                break
    return first


def check(src):
    files = source.Tree(src).files
    all_headers = [path for path in sorted(files) if path.endswith(".hpp")]
    shown = shown_by_the_build(files)
    headers = [path for path in all_headers if path not in shown]
    broken = 0
    with tempfile.TemporaryDirectory(prefix="caisson-test-headers-") as folder:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for header, status, text in pool.map(lambda h: compile_alone(src, h, folder), headers):
                if status != 0:
                    broken += 1
                    print(f"src/{header} does not compile alone:\n{text}")
    print(f"{len(all_headers)} headers, {len(headers)} of them compiled here, {broken} broken")
    return broken


def self_test():
    with tempfile.TemporaryDirectory(prefix="caisson-test-headers-") as folder:
        os.makedirs(os.path.join(folder, "base"))
        planted = {"good.hpp": "#pragma once\n#include <string>\nstd::string name();\n",
                   "needs_string.hpp": "#pragma once\nstd::string name();\n",
                   "fine_by_build.hpp": "#pragma once\n#include <string>\n",
                   "fine_by_build.cpp": '// first\n#include "base/fine_by_build.hpp"\n',
                   "not_first.cpp": '#include <string>\n#include "base/needs_string.hpp"\n',
                   "no_guard.cpp": '#include "base/no_guard.hpp"\n',
                   "no_guard.hpp": "struct Twice { int x = 0; };\n"}
        for name, text in planted.items():
            with open(os.path.join(folder, "base", name), "w", encoding="utf-8") as file:
                file.write(text)
        if check(folder) != 2:
            print("the planted headers were not found")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(self_test() if "--self-test" in sys.argv else (1 if check(os.path.join(source.ROOT, "src")) else 0))
