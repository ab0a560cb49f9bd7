#!/usr/bin/env python3
"""`caisson doctor` on this host and on hosts that are made sick in namespaces of their own."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

import caisson

CAISSON = os.path.join(caisson.BIN, "caisson")
NFT_DROP = "table inet host { chain forward { type filter hook forward priority 0; policy drop; }; }"


class Doctor(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "doctor-")
        self.addCleanup(shutil.rmtree, self.folder)

    def run_in(self, script, stdin=None):
        """A shell in network and mount namespaces of its own, where nothing reaches the host; $CAISSON is the program."""
        # The host's own settings for every boot are hidden by an empty folder.
        private = "mount -t tmpfs none /etc/sysctl.d && mount --bind /proc /proc && ip link set lo up && "
        return subprocess.run(["unshare", "--net", "--mount", "sh", "-c", private + script], capture_output=True, text=True, timeout=60, check=False,
                              input=stdin, env={**os.environ, "CAISSON": f"{CAISSON} -H unix://{self.folder}/s --root {self.folder}"})

    def findings(self, script="", **options):
        run = self.run_in(script + " $CAISSON doctor --format json", **options)
        self.assertIn(run.returncode, (0, 1), run.stderr)
        found = {finding["Check"]: finding for finding in json.loads(run.stdout)}
        self.assertEqual(run.returncode, 1 if any(f["Verdict"] == "broken" for f in found.values()) else 0)
        return found

    def test_this_host_can_run_containers(self):
        found = self.findings()
        for check in ("programs", "privilege", "user-namespaces", "overlay", "idmapped-mounts", "cgroups", "seccomp", "nftables", "disk-space"):
            self.assertNotEqual(found[check]["Verdict"], "broken", found[check])

    def test_a_registries_program_that_does_not_start_is_told_with_its_reason(self):
        self.assertEqual(self.findings()["registries"]["Verdict"], "good")
        # Another program in its place, in this mount namespace alone; the loader's own words and code.
        fake = os.path.join(self.folder, "fetch")
        with open(fake, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho 'error while loading shared libraries: libcurl.so.4' >&2\nexit 127\n")
        os.chmod(fake, 0o755)
        found = self.findings(f"mount --bind {fake} {caisson.BIN}/caisson-fetch &&")["registries"]
        self.assertEqual((found["Verdict"], found["Mend"]), ("broken", "apt-get install libcurl4"))
        self.assertIn("libcurl.so.4", found["What"])

    def test_no_daemon_is_started(self):
        self.findings()
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_firewall_that_drops_forwarded_packets_is_named(self):
        found = self.findings(f"echo '{NFT_DROP}' | nft -f - &&")
        self.assertEqual(found["forward-policy"]["Verdict"], "warning")
        self.assertIn("chain inet host forward", found["forward-policy"]["What"])
        self.assertEqual(self.findings()["forward-policy"]["Verdict"], "good")

    def test_forwarding_is_mended_now_and_for_the_next_boot(self):
        off = "echo 0 >/proc/sys/net/ipv4/ip_forward &&"
        self.assertEqual(self.findings(off)["ip-forward"]["Verdict"], "warning")
        run = self.run_in(off + " echo net.ipv4.ip_forward = 0 >/etc/sysctl.d/60-caisson.conf && echo other=1 >>/etc/sysctl.d/60-caisson.conf &&"
                          " $CAISSON doctor --fix --yes >/dev/null; cat /proc/sys/net/ipv4/ip_forward /etc/sysctl.d/60-caisson.conf")
        self.assertEqual(run.stdout, "1\nother=1\nnet.ipv4.ip_forward=1\n", run.stderr)

    def test_nothing_is_mended_without_a_yes(self):
        for answer in ("n\n", ""):
            run = self.run_in("echo 0 >/proc/sys/net/ipv4/ip_forward && $CAISSON doctor --fix >/dev/null; cat /proc/sys/net/ipv4/ip_forward; ls /etc/sysctl.d", stdin=answer)
            self.assertEqual(run.stdout, "0\n")
            self.assertIn("sysctl -w net.ipv4.ip_forward=1", run.stderr)

    def test_a_full_disk_and_a_file_system_that_cannot_hold_layers_are_told(self):
        found = self.findings(f"mount -t tmpfs -o size=64k,nr_inodes=20 none {self.folder} &&")
        self.assertEqual(found["disk-space"]["Verdict"], "broken")
        self.assertEqual(self.findings(f"mount -t overlay -o lowerdir=/usr:/etc none {self.folder} &&")["state-folder"]["Verdict"], "broken")

    def test_a_socket_open_to_everybody_is_closed(self):
        found = self.findings(f"python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{self.folder}/s\")' && chmod 0666 {self.folder}/s &&")
        self.assertEqual((found["socket"]["Verdict"], found["socket"]["Mend"]), ("broken", f"chmod 0660 {self.folder}/s"))
        self.run_in("$CAISSON doctor --fix --yes")
        self.assertEqual(os.stat(f"{self.folder}/s").st_mode & 0o777, 0o660)

    def test_missing_user_namespaces_are_broken(self):
        # Whoever is root in a namespace alone cannot pass through other users' folders.
        binary = shutil.copy(CAISSON, self.folder)
        # The limit counts per user namespace: inside a new one it can be set to 0 without touching the host.
        run = subprocess.run(["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c",
                              f"echo 0 >/proc/sys/user/max_user_namespaces && {binary} -H unix://{self.folder}/s --root {self.folder} doctor --format json"],
                             capture_output=True, text=True, timeout=60, check=False)
        found = {finding["Check"]: finding for finding in json.loads(run.stdout)}
        self.assertEqual(run.returncode, 1)
        self.assertEqual(found["user-namespaces"]["Verdict"], "broken")
        self.assertIn("max_user_namespaces", found["user-namespaces"]["Mend"])
        self.assertEqual(found["privilege"]["Verdict"], "good", "it has all rights in there")
        self.assertEqual((found["own-ids"]["Verdict"], found["own-ids"]["What"]), ("broken", "this user namespace has 1 ids"))

    def test_the_text_names_the_cure_of_every_warning(self):
        run = self.run_in("echo 0 >/proc/sys/net/ipv4/ip_forward && $CAISSON doctor")
        self.assertIn("warning  ip-forward: net.ipv4.ip_forward is 0\n         why:  ", run.stdout)
        self.assertIn("mend: sysctl -w net.ipv4.ip_forward=1   (--fix does this)", run.stdout)
        self.assertRegex(run.stdout, r"\d+ of \d+ checks are good")

    def test_a_wrong_format_is_refused(self):
        self.assertEqual(self.run_in("$CAISSON doctor --format yaml").returncode, 1)


if __name__ == "__main__":
    caisson.main()
