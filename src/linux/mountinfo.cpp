// The reader of /proc/PID/mountinfo (proc(5)).
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"

namespace caisson::linux {

namespace {

/// Undoes \040 (space), \011, \012 and \134.
std::string unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      const auto code = parse_integer<unsigned>(text.substr(i + 1, 3), 8);
      if (code && *code < 256) {
        out += static_cast<char>(*code);
        i += 3;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

Error bad_line(std::string_view line) {
  return {ErrorKind::corrupt, concat("mountinfo: \"", line, "\" is not as proc(5) says")};
}

Result<MountInfo> parse_line(std::string_view line) {
  const auto fields = split(line, ' ');
  if (fields.size() < 10) return bad_line(line);
  MountInfo out;
  const auto id = parse_integer<int>(fields[0]);
  const auto parent = parse_integer<int>(fields[1]);
  const Halves device = split_once(fields[2], ':');
  const auto major = parse_integer<std::uint32_t>(device.before);
  const auto minor = parse_integer<std::uint32_t>(device.after);
  if (!id || !parent || !major || !minor) return bad_line(line);
  out.id = *id;
  out.parent_id = *parent;
  out.major = *major;
  out.minor = *minor;
  out.root = unescape(fields[3]);
  out.mount_point = unescape(fields[4]);
  out.options = std::string(fields[5]);
  std::size_t at = 6;
  while (at < fields.size() && fields[at] != "-") out.optional_fields.emplace_back(fields[at++]);
  if (at + 2 >= fields.size()) return bad_line(line);
  out.type = unescape(fields[at + 1]);
  out.source = unescape(fields[at + 2]);
  if (at + 3 < fields.size()) out.super_options = std::string(fields[at + 3]);
  return out;
}

}  // namespace

Result<std::vector<MountInfo>> parse_mountinfo(std::string_view text) {
  std::vector<MountInfo> out;
  for (std::string_view line : split(text, '\n')) {
    if (line.empty()) continue;
    out.push_back(TRY_PLAIN(parse_line(line)));
  }
  return out;
}

Result<std::vector<MountInfo>> read_mountinfo(int pid) {
  const std::string path = pid == 0 ? "/proc/thread-self/mountinfo" : concat("/proc/", pid, "/mountinfo");
  constexpr std::size_t limit_bytes = 256U << 20U;  // a host with 10 000 overlay mounts of long paths
  const std::string text = TRY_PLAIN(read_file(path, limit_bytes));
  return parse_mountinfo(text);
}

}  // namespace caisson::linux
