// Reading and writing cgroup files.
#include "linux/cgroup_files.hpp"

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::linux::detail {

Error missing_controller(std::string_view controller) {
  return {ErrorKind::unsupported, concat(controller, " controller is not available"), EOPNOTSUPP};
}
Error missing_file(std::string_view controller, std::string_view file) {
  return {ErrorKind::unsupported, concat("this kernel's ", controller, " controller does not offer ", file), EOPNOTSUPP};
}

Status write_cgroup_file(int dir_fd, std::string_view controller, const std::string& file, std::string_view value) {
  auto opened = openat(dir_fd, file, O_WRONLY | O_NOFOLLOW);
  Status written;
  if (opened) {
    const auto taken = write(opened->get(), value);
    if (taken) return {};
    written = taken.error();
  } else {
    written = std::move(opened).error();
  }
  const int reason = written.error().error_number();
  if (reason == ENOENT) return missing_file(controller, file);
  Error error = Error::from_errno(reason, concat("cgroup ", controller, ": write \"", trim(value), "\" to ", file));
  if (reason == EACCES || reason == EPERM || reason == EROFS)
    return std::move(error).with_kind(ErrorKind::denied).with_hint("this user may not set that limit on this host");
  return error;
}

std::optional<std::string> read_cgroup_file(const std::string& directory, std::string_view file) {
  auto text = read_file(concat(directory, '/', file));
  if (!text) return std::nullopt;
  return std::move(text).value();
}

std::optional<std::string> read_cgroup_line(const std::string& directory, std::string_view file) {
  const auto text = read_kernel_file(concat(directory, '/', file));  // a cpu list of a machine with thousands of cpus fits
  if (!text) return std::nullopt;
  return std::string(trim(*text));
}

namespace {
std::uint64_t number_of(std::string_view text) {
  text = trim(text);
  if (text == "max") return UINT64_MAX;
  return parse_integer<std::uint64_t>(text).value_or(0);
}
}  // namespace

std::uint64_t read_cgroup_number(const std::string& directory, std::string_view file) {
  const auto text = read_cgroup_file(directory, file);
  return text ? number_of(*text) : 0;
}

std::map<std::string, std::uint64_t> read_cgroup_pairs(const std::string& directory, std::string_view file) {
  std::map<std::string, std::uint64_t> out;
  const auto text = read_cgroup_file(directory, file);
  if (!text) return out;
  for (std::string_view line : split(*text, '\n')) {
    const Halves pair = split_once(line, ' ');
    if (pair.found) out[std::string(pair.before)] = number_of(pair.after);
  }
  return out;
}

Result<std::vector<std::string>> child_cgroups(const std::string& directory) {
  std::vector<std::string> out;
  auto entries = list_dir(directory);
  if (!entries) {
    if (entries.error().error_number() == ENOENT) return out;  // removed meanwhile: nothing below it either
    return std::move(entries).error();
  }
  for (const DirectoryEntry& entry : *entries)
    if (entry.type == FileType::directory) out.push_back(concat(directory, '/', entry.name));
  return out;
}

Result<std::vector<int>> read_cgroup_pids(const std::string& directory, bool recursive) {
  std::vector<int> out;
  constexpr std::size_t limit_bytes = 64U << 20U;
  auto text = read_file(directory + "/cgroup.procs", limit_bytes);
  if (!text) {
    const int reason = text.error().error_number();
    if (reason == ENOENT || reason == ENODEV) return out;
    // A threaded cgroup has no list of processes of its own (cgroups(7)).
    if (reason != EOPNOTSUPP) return std::move(text).error();
    text = std::string();
  }
  for (std::string_view line : split(*text, '\n'))
    if (const auto pid = parse_integer<int>(line); pid && *pid > 0) out.push_back(*pid);
  if (!recursive) return out;
  const auto children = TRY_PLAIN(child_cgroups(directory));
  for (const std::string& child : children) {
    const auto below = TRY_PLAIN(read_cgroup_pids(child, true));
    out.insert(out.end(), below.begin(), below.end());
  }
  return out;
}

}  // namespace caisson::linux::detail
