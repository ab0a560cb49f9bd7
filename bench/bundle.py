"""OCI bundles for the runtime benchmarks: one root file system with a static /bin/true and /bin/pause, one config for all."""
import copy
import json
import os
import shutil
import subprocess

DEFAULT_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]  # what `runc spec` writes


def spec(args):
    """The configuration that `runc spec` writes, without a terminal."""
    nosuid = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False, "user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin", "TERM=xterm"], "cwd": "/",
            "capabilities": {kind: DEFAULT_CAPABILITIES for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}], "noNewPrivileges": True},
        "root": {"path": "rootfs", "readonly": True}, "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": nosuid + ["mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": nosuid},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": nosuid + ["ro"]}],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                            "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]}}


def make(folder, programs, args=("/bin/true",), seccomp=None, cgroup=None):
    """Writes a bundle below `folder`; `programs` maps names in /bin to host files."""
    root = os.path.join(folder, "rootfs")
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    for name, source in programs.items():
        shutil.copy(source, os.path.join(root, "bin", name))
    config = copy.deepcopy(spec(list(args)))
    if seccomp:
        config["linux"]["seccomp"] = seccomp
    if cgroup:
        config["linux"]["cgroupsPath"] = cgroup
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump(config, out)
    return folder


def oci_seccomp(path):
    """podman's profile (names with capability conditions) as plain OCI rules, for a container with default capabilities."""
    with open(path, encoding="utf-8") as source:
        profile = json.load(source)
    rules = []
    for rule in profile["syscalls"]:
        includes = rule.get("includes", {})
        if includes.get("caps") or (includes.get("arches") and "amd64" not in includes["arches"]):
            continue
        kept = {"names": rule["names"], "action": rule["action"]}
        if rule.get("args"):
            kept["args"] = rule["args"]
        if rule["action"] == "SCMP_ACT_ERRNO" and rule.get("errnoRet") is not None:
            kept["errnoRet"] = rule["errnoRet"]
        rules.append(kept)
    result = {"defaultAction": profile["defaultAction"], "syscalls": rules,
              "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}
    if profile.get("defaultErrnoRet") is not None:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return result


def peak_memory_mib(floor, argv):
    """Largest resident size of any process of the command; measured from a small parent, because fork inherits its parent's peak."""
    result = subprocess.run([floor, "peak", *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    words = result.stderr.split()
    return int(words[-1]) / 1024 if words and words[-1].isdigit() else None


def count_system_calls(argv):
    """System calls of a whole command with its children, by strace; None when strace is missing."""
    if shutil.which("strace") is None:
        return None
    result = subprocess.run(["strace", "-f", "-c", "-o", "/dev/stdout", *argv], capture_output=True, text=True, check=False)
    for line in result.stdout.splitlines():
        words = line.split()
        if words and words[-1] == "total":
            return int(words[3]) if len(words) >= 5 and words[3].isdigit() else int(words[2])
    return None
