#!/usr/bin/env python3
"""architecture/floors: a module includes its own files and lower floors only, never a neighbour on the same floor."""

import os
import unittest

import source

# The house of ARCHITECTURE.md. A module that is not in this table may not exist below src/.
FLOORS = {
    "base": 0,
    "linux": 1,
    "dockerfile": 1, "bake": 1, "policy": 1,
    "wire": 2,
    "state": 2,
    "trust": 2,
    "runtime": 3,
    "image": 3,
    "network": 3,
    "sandbox": 4,
    "fetch": 4,
    "registry": 4,
    "transport": 4,
    "inventory": 4,
    "engine": 5,
    "build": 6,
    "cluster": 6,
    "cloud": 6,
    "api": 7,
    "web": 7,
    "cli": 8,
    "app": 9,
}

# Libraries that only one place may know; everybody else goes through that place's interface.
# prefix of the include → (allowed files or modules, reason)
KEPT_LIBRARIES = {
    "boost/json": (["base/json.hpp"], "one JSON vocabulary; errors name the field"),
    "boost/beast": (["wire/"], "8 to 18 CPU seconds per translation unit"),
    "boost/asio": (["wire/"], "event loops live in wire only"),
    "sqlite3": (["state/"], "the Store interface must be able to stand on something else"),
    "openssl/": (["base/", "wire/", "trust/"], "hashes are base::Hasher, TLS is wire's, keys and certificates of images are trust's"),
    "zlib": (["image/"], "layers are image's"),
    "zstd": (["image/"], "layers are image's"),
    "curl/": (["fetch/http.cpp"], "only an unprivileged process speaks to the world"),
}
MOST_BEAST_FILES = 2


def module_of(path):
    return path.split(os.sep)[0]


def check(tree):
    violations = []
    beast_files = set()
    for path, text in sorted(tree.files.items()):
        module = module_of(path)
        if os.sep not in path or module not in FLOORS:
            violations.append((path, f"'{module}' is no module of the house; add its floor here and to ARCHITECTURE.md"))
            continue
        for line, kind, name in source.includes(text):
            where = f"{path}:{line}"
            if kind == '"':
                target = name.split("/")[0]
                if "/" not in name:
                    violations.append((where, f'"{name}": write includes as "module/file.hpp"'))
                elif target not in FLOORS:
                    violations.append((where, f'"{name}": unknown module \'{target}\''))
                elif target != module and FLOORS[target] >= FLOORS[module]:
                    relation = "a neighbour of" if FLOORS[target] == FLOORS[module] else "above"
                    violations.append((where, f"{module} (floor {FLOORS[module]}) includes {name} (floor {FLOORS[target]}), {relation} it"))
            for prefix, (allowed, reason) in KEPT_LIBRARIES.items():
                if name.startswith(prefix) and not path.endswith("_test.cpp"):
                    if not any(path == a or (a.endswith("/") and path.startswith(a)) for a in allowed):
                        violations.append((where, f"<{name}> belongs to {', '.join(allowed)}: {reason}"))
            if name.startswith("boost/beast"):
                beast_files.add(path)
    if len(beast_files) > MOST_BEAST_FILES:
        violations.append((", ".join(sorted(beast_files)), f"more than {MOST_BEAST_FILES} files include Beast"))
    return violations


class Bites(unittest.TestCase):
    def expect(self, files, words):
        found = check(source.planted(files))
        self.assertTrue(any(words in text for _, text in found), f"no '{words}' in {found}")

    def test_upward_includes_are_found(self):
        self.expect({"base/a.cpp": '#include "linux/mount.hpp"\n'}, "above it")

    def test_neighbours_are_found(self):
        self.expect({"runtime/a.cpp": '#include "image/image_store.hpp"\n'}, "a neighbour of it")

    def test_unknown_modules_are_found(self):
        self.expect({"helpers/a.cpp": ""}, "no module of the house")
        self.expect({"base/a.cpp": '#include "helpers/b.hpp"\n'}, "unknown module")

    def test_includes_without_a_module_are_found(self):
        self.expect({"base/a.cpp": '#include "b.hpp"\n'}, "module/file.hpp")

    def test_kept_libraries_are_found(self):
        self.expect({"api/a.cpp": "#include <boost/json.hpp>\n"}, "base/json.hpp")
        self.expect({"engine/a.cpp": "#  include <sqlite3.h>\n"}, "belongs to state/")
        self.expect({f"wire/{c}.cpp": "#include <boost/beast/http.hpp>\n" for c in "abc"}, "more than 2")

    def test_lower_floors_and_comments_are_allowed(self):
        allowed = '#include "base/result.hpp"\n#include "runtime/spec.hpp"\n/* #include "image/x.hpp" */\n// #include "cli/x.hpp"\n'
        self.assertEqual(check(source.planted({"runtime/a.cpp": allowed})), [])


if __name__ == "__main__":
    source.main(check, "See the table of floors in ARCHITECTURE.md.", Bites)
