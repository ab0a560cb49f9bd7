// Id maps of user namespaces, and mounts seen through them.
#include "linux/idmap.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <vector>

#include "linux/capabilities.hpp"
#include "linux/child.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/spawn.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

namespace {

constexpr std::size_t max_lines = 340;  // user_namespaces(7), since 4.15

/// Whether [a, a+count) and [b, b+other) share a number; 64-bit, so that ranges up to 2^32 compare right.
bool overlap(std::uint64_t a, std::uint64_t count, std::uint64_t b, std::uint64_t other) {
  return a < b + other && b < a + count;
}

Status check_mappings(const std::vector<IdMapping>& mappings) {
  if (mappings.empty()) return Error(ErrorKind::invalid, "id map: no line");
  if (mappings.size() > max_lines)
    return Error(ErrorKind::invalid, concat("id map: ", mappings.size(), " lines are more than the kernel's ", max_lines));
  constexpr std::uint64_t ids = std::uint64_t{std::numeric_limits<std::uint32_t>::max()};  // the last number is "no id"
  for (const IdMapping& m : mappings) {
    const std::string line = concat(m.inside, ' ', m.outside, ' ', m.count);
    if (m.count == 0) return Error(ErrorKind::invalid, concat("id map: \"", line, "\" maps no id"));
    if (std::uint64_t{m.inside} + m.count > ids || std::uint64_t{m.outside} + m.count > ids)
      return Error(ErrorKind::invalid, concat("id map: \"", line, "\" goes beyond the last id"));
  }
  for (std::size_t i = 0; i < mappings.size(); ++i)
    for (std::size_t j = i + 1; j < mappings.size(); ++j) {
      const IdMapping& a = mappings[i];
      const IdMapping& b = mappings[j];
      if (overlap(a.inside, a.count, b.inside, b.count) || overlap(a.outside, a.count, b.outside, b.count))
        return Error(ErrorKind::invalid, concat("id map: \"", a.inside, ' ', a.outside, ' ', a.count, "\" and \"", b.inside,
                                                ' ', b.outside, ' ', b.count, "\" overlap"));
    }
  return {};
}

bool may_map_freely() {
  const auto state = capget();
  return state && state->effective.contains(CAP_SETUID) && state->effective.contains(CAP_SETGID);
}

bool maps_only(const std::vector<IdMapping>& mappings, std::uint32_t own) {
  return mappings.size() == 1 && mappings[0].count == 1 && mappings[0].outside == own;
}

Status run_map_helper(const std::string& program, int pid, const std::vector<IdMapping>& mappings, std::string_view file) {
  std::vector<std::string> argv{program, concat(pid)};
  for (const IdMapping& m : mappings) {
    argv.push_back(concat(m.inside));
    argv.push_back(concat(m.outside));
    argv.push_back(concat(m.count));
  }
  RunOptions options;
  options.timeout_ms = 10'000;
  auto ran = run_program(argv, options);
  if (!ran) {
    if (ran.error().kind() == ErrorKind::not_found)
      return std::move(ran).error().with_hint("install the package uidmap");
    return std::move(ran).error();
  }
  if (ran->status.exit_code() == 0) return {};
  return Error(ErrorKind::denied, concat(program, ": ", trim(ran->standard_error)), EPERM)
      .with_hint(concat("give this user a range of ids in ", file));
}

/// Refused as a whole where a line spans two of ours, which on most hosts, with one line, cannot be: so it is looked at only then.
Status write_map(const std::string& folder, std::string_view name, const std::vector<IdMapping>& mappings, const std::string& text) {
  const std::string path = concat(folder, "/", name);
  auto written = write_kernel_file(path, text);
  if (written || written.error().error_number() != EPERM) return written;
  const auto own = parse_id_map(TRY_PLAIN(read_kernel_file(concat("/proc/self/", name))));
  if (!own) return written;
  const auto split = split_at_lines_of(*own, mappings);
  if (split == mappings) return written;
  return write_kernel_file(path, TRY_PLAIN(id_map_text(split)));
}

}  // namespace

Result<std::string> id_map_text(const std::vector<IdMapping>& mappings) {
  TRY_PLAIN(check_mappings(mappings));
  std::string out;
  for (const IdMapping& m : mappings) out += concat(m.inside, ' ', m.outside, ' ', m.count, '\n');
  return out;
}

Result<std::vector<IdMapping>> parse_id_map(std::string_view text) {
  std::vector<IdMapping> out;
  for (std::string_view line : split(text, '\n')) {
    std::vector<std::uint32_t> numbers;
    for (std::string_view field : split(line, ' ')) {
      if (field.empty()) continue;  // the kernel pads with blanks
      const auto number = parse_integer<std::uint32_t>(field);
      if (!number) return Error(ErrorKind::corrupt, concat("id map: \"", line, "\" is not three numbers"));
      numbers.push_back(*number);
    }
    if (numbers.empty()) continue;
    if (numbers.size() != 3) return Error(ErrorKind::corrupt, concat("id map: \"", line, "\" is not three numbers"));
    out.push_back({numbers[0], numbers[1], numbers[2]});
  }
  return out;
}

std::optional<std::uint32_t> map_to_outside(const std::vector<IdMapping>& mappings, std::uint32_t inside) {
  for (const IdMapping& m : mappings)
    if (inside >= m.inside && inside - m.inside < m.count) return m.outside + (inside - m.inside);
  return std::nullopt;
}
std::optional<std::uint32_t> map_to_inside(const std::vector<IdMapping>& mappings, std::uint32_t outside) {
  for (const IdMapping& m : mappings)
    if (outside >= m.outside && outside - m.outside < m.count) return m.inside + (outside - m.outside);
  return std::nullopt;
}

std::uint32_t ids_from_zero(std::vector<IdMapping> mappings) {
  std::sort(mappings.begin(), mappings.end(), [](const IdMapping& a, const IdMapping& b) { return a.inside < b.inside; });
  std::uint32_t next = 0;
  for (const IdMapping& m : mappings) {
    if (m.inside != next) break;
    next += m.count;
  }
  return next;
}

bool is_identity(const IdMap& map) {
  auto keeps = [](const IdMapping& m) { return m.inside == m.outside; };
  return !map.empty() && std::all_of(map.uids.begin(), map.uids.end(), keeps) && std::all_of(map.gids.begin(), map.gids.end(), keeps);
}

std::vector<IdMapping> split_at_lines_of(const std::vector<IdMapping>& own, const std::vector<IdMapping>& mappings) {
  std::vector<IdMapping> out;
  for (IdMapping rest : mappings) {
    while (rest.count != 0) {
      const auto line = std::find_if(own.begin(), own.end(), [&](const IdMapping& m) { return rest.outside >= m.inside && rest.outside - m.inside < m.count; });
      const std::uint32_t count = line == own.end() ? rest.count : std::min(rest.count, line->count - (rest.outside - line->inside));
      out.push_back({rest.inside, rest.outside, count});
      rest = {rest.inside + count, rest.outside + count, rest.count - count};
    }
  }
  return out;
}

bool in_initial_user_namespace() {
  constexpr std::uint64_t initial_inode = 0xEFFFFFFDU;  // PROC_USER_INIT_INO, include/linux/proc_ns.h; the same since 3.8
  auto found = fstatat(AT_FDCWD, "/proc/self/ns/user", 0);
  return found.ok() && found->st_ino == initial_inode;
}

Status write_id_maps(int pid, const IdMap& map) {
  const std::string uid_text = TRY(id_map_text(map.uids), "user ids");
  const std::string gid_text = TRY(id_map_text(map.gids), "group ids");
  const std::string folder = concat("/proc/", pid);
  if (may_map_freely()) {
    TRY(write_map(folder, "uid_map", map.uids, uid_text), "map user ids");
    TRY(write_map(folder, "gid_map", map.gids, gid_text), "map group ids");
    return {};
  }
  if (maps_only(map.uids, geteuid())) TRY(write_kernel_file(folder + "/uid_map", uid_text), "map user ids");
  else TRY(run_map_helper("newuidmap", pid, map.uids, "/etc/subuid"), "map user ids");
  if (maps_only(map.gids, getegid())) {
    TRY(write_kernel_file(folder + "/setgroups", "deny"), "map group ids");
    TRY(write_kernel_file(folder + "/gid_map", gid_text), "map group ids");
  } else {
    TRY(run_map_helper("newgidmap", pid, map.gids, "/etc/subgid"), "map group ids");
  }
  return {};
}

namespace {

/// Waits, in the new user namespace, until the other end of the pipe is closed. Shares our memory (CLONE_VM), so it
/// makes nothing but system calls.
int hold_namespace(void* argument) {
  const int* ends = static_cast<const int*>(argument);
  raw::close(ends[1]);
  char byte = 0;
  raw::read(ends[0], &byte, 1);
  raw::exit(0);
}

}  // namespace

Result<UniqueFd> create_user_namespace(const IdMap& map) {
  constexpr std::size_t stack_bytes = 65536;
  std::vector<char> stack(stack_bytes);
  Pipe pipe = TRY(pipe2(), "create user namespace");
  int ends[2] = {pipe.read_end.get(), pipe.write_end.get()};
  int pidfd = -1;
  // Our handlers must not run in the helper, on memory that is ours.
  const auto blocked = TRY_PLAIN(BlockedSignals::create(SignalSet::all()));
  const int pid = TRY(detail::value<int>("clone",
                                         [&] {
                                           // No copy of our memory's page tables: CLONE_VM. Not CLONE_VFORK: it must live
                                           // while we write its maps.
                                           return detail::clone_sharing_memory(hold_namespace, stack.data() + stack_bytes - 64, CLONE_NEWUSER | CLONE_PIDFD | SIGCHLD, ends, &pidfd);
                                         }),
                      "create user namespace");
  const UniqueFd helper(pidfd);
  auto name = [&]() -> Result<UniqueFd> {
    TRY(write_id_maps(pid, map), "create user namespace");
    return TRY(open_namespace(pid, "user"), "create user namespace");
  }();
  pipe.write_end.reset();       // it ends by this, too
  kill_and_reap(helper.get());  // before `stack` goes
  return name;
}

Status idmap_mount(int tree_fd, int userns_fd, bool recursive) {
  constexpr unsigned int at_recursive = 0x8000;
  MountAttributes attributes;
  attributes.set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = userns_fd;
  auto done = mount_setattr(tree_fd, "", AT_EMPTY_PATH | (recursive ? at_recursive : 0U), attributes);
  if (done) return done;
  if (done.error().error_number() == EINVAL)
    return std::move(done).error().in("idmap mount").with_kind(ErrorKind::unsupported)
        .with_hint("this kernel cannot idmap this file system, or the mount is attached or idmapped already");
  return std::move(done).error().in("idmap mount");
}

}  // namespace caisson::linux
