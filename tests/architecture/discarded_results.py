#!/usr/bin/env python3
"""architecture/discarded_results: ignoring a Result is a compile error under our flags, for every way to write it."""

import os
import shutil
import subprocess
import sys

import source

PRELUDE = """#include "base/result.hpp"
using namespace caisson;
Status save();
Result<int> count();
Error refusal();
"""
MUST_FAIL = {
    "a discarded Status": "void f() { save(); }",
    "a discarded Result<int>": "void f() { count(); }",
    "a discarded Error": "void f() { refusal(); }",
    "a discarded Result after a comma": "void f() { int x = 0; (void)x; count(), x = 1; }",
}
MUST_COMPILE = {
    "a returned Status": "Status f() { return save(); }",
    "TRY": 'Result<int> f() { int n = TRY(count(), "count"); TRY(save(), "save"); return n; }',
    "ignore()": "void f() { ignore(save()); }",
}


def compiles(compiler, body, flags=("-Werror",)):
    run = subprocess.run([compiler, "-std=c++20", "-Wall", "-Wextra", *flags, "-fsyntax-only", "-I", os.path.join(source.ROOT, "src"), "-x", "c++", "-"],
                         input=PRELUDE + body, capture_output=True, text=True, check=False)
    return run.returncode == 0


def main():
    compilers = [c for c in ("g++", "clang++") if shutil.which(c)]
    wrong = []
    for compiler in compilers:
        if "--self-test" in sys.argv:
            # The check bites for the right reason: with that warning off, the same text must compile.
            wrong += [f"{compiler}: {name} fails for another reason" for name, body in MUST_FAIL.items()
                      if not compiles(compiler, body, ("-Wno-unused-result", "-Wno-unused-value"))]
            continue
        wrong += [f"{compiler}: {name} compiles" for name, body in MUST_FAIL.items() if compiles(compiler, body)]
        wrong += [f"{compiler}: {name} does not compile" for name, body in MUST_COMPILE.items() if not compiles(compiler, body)]
    print("\n".join(wrong) or f"checked with {', '.join(compilers)}")
    return 1 if wrong or not compilers else 0


if __name__ == "__main__":
    sys.exit(main())
