// The child's last part: streams, limits, rights, working directory, seccomp, and the program itself.
#include <cerrno>
#include <cstring>

#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "runtime/child.hpp"

namespace caisson::runtime::detail {

namespace raw = linux::raw;

namespace {

constexpr std::size_t path_limit = 4096;
// Static: the child may not allocate, and its stack should stay small.
char program_path[path_limit];
char passwd_text[65536];
char home_variable[path_limit];

void set_streams(const ChildSetup& setup) noexcept {
  if (setup.process->terminal) return;
  for (int i = 0; i < 3; ++i)
    if (setup.standard_fds[i] >= 0) {
      // dup3 refuses equal numbers, and such a descriptor would be closed by exec.
      if (setup.standard_fds[i] == i) child_check(setup, raw::set_close_on_exec(i, false), ChildStep::standard_streams);
      else child_check(setup, raw::dup3(setup.standard_fds[i], i, 0), ChildStep::standard_streams);
    }
}

void set_limits(const ChildSetup& setup) noexcept {
  const auto& limits = setup.process->rlimits;
  for (std::size_t i = 0; i < limits.size(); ++i) {
    struct ::rlimit value {};
    value.rlim_cur = limits[i].soft;
    value.rlim_max = limits[i].hard;
    child_check(setup, raw::prlimit(0, static_cast<int>(limits[i].resource), &value), ChildStep::rlimit,
                static_cast<std::uint32_t>(i));
  }
}

bool has_listener(const ProcessPlan& process) noexcept { return !process.policy.listener_path.empty(); }

void load_filter(const ChildSetup& setup) noexcept {
  const auto& filter = setup.process->seccomp;
  if (filter.empty()) return;
  const int listener = raw::seccomp_filter(filter.data(), static_cast<std::uint16_t>(filter.size()), setup.process->seccomp_flags);
  child_check(setup, listener, ChildStep::seccomp);
  if (!has_listener(*setup.process)) return;
  // The plan has made sure that the filter lets this call through. The kernel's descriptor closes with exec.
  ChildMessage message;
  message.kind = ChildMessageKind::listener;
  child_check(setup, raw::send_message(setup.sync_fd, &message, sizeof message, &listener, 1), ChildStep::seccomp_listener);
}

/// What stays with a process over exec.
void take_policy(const ChildSetup& setup) noexcept {
  const ProcessPolicy& policy = setup.process->policy;
  if (policy.personality) child_check(setup, raw::personality(*policy.personality), ChildStep::personality);
  if (policy.memory_policy)
    child_check(setup,
                raw::set_mempolicy(policy.memory_policy->mode, policy.memory_policy->nodes.data(), policy.memory_policy->nodes.size()),
                ChildStep::memory_policy);
}

/// 0 when we stand in the working directory now. Never through a magic link: /proc/self/fd/N could be a folder of the host
/// (CVE-2024-21626).
int try_working_directory(const ChildSetup& setup, bool create) noexcept {
  const char* cwd = setup.process->cwd.c_str();
  int folder = raw::openat2(AT_FDCWD, cwd, O_PATH | O_DIRECTORY, RESOLVE_NO_MAGICLINKS, 0);
  if (folder == -ENOENT && create) {
    const int root = raw::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
    folder = root < 0 ? root : child_open_target(root, cwd, true, 0);
  }
  if (folder < 0) return folder;
  return raw::fchdir(folder);
}

void check_inside(const ChildSetup& setup) noexcept {
  const long size = raw::getcwd(program_path, sizeof program_path);
  if (size < 0) child_fail(setup, ChildStep::working_directory, 0, static_cast<int>(-size));
  if (program_path[0] != '/') child_fail(setup, ChildStep::working_directory_outside, 0, EPERM);  // "(unreachable)/…"
}

/// Everything of the host goes before our rights do. Close-on-exec is not enough: of a process that fails and exits, the kernel
/// takes the memory first, and with it dumpable's protection (ptrace_may_access); its files stay for a moment, and after the
/// capabilities are gone its equals in the container may open them through /proc/PID/fd (CVE-2016-9962, CVE-2024-21626).
void close_host_descriptors(const ChildSetup& setup) noexcept {
  unsigned int first = 3 + setup.preserve_fds;
  for (;;) {
    unsigned int next = ~0U;  // the lowest one still needed
    for (int needed : {setup.sync_fd, setup.exec_fifo, setup.init_fd})
      if (needed >= 0 && static_cast<unsigned int>(needed) >= first && static_cast<unsigned int>(needed) < next) next = static_cast<unsigned int>(needed);
    if (next > first) child_check(setup, raw::close_range(first, next == ~0U ? next : next - 1, 0), ChildStep::close_descriptors);
    if (next == ~0U) return;
    first = next + 1;
  }
}

void take_ids(const ChildSetup& setup) noexcept {
  const ProcessPlan& process = *setup.process;
  const linux::CapabilitySet bounding(process.capabilities.bounding);
  child_check(setup, raw::limit_bounding(bounding, linux::max_known_capability), ChildStep::bounding_set);
  const bool is_root = process.uid == 0 && process.gid == 0 && process.groups.empty();
  if (!is_root || !setup.in_user_namespace) {  // in a user namespace we became 0:0 without groups at the start
    if (process.uid != 0) child_check(setup, raw::prctl(PR_SET_KEEPCAPS, 1), ChildStep::keep_capabilities);
    if (process.set_groups) {
      const int groups = raw::setgroups(process.groups.data(), process.groups.size());
      // A namespace that denies setgroups keeps the caller's groups; asking for others there is the user's error.
      if (groups < 0 && !(groups == -EPERM && setup.in_user_namespace && process.groups.empty()))
        child_fail(setup, ChildStep::groups, 0, -groups);
    }
    child_check(setup, raw::setresgid(process.gid, process.gid, process.gid), ChildStep::ids);
    child_check(setup, raw::setresuid(process.uid, process.uid, process.uid), ChildStep::ids);
  }
}

/// Inheritable and ambient stay empty unless asked for (CVE-2022-24769, CVE-2016-8867).
void take_capabilities(const ChildSetup& setup) noexcept {
  const PlanCapabilities& wanted = setup.process->capabilities;
  linux::CapabilityState state;
  state.effective = linux::CapabilitySet(wanted.effective);
  state.permitted = linux::CapabilitySet(wanted.permitted);
  state.inheritable = linux::CapabilitySet(wanted.inheritable);
  child_check(setup, raw::capset(state), ChildStep::capabilities);
  if (wanted.inheritable != 0) {
    child_check(setup, raw::clear_ambient(), ChildStep::ambient);
    child_check(setup, raw::raise_ambient(linux::CapabilitySet(wanted.ambient), linux::max_known_capability), ChildStep::ambient);
  }
}

// --- program -------------------------------------------------------------------------------------------------------

const char* variable(const ChildSetup& setup, const char* name) noexcept {
  const std::size_t size = std::strlen(name);
  for (const char* entry : setup.envp) {
    if (entry == nullptr) break;
    if (std::strncmp(entry, name, size) == 0 && entry[size] == '=') return entry + size + 1;
  }
  return nullptr;
}

/// What is wrong with a path that exec refused with `error`: a folder is named as such, and a file that is there but
/// "not found" lacks its interpreter (index 1).
[[noreturn]] void fail_exec(const ChildSetup& setup, const char* path, int error, ChildStep step) noexcept {
  struct ::stat status {};
  const bool there = raw::fstatat(AT_FDCWD, path, &status, 0) == 0;
  if (error == EACCES && there && S_ISDIR(status.st_mode)) child_fail(setup, step, 0, EISDIR);
  child_fail(setup, step, error == ENOENT && there ? 1 : 0, error);
}

/// 0 when `path` looks executable; else what exec would say.
int check_program(const char* path) noexcept {
  struct ::stat status {};
  const int found = raw::fstatat(AT_FDCWD, path, &status, 0);
  if (found < 0) return found;
  if (S_ISDIR(status.st_mode)) return -EISDIR;
  return S_ISREG(status.st_mode) && (status.st_mode & 0111) != 0 ? 0 : -EACCES;
}

/// Tries `attempt` on every place where the program may be, in the order of PATH; returns what the last one said, EACCES
/// before ENOENT (execvp(3)'s rule).
template <typename Attempt>
int search(const ChildSetup& setup, const char* name, Attempt&& attempt) noexcept {
  if (std::strchr(name, '/') != nullptr) return attempt(name);
  const char* list = variable(setup, "PATH");
  const std::size_t name_size = std::strlen(name);
  int answer = -ENOENT;
  while (list != nullptr && name_size > 0) {
    const char* end = std::strchr(list, ':');
    const std::size_t size = end == nullptr ? std::strlen(list) : static_cast<std::size_t>(end - list);
    // Relative entries would make the working directory part of the search.
    if (size > 0 && list[0] == '/' && size + 1 + name_size < sizeof program_path) {
      std::memcpy(program_path, list, size);
      program_path[size] = '/';
      std::memcpy(program_path + size + 1, name, name_size + 1);
      const int result = attempt(program_path);
      if (result == 0) return 0;
      if (result == -EACCES || result == -EISDIR) answer = -EACCES;
      else if (result != -ENOENT && result != -ENOTDIR) return result;
    }
    list = end == nullptr ? nullptr : end + 1;
  }
  return answer;
}

/// HOME of the container's own user database, in the one language both sides speak: no NSS, which would load the container's
/// libraries (CVE-2019-14271).
void find_home(ChildSetup& setup) noexcept {
  const char* home = "/";
  std::size_t home_size = 1;
  const int file = raw::openat2(AT_FDCWD, "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, 0);
  const long size = file < 0 ? 0 : raw::read_exact(file, passwd_text, sizeof passwd_text - 1);
  if (size > 0) {
    passwd_text[size] = '\0';
    for (char* line = passwd_text; line != nullptr && *line != '\0';) {
      char* end = std::strchr(line, '\n');
      if (end != nullptr) *end = '\0';
      // name:password:uid:gid:comment:home:shell
      char* field[7] = {};
      int fields = 0;
      for (char* p = line; p != nullptr && fields < 7; ++fields) {
        field[fields] = p;
        p = std::strchr(p, ':');
        if (p != nullptr) *p++ = '\0';
      }
      std::uint64_t uid = 0;
      bool valid = fields >= 6 && field[2][0] != '\0';
      for (const char* p = valid ? field[2] : ""; *p != '\0' && valid; ++p) {
        valid = *p >= '0' && *p <= '9' && uid < 0xffffffffU;
        uid = uid * 10 + static_cast<std::uint64_t>(*p - '0');
      }
      if (valid && uid == setup.process->uid) {
        if (field[5][0] == '/') {
          home = field[5];
          home_size = std::strlen(home);
        }
        break;
      }
      line = end == nullptr ? nullptr : end + 1;
    }
  }
  if (home_size + 6 > sizeof home_variable) return;
  std::memcpy(home_variable, "HOME=", 5);
  std::memcpy(home_variable + 5, home, home_size);
  home_variable[5 + home_size] = '\0';
  setup.envp[setup.home_slot] = home_variable;
}

void wait_for_start(const ChildSetup& setup) noexcept {
  ChildMessage message;
  message.kind = ChildMessageKind::ready;
  child_check(setup, raw::send_message(setup.sync_fd, &message, sizeof message, nullptr, 0), ChildStep::wait_for_start);
  // From here on we live without our parent: create ends, and start comes from another process.
  (void)raw::close(setup.sync_fd);
  char byte = 0;
  if (raw::read(setup.exec_fifo, &byte, 1) != 1) raw::exit(1);
}

}  // namespace

int child_open_console(const ChildSetup& setup, int devpts_fd) noexcept {
  // Whatever lies at /dev/pts, only a devpts hands out terminals (CVE-2025-52565).
  if (raw::fstatfs_type(devpts_fd) != linux::abi::devpts_super_magic) child_fail(setup, ChildStep::console, 0, ENOTTY);
  const int master = raw::openat(devpts_fd, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW, 0);
  child_check(setup, master, ChildStep::console);
  const int unlocked = 0;
  child_check(setup, raw::ioctl(master, TIOCSPTLCK, reinterpret_cast<unsigned long>(&unlocked)), ChildStep::console);
  const int slave = raw::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  child_check(setup, slave, ChildStep::console);
  if (setup.process->uid != 0) child_check(setup, raw::fchown(slave, setup.process->uid, static_cast<gid_t>(-1)), ChildStep::console);
  if (setup.process->rows != 0 || setup.process->columns != 0) {
    struct ::winsize size {};
    size.ws_row = setup.process->rows;
    size.ws_col = setup.process->columns;
    child_check(setup, raw::ioctl(master, TIOCSWINSZ, reinterpret_cast<unsigned long>(&size)), ChildStep::console);
  }
  ChildMessage message;
  message.kind = ChildMessageKind::console;
  child_check(setup, raw::send_message(setup.sync_fd, &message, sizeof message, &master, 1), ChildStep::console_send);
  (void)raw::close(master);
  // Our session leader (setsid) takes it as its own: a terminal of the caller could be typed into with TIOCSTI.
  child_check(setup, raw::ioctl(slave, TIOCSCTTY, 0), ChildStep::console);
  for (int i = 0; i < 3; ++i) child_check(setup, raw::dup3(slave, i, 0), ChildStep::console);
  return slave;
}

void child_become_program(ChildSetup& setup) noexcept {
  const ProcessPlan& process = *setup.process;
  const bool is_exec = setup.launch == nullptr;
  set_streams(setup);
  set_limits(setup);
  if (process.no_new_privileges) child_check(setup, raw::prctl(PR_SET_NO_NEW_PRIVS, 1), ChildStep::no_new_privileges);
  take_policy(setup);
  // Tried with root's rights and, for a home that root may not enter (root_squash), again as the user.
  const bool has_cwd = process.cwd != "/";
  int entered = has_cwd ? try_working_directory(setup, !is_exec) : 0;
  if (process.find_home) find_home(setup);
  close_host_descriptors(setup);
  // seccomp(2): without no_new_privs the filter needs CAP_SYS_ADMIN, so it must come before the capabilities go.
  if (!process.no_new_privileges) load_filter(setup);
  take_ids(setup);
  if (entered < 0) entered = try_working_directory(setup, false);
  child_check(setup, entered, ChildStep::working_directory);
  if (has_cwd) check_inside(setup);
  take_capabilities(setup);
  (void)raw::umask(process.umask);
  child_check(setup, raw::close_range(3 + setup.preserve_fds, ~0U, CLOSE_RANGE_CLOEXEC), ChildStep::close_descriptors);
  child_check(setup, raw::prctl(PR_SET_PDEATHSIG, 0), ChildStep::parent_death_signal);
  // Nothing of the host is open any more but the fifo; and a filter that comes before the wait may forbid this call.
  if (setup.open_to_user && setup.exec_fifo >= 0) child_check(setup, raw::prctl(PR_SET_DUMPABLE, 1), ChildStep::wait_for_start);

  const bool with_init = setup.init_fd >= 0;
  const char* program = setup.argv[with_init ? 2 : 0];
  if (process.check_program_early || with_init) {
    const int found = search(setup, program, check_program);
    if (found < 0) fail_exec(setup, program, -found, ChildStep::program_lookup);
  }
  // A listener must reach its receiver while create still runs; without one the filter comes as late as it can.
  const bool filter_late = process.no_new_privileges && !has_listener(process);
  if (process.no_new_privileges && !filter_late) load_filter(setup);
  if (setup.exec_fifo >= 0) wait_for_start(setup);
  // The kernel drops what a pid 1 has no handler for, unless it is blocked (pid_namespaces(7)): a SIGTERM that comes before the
  // init has begun would be lost.
  if (with_init) child_check(setup, raw::block_signals(), ChildStep::exec_init);
  if (filter_late) load_filter(setup);
  if (with_init) {
    const int result = raw::execveat(setup.init_fd, "", setup.argv.data(), setup.envp.data(), AT_EMPTY_PATH);
    child_fail(setup, ChildStep::exec_init, 0, -result);
  }
  const int result = search(setup, program, [&](const char* path) { return raw::execve(path, setup.argv.data(), setup.envp.data()); });
  fail_exec(setup, program, -result, ChildStep::exec);
}

}  // namespace caisson::runtime::detail
