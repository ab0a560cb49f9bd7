#!/usr/bin/env python3
"""Known escapes by way of a process that enters a container: rows of docs/security/escapes.md."""

import fcntl
import json
import os
import re
import socket
import subprocess

import attacks
import caisson
from attacks import CAISSON, CRUN, RUNC, ROUNDS, attacker, program, read, status_fields
from caisson import differs_without_root, wait_until


class Entering(attacks.AttackTest):
    """Rows 2, 3, 4, 15, 21: what a process is while it enters."""

    def hunted(self, *whom):
        bundle = self.bundle("hunt", "/found", *whom).add_program("hunt")
        return bundle, os.path.join(bundle.root, "found")

    def test_row_02_an_entering_process_can_be_neither_traced_nor_robbed(self):
        bundle, found = self.hunted("caisson")
        with bundle.running(CAISSON):
            for count in range(min(ROUNDS, 1000)):
                # One that fails ends as what it was while it entered.
                bundle.exec(CAISSON, "true" if count % 2 else "/missing")
        lines = read(found).splitlines() if os.path.exists(found) else []
        # While it exits its streams can be seen by its equals; they are the container's already.
        harmless = re.compile(r"fd \d+ (/dev/null|pipe:.*|socket:.*)$")
        self.assertEqual([line for line in lines if not harmless.match(line)], [])

    def test_row_02_the_hunter_catches_who_can_be_caught(self):
        bundle, found = self.hunted()
        with bundle.running(CAISSON), attacker(*CAISSON.command(self.folder, "exec", bundle.id, "sleep", "1000")):
            wait_until(lambda: os.path.exists(found) and {"ptrace", "exe", "fd"} <= {line.split()[0] for line in read(found).splitlines()}, "an ordinary process is caught")

    def test_row_03_nothing_is_inheritable_or_ambient(self):
        show = ("cat", "/proc/self/status")

        def bare(text):
            fields = status_fields(text)
            self.assertEqual((int(fields["CapInh"], 16), int(fields["CapAmb"], 16)), (0, 0))
            return fields
        bare(self.bundle(*show).run(CAISSON).stdout)
        bundle = self.bundle("sleep", "1000")
        with bundle.running(CAISSON):
            bare(bundle.exec(CAISSON, *show).stdout)
            self.assertEqual(int(bare(bundle.exec(CAISSON, *show, flags=["--user", "1000"]).stdout)["CapEff"], 16), 0)
            added = bare(bundle.exec(CAISSON, *show, flags=["--cap", "CAP_SYS_CHROOT"]).stdout)
            self.assertTrue(int(added["CapEff"], 16) & 1 << 18)
            process = os.path.join(bundle.folder, "process.json")
            with open(process, "w", encoding="utf-8") as file:
                json.dump({**bundle.config["process"], "args": list(show)}, file)
            bare(bundle.exec(CAISSON, flags=["--process", process]).stdout)

    def test_row_04_the_runtimes_program_cannot_be_overwritten(self):
        self.overwrite(lambda bundle: bundle)

    @differs_without_root("an ordinary user can map no root but his own")
    def test_row_04_nor_from_a_user_namespace_that_maps_the_hosts_root(self):
        self.overwrite(lambda bundle: bundle.user_namespace(first=0))

    def overwrite(self, prepare):
        binary = os.path.join(self.folder, "runtime-copy")
        subprocess.run(["cp", CAISSON.path, binary], check=True)
        caisson.own(binary)
        runtime = attacks.Runtime("caisson", binary)
        before = os.stat(binary)
        with open(binary, "rb") as file:
            content = file.read()
        for command in (("/proc/self/exe", "--version"), ("/script",)):
            bundle = self.bundle(*command)
            with open(os.path.join(bundle.root, "script"), "w", encoding="utf-8") as file:
                file.write("#!/proc/self/exe\n")
            os.chmod(file.name, 0o755)
            prepare(bundle).run(runtime)
        bundle = prepare(self.bundle("overwrite", "/written").add_program("overwrite"))
        with bundle.running(runtime):
            for count in range(min(ROUNDS, 1000)):
                # Every other one runs the runtime's own program inside.
                bundle.exec(runtime, *(("true",) if count % 2 else ("/proc/self/exe", "features")))
        self.assertFalse(os.path.exists(os.path.join(bundle.root, "written")), "it wrote to a program that was not its own")
        with open(binary, "rb") as file:
            self.assertTrue(file.read() == content)
        self.assertEqual(os.stat(binary).st_ino, before.st_ino)

    def test_row_04_the_overwriter_overwrites_what_it_can(self):
        bundle = self.bundle("overwrite", "/written").add_program("overwrite")
        victim = os.path.join(bundle.root, "bin", "victim")
        subprocess.run(["cp", program("key"), victim], check=True)
        caisson.own(victim)
        with bundle.running(CAISSON):
            def overwritten():
                bundle.exec(CAISSON, "victim", "find", "nothing")
                return os.path.exists(os.path.join(bundle.root, "written"))
            wait_until(overwritten, "an ordinary program is overwritten")

    def leak(self, folder):
        """Descriptors of a host folder at 3…30 without close-on-exec, as a careless caller leaks them."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        return [fd, *(fcntl.fcntl(fd, fcntl.F_DUPFD, number) for number in range(3, 31))]

    def test_row_15_no_descriptor_of_the_host_is_a_way_out(self):
        secret = self.canary("secret", "secret of the host")
        held = self.leak(secret)
        try:
            def attack(runtime):
                for number in range(3, 31):
                    bundle = self.bundle("sh", "-c", "cat file ../file ../../../../../../../../.." + secret + "/file")
                    bundle.config["process"]["cwd"] = f"/proc/self/fd/{number}"
                    if "secret" in bundle.run(runtime, pass_fds=held).stdout:
                        return True
                bundle = self.bundle("sleep", "1000")
                with bundle.running(runtime):
                    for number in range(3, 31):
                        for cwd in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}"):
                            if "secret" in bundle.exec(runtime, "sh", "-c", "cat file", flags=["--cwd", cwd], pass_fds=held).stdout:
                                return True
                return False
            self.check(attack, weak=[CRUN])
        finally:
            for fd in held:
                os.close(fd)

    def test_row_15_the_callers_descriptors_are_not_inside(self):
        secret = self.canary("secret")
        held = self.leak(secret)
        left, right = socket.socketpair()
        held += [left.detach(), right.detach()]
        list_all = ("sh", "-c", "for f in /proc/self/fd/*; do echo ${f##*/} $(readlink $f); done")
        try:
            def inside(text):
                return {int(line.split()[0]) for line in text.splitlines() if " " in line and "/proc/" not in line}
            bundle = self.bundle(*list_all)
            self.assertLessEqual(inside(bundle.run(CAISSON, pass_fds=held).stdout), {0, 1, 2})
            bundle = self.bundle("sleep", "1000")
            with bundle.running(CAISSON):
                self.assertLessEqual(inside(bundle.exec(CAISSON, *list_all, pass_fds=held).stdout), {0, 1, 2})
                self.assertLessEqual({int(name) for name in os.listdir(f"/proc/{bundle.pid(CAISSON)}/fd")}, {0, 1, 2})
            # One that waits for start, or fails while its rights are gone already, holds none either.
            bundle = self.bundle("true").write()
            created = subprocess.run(CAISSON.command(self.folder, "create", "--bundle", bundle.folder, bundle.id), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=held, check=False)
            self.assertEqual(created.returncode, 0)
            waiting = f"/proc/{bundle.pid(CAISSON)}/fd"
            targets = {os.readlink(os.path.join(waiting, name)) for name in os.listdir(waiting)}
            bundle.call(CAISSON, "delete", "--force", bundle.id)
            self.assertEqual({target for target in targets if target != "/dev/null" and not target.endswith("/exec.fifo")}, set())
            # Those that are asked for come through, and no more.
            bundle = self.bundle(*list_all)
            last = sorted(held)[1]  # 4, unless whoever called us left some open: those between are then handed on too
            count = last - 2
            self.assertEqual(inside(bundle.run(CAISSON, "--preserve-fds", str(count), pass_fds={*held, *range(3, last)}).stdout) - {0, 1, 2}, set(range(3, last + 1)))
        finally:
            for fd in held:
                os.close(fd)

    def test_row_15_the_working_directory_is_inside(self):
        for cwd in ("/proc/self/cwd", "/proc/1/root", "/proc/self/root", "/proc/self/fd/0", "/nowhere/../../..", "/srv/out"):
            with self.subTest(cwd=cwd):
                bundle = self.bundle("sh", "-c", f"pwd; cat .{self.folder}/marker").replace("srv/out", "/proc/self/cwd")
                with open(os.path.join(self.folder, "marker"), "w", encoding="utf-8") as file:
                    file.write("host")
                bundle.config["process"]["cwd"] = cwd
                self.assertNotIn("host", bundle.run(CAISSON).stdout)

    def test_row_21_a_user_is_read_strictly(self):
        texts = ("", "1:", ":", ":1", "0x1", "-1", "4294967296", "4294967295", "1 ", " 1", "1:2:3", "1:-1", "+1", "1:0x", "1e3", "root")

        def attack(runtime):
            bundle = self.bundle("sleep", "1000")
            with bundle.running(runtime):
                # "ran" is enough: whoever was asked for was nobody that can be named so.
                return any("uid=" in bundle.exec(runtime, "id", flags=["--user", text]).stdout for text in texts)
        self.check(attack, weak=[CRUN, RUNC])


if __name__ == "__main__":
    attacks.main()
