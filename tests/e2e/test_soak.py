#!/usr/bin/env python3
"""The soak: random operations by several clients at once while the daemon, its launcher, monitors, workers and the command line are killed with SIGKILL at random moments.

usage: test_soak.py [--minutes N] [--seed N]; CAISSON_SOAK_MINUTES and CAISSON_TEST_SEED do the same. Half a minute by default; an hour before a release.

What has to hold all the time:
  * what a client was told to be done is done, and is still done after every kill: a container that was created is listed until somebody removes it;
  * a container that is said to run has its process, and one that is said to have ended has none;
  * a program that ended by itself has its exit code, or the loss is said (`exit_status_lost`: 255), and that only where the monitor was killed;
  * a volume's file holds what was written to it; a log has every line in its order, twice at most where a monitor was killed;
  * in the end everything can be removed, and nothing is left on the host.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import caisson  # noqa: E402
from caisson import wait_until  # noqa: E402

MINUTES = float(os.environ.get("CAISSON_SOAK_MINUTES", "0.5"))
SEED = int(os.environ.get("CAISSON_TEST_SEED", random.SystemRandom().randrange(1 << 31)))
CLIENTS = 3
MOST = 12  # containers at a time, of each client
COUNTER = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"


class Gone(Exception):
    """The daemon could not be asked, or was killed while it was: nobody knows whether it was done."""


class Client(threading.Thread):
    """One user's work on containers of its own, and what it was told of them."""

    def __init__(self, soak, number):
        super().__init__(daemon=True)
        self.soak, self.engine, self.number = soak, soak.engine, number
        self.random = random.Random(f"{SEED} {number}")
        self.known = {}    # name → set of states that it may be in, as far as this client knows
        self.unsure = set()  # names of which an operation was cut short
        self.count = 0
        self.failure = None

    def run(self):
        try:
            while not self.soak.over.is_set():
                self.step()
        except BaseException as error:  # noqa: BLE001: it is the test's outcome
            self.failure = error
            self.soak.over.set()

    def ask(self, method, path, body=None, fine=(200, 201, 204, 304)):
        """The answer's document. Gone: the daemon died meanwhile."""
        try:
            status, _, answer = self.engine.request(method, path, body=body, timeout=60)
        except (OSError, ValueError, Exception) as error:
            if isinstance(error, AssertionError):
                raise
            raise Gone(str(error)) from error
        text = answer.decode(errors="replace")
        self.soak.operations[f"{method} {path.split('/')[1].split('?')[0]}"] += 1
        if status not in fine:
            if self.soak.is_excused(text):
                raise Gone(text)
            raise AssertionError(f"{method} {path}: {status} {text}")
        try:
            return json.loads(text) if text.strip().startswith(("{", "[")) else text
        except ValueError as error:
            raise Gone(text) from error

    def step(self):
        choices = [self.create] * 3 + [self.check] * 2
        if self.known:
            choices += [self.start_one] * 3 + [self.stop] * 2 + [self.remove] * (4 if len(self.known) > MOST else 1) + [self.execute, self.rename, self.program, self.volume, self.restart]
            choices += [] if caisson.ROOTLESS else [self.pause]  # his user has no cgroups
        work = self.random.choice(choices)
        try:
            work()
        except Gone:
            self.soak.cut_short += 1
            time.sleep(0.05)

    def pick(self):
        return self.random.choice(sorted(self.known))

    @contextlib.contextmanager
    def cut_short_is_unsure(self, name):
        try:
            yield
        except Gone:
            if name in self.known:
                self.unsure.add(name)
            raise

    def create(self):
        if len(self.known) > MOST:
            return
        self.count += 1
        name = f"c{self.number}-{self.count}"
        body = {"Image": "busybox", "Cmd": ["sh", "-c", COUNTER], "HostConfig": {"NetworkMode": self.random.choice(["bridge", "none"]), "RestartPolicy": {"Name": self.random.choice(["no", "no", "unless-stopped"])}}}
        try:
            self.ask("POST", f"/containers/create?name={name}", body)
        except Gone:
            self.unsure.add(name)
            self.known[name] = None
            raise
        self.known[name] = True

    def start_one(self):
        name = self.pick()
        with self.cut_short_is_unsure(name):
            self.ask("POST", f"/containers/{name}/start", fine=(204, 304, *self.if_unsure(name)))

    def restart(self):
        name = self.pick()
        with self.cut_short_is_unsure(name):
            self.ask("POST", f"/containers/{name}/restart?t=0", fine=(204, *self.if_unsure(name)))

    def stop(self):
        name = self.pick()
        with self.cut_short_is_unsure(name):
            self.ask("POST", f"/containers/{name}/stop?t=0", fine=(204, 304, *self.if_unsure(name)))

    def if_unsure(self, name):
        return (404, 409) if name in self.unsure else ()

    def remove(self):
        name = self.pick()
        try:
            self.ask("DELETE", f"/containers/{name}?force=1&v=1", fine=(204, 404 if name in self.unsure else 204))
        except Gone:
            self.unsure.add(name)
            raise
        del self.known[name]
        self.unsure.discard(name)

    def rename(self):
        name = self.pick()
        if name in self.unsure:
            return
        new = f"{name}r"
        try:
            self.ask("POST", f"/containers/{name}/rename?name={new}")
        except Gone:
            self.unsure.update((name, new))
            self.known[new] = None
            raise
        self.known[new] = self.known.pop(name)

    def execute(self):
        name = self.pick()
        self.ask("POST", f"/containers/{name}/start", fine=(204, 304, 404, 409))
        made = self.ask("POST", f"/containers/{name}/exec", {"Cmd": ["sh", "-c", "echo $$; exit 5"], "AttachStdout": False}, fine=(201, 404, 409))
        if "Id" in made:
            self.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True}, fine=(200, 404, 409))

    def pause(self):
        name = self.pick()
        with self.cut_short_is_unsure(name):
            self.ask("POST", f"/containers/{name}/pause", fine=(204, 404, 409))
            self.ask("POST", f"/containers/{name}/unpause", fine=(204, 404, 409, 500))  # 500: "is not paused", as docker has it

    def program(self):
        """A program that ends by itself has its code, whoever was killed."""
        self.count += 1
        name, code = f"p{self.number}-{self.count}", self.random.randrange(1, 100)
        kills = self.soak.monitor_kills
        try:
            self.ask("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sh", "-c", f"echo begin; sleep 0.1; echo end; exit {code}"], "HostConfig": {"NetworkMode": "none"}})
            self.known[name] = True
            self.ask("POST", f"/containers/{name}/start")
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(Gone):
                    state = self.ask("GET", f"/containers/{name}/json")["State"]
                    if state["Status"] == "exited":
                        break
                if self.soak.over.is_set():
                    return
                if time.monotonic() > deadline:
                    raise AssertionError(f"{name} does not end: {state}")
                time.sleep(0.05)
            if state["ExitCode"] != code and not (state["ExitCode"] == 255 and self.soak.monitor_kills != kills):
                raise AssertionError(f"{name}: its program ended with {code}, and {state} is said")
            log = self.engine.cli("logs", name)
            if log.returncode == 0 and not self.soak.is_excused(log.stderr):
                lines = log.stdout.split()
                if [line for index, line in enumerate(lines) if index == 0 or lines[index - 1] != line] != ["begin", "end"] and self.soak.monitor_kills == kills:
                    raise AssertionError(f"{name}: its log has {lines}")
        except Gone:
            self.known.setdefault(name, None)
            self.unsure.add(name)
            raise

    def run_with_volume(self, volume, *command):
        try:
            return self.engine.cli("run", "--rm", "--name", f"r{volume}", "--network", "none", "-v", f"{volume}:/data", "busybox", *command, timeout=90)
        except subprocess.TimeoutExpired as error:
            state = self.engine.cli("inspect", f"r{volume}").stdout
            raise AssertionError(f"run does not end; it said {error.stdout} {error.stderr}; the container: {state[:1500]}") from error

    def volume(self):
        self.count += 1
        name, text = f"v{self.number}-{self.count}", f"{self.random.randrange(1 << 30)}"
        wrote = self.run_with_volume(name, "sh", "-c", f"echo {text} >/data/x && sync && echo done")
        if wrote.returncode == 0:
            read = self.run_with_volume(name, "cat", "/data/x")
            if read.returncode == 0 and read.stdout.strip() != text:
                raise AssertionError(f"volume {name} had {text} written to it and has {read.stdout!r}")
            if read.returncode not in (0, 125, 255) and not self.soak.is_excused(read.stderr):
                raise AssertionError(f"volume {name}: {read.returncode} {read.stderr}")
        self.soak.volumes.add(name)
        self.soak.operations["run"] += 2

    def check(self):
        """What is known of every container of ours holds."""
        for name in sorted(self.known):
            info = self.ask("GET", f"/containers/{name}/json", fine=(200, 404))
            if "State" not in info:
                if self.known[name] and name not in self.unsure:
                    raise AssertionError(f"{name} was created and is gone: {info}")
                if self.soak.is_settled():
                    self.known.pop(name)
                    self.unsure.discard(name)
                continue
            self.known[name] = True
            state = info["State"]
            if state["Status"] in ("running", "paused"):
                if state["Pid"] <= 0:
                    raise AssertionError(f"{name} runs and has no process: {state}")
            elif state["Pid"] != 0:
                raise AssertionError(f"{name} has ended and has a process: {state}")
        self.soak.checks += 1


class Soak:
    def __init__(self, engine, minutes):
        self.engine = engine
        self.minutes = minutes
        self.over = threading.Event()
        self.random = random.Random(f"{SEED} killer")
        self.operations, self.kills = collections.Counter(), collections.Counter()
        self.cut_short = self.checks = self.monitor_kills = 0
        self.volumes = set()
        self.last_kill = 0.0

    def is_settled(self):
        return time.monotonic() - self.last_kill > 5

    @staticmethod
    def is_excused(text):
        """Words that say that somebody was killed meanwhile, and that nothing was done or nobody knows."""
        return any(words in text for words in ("died", "Cannot connect", "closed the connection", "connection reset", "broke off", "is shutting down", "is ending", "unavailable", "does not answer", "is gone", "killed", "lost", "starting"))

    def victims(self):
        return {"launcher": self.engine.launchers(), "monitor": self.monitors(), "worker": self.engine.processes("caisson-worker")}

    def monitors(self):
        """Their parent is a launcher, or nobody's any more."""
        launchers = set(self.engine.launchers())
        others = launchers.union(self.engine.launchers("caisson-starter"))
        return [pid for pid in self.engine.processes("caisson-runtime") if pid not in others and self.parent(pid) in (*launchers, 1)]

    @staticmethod
    def parent(pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            return caisson.parent_of(pid)
        return 0

    def kill_somebody(self):
        kind = self.random.choice(["daemon", "daemon", "starter", "launcher", "monitor", "monitor", "worker"])
        if kind in ("daemon", "starter"):
            self.last_kill = time.monotonic()
            # Without who starts launchers the daemon ends by itself.
            for pid in self.engine.launchers("caisson-starter") if kind == "starter" else ():
                os.kill(pid, signal.SIGKILL)
            if kind == "starter":
                try:
                    self.engine.process.wait(30 * caisson.PATIENCE)
                except subprocess.TimeoutExpired:
                    raise AssertionError("without its starter the daemon does not end:\n" + caisson.threads_of(self.engine.process.pid)) from None
            else:
                self.engine.kill9()
            time.sleep(self.random.random() * 0.5)
            self.engine.start(timeout_s=60)
        else:
            found = self.victims()[kind]
            if not found:
                return
            if kind == "monitor":
                self.monitor_kills += 1
            self.last_kill = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(found), signal.SIGKILL)
        self.kills[kind] += 1

    def run(self):
        clients = [Client(self, number) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        end = time.monotonic() + self.minutes * 60
        try:
            while time.monotonic() < end and not self.over.is_set():
                self.over.wait(self.random.random() * 2)
                if not self.over.is_set():
                    self.kill_somebody()
        finally:
            self.over.set()
            for client in clients:
                client.join(120)
        for client in clients:
            if client.failure:
                raise client.failure
            if client.is_alive():
                raise AssertionError(f"client {client.number} hangs")
        return clients


class SoakTest(unittest.TestCase):
    def test_random_operations_and_kills(self):
        print(f"CAISSON_TEST_SEED={SEED} CAISSON_SOAK_MINUTES={MINUTES}", flush=True)
        engine = caisson.Engine()
        self.addCleanup(engine.close)
        engine.start()
        engine.import_busybox()
        soak = Soak(engine, MINUTES)
        try:
            clients = soak.run()
        except BaseException:
            print(engine.log_text()[-6000:], file=sys.stderr)
            raise
        print(f"operations {sum(soak.operations.values())}, cut short {soak.cut_short}, checks {soak.checks}, kills {sum(soak.kills.values())} {dict(soak.kills)}", flush=True)
        # With nobody killed any more, all that was said to be there is there, and what runs has its process.
        for client in clients:
            for name, there in sorted(client.known.items()):
                found = engine.cli("inspect", name)
                if there and name not in client.unsure:
                    self.assertEqual(found.returncode, 0, f"{name} was created and is gone")
                if found.returncode == 0:
                    state = json.loads(found.stdout)[0]["State"]
                    wait_until(lambda name=name: self.is_consistent(engine, name), f"{name} is what is said of it: {state}")
        ids = engine.ok("ps", "-aq").split()
        if ids:
            engine.ok("rm", "-f", "-v", *ids, timeout=300)
        self.assertEqual(engine.ok("ps", "-aq"), "")
        volumes = engine.ok("volume", "ls", "-q").split()
        for start in range(0, len(volumes), 500):  # an hour leaves thousands
            engine.ok("volume", "rm", *volumes[start:start + 500], timeout=300)
        wait_until(lambda: os.listdir(os.path.join(engine.root, "containers")) == [], "no container's folder is left")
        self.assertEqual(engine.stop(), 0, engine.log_text()[-3000:])
        self.assertEqual(engine.leftovers(), [])

    @staticmethod
    def is_consistent(engine, name):
        state = engine.inspect(name)["State"]
        if state["Status"] in ("running", "paused"):
            return caisson.is_alive(state["Pid"])
        return state["Pid"] == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--seed", type=int, default=SEED)
    options, sys.argv[1:] = parser.parse_known_args()
    MINUTES, SEED = options.minutes, options.seed
    caisson.main()
