#!/usr/bin/env python3
"""architecture/raw_syscalls: system calls are made in src/linux only; everybody else calls its wrappers."""

import re
import unittest

import source

# <sys/types.h> is vocabulary (pid_t, uid_t), not system calls.
FORBIDDEN_HEADERS = re.compile(
    r"^(unistd\.h|fcntl\.h|poll\.h|sched\.h|signal\.h|csignal|spawn\.h|dirent\.h|ifaddrs\.h|pty\.h|termios\.h|mntent\.h|"
    r"pwd\.h|grp\.h|netdb\.h|net/if\.h|seccomp\.h|sys/(?!types\.h$).*\.h|linux/.*\.h|asm/.*\.h)$"
)

# Names that mean a system call wherever they stand, unless a scope or an object is named in front of them.
CALLS = (
    "syscall fork vfork clone clone3 execve execv execvp execveat fexecve posix_spawn waitpid waitid wait4 ptrace prctl seccomp bpf "
    "setns unshare pivot_root umount2 open_tree move_mount fsopen fsconfig fsmount mount_setattr openat openat2 mkdirat mknodat unlinkat "
    "renameat renameat2 linkat symlinkat readlinkat fstatat fchownat fchmodat utimensat ioctl fcntl mmap munmap mprotect memfd_create "
    "eventfd signalfd timerfd_create epoll_create1 epoll_ctl epoll_wait socketpair sendmsg recvmsg setsockopt getsockopt pidfd_open "
    "pidfd_send_signal sigaction sigprocmask pthread_sigmask setrlimit getrlimit prlimit setresuid setresgid setgroups capset chroot "
    "popen system daemon"
).split()
# Names too common to forbid bare; written as ::name( they can only be the C library's.
GLOBAL_ONLY = (
    "open close read write pread pwrite readv writev lseek dup dup2 dup3 pipe pipe2 stat lstat fstat access unlink rmdir mkdir rename link "
    "symlink readlink chmod chown fchmod fchown truncate ftruncate fsync fdatasync flock kill mount umount poll ppoll select socket bind "
    "listen accept accept4 connect send recv sendto recvfrom shutdown getpid getppid getuid geteuid getgid getegid gettid isatty chdir "
    "fchdir sethostname getpwnam getpwuid getgrnam getaddrinfo signal raise nanosleep usleep sleep"
).split()
BARE = re.compile(r"(?<![\w.>:~])(?:std::|::)?(" + "|".join(CALLS) + r")\s*\(")
QUALIFIED = re.compile(r"(?<![\w>])(?:std)?::(" + "|".join(GLOBAL_ONLY) + r")\s*\(")

# file (or module/) → reason. Keep it short: the way out is a wrapper in src/linux.
ALLOWED = {
    "linux/": "this is where system calls live",
    "base/unique_fd.cpp": "closes what it owns; base may not include linux",
    "base/log.cpp": "the sink writes to a descriptor; base may not include linux",
}
# Names that mean something else in C++ although they look like calls.
NOT_A_CALL = re.compile(r"\b(Status|Result<[^;{}()]*>|void|bool|int|auto|virtual|explicit)\s+(?:\w+::)*$")


# Tests stand outside the house: they ask the kernel themselves what it was told to do.
TEST_FILE = re.compile(r"(_test\.cpp|/test_support\.(hpp|cpp))$")


def is_allowed(path):
    return bool(TEST_FILE.search(path)) or any(path == a or (a.endswith("/") and path.startswith(a)) for a in ALLOWED)


def check(tree):
    violations = []
    for path, text in sorted(tree.files.items()):
        if is_allowed(path):
            continue
        for line, kind, name in source.includes(text):
            if kind == "<" and FORBIDDEN_HEADERS.match(name):
                violations.append((f"{path}:{line}", f"<{name}> outside src/linux"))
        code = source.blank_comments_and_strings(text)
        for number, line in enumerate(code.split("\n"), 1):
            for match in list(BARE.finditer(line)) + list(QUALIFIED.finditer(line)):
                if NOT_A_CALL.search(line[: match.start()]):
                    continue  # a declaration of ours that bears the call's name
                violations.append((f"{path}:{number}", f"{match.group(0).strip()} … outside src/linux"))
    for path in ALLOWED:
        if tree.src and not any(p == path or p.startswith(path) for p in tree.files):
            violations.append((path, "is allowed to make system calls but does not exist: remove it from the list"))
    return violations


class Bites(unittest.TestCase):
    def expect(self, text, words, path="engine/a.cpp"):
        found = check(source.planted({path: text}))
        self.assertTrue(any(words in said for _, said in found), f"no '{words}' in {found}")

    def clean(self, text, path="engine/a.cpp"):
        self.assertEqual(check(source.planted({path: text})), [])

    def test_forbidden_headers_are_found(self):
        for header in ("unistd.h", "fcntl.h", "sys/mount.h", "linux/sched.h", "poll.h", "csignal"):
            self.expect(f"#include <{header}>\n", f"<{header}>")

    def test_calls_are_found(self):
        self.expect("auto x = syscall(462, 1);\n", "syscall(")
        self.expect("int fd = ::open(path, 0);\n", "::open(")
        self.expect("  if (fork() == 0) {}\n", "fork(")
        self.expect("  return std::system(command);\n", "system(")

    def test_the_rest_of_base_is_not_exempt(self):
        self.expect("#include <unistd.h>\n", "<unistd.h>", "base/strings.cpp")

    def test_wrappers_methods_words_and_linux_itself_are_allowed(self):
        self.clean('#include <sys/types.h>\n#include "linux/mount.hpp"\n')
        self.clean("TRY(linux::openat2(fd), \"open\"); child.fork(); store->close(); // fork() here\n")
        self.clean('log("syscall(462)"); /* ::open("x") */\n')
        self.clean("  virtual Status kill(const std::string& id);\n  Status clone(int x);\n")
        self.clean("#include <sched.h>\nint x = syscall(1);\n", "linux/process.cpp")
        self.clean("#include <sched.h>\nint x = ::setns(1, 0);\n", "network/manager_test.cpp")


if __name__ == "__main__":
    source.main(check, "Call a wrapper of src/linux, or add one there.", Bites)
