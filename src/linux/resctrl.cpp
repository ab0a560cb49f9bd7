// Groups of the resctrl file system.
#include "linux/resctrl.hpp"

#include <cerrno>
#include <map>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"

namespace caisson::linux {

namespace {

/// One line of schemata: the resource and its value in each domain, in lower case without leading zeros.
struct Line {
  std::string resource;
  std::map<std::string, std::string> domains;
};

std::string plain_number(std::string_view text) {
  std::string out = lower(trim(text));
  const auto first = out.find_first_not_of('0');
  return first == std::string::npos ? "0" : out.substr(first);
}

Result<Line> read_line(std::string_view text) {
  const auto halves = split_once(trim(text), ':');
  Line out;
  out.resource = trim(halves.before);
  for (std::string_view item : split(halves.after, ';')) {
    const auto domain = split_once(trim(item), '=');
    if (!halves.found || !domain.found || domain.after.empty())
      return Error(ErrorKind::invalid, concat("\"", text, "\" is not RESOURCE:DOMAIN=VALUE;…"));
    out.domains[plain_number(domain.before)] = plain_number(domain.after);
  }
  return out;
}

/// What the kernel says of a refused line; it keeps the words of the last failure only.
std::string last_status(const std::string& root) {
  auto text = read_file(concat(root, "/info/last_cmd_status"));
  return text ? std::string(trim(*text)) : std::string();
}

Status write_schemata(const ResctrlRequest& request, const std::string& folder) {
  for (const auto& line : request.schemata) {
    auto written = write_kernel_file(concat(folder, "/schemata"), concat(line, "\n"));
    if (written) continue;
    const std::string said = last_status(request.root);
    return Error(
        ErrorKind::invalid,
        concat("resctrl ", folder, ": \"", line, "\" was refused", said.empty() || said == "ok" ? "" : ": ", said == "ok" ? "" : said),
        written.error().error_number());
  }
  return {};
}

Status compare_schemata(const ResctrlRequest& request, const std::string& folder) {
  if (request.schemata.empty()) return {};
  const std::string present = TRY(read_file(concat(folder, "/schemata")), "resctrl");
  for (const auto& line : request.schemata)
    if (!TRY(schemata_match(present, line), "resctrl"))
      return Error(ErrorKind::conflict, concat("resctrl: the group ", folder, " exists with other schemata than \"", line, "\""),
                   EEXIST);
  return {};
}

/// True when the folder is new.
Result<bool> make_folder(const std::string& path) {
  auto made = mkdir(path, 0755);
  if (made) return true;
  if (made.error().error_number() == EEXIST) return false;
  if (made.error().error_number() == ENOSPC)
    return std::move(made).error().in("resctrl").with_hint("the processor has no further class of service or monitoring id");
  return std::move(made).error().in("resctrl");
}

}  // namespace

Result<std::string> find_resctrl() {
  for (const auto& mount : TRY(read_mountinfo(), "looking for resctrl"))
    if (mount.type == "resctrl") return mount.mount_point;
  return Error(ErrorKind::unsupported, "resctrl is not mounted, or this processor has none");
}

Result<bool> schemata_match(std::string_view present, std::string_view wanted) {
  const Line want = TRY_PLAIN(read_line(wanted));
  for (std::string_view text : split(present, '\n')) {
    if (trim(text).empty()) continue;
    const Line have = TRY_PLAIN(read_line(text));
    if (have.resource != want.resource) continue;
    for (const auto& [domain, value] : want.domains) {
      const auto found = have.domains.find(domain);
      if (found == have.domains.end() || found->second != value) return false;
    }
    return true;
  }
  return false;
}

Result<ResctrlGroup> ResctrlGroup::create(const ResctrlRequest& request) {
  ResctrlGroup out;
  auto build = [&]() -> Status {
    out.folder_ = request.root;
    bool is_new = false;
    if (request.group != "/") {
      out.folder_ += concat("/", request.group);
      is_new = TRY_PLAIN(make_folder(out.folder_));
      if (is_new) out.made_.push_back(out.folder_);
    }
    TRY_PLAIN(is_new ? write_schemata(request, out.folder_) : compare_schemata(request, out.folder_));
    if (request.monitor.empty()) return {};
    out.monitor_ = concat(out.folder_, "/mon_groups/", request.monitor);
    if (TRY_PLAIN(make_folder(out.monitor_))) out.made_.insert(out.made_.begin(), out.monitor_);
    return {};
  };
  auto built = build();
  if (built) return out;
  ignore(remove(out.made_));  // the first error is the one to report
  return std::move(built).error();
}

Status ResctrlGroup::change(const ResctrlRequest& request) {
  const std::string folder = request.group == "/" ? request.root : concat(request.root, "/", request.group);
  if (!TRY(exists(folder), "resctrl")) return Error(ErrorKind::not_found, concat("resctrl: the group ", folder, " does not exist"));
  return write_schemata(request, folder);
}

Status ResctrlGroup::add(int pid) const {
  TRY(write_kernel_file(concat(folder_, "/tasks"), concat(pid, "\n")), "resctrl");
  if (!monitor_.empty()) TRY(write_kernel_file(concat(monitor_, "/tasks"), concat(pid, "\n")), "resctrl");
  return {};
}

Status ResctrlGroup::remove(const std::vector<std::string>& folders) {
  for (const auto& folder : folders)
    if (auto gone = rmdir(folder); !gone && gone.error().error_number() != ENOENT) return std::move(gone).error().in("resctrl");
  return {};
}

}  // namespace caisson::linux
