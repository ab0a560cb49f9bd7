// A cgroup as directories: made in every hierarchy or in none, joined, listed, removed.
#include "linux/cgroup.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "linux/backoff.hpp"
#include "linux/cgroup_files.hpp"
#include "linux/cgroup_systemd.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::linux {

using detail::child_cgroups;
using detail::read_cgroup_line;

namespace {

Status check_path(std::string_view path) {
  auto refuse = [&](std::string_view why) { return Error(ErrorKind::invalid, concat("cgroup path \"", path, "\": ", why), EINVAL); };
  if (path.empty() || path == "/") return refuse("it must name a cgroup below the root");
  if (path.find('\0') != std::string_view::npos || path.find('\n') != std::string_view::npos)
    return refuse("a NUL or a newline inside");
  const std::string_view inner = path.starts_with('/') ? path.substr(1) : path;
  for (std::string_view part : split(inner, '/'))
    if (part.empty() || part == "." || part == "..") return refuse("empty parts, \".\" and \"..\" are not allowed");
  return {};
}

/// Where `path` of /proc/PID/cgroup lies below a mount that may show only a part of the hierarchy.
std::string below_root(std::string_view path, const std::string& root) {
  if (root != "/" && path.starts_with(root)) path.remove_prefix(root.size());
  return path == "/" ? std::string() : std::string(path);
}

std::string own_path(const CgroupHierarchy& hierarchy, const std::map<std::string, std::string>& own) {
  const auto found = own.find(hierarchy.is_v2 ? std::string() : join(hierarchy.controllers, ","));
  if (found != own.end()) return below_root(found->second, hierarchy.root);
  // The two files may list controllers of one hierarchy in different order.
  for (const auto& [controllers, path] : own)
    for (std::string_view name : split(controllers, ','))
      if (!hierarchy.controllers.empty() && !hierarchy.is_v2 && name == hierarchy.controllers.front())
        return below_root(path, hierarchy.root);
  return {};
}

Result<std::vector<std::string>> directories_of(const CgroupLayout& layout, std::string_view path) {
  if (const auto unit = TRY_PLAIN(detail::parse_systemd_path(path))) path.remove_prefix(path.size() - unit->path.size());
  TRY_PLAIN(check_path(path));
  std::vector<std::string> out;
  const bool absolute = path.starts_with('/');
  std::map<std::string, std::string> own;
  if (!absolute) own = TRY(cgroup_of_process(0), "cgroup");
  for (const CgroupHierarchy& hierarchy : layout.hierarchies)
    out.push_back(absolute ? concat(hierarchy.mount_point, path) : concat(hierarchy.mount_point, own_path(hierarchy, own), '/', path));
  return out;
}

/// Removes, when it goes, the directories made so far; keep() is the last line of success.
class MadeDirectories {
 public:
  MadeDirectories() = default;
  MadeDirectories(const MadeDirectories&) = delete;
  MadeDirectories& operator=(const MadeDirectories&) = delete;
  ~MadeDirectories() {
    for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) ignore(rmdir(*path));  // the first error is the one to report
  }
  void add(std::string path) { paths_.push_back(std::move(path)); }
  [[nodiscard]] bool has(const std::string& path) const { return std::find(paths_.begin(), paths_.end(), path) != paths_.end(); }
  void keep() { paths_.clear(); }

 private:
  std::vector<std::string> paths_;
};

std::string parent_of(const std::string& directory) { return std::string(split_last(directory, '/').before); }

/// v1: a new cpuset is empty, and then nothing can join it; the parent's values are its natural beginning (cpusets(7)). So is a parent that
/// somebody else has made a moment ago: it is filled first, with the same values that its maker is about to write.
/// What has mems has cpus too: both came from the parent (cgroup.clone_children), or from here, where mems are the last.
Status inherit_cpuset(const CgroupHierarchy& hierarchy, const std::string& directory, bool is_new) {
  if (directory.size() <= hierarchy.mount_point.size()) return {};
  const std::string parent = parent_of(directory);
  // A new one below the root is not looked at: either it is empty, or the root's values are written to it once more.
  if (!is_new || parent.size() > hierarchy.mount_point.size()) {
    const auto mine = read_cgroup_line(directory, "cpuset.mems");
    if (!mine || !mine->empty()) return {};
  }
  TRY_PLAIN(inherit_cpuset(hierarchy, parent, false));
  for (const char* file : {"cpuset.cpus", "cpuset.mems"}) {
    const auto theirs = read_cgroup_line(parent, file);
    if (!theirs || theirs->empty()) continue;
    TRY(write_kernel_file(concat(directory, '/', file), *theirs), "cgroup cpuset");
  }
  return {};
}

bool has_cpuset(const CgroupHierarchy& hierarchy) {
  return !hierarchy.is_v2 &&
         std::find(hierarchy.controllers.begin(), hierarchy.controllers.end(), "cpuset") != hierarchy.controllers.end();
}

Error directory_error(Error error, const std::string& directory) {
  const int reason = error.error_number();
  Error out = Error::from_errno(reason, concat("create cgroup ", directory));
  if (reason == EACCES || reason == EPERM || reason == EROFS)
    return std::move(out)
        .with_kind(ErrorKind::denied)
        .with_hint("this user may not create cgroups there; rootless use needs cgroup v2 with delegation");
  return out;
}

/// Makes a missing parent and its missing parents, down from the mount point.
Status make_parents(const CgroupHierarchy& hierarchy, const std::string& directory, MadeDirectories& made) {
  const std::string parent = parent_of(directory);
  if (parent.size() <= hierarchy.mount_point.size()) return {};
  const auto there = exists(parent);
  if (there && *there) return {};
  TRY_PLAIN(make_parents(hierarchy, parent, made));
  const auto done = mkdir(parent, 0755);
  if (!done && done.error().error_number() != EEXIST) return directory_error(done.error(), parent);
  if (done) made.add(parent);
  if (has_cpuset(hierarchy)) {
    TRY_PLAIN(inherit_cpuset(hierarchy, parent, done.ok()));
    // Children then begin with our values without a write of ours.
    ignore(write_kernel_file(parent + "/cgroup.clone_children", "1"));  // only saves time later
  }
  return {};
}

bool lists_all(const std::optional<std::string>& text, const std::vector<std::string>& names) {
  if (!text) return false;
  const auto words = split(trim(*text), ' ');
  return std::all_of(names.begin(), names.end(),
                     [&](const std::string& name) { return std::find(words.begin(), words.end(), name) != words.end(); });
}

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  for (std::string_view word : split(trim(line), ' '))
    if (!word.empty()) words.emplace_back(word);
  return words;
}

/// Turns controllers on for the children of one v2 directory: all at once, and where that is refused one by one (a threaded
/// subtree takes only threaded controllers, a cpu controller is refused while realtime processes run).
/// A controller that stays off is reported when a limit asks for it.
void enable_controllers(const std::string& directory) {
  const auto available = read_cgroup_line(directory, "cgroup.controllers");
  if (!available) return;
  const auto names = words_of(*available);
  if (names.empty() || lists_all(read_cgroup_line(directory, "cgroup.subtree_control"), names)) return;
  std::string all;
  for (const std::string& name : names) all += concat(all.empty() ? "+" : " +", name);
  const std::string file = directory + "/cgroup.subtree_control";
  if (write_kernel_file(file, all)) return;
  for (const std::string& name : names) ignore(write_kernel_file(file, concat('+', name)));  // see above
}

/// Every directory from the mount point down to the parent of `directory`.
void enable_above(const CgroupHierarchy& hierarchy, const std::string& directory) {
  for (std::size_t at = hierarchy.mount_point.size(); at != std::string::npos && at < directory.size();
       at = directory.find('/', at + 1))
    enable_controllers(directory.substr(0, at));
}

/// Threaded controllers are listed in cgroups(7), "Cgroups v2 thread mode"; all others need a domain.
bool has_domain_controller(const CgroupHierarchy& hierarchy) {
  return std::any_of(hierarchy.controllers.begin(), hierarchy.controllers.end(), [](const std::string& name) {
    return name != "cpu" && name != "cpuset" && name != "perf_event" && name != "pids";
  });
}

/// An existing directory may be taken over only when nothing lives in it.
Status check_unused(const CgroupHierarchy& hierarchy, const std::string& directory) {
  const auto pids = TRY_PLAIN(detail::read_cgroup_pids(directory, true));
  if (!pids.empty())
    return Error(ErrorKind::conflict, concat("container's cgroup is not empty: ", pids.size(), " process(es) found"), EBUSY);
  const auto state = read_cgroup_line(directory, hierarchy.is_v2 ? "cgroup.freeze" : "freezer.state");
  if (state && trim(*state) != "0" && trim(*state) != "THAWED")
    return Error(ErrorKind::conflict, "container's cgroup unexpectedly frozen", EBUSY);
  return {};
}

enum class Existing : std::uint8_t { must_be_unused, is_ours };

Status make_directory(const CgroupHierarchy& hierarchy, const std::string& directory, Existing existing, MadeDirectories& made) {
  auto done = mkdir(directory, 0755);
  if (!done && done.error().error_number() == ENOENT) {
    TRY_PLAIN(make_parents(hierarchy, directory, made));
    done = mkdir(directory, 0755);
  }
  if (!done && done.error().error_number() != EEXIST) return directory_error(std::move(done).error(), directory);
  if (done) made.add(directory);
  else if (existing == Existing::must_be_unused) TRY_PLAIN(check_unused(hierarchy, directory));
  if (has_cpuset(hierarchy)) TRY_PLAIN(inherit_cpuset(hierarchy, directory, done.ok()));
  if (!hierarchy.is_v2) return {};
  if (!hierarchy.controllers.empty()) {
    const bool complete = lists_all(read_cgroup_line(directory, "cgroup.controllers"), hierarchy.controllers);
    if (!complete) enable_above(hierarchy, directory);
    if (complete && has_domain_controller(hierarchy)) return {};  // a cgroup in a threaded subtree would not have it
  }
  // Below a threaded domain a new cgroup is unusable until it is threaded itself (cgroups(7), "Creating a threaded subtree").
  const auto type = read_cgroup_line(directory, "cgroup.type");
  if (type && trim(*type) == "domain invalid") TRY(write_kernel_file(directory + "/cgroup.type", "threaded"), "cgroup");
  return {};
}

}  // namespace

Cgroup::Cgroup(std::shared_ptr<const CgroupLayout> layout, std::string path, std::vector<std::string> directories)
    : layout_(std::move(layout)), path_(std::move(path)), directories_(std::move(directories)) {
  // Looked at before by directories_of, so this cannot fail here.
  if (auto unit = detail::parse_systemd_path(path_); unit && *unit) unit_ = std::make_unique<detail::SystemdUnit>(std::move(**unit));
}
Cgroup::Cgroup(Cgroup&&) noexcept = default;
Cgroup& Cgroup::operator=(Cgroup&&) noexcept = default;
Cgroup::~Cgroup() = default;

Status Cgroup::make_directories() {
  MadeDirectories made;
  for (std::size_t i = 0; i < directories_.size(); ++i)
    TRY_PLAIN(make_directory(layout_->hierarchies[i], directories_[i], unit_ ? Existing::is_ours : Existing::must_be_unused, made));
  is_new_ = unit_ || std::all_of(directories_.begin(), directories_.end(), [&](const std::string& directory) { return made.has(directory); });
  made.keep();
  return {};
}

Status Cgroup::start_unit(const CgroupCreation& creation) {
  std::vector<detail::SystemdProperty> properties;
  if (creation.limits != nullptr) properties = detail::plan_systemd_limits(*creation.limits, layout_->mode);
  if (creation.systemd_properties != nullptr)
    for (auto& property : TRY_PLAIN(detail::parse_systemd_properties(*creation.systemd_properties)))
      properties.push_back(std::move(property));
  if (!unit_->is_slice()) holder_ = TRY_PLAIN(detail::ScopeHolder::create());
  TRY_PLAIN(detail::start_systemd_unit(*unit_, holder_ ? holder_->pid() : 0, std::move(properties)));
  return {};
}

namespace {

/// systemd made the unit's cgroup where we think it is? The holder's own place tells: on a unified host in v2 alone, whatever named
/// hierarchies somebody has mounted beside it.
Status check_place(const detail::SystemdUnit& unit, int holder, CgroupMode mode) {
  const auto paths = TRY(cgroup_of_process(holder), "cgroup");
  for (const char* name : {"name=systemd", ""}) {
    const auto found = paths.find(name);
    if (found == paths.end() || (mode == CgroupMode::unified && *name != 0)) continue;
    if (found->second == unit.unit_path) return {};
    return Error(ErrorKind::unavailable,
                 concat("systemd made ", unit.name, " in the cgroup ", found->second, " instead of ", unit.unit_path), EXDEV)
        .with_hint("this systemd does not manage the cgroups that are mounted here; use --cgroup-manager cgroupfs");
  }
  return {};
}

/// Below a unit: the holder goes into the sub-cgroup, because an inner node with a process hands no controllers down.
Status move_below(const detail::SystemdUnit& unit, const CgroupHierarchy& hierarchy, const std::string& directory, int holder) {
  if (unit.path == unit.unit_path || !hierarchy.is_v2) return {};
  TRY(make_dirs(directory, 0755), "cgroup");
  return write_kernel_file(directory + "/cgroup.procs", concat(holder));
}

}  // namespace

Result<Cgroup> Cgroup::create(std::shared_ptr<const CgroupLayout> layout, std::string_view path, const CgroupCreation& creation) {
  if (layout->hierarchies.empty())
    return Error(ErrorKind::unsupported, "cgroups are not available: no hierarchy is mounted", EOPNOTSUPP)
        .with_hint("mount cgroup2 on /sys/fs/cgroup");
  auto directories = TRY_PLAIN(directories_of(*layout, path));
  Cgroup out(std::move(layout), std::string(path), std::move(directories));
  if (!out.unit_) {
    TRY_PLAIN(out.make_directories());
    return out;
  }
  TRY_PLAIN(out.start_unit(creation));
  auto placed = [&]() -> Status {
    if (out.holder_) {
      TRY_PLAIN(check_place(*out.unit_, out.holder_->pid(), out.layout_->mode));
      for (std::size_t i = 0; i < out.directories_.size(); ++i)
        TRY_PLAIN(move_below(*out.unit_, out.layout_->hierarchies[i], out.directories_[i], out.holder_->pid()));
    }
    return out.make_directories();
  }();
  if (placed) return out;
  ignore(out.remove());  // the first error is the one to report
  return std::move(placed).error();
}

Status Cgroup::settle() {
  holder_.reset();
  if (!pids_after_settling_) return {};
  CgroupLimits limits;
  limits.pids_limit = std::exchange(pids_after_settling_, std::nullopt);
  return apply_files(limits);
}

Result<Cgroup> Cgroup::open(std::shared_ptr<const CgroupLayout> layout, std::string_view path) {
  auto directories = TRY_PLAIN(directories_of(*layout, path));
  return Cgroup(std::move(layout), std::string(path), std::move(directories));
}

Result<Cgroup> Cgroup::below(std::string_view path, const std::vector<std::string_view>& controllers) const {
  TRY_PLAIN(check_path(path));
  if (path.starts_with('/')) return Error(ErrorKind::invalid, concat("cgroup path \"", path, "\": it must be relative"), EINVAL);
  std::vector<std::string> directories = directories_;
  bool found = false;
  for (std::string_view controller : controllers)
    if (!layout_->has(controller))
      return Error(ErrorKind::invalid, concat("the ", controller, " controller is not available"), EINVAL);
  for (std::size_t i = 0; i < directories_.size(); ++i) {
    const auto& own = layout_->hierarchies[i].controllers;
    const bool named = std::any_of(controllers.begin(), controllers.end(),
                                   [&](std::string_view name) { return std::find(own.begin(), own.end(), name) != own.end(); });
    if (!controllers.empty() && !named) continue;
    const std::string directory = concat(directories_[i], '/', path);
    if (!TRY_PLAIN(linux::exists(directory))) {
      if (named) return Error(ErrorKind::unavailable, concat("the container has no cgroup ", path), ESRCH);
      continue;
    }
    directories[i] = directory;
    found = true;
  }
  if (!found) return Error(ErrorKind::unavailable, concat("the container has no cgroup ", path), ESRCH);
  return Cgroup(layout_, concat(path_, '/', path), std::move(directories));
}

bool may_make_cgroup(const CgroupLayout& layout, std::string_view path) {
  const auto directories = directories_of(layout, path);
  if (!directories || directories->empty()) return false;
  for (std::size_t i = 0; i < directories->size(); ++i) {
    const CgroupHierarchy& hierarchy = layout.hierarchies[i];
    std::string above = parent_of((*directories)[i]);
    while (above.size() > hierarchy.mount_point.size() && !exists(above).value_or(false)) above = parent_of(above);
    if (!faccessat(AT_FDCWD, above, W_OK)) return false;
    // Nobody is moved without the right to write here (cgroups(7), "Delegation containment").
    if (hierarchy.is_v2 && !faccessat(AT_FDCWD, above + "/cgroup.procs", W_OK)) return false;
  }
  return true;
}

Status leave_cgroup_root(const CgroupLayout& layout) {
  if (layout.mode != CgroupMode::unified) return {};
  const std::string& root = layout.v2()->mount_point;
  // The hierarchy's own root has no type, and may hold processes beside groups with controllers.
  if (!read_cgroup_line(root, "cgroup.type")) return {};
  const std::string leaf = root + "/init";
  // Whoever was forked meanwhile is in the next list.
  constexpr int most_rounds = 100;
  for (int round = 0; round < most_rounds; ++round) {
    const auto pids = TRY(detail::read_cgroup_pids(root, false), "leave the root of the cgroups");
    if (pids.empty()) {
      // At once: a process that is sent here meanwhile (an exec from outside) would keep them off for ever, and is sent elsewhere once they are on.
      enable_controllers(root);
      const auto all = read_cgroup_line(root, "cgroup.controllers");
      if (all && lists_all(read_cgroup_line(root, "cgroup.subtree_control"), words_of(*all))) return {};
      if (TRY(detail::read_cgroup_pids(root, false), "leave the root of the cgroups").empty()) return {};  // what stays off is told when a limit asks for it
      continue;
    }
    if (auto made = mkdir(leaf, 0755); !made && made.error().error_number() != EEXIST) return directory_error(std::move(made).error(), leaf);
    for (const int pid : pids) {
      // 0 is a process that our PID namespace does not show; written, it would mean ourselves.
      if (pid == 0) return Error(ErrorKind::conflict, concat(root, " holds processes of another PID namespace"), EBUSY);
      const auto moved = write_kernel_file(leaf + "/cgroup.procs", concat(pid));
      if (!moved && moved.error().error_number() != ESRCH) return Error(moved.error()).in(concat("move process ", pid, " into ", leaf));
    }
  }
  return Error(ErrorKind::conflict, concat(root, " does not get empty of processes"), EBUSY);
}

bool asks_for_limits(const CgroupLimits& limits) {
  CgroupLimits others = limits;
  others.devices.clear();
  if (!others.unified.empty()) return true;
  const auto writes = plan_v1_writes(others);
  return !writes || !writes->empty();  // a plan that is refused asks for something
}

const std::string* Cgroup::v2_directory() const { return layout_->v2() == nullptr ? nullptr : &directories_.back(); }

const std::string* Cgroup::v1_directory(std::string_view controller) const {
  const CgroupHierarchy* hierarchy = layout_->find(controller);
  if (hierarchy == nullptr || hierarchy->is_v2) return nullptr;
  return &directories_[static_cast<std::size_t>(hierarchy - layout_->hierarchies.data())];
}

/// The one directory that is asked for processes: v2's, which is race-free, or else the freezer's, which kill_all freezes.
const std::string& Cgroup::process_directory() const {
  if (const std::string* directory = v2_directory(); directory != nullptr) return *directory;
  for (const char* controller : {"freezer", "pids", "memory", "cpu"})
    if (const std::string* directory = v1_directory(controller); directory != nullptr) return *directory;
  return directories_.front();
}

bool Cgroup::exists() const {
  return std::any_of(directories_.begin(), directories_.end(), [](const std::string& directory) {
    const auto there = linux::exists(directory);
    return there && *there;
  });
}

Result<CgroupHandle> Cgroup::handle_beside(int pid) const {
  CgroupHandle out = TRY_PLAIN(handle());
  if (v2_directory() == nullptr) return out;
  const auto paths = TRY(cgroup_of_process(pid), "cgroup");
  const auto found = paths.find("");
  if (found == paths.end()) return out;
  const CgroupHierarchy& hierarchy = *layout_->v2();
  const std::string theirs = concat(hierarchy.mount_point, below_root(found->second, hierarchy.root));
  if (theirs.starts_with(concat(*v2_directory(), '/'))) out.v2_dir = TRY(linux::open(theirs, O_PATH | O_DIRECTORY), "open cgroup");
  return out;
}

Status Cgroup::delegate(std::uint32_t uid, std::uint32_t gid) {
  if (v2_directory() == nullptr) return {};
  const UniqueFd directory = TRY(linux::open(*v2_directory(), O_RDONLY | O_DIRECTORY), "delegate cgroup");
  TRY(fchown(directory.get(), uid, gid), "delegate cgroup");
  // The kernel's own list (4.15); before it the three that cgroups(7), "Delegating a hierarchy" names.
  auto files = read_file("/sys/kernel/cgroup/delegate");
  const std::string names = files ? std::move(files).value() : std::string("cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
  for (std::string_view name : split(names, '\n')) {
    if (name.empty()) continue;
    const auto done = fchownat(directory.get(), std::string(name), uid, gid, AT_SYMLINK_NOFOLLOW);
    if (!done && done.error().error_number() != ENOENT)
      return Error(done.error()).in("delegate cgroup");  // of a controller that is off
  }
  return {};
}

Result<CgroupHandle> Cgroup::handle() const {
  CgroupHandle out;
  if (unit_ && unit_->of_user) TRY_PLAIN(detail::come_near(*unit_));
  for (std::size_t i = 0; i < directories_.size(); ++i) {
    if (layout_->hierarchies[i].is_v2) {
      out.v2_dir = TRY(linux::open(directories_[i], O_PATH | O_DIRECTORY), "open cgroup");
    } else {
      UniqueFd fd = TRY(linux::open(directories_[i] + "/tasks", O_WRONLY), "open cgroup");
      out.v1_tasks_fds.push_back(std::move(fd));
    }
  }
  return out;
}

Status Cgroup::add(int pid) {
  for (const std::string& directory : directories_) {
    auto done = write_kernel_file(directory + "/cgroup.procs", concat(pid));
    if (done) continue;
    const int reason = done.error().error_number();
    if (reason == ESRCH) return Error(ErrorKind::not_found, concat("process ", pid, " does not exist"), ESRCH);
    if (reason == ENOENT) return Error(ErrorKind::not_found, concat("cgroup ", directory, " does not exist"), ESRCH);
    return Error::from_errno(reason, concat("move process ", pid, " into cgroup ", directory));
  }
  return {};
}

Result<std::vector<int>> Cgroup::pids(bool recursive) const {
  return TRY(detail::read_cgroup_pids(process_directory(), recursive), "list processes of the cgroup");
}

namespace {

/// rmdir from the leaves up. True when all of it is gone; false when something is still busy.
Result<bool> remove_once(const std::string& directory) {
  const auto done = rmdir(directory);
  if (done || done.error().error_number() == ENOENT) return true;
  const int reason = done.error().error_number();
  if (reason != EBUSY && reason != ENOTEMPTY) return Error::from_errno(reason, concat("remove cgroup ", directory));
  const auto children = TRY_PLAIN(child_cgroups(directory));
  if (children.empty()) return false;
  for (const std::string& child : children)
    if (!TRY_PLAIN(remove_once(child))) return false;
  const auto again = rmdir(directory);
  return again.ok() || again.error().error_number() == ENOENT;
}

}  // namespace

Status Cgroup::remove(int timeout_ms) {
  holder_.reset();
  if (unit_) TRY_PLAIN(detail::stop_systemd_unit(*unit_));
  detail::Backoff backoff(timeout_ms);
  std::vector<std::string> left = directories_;
  while (true) {
    std::vector<std::string> busy;
    for (const std::string& directory : left)
      if (!TRY_PLAIN(remove_once(directory))) busy.push_back(directory);
    if (busy.empty()) return {};
    left = std::move(busy);
    // A killed process leaves its cgroup a moment after its death is reported; there is no event for v1.
    if (backoff.wait()) continue;
    const auto pids = detail::read_cgroup_pids(left.front(), true);
    return Error(ErrorKind::conflict,
                 concat("remove cgroup ", left.front(), ": ", pids ? pids->size() : 0, " process(es) still in it"), EBUSY);
  }
}

}  // namespace caisson::linux
