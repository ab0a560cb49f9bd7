"""What a test suite left on the host: mounts, cgroups, namespaces, nft tables, links, state files and processes, before and after."""

import contextlib
import os
import random
import re
import subprocess
import time

from caisson import PATIENCE

STATE_FOLDERS = ("/run/caisson-runtime", "/run/runc", "/run/crun")
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
# Names that tests, and dockerd and CNI under them, take for what they make: several suites may run on one machine, and each answers
# for its own.
NAME_OF_A_TEST = re.compile(r"caisson-[a-z]+-[A-Za-z0-9_]{6,}|\bcst[a-z0-9]|mmdebstrap|^veth[0-9a-f]{7,8}$")


def _output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _mounts():
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        found = {f"{fields[4]} ({fields[fields.index('-') + 1]})" for fields in map(str.split, file)}
    # Whoever names the first network namespace after a boot (ip-netns(8), which tests and CNI use) mounts it, and it stays.
    return found - {"/run/netns (tmpfs)"}


def _cgroups():
    return {os.path.join(folder, name) for folder, folders, _ in os.walk("/sys/fs/cgroup") for name in folders}


def _links():
    return {line.split(": ")[1].split("@")[0] for line in _output("ip", "-o", "link").splitlines()}


def _network_namespaces():
    with contextlib.suppress(OSError):
        return set(os.listdir("/run/netns"))
    return set()


def _state_files():
    found = set()
    for folder in STATE_FOLDERS:
        with contextlib.suppress(OSError):
            # Compiled filters (.cache) belong to no container and are meant to stay.
            found |= {os.path.join(folder, name) for name in os.listdir(folder) if name != ".cache"}
    return found


class Watch:
    """Remembers the host as it is now. `mark` belongs into the name of every folder, container and cgroup of the suite."""

    def __init__(self):
        self.mark = f"cst{random.SystemRandom().randrange(16**6):06x}"
        self.marks = [self.mark]
        # Daemons, monitors and shims inherit it, so that they are known for ours wherever they go.
        os.environ["CAISSON_TEST_MARK"] = self.mark
        self.before = self._look()

    def also(self, *names):
        """More names that stand for this suite, for example a peer's folder."""
        self.marks += names

    def _is_mine(self, text):
        return any(mark in text for mark in self.marks)

    def _processes(self):
        """pid → (sentence, namespaces) of our processes: by environment, arguments or cgroup. Never this one."""
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                texts = []
                for name in ("cmdline", "environ", "cgroup"):
                    with open(f"/proc/{entry}/{name}", "rb") as file:
                        texts.append(file.read().replace(b"\0", b" ").decode(errors="replace"))
                if self._is_mine(" ".join(texts)):
                    spaces = {os.readlink(f"/proc/{entry}/ns/{kind}") for kind in NAMESPACES}
                    found[int(entry)] = (texts[0].strip() or "(no arguments)", spaces)
        return found

    def _look(self):
        processes = self._processes()
        own = {os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES}
        return {"mount": _mounts(), "cgroup": _cgroups(), "link": _links(), "network namespace": _network_namespaces(),
                "nft": set(_output("nft", "list", "tables").splitlines()), "state": _state_files(),
                "process": {f"{pid}: {text}" for pid, (text, _) in processes.items()},
                "namespace": {name for _, spaces in processes.values() for name in spaces - own}}

    def left(self):
        """Sentences for what is here now and was not before; without what carries the name of another test."""
        now = self._look()
        found = []
        for kind, items in now.items():
            for item in sorted(items - self.before[kind]):
                if self._is_mine(item) or not NAME_OF_A_TEST.search(item):
                    found.append(f"{kind} {item}")
        return found

    def check(self, timeout_s=20):
        """Fails when something stays. What ends by itself is waited for: a shim's last process, a detached mount."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while left := self.left():
            if time.monotonic() > deadline:
                raise AssertionError("left on the host:\n" + "\n".join(left))
            time.sleep(0.05)
