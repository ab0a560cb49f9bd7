#!/usr/bin/env python3
"""runtime-spec 1.3.0 on Linux, field by field: what a configuration asks for is read back from inside the container or from the kernel."""

import base64
import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import threading
import time

import bundle
from bundle import BundleTest, mount_lines

SYS_IOPRIO_GET = 252


def io_priority(pid):
    value = ctypes.CDLL(None, use_errno=True).syscall(SYS_IOPRIO_GET, 1, pid)
    return value >> 13, value & 0x1FFF


def field(pid, name):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(line.split(":", 1)[1].strip() for line in file if line.startswith(name + ":"))


class Namespaces(BundleTest):
    def test_offsets_of_a_time_namespace_hold_for_run_and_exec(self):
        self.add_namespace("time")
        self.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 7200, "nanosecs": 5}, "boottime": {"secs": 86400}}
        offsets = {line.split()[0]: line.split()[1:] for line in self.run_inside("cat /proc/self/timens_offsets").splitlines()}
        self.assertEqual(offsets, {"monotonic": ["7200", "5"], "boottime": ["86400", "0"]})
        name, pid = self.start()
        with open("/proc/uptime", encoding="utf-8") as file:
            host = float(file.read().split()[0])
        inside = float(self.inside_exec(name, "cat", "/proc/uptime").split()[0])
        self.assertGreaterEqual(round(inside - host, 2), 86400)
        self.assertLess(inside, host + 86400 + 600)
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/time"), os.readlink("/proc/self/ns/time"))

    def test_offsets_work_in_a_user_namespace_too(self):
        self.add_user_namespace()
        self.add_namespace("time")
        self.config["linux"]["timeOffsets"] = {"boottime": {"secs": -1}}
        self.assertIn("boottime           -1", self.run_inside("cat /proc/self/timens_offsets"))

    def test_every_namespace_but_mount_is_joined_by_its_path(self):
        self.add_namespace("time")
        _, first = self.start()
        kinds = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time"}
        for kind, file in kinds.items():
            self.add_namespace(kind, f"/proc/{first}/ns/{file}")
        del self.config["hostname"]
        name, second = self.start()
        for file in kinds.values():
            self.assertEqual(os.readlink(f"/proc/{first}/ns/{file}"), os.readlink(f"/proc/{second}/ns/{file}"), file)
        self.assertEqual(self.inside_exec(name, "hostname").strip(), "box")

    def test_a_user_namespace_is_joined_with_its_maps(self):
        self.add_user_namespace()
        _, first = self.start()
        for field_name in ("uidMappings", "gidMappings"):
            del self.config["linux"][field_name]
        self.add_namespace("user", f"/proc/{first}/ns/user")
        name, second = self.start()
        self.assertEqual(os.readlink(f"/proc/{first}/ns/user"), os.readlink(f"/proc/{second}/ns/user"))
        self.assertEqual(self.inside_exec(name, "cat", "/proc/self/uid_map").split(), ["0", "200000", "65536"])
        self.config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 7, "size": 1}]
        self.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 7, "size": 1}]
        run = self.run_inside("true", check=None)
        self.assertIn("linux.uidMappings: differ from those of the user namespace", run.stderr)

    def test_a_mount_namespace_is_joined_and_the_hosts_never_is(self):
        holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 1000"], stdout=subprocess.PIPE)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        holder.stdout.readline()
        self.addCleanup(holder.stdout.close)
        self.add_namespace("mount", f"/proc/{holder.pid}/ns/mnt")
        _, pid = self.start()
        self.assertEqual(os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink(f"/proc/{holder.pid}/ns/mnt"))
        self.assertTrue(os.path.exists(f"/proc/{pid}/root/bin/busybox"))
        self.end_container("c1")
        self.add_namespace("mount", "/proc/self/ns/mnt")
        self.refused("linux.namespaces[", "is the host's own namespace")

    def test_a_path_of_another_type_is_refused(self):
        self.add_namespace("network", "/proc/self/ns/uts")
        self.refused("linux.namespaces[5].path", "another type")

    def test_the_hosts_namespaces_are_not_changed_through_their_paths(self):
        self.add_namespace("uts", "/proc/self/ns/uts")
        self.refused("is the host's own namespace")
        self.add_namespace("uts")
        self.add_namespace("network", "/proc/self/ns/net")
        self.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
        self.refused("is the host's own namespace")


class Mounts(BundleTest):
    def setUp(self):
        super().setUp()
        self.source = os.path.join(self.bundle, "source")
        os.mkdir(self.source)
        with open(os.path.join(self.source, "file"), "w", encoding="utf-8") as file:
            file.write("text\n")

    def owner(self, *options, source=None, **fields):
        self.add_mount("/data", "bind", source or self.source, "bind", *options, **fields)
        out = self.run_inside("stat -c '%u %g' /data/file").split()
        self.config["mounts"].pop()
        return out

    def test_binds_are_idmapped_with_maps_of_their_own_of_the_container_and_in_cruns_words(self):
        mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
        self.assertEqual(self.owner("idmap", uidMappings=mapping, gidMappings=mapping), ["1000", "1000"])
        self.assertEqual(self.owner("idmap", source="source", uidMappings=mapping, gidMappings=mapping), ["1000", "1000"], "a relative source")
        self.assertEqual(self.owner("idmap=uids=0-1-10#10-11-10;gids=0-100-10"), ["1", "100"])
        self.add_user_namespace()
        os.chown(os.path.join(self.source, "file"), 5, 6)
        self.assertEqual(self.owner("idmap"), ["5", "6"])
        self.assertEqual(self.owner("ridmap"), ["5", "6"])
        self.assertEqual(self.owner("idmap=uids=@5-7-1;gids=@6-8-1"), ["7", "8"])
        self.assertEqual(self.owner("idmap=uids=5-200009-1;gids=6-200009-1"), ["9", "9"])

    def test_a_new_tmpfs_is_idmapped_too(self):
        mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
        self.add_mount("/data", "tmpfs", "tmpfs", "idmap", uidMappings=mapping, gidMappings=mapping)
        self.assertEqual(self.run_inside("stat -c %u /data").strip(), "1000")

    def test_idmaps_that_mean_nothing_are_refused(self):
        for option, words in (("idmap=uids=0-1;gids=0-1-1", "is wrong"), ("idmap=uids=0-1-10", "needs both"), ("idmap=pids=1-1-1", "only"),
                              ("idmap=uids=@0-1-1;gids=@0-1-1", "not within one range"), ("idmap", "needs a user namespace"),
                              ("idmap=uids=0-1-5#3-9-5;gids=0-1-1", "overlap")):
            with self.subTest(option=option):
                self.add_mount("/data", "bind", self.source, "bind", option)
                self.refused("mounts[5]", words)
                self.config["mounts"].pop()

    def test_recursive_attributes_reach_the_mounts_below(self):
        os.mkdir(os.path.join(self.source, "below"))
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", os.path.join(self.source, "below")], check=True)
        self.addCleanup(subprocess.run, ["umount", os.path.join(self.source, "below")], check=True)
        self.add_mount("/plain", "bind", self.source, "rbind", "ro", "nosuid")
        self.add_mount("/deep", "bind", self.source, "rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnodiratime", "rnosymfollow")
        info = self.run_inside("cat /proc/self/mountinfo")
        self.assertIn("ro", mount_lines(info, "/plain")[0][5].split(","))
        self.assertNotIn("ro", mount_lines(info, "/plain/below")[0][5].split(","))
        for place in ("/deep", "/deep/below"):
            options = mount_lines(info, place)[0][5].split(",")
            self.assertLessEqual({"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"}, set(options), place)

    def test_words_of_mounts_are_seen_in_mountinfo(self):
        expected = []
        for number, (words, wanted, absent) in enumerate((
                (["ro"], {"ro"}, set()), (["nosuid", "nodev", "noexec"], {"nosuid", "nodev", "noexec"}, set()), (["nosuid", "suid"], set(), {"nosuid"}),
                (["noatime"], {"noatime"}, {"relatime"}), (["strictatime"], set(), {"relatime", "noatime"}), (["nosymfollow"], {"nosymfollow"}, set()),
                (["nosymfollow", "symfollow"], set(), {"nosymfollow"}), (["rro", "rnoexec"], {"ro", "noexec"}, set()), (["defaults", "loud", "silent"], {"rw"}, set()))):
            self.add_mount(f"/m{number}", "tmpfs", "tmpfs", *words)
            expected.append((f"/m{number}", wanted, absent))
        self.add_mount("/sync", "tmpfs", "tmpfs", "size=64k", "mode=700")
        self.add_mount("/sync", "tmpfs", "tmpfs", "remount", "ro", "size=128k")
        info = self.run_inside("cat /proc/self/mountinfo")
        for place, wanted, absent in expected:
            options = set(mount_lines(info, place)[0][5].split(","))
            self.assertLessEqual(wanted, options, place)
            self.assertEqual(absent & options, set(), place)
        line = mount_lines(info, "/sync")[0]
        self.assertEqual(line[5].split(",")[0], "ro")
        self.assertIn("size=128k", line[-1])

    def test_propagation_is_what_was_asked_for(self):
        for word in ("shared", "slave", "private", "unbindable"):
            self.add_mount(f"/{word}", "tmpfs", "tmpfs", word)
        info = self.run_inside("cat /proc/self/mountinfo")
        tags = {word: " ".join(mount_lines(info, f"/{word}")[0][6:]).split(" - ")[0] for word in ("shared", "slave", "private", "unbindable")}
        self.assertIn("shared:", tags["shared"])
        self.assertNotIn("shared:", tags["private"] + tags["slave"])
        self.assertIn("unbindable", tags["unbindable"])

    def test_the_roots_propagation_is_what_was_asked_for(self):
        for word, tag in (("shared", "shared:"), ("rshared", "shared:"), ("unbindable", "unbindable"), ("private", ""), ("rslave", "")):
            with self.subTest(word=word):
                self.config["linux"]["rootfsPropagation"] = word
                line = mount_lines(self.run_inside("cat /proc/self/mountinfo"), "/")[0]
                optional = " ".join(line[6:]).split(" - ")[0]
                self.assertIn(tag, optional)
                if not tag:
                    self.assertNotIn("shared:", optional)

    def test_a_tmpfs_starts_with_what_lay_below_it(self):
        below = os.path.join(self.rootfs, "below")
        os.makedirs(os.path.join(below, "deep", "deeper"))
        with open(os.path.join(below, "deep", "deeper", "file"), "w", encoding="utf-8") as file:
            file.write("copied")
        os.chmod(os.path.join(below, "deep", "deeper", "file"), 0o4751)
        os.chown(os.path.join(below, "deep"), 33, 44)
        os.symlink("/etc/passwd", os.path.join(below, "link"))
        os.mkfifo(os.path.join(below, "fifo"))
        os.utime(os.path.join(below, "deep", "deeper", "file"), (1000, 2000))
        self.add_mount("/below", "tmpfs", "tmpfs", "tmpcopyup", "ro")
        out = self.run_inside("cd /below; cat deep/deeper/file; stat -c ' %a %Y' deep/deeper/file; stat -c '%u %g' deep; readlink link; test -p fifo && echo fifo; touch x 2>&1; true")
        self.assertEqual(out.splitlines()[:4], ["copied 4751 2000", "33 44", "/etc/passwd", "fifo"])
        self.assertIn("Read-only", out)
        self.config["mounts"].pop()
        self.add_mount("/fresh/target", "tmpfs", "tmpfs", "tmpcopyup")
        self.assertEqual(self.run_inside("ls /fresh/target"), "")

    def test_symbolic_links_are_followed_bound_or_copied_as_asked(self):
        os.symlink("file", os.path.join(self.source, "link"))
        link = os.path.join(self.source, "link")
        self.add_mount("/followed", "bind", link, "bind")
        self.add_mount("/bound", "bind", link, "bind", "src-nofollow")
        self.add_mount("/copied", "bind", link, "bind", "copy-symlink")
        self.add_mount("/plain", "bind", os.path.join(self.source, "file"), "bind", "copy-symlink")
        os.symlink("etc", os.path.join(self.rootfs, "target"))
        os.symlink("elsewhere", os.path.join(self.rootfs, "place"))
        self.add_mount("/place", "bind", os.path.join(self.source, "file"), "bind", "dest-nofollow")
        out = self.run_inside("cat /followed; readlink /bound; readlink /copied; cat /plain; cat /place; ls /elsewhere 2>&1; true")
        self.assertEqual(out.splitlines()[:5], ["text", "file", "file", "text", "text"])
        self.assertIn("No such file", out)
        self.config["mounts"] = self.config["mounts"][:5]
        self.add_mount("/target", "bind", link, "bind", "copy-symlink")
        self.refused("mounts[5]", "making the symbolic link")

    def test_words_of_crun_where_they_mean_nothing_are_refused(self):
        for kind, option in (("bind", "tmpcopyup"), ("tmpfs", "copy-symlink"), ("tmpfs", "src-nofollow"), ("proc", "tmpcopyup")):
            with self.subTest(option=option):
                self.add_mount("/data", kind, self.source, *(["bind"] if kind == "bind" else []), option)
                self.refused("mounts[5].options", option)
                self.config["mounts"].pop()

    def test_cgroups_are_shown_as_the_containers_own(self):
        self.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro")
        info = self.run_inside("cat /proc/self/mountinfo")
        lines = [line for line in info.splitlines() if " /sys/fs/cgroup" in line]
        self.assertGreaterEqual(len(lines), 1)
        for line in lines:
            self.assertEqual(line.split()[5].split(",")[0], "ro", line)


class Scheduling(BundleTest):
    def test_batch_idle_and_nice(self):
        for policy, number, nice in (("SCHED_BATCH", os.SCHED_BATCH, 7), ("SCHED_OTHER", os.SCHED_OTHER, 3), ("SCHED_IDLE", os.SCHED_IDLE, 0)):
            with self.subTest(policy=policy):
                self.config["process"]["scheduler"] = {"policy": policy, "nice": nice}
                name, pid = self.start()
                self.assertEqual(os.sched_getscheduler(pid), number)
                if policy != "SCHED_IDLE":
                    self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), nice)
                self.end_container(name)

    def test_it_is_set_for_containers_with_ids_of_their_own_and_for_exec(self):
        self.add_user_namespace()
        self.config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
        self.config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_RT", "priority": 2}
        name, pid = self.start()
        self.assertEqual(os.sched_getscheduler(pid) & ~0x40000000, os.SCHED_BATCH)
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), -5)
        self.assertEqual(io_priority(pid), (1, 2))
        process = dict(self.config["process"], args=["sleep", "1000"], scheduler={"policy": "SCHED_IDLE"}, ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6})
        other = self.exec_process(name, process)
        self.assertEqual(os.sched_getscheduler(other), os.SCHED_IDLE)
        self.assertEqual(io_priority(other), (2, 6))

    def exec_process(self, name, process):
        path = os.path.join(self.folder, "process.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(process, file)
        return self.detached("exec", "--detach", "--process", path, name)

    def test_realtime_needs_its_share_of_the_cgroup(self):
        self.config["process"]["scheduler"] = {"policy": "SCHED_FIFO", "priority": 10}
        name = self.name()
        self.set_args("true")
        self.write_config()
        run = self.runtime("run", "--bundle", self.bundle, name, stdin=subprocess.DEVNULL)
        if run.returncode == 0:
            return  # no RT_GROUP_SCHED on v1: nothing to share
        self.assertIn("process.scheduler: the kernel does not permit it", run.stderr)
        self.assertIn("realtimeRuntime", run.stderr)
        self.assertEqual(self.containers_left(), [])

    def test_io_priorities(self):
        for io_class, number, level in (("IOPRIO_CLASS_BE", 2, 0), ("IOPRIO_CLASS_IDLE", 3, 7)):
            self.config["process"]["ioPriority"] = {"class": io_class, "priority": level}
            name, pid = self.start()
            self.assertEqual(io_priority(pid), (number, level))
            self.end_container(name)

    def test_the_personality_is_that_of_a_32_bit_machine(self):
        self.config["linux"]["personality"] = {"domain": "LINUX32"}
        self.assertIn(self.run_inside("uname -m").strip(), ("i686", "armv8l"))
        name, pid = self.start()
        with open(f"/proc/{pid}/personality", encoding="utf-8") as file:
            self.assertEqual(int(file.read(), 16), 8)
        self.assertIn(self.inside_exec(name, "uname", "-m").strip(), ("i686", "armv8l"))

    def test_the_memory_policy_is_in_numa_maps(self):
        for mode, flags, seen in (("MPOL_BIND", [], "bind:0"), ("MPOL_INTERLEAVE", ["MPOL_F_STATIC_NODES"], "interleave=static:0"),
                                  ("MPOL_PREFERRED_MANY", [], "prefer (many):0"), ("MPOL_WEIGHTED_INTERLEAVE", [], "weighted interleave:0")):
            with self.subTest(mode=mode):
                self.config["linux"]["memoryPolicy"] = {"mode": mode, "nodes": "0", "flags": flags}
                name, pid = self.start()
                with open(f"/proc/{pid}/numa_maps", encoding="utf-8") as file:
                    self.assertIn(seen, file.read())
                self.end_container(name)
        self.config["linux"]["memoryPolicy"] = {"mode": "MPOL_LOCAL", "nodes": ""}
        self.run_inside("true")

    def test_an_exec_runs_on_the_cpus_it_names(self):
        name, _ = self.start()
        process = dict(self.config["process"], args=["sleep", "1000"], execCPUAffinity={"initial": "0", "final": "0"})
        pid = self.exec_process(name, process)
        self.assertEqual(field(pid, "Cpus_allowed_list"), "0")
        process["execCPUAffinity"] = {"initial": "60000"}
        path = os.path.join(self.folder, "process.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(process, file)
        run = self.runtime("exec", "--process", path, name)
        self.assertIn("process.execCPUAffinity.initial", run.stderr)

    def test_affinity_is_for_exec_only(self):
        self.config["process"]["execCPUAffinity"] = {"initial": "0", "final": "0"}
        _, pid = self.start()
        self.assertEqual(field(pid, "Cpus_allowed_list"), field("self", "Cpus_allowed_list"))


class Process(BundleTest):
    def test_umask_groups_and_oom_score(self):
        self.config["process"]["user"] = {"uid": 1000, "gid": 1001, "umask": 0o027, "additionalGids": [5, 10]}
        self.config["process"]["oomScoreAdj"] = 500
        out = self.run_inside("umask; id -u; id -g; id -G; cat /proc/self/oom_score_adj").split("\n")
        self.assertEqual((out[0], out[1], out[2], sorted(map(int, out[3].split())), out[4]), ("0027", "1000", "1001", [5, 10, 1001], "500"))

    def test_original_groups_are_kept_when_asked_for(self):
        name = self.name()
        self.config["annotations"] = {"run.oci.keep_original_groups": "1"}
        self.set_args("grep Groups /proc/self/status")
        self.write_config()
        run = subprocess.run(["setpriv", "--groups", "0,77", bundle.RUNTIME, "--root", self.state, "run", "--bundle", self.bundle, name],
                             capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL)
        self.assertIn("77", run.stdout)

    def test_rlimits_are_exact(self):
        self.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
        lines = self.run_inside("grep -E 'open files|core file' /proc/self/limits")
        self.assertRegex(lines, r"open files +100 +200")
        self.assertRegex(lines, r"core file size +0 +0")

    def test_the_console_has_the_size_asked_for(self):
        self.config["process"]["terminal"] = True
        self.config["process"]["consoleSize"] = {"height": 33, "width": 111}
        name = self.name()
        self.set_args("stty size; sleep 1000")
        self.write_config()
        path = os.path.join(self.folder, "console")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            self.detached("create", "--bundle", self.bundle, "--console-socket", path, name)
            connection, _ = listener.accept()
            with connection:
                _, fds, _, _ = socket.recv_fds(connection, 100, 1)
        self.runtime("start", name, check=0)
        with os.fdopen(fds[0], "rb", buffering=0) as master:
            self.assertIn(b"33 111", master.readline())

    def test_sysctls_of_the_containers_namespaces(self):
        self.config["linux"]["sysctl"] = {"kernel.shm_rmid_forced": "1", "net/ipv4/ip_forward": "1", "fs.mqueue.msg_max": "7", "kernel.domainname": "here"}
        out = self.run_inside("cd /proc/sys; cat kernel/shm_rmid_forced net/ipv4/ip_forward fs/mqueue/msg_max kernel/domainname")
        self.assertEqual(out.split(), ["1", "1", "7", "here"])

    def test_devices_of_every_type_with_mode_and_owner(self):
        self.config["linux"]["devices"] = [
            {"path": "/dev/c", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/u", "type": "u", "major": 1, "minor": 5},
            {"path": "/dev/sub/b", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
            {"path": "/dev/p", "type": "p", "fileMode": 0o622},
            {"path": "/outside", "type": "c", "major": 1, "minor": 3}]
        out = self.run_inside("stat -c '%n %F %a %u %g %t %T' /dev/c /dev/u /dev/sub/b /dev/p /outside").splitlines()
        self.assertEqual(out, ["/dev/c character special file 640 3 4 1 3", "/dev/u character special file 666 0 0 1 5", "/dev/sub/b block special file 600 0 0 7 c8",
                               "/dev/p fifo 622 0 0 0 0", "/outside character special file 666 0 0 1 3"])
        self.run_inside("true")  # the node in the root is there already and the same
        self.config["linux"]["devices"][4]["minor"] = 5
        self.refused("device /outside")

    def test_read_only_root_masks_and_read_only_paths(self):
        self.config["root"]["readonly"] = True
        self.config["linux"]["maskedPaths"] = ["/proc/timer_list", "/etc", "/no/such"]
        self.config["linux"]["readonlyPaths"] = ["/proc/sys", "/no/such"]
        out = self.run_inside("touch /x 2>&1; ls /etc | wc -l; head -c 1 /proc/timer_list | wc -c; echo 77 2>&1 >/proc/sys/net/ipv4/ip_default_ttl; grep 77 /proc/sys/net/ipv4/ip_default_ttl; true")
        self.assertEqual(out.count("Read-only file system"), 2, out)
        self.assertIn("\n0\n0\n", out)
        self.assertNotIn("\n77\n", out)


class Hooks(BundleTest):
    KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

    def hook(self, kind, extra="", **fields):
        path = f"{self.folder}/hooks"
        script = f"cat >{self.folder}/{kind}.json; readlink /proc/self/ns/mnt >{self.folder}/{kind}.ns; echo {kind} >>{path}; {extra}"
        return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], **fields}

    def all_hooks(self):
        self.config["hooks"] = {kind: [self.hook(kind)] for kind in self.KINDS if kind != "startContainer"}
        # Its paths are the container's.
        os.mkdir(os.path.join(self.rootfs, "log"))
        self.config["hooks"]["startContainer"] = [{"path": "/bin/sh", "args": ["sh", "-c", "cat >/log/start.json; readlink /proc/self/ns/mnt >/log/start.ns; echo $MARK >/log/env"]}]
        self.config["process"]["env"].append("MARK=from-the-container")

    def read(self, name):
        with open(os.path.join(self.folder, name), encoding="utf-8") as file:
            return file.read()

    def test_all_six_kinds_run_in_order_with_the_right_state_and_namespaces(self):
        self.all_hooks()
        name = self.name()
        self.set_args("sleep 1000")
        self.write_config()
        self.create(name)
        self.assertEqual(self.read("hooks").split(), ["prestart", "createRuntime", "createContainer"])
        self.assertFalse(os.path.exists(os.path.join(self.rootfs, "log", "start.json")))
        self.runtime("start", name, check=0)
        pid = json.loads(self.runtime("state", name, check=0).stdout)["pid"]
        inside = os.readlink(f"/proc/{pid}/ns/mnt")
        self.end_container(name)
        self.assertEqual(self.read("hooks").split(), ["prestart", "createRuntime", "createContainer", "poststart", "poststop"])
        status = {"prestart": "creating", "createRuntime": "creating", "createContainer": "creating", "poststart": "running", "poststop": "stopped"}
        for kind, wanted in status.items():
            state = json.loads(self.read(f"{kind}.json"))
            self.assertEqual((state["status"], state["id"], state["bundle"]), (wanted, name, self.bundle), kind)
            self.assertEqual(self.read(f"{kind}.ns").strip() == inside, kind == "createContainer", kind)
        with open(os.path.join(self.rootfs, "log", "start.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["status"], "created")
        with open(os.path.join(self.rootfs, "log", "start.ns"), encoding="utf-8") as file:
            self.assertEqual(file.read().strip(), inside)
        with open(os.path.join(self.rootfs, "log", "env"), encoding="utf-8") as file:
            self.assertEqual(file.read().strip(), "from-the-container")

    def test_a_hook_that_fails_ends_the_container(self):
        for kind in ("prestart", "createRuntime", "createContainer"):
            with self.subTest(kind=kind):
                self.config["hooks"] = {kind: [self.hook(kind, "echo broken >&2; exit 3")]}
                self.refused(f"hooks.{kind}[0] /bin/sh", "exit code 3: broken")
        for kind in ("poststart", "startContainer"):
            with self.subTest(kind=kind):
                self.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]}
                run = self.run_inside("sleep 1000", check=None)
                self.assertNotEqual(run.returncode, 0)
                self.assertIn(f"hooks.{kind}[0]", run.stderr)
                self.assertEqual(self.containers_left(), [])
                name = self.name()
                self.write_config()
                self.create(name)
                self.assertIn(f"hooks.{kind}[0]", self.runtime("start", name).stderr)
                self.assertEqual(self.containers_left(), [])

    def test_a_poststop_hook_that_fails_is_only_warned_about(self):
        self.config["hooks"] = {"poststop": [self.hook("poststop", "exit 3"), self.hook("second")]}
        run = self.run_inside("true", check=None)
        self.assertEqual(run.returncode, 0)
        self.assertIn("warning: hooks.poststop[0]", run.stderr)
        self.assertEqual(self.containers_left(), [])

    def test_a_hook_that_takes_too_long_is_killed(self):
        self.config["hooks"] = {"createRuntime": [self.hook("createRuntime", "sleep 100", timeout=1)]}
        begun = time.monotonic()
        self.refused("hooks.createRuntime[0]")
        self.assertLess(time.monotonic() - begun, 30)

    def test_poststart_comes_after_the_program_began(self):
        os.mkdir(os.path.join(self.rootfs, "log"))
        self.config["hooks"] = {"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", f"pid=$(sed -n 's/.*\"pid\":\\([0-9]*\\).*/\\1/p'); tr '\\0' ' ' </proc/$pid/cmdline >{self.folder}/cmdline"]}]}
        name = self.name()
        self.set_args(["sleep", "1000"])
        self.write_config()
        self.create(name)
        self.runtime("start", name, check=0)
        self.assertEqual(self.read("cmdline").strip(), "sleep 1000")

    def test_what_hooks_print_goes_where_the_annotations_say(self):
        self.config["annotations"] = {"run.oci.hooks.stdout": f"{self.folder}/out", "run.oci.hooks.stderr": f"{self.folder}/err"}
        self.config["hooks"] = {"createRuntime": [self.hook("createRuntime", "echo one; echo two >&2")], "createContainer": [self.hook("createContainer", "echo three")]}
        self.run_inside("true")
        self.assertEqual((self.read("out"), self.read("err")), ("one\nthree\n", "two\n"))


class Network(BundleTest):
    def test_devices_move_in_with_their_addresses_and_come_up(self):
        tag = os.path.basename(self.folder)[-5:]
        first, second = f"cs{tag}a", f"cs{tag}b"
        subprocess.run(["ip", "link", "add", first, "type", "veth", "peer", "name", second], check=True)
        self.addCleanup(subprocess.run, ["ip", "link", "del", first], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "addr", "add", "198.51.100.7/24", "dev", second], check=True)
        subprocess.run(["ip", "-6", "addr", "add", "2001:db8::7/64", "dev", second, "nodad"], check=True)
        subprocess.run(["ip", "link", "set", first, "up"], check=True)
        self.config["linux"]["netDevices"] = {second: {"name": "eth7"}}
        self.config["linux"]["sysctl"] = {"net.ipv4.conf.eth7.forwarding": "1"}
        out = self.run_inside("ip addr show eth7; cat /proc/sys/net/ipv4/conf/eth7/forwarding")
        self.assertIn("inet 198.51.100.7/24", out)
        self.assertIn("inet6 2001:db8::7/64", out)
        self.assertRegex(out, r"[<,]UP[,>]")
        self.assertEqual(out.splitlines()[-1], "1")

    def test_devices_that_are_missing_or_whose_name_is_taken_are_refused_and_stay(self):
        tag = os.path.basename(self.folder)[-5:]
        first, second = f"cs{tag}a", f"cs{tag}b"
        subprocess.run(["ip", "link", "add", first, "type", "veth", "peer", "name", second], check=True)
        self.addCleanup(subprocess.run, ["ip", "link", "del", first], check=False, stderr=subprocess.DEVNULL)
        self.config["linux"]["netDevices"] = {first: {}, "nosuchdevice": {}}
        self.refused('linux.netDevices["nosuchdevice"]', "no such interface")
        self.config["linux"]["netDevices"] = {first: {"name": "lo"}}
        self.refused(f'linux.netDevices["{first}"].name', "already")
        self.assertTrue(os.path.exists(f"/sys/class/net/{first}"))
        self.config["linux"]["netDevices"] = {first: {"name": "net%d"}}
        self.assertIn("net0", self.run_inside("ip link"))


class Seccomp(BundleTest):
    NOTIF_RECV = 0xC0502100
    NOTIF_SEND = 0xC0182101

    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.folder, "agent")
        self.agent = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.agent.close)
        self.agent.bind(self.path)
        self.agent.listen()
        self.messages = []
        self.profile = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": self.path, "listenerMetadata": "for me",
                        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}
        self.config["linux"]["seccomp"] = self.profile

    def serve(self, processes=1):
        """Answers every notified call with EXDEV until the processes have ended."""

        def answer(listener):
            with contextlib.suppress(OSError), os.fdopen(listener, "r+b", buffering=0):
                while True:
                    request = bytearray(80)
                    fcntl.ioctl(listener, self.NOTIF_RECV, request)
                    fcntl.ioctl(listener, self.NOTIF_SEND, struct.pack("=QqiI", struct.unpack_from("=Q", request)[0], 0, -18, 0))

        def accept():
            for _ in range(processes):
                connection, _ = self.agent.accept()
                with connection:
                    text, fds, _, _ = socket.recv_fds(connection, 65536, 1)
                self.messages.append(json.loads(text))
                threading.Thread(target=answer, args=(fds[0],), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        return thread

    def test_the_listener_reaches_its_receiver_and_answers_calls(self):
        for privileges in (True, False):
            with self.subTest(no_new_privileges=privileges):
                self.config["process"]["noNewPrivileges"] = privileges
                self.serve()
                self.assertIn("Invalid cross-device link", self.run_inside("mkdir /x 2>&1; true"))
                message = self.messages.pop()
                self.assertEqual((message["fds"], message["metadata"], message["state"]["status"]), (["seccompFd"], "for me", "creating"))
                self.assertEqual(message["state"]["id"], f"c{self.count}")
                self.assertGreater(message["pid"], 1)

    def test_create_and_exec_hand_over_listeners_of_their_own(self):
        self.serve(2)
        name, pid = self.start()
        self.assertEqual(self.messages[0]["pid"], pid)
        run = self.runtime("exec", name, "mkdir", "/y", stdin=subprocess.DEVNULL)
        self.assertIn("Invalid cross-device link", run.stderr)
        self.assertEqual(self.messages[1]["state"]["status"], "running")
        self.assertNotEqual(self.messages[1]["pid"], self.messages[1]["state"]["pid"])

    def test_the_filter_is_on_before_create_returns(self):
        self.serve()
        name = self.name()
        self.set_args("mkdir /z 2>&1 | tee /out")
        self.write_config()
        self.create(name)
        self.assertEqual(len(self.messages), 1)
        self.runtime("start", name, check=0)

    def test_the_receiver_may_be_named_by_an_annotation(self):
        del self.profile["listenerPath"], self.profile["listenerMetadata"]
        self.config["annotations"] = {"run.oci.seccomp.receiver": self.path}
        self.serve()
        self.assertIn("Invalid cross-device link", self.run_inside("mkdir /x 2>&1; true"))

    def test_what_cannot_work_is_refused(self):
        self.profile["listenerPath"] = os.path.join(self.folder, "nobody")
        self.refused("linux.seccomp.listenerPath: nobody takes the listener")
        del self.profile["listenerPath"]
        self.refused("linux.seccomp.listenerMetadata")
        del self.profile["listenerMetadata"]
        self.refused("linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs")
        self.profile["listenerPath"] = self.path
        self.profile["syscalls"].append({"names": ["sendmsg"], "action": "SCMP_ACT_ERRNO"})
        self.refused("must allow sendmsg")

    def test_cruns_annotations_for_programs_and_unknown_calls(self):
        self.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]}
        self.run_inside("true")
        self.config["annotations"] = {"run.oci.seccomp_fail_unknown_syscall": "1"}
        self.refused("linux.seccomp.syscalls[0].names", "no_such_call")
        mkdir = {"x86_64": 83}.get(os.uname().machine)
        if mkdir is None:
            return
        program = struct.pack("<HBBI", 0x20, 0, 0, 0) + struct.pack("<HBBI", 0x15, 0, 1, mkdir) + struct.pack("<HBBI", 6, 0, 0, 0x00050000 | 18) + struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000)
        self.config["annotations"] = {"run.oci.seccomp_bpf_data": base64.b64encode(program).decode()}
        self.assertIn("Invalid cross-device link", self.run_inside("mkdir /x 2>&1; true"))
        self.config["annotations"] = {"run.oci.seccomp_bpf_data": "AAAA"}
        self.refused('annotations["run.oci.seccomp_bpf_data"]')


class BadValues(BundleTest):
    """One wrong value each: the error names it by its JSON path, and nothing is left."""

    CASES = [
        ("process.scheduler", {"policy": "SCHED_SPORADIC"}, "process.scheduler.policy"),
        ("process.scheduler", {"nice": 1}, "process.scheduler.policy: missing"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "nice": 20}, "process.scheduler.nice"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "priority": 1}, "process.scheduler.priority"),
        ("process.scheduler", {"policy": "SCHED_FIFO"}, "process.scheduler.priority"),
        ("process.scheduler", {"policy": "SCHED_BATCH", "runtime": 1}, "process.scheduler: runtime"),
        ("process.scheduler", {"policy": "SCHED_DEADLINE"}, "process.scheduler: SCHED_DEADLINE needs"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"]}, "process.scheduler.flags[0]"),
        ("process.scheduler", [], "process.scheduler"),
        ("process.ioPriority", {"class": "IOPRIO_CLASS_X"}, "process.ioPriority.class"),
        ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "process.ioPriority.priority"),
        ("process.execCPUAffinity", {"initial": "3-1"}, "process.execCPUAffinity.initial"),
        ("process.execCPUAffinity", {"final": "a"}, "process.execCPUAffinity.final"),
        ("linux.personality", {"domain": "SOLARIS"}, "linux.personality.domain"),
        ("linux.personality", {"domain": "LINUX", "flags": ["X"]}, "linux.personality.flags"),
        ("linux.memoryPolicy", {"mode": "MPOL_X"}, "linux.memoryPolicy.mode"),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND"}, "linux.memoryPolicy.nodes"),
        ("linux.memoryPolicy", {"mode": "MPOL_LOCAL", "nodes": "0"}, "linux.memoryPolicy.nodes"),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]}, "linux.memoryPolicy.flags[0]"),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}, "linux.memoryPolicy.flags"),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "900"}, "linux.memoryPolicy"),
        ("linux.timeOffsets", {"boottime": {"secs": 1}}, "linux.timeOffsets: needs a namespace"),
        ("linux.netDevices", {"a/b": {}}, 'linux.netDevices["a/b"]'),
        ("linux.netDevices", {"lo": {"name": "x" * 16}}, 'linux.netDevices["lo"].name'),
        ("linux.netDevices", {"lo": {"name": "x%s"}}, 'linux.netDevices["lo"].name'),
        ("linux.intelRdt", {"closID": "../x"}, "linux.intelRdt.closID"),
        ("linux.intelRdt", {"closID": ".."}, "linux.intelRdt.closID"),
        ("linux.intelRdt", {"schemata": [""]}, "linux.intelRdt.schemata[0]"),
        ("linux.intelRdt", {"closID": "x"}, "linux.intelRdt"),
        ("linux.resources", {"network": {"priorities": [{"name": "", "priority": 1}]}}, "linux.resources.network.priorities[0].name"),
        ("linux.resources", {"rdma": {"mlx": {}}}, 'linux.resources.rdma["mlx"]'),
        ("linux.resources", {"rdma": {"mlx": {"hcaHandles": -1}}}, "linux.resources.rdma.mlx.hcaHandles"),
        ("linux.resources", {"memory": {"swappiness": 201}}, "linux.resources.memory.swappiness"),
        ("linux.resources", {"memory": {"useHierarchy": False}}, "linux.resources.memory.useHierarchy"),
        ("linux.resources", {"memory": {"checkBeforeUpdate": 1}}, "linux.resources.memory.checkBeforeUpdate"),
        ("linux.devices", [{"path": "/dev/x", "major": 1, "minor": 1}], "linux.devices[0].type"),
        ("linux.devices", [{"path": "/dev/x", "type": "c", "major": 4096, "minor": 1}], "linux.devices[0].major"),
        ("linux.devices", [{"path": "x", "type": "c", "major": 1, "minor": 1}], "linux.devices[0].path"),
        ("linux.rootfsPropagation", "sideways", "linux.rootfsPropagation"),
        ("linux.mountLabel", "x:y:z", "linux.mountLabel"),
        ("linux.sysctl", {"kernel.hostname": "x"}, 'linux.sysctl["kernel.hostname"]'),
        ("linux.sysctl", {"vm.swappiness": "1"}, 'linux.sysctl["vm.swappiness"]'),
        ("linux.sysctl", {"user.max_user_namespaces": "1"}, 'linux.sysctl["user.max_user_namespaces"]'),
        ("process.apparmorProfile", "x", "process.apparmorProfile"),
        ("process.selinuxLabel", "x", "process.selinuxLabel"),
        ("process.oomScoreAdj", 1001, "process.oomScoreAdj"),
        ("process.user", {"uid": 0, "gid": 0, "umask": 512}, "process.user.umask"),
        ("hooks", {"poststart": [{"path": "relative"}]}, "hooks.poststart[0].path"),
        ("hooks", {"prestart": [{"path": "/x", "timeout": 0}]}, "hooks.prestart[0].timeout"),
        ("annotations", {"run.oci.delegate-cgroup": "../x"}, 'annotations["run.oci.delegate-cgroup"]'),
    ]

    def test_each_is_named_by_its_path_and_leaves_nothing(self):
        for path, value, words in self.CASES:
            with self.subTest(path=path, value=value):
                self.config = json.loads(json.dumps(bundle.BASE))
                target = self.config
                *parents, last = path.split(".")
                for name in parents:
                    target = target[name]
                target[last] = value
                self.refused(words)

    def test_what_is_unknown_is_ignored(self):
        self.config["future"] = {"x": 1}
        self.config["linux"]["future"] = [1]
        self.config["process"]["future"] = "x"
        self.assertEqual(self.run_inside("echo fine"), "fine\n")


if __name__ == "__main__":
    bundle.main()
