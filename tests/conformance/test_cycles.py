#!/usr/bin/env python3
"""Many containers created and deleted one after the other, and several at once: nothing adds up. 200 under CI, 1000 with CAISSON_TEST_FULL=1."""

import os
import subprocess

import oci
from oci import FULL, wait_until

CYCLES = 1000 if FULL else 200


def counts():
    """What the kernel keeps for containers, and could be left of one."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = sum(1 for _ in file)
    return {"mounts": mounts}


class Cycles(oci.OciTest):
    def test_nothing_is_left_of_many_containers(self):
        bundle = self.playground.bundle("sleep", "1000")
        before = counts()
        for number in range(CYCLES):
            identifier = self.runtime.create(bundle)
            if number % 2:
                self.runtime("start", identifier, check=0)
            self.runtime("delete", "--force", identifier, check=0)
            self.runtime.ids.clear()
        self.assertEqual(self.runtime("list", "-q", check=0).stdout, "")
        self.assertEqual(os.listdir(self.runtime.root), [])
        self.assertEqual(self.playground.leftovers(), [])
        self.assertLessEqual(counts()["mounts"], before["mounts"] + 5, "other programs mount too, but not as often")

    def test_several_at_once_do_not_disturb_each_other(self):
        bundles = [self.playground.bundle("sh", "-c", f"exit {number}") for number in range(8)]
        for _ in range(CYCLES // 50):
            ids = [self.runtime.new_id() for _ in bundles]
            runs = [subprocess.Popen(self.runtime.command("run", "--bundle", bundle, identifier), stdin=subprocess.DEVNULL)
                    for bundle, identifier in zip(bundles, ids)]
            self.assertEqual([run.wait(120) for run in runs], list(range(8)))
        wait_until(lambda: not self.playground.leftovers(), self.playground.leftovers)

    def test_one_id_is_won_by_one(self):
        for _ in range(CYCLES // 50):
            identifier = self.runtime.new_id()
            bundles = [self.playground.bundle("sleep", "1000") for _ in range(4)]
            with open(self.playground.log, "ab") as log:
                runs = [subprocess.Popen(self.runtime.command("create", "--bundle", bundle, identifier), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                        for bundle in bundles]
                codes = sorted(run.wait(120) for run in runs)
            self.assertEqual(codes, [0, 1, 1, 1])
            self.runtime("delete", identifier, check=0)
            self.assertEqual(self.playground.leftovers(), [])

    def test_a_create_that_hangs_is_deleted_by_force(self):
        def change(config):
            config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}

        identifier = self.runtime.new_id()
        with open(self.playground.log, "ab") as log:
            process = subprocess.Popen(self.runtime.command("create", "--bundle", self.playground.bundle("true", change=change), identifier),
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.runtime("state", identifier).returncode == 0, "its record is there")
        self.assertEqual(self.runtime.state(identifier)["status"], "creating")
        for command in (["start"], ["pause"], ["delete"], ["kill"]):
            self.assertEqual(self.runtime(*command, identifier).returncode, 1)
        self.assertIn("that is not stopped: creating", self.runtime("delete", identifier).stderr)
        self.runtime("delete", "--force", identifier, check=0)
        self.assertEqual(process.wait(20), -9)
        self.assertEqual(self.playground.leftovers(), [])


if __name__ == "__main__":
    oci.main()
