// Hearing of the OOM killer: memory.events by inotify on v2, an eventfd on v1.
#include <fcntl.h>

#include <algorithm>

#include "base/strings.hpp"
#include "linux/cgroup.hpp"
#include "linux/cgroup_files.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"

namespace caisson::linux {

namespace {

constexpr int kill_wait_ms = 100;
constexpr int look_again_ms = 1;

std::uint64_t kills_in(const std::string& directory, std::string_view file) {
  const auto pairs = detail::read_cgroup_pairs(directory, file);
  const auto found = pairs.find("oom_kill");
  return found == pairs.end() ? 0 : found->second;
}

/// memory.events changes with every event; inotify tells (cgroup-v2.rst, "memory.events … generates a file modified event").
class OomEventsV2 : public OomEvents {
 public:
  OomEventsV2(UniqueFd fd, std::string directory) : fd_(std::move(fd)), directory_(std::move(directory)) {}
  [[nodiscard]] int fd() const override { return fd_.get(); }
  Result<std::uint64_t> count() override {
    TRY(inotify_take(fd_.get()), "oom events");
    last_ = std::max(last_, kills_in(directory_, "memory.events"));  // the file goes with the cgroup; the count stays
    return last_;
  }

 private:
  UniqueFd fd_;
  std::string directory_;
  std::uint64_t last_ = 0;
};

/// The kernel signals the eventfd when the cgroup is out of memory, before it has killed, and once more when the cgroup is
/// removed; the count itself is read from memory.oom_control (oom_kill, 4.13).
class OomEventsV1 : public OomEvents {
 public:
  OomEventsV1(UniqueFd event, UniqueFd control, std::string directory)
      : event_(std::move(event)), control_(std::move(control)), directory_(std::move(directory)) {}
  [[nodiscard]] int fd() const override { return event_.get(); }
  Result<std::uint64_t> count() override {
    const auto signalled = TRY(eventfd_take(event_.get()), "oom events");
    std::uint64_t now = kills_in(directory_, "memory.oom_control");
    // The signal is ahead of the kill, so who looks at once sees nothing, and is not told again. A cgroup whose killer is off, and one
    // that is being removed, signals without a kill to follow.
    for (int waited = 0; signalled.has_value() && now <= last_ && waited < kill_wait_ms && TRY_PLAIN(linux::exists(directory_)); waited += look_again_ms) {
      ignore(linux::poll({}, look_again_ms));
      now = kills_in(directory_, "memory.oom_control");
    }
    last_ = std::max(last_, now);
    return last_;
  }

 private:
  UniqueFd event_;
  UniqueFd control_;  ///< memory.oom_control must stay open as long as the registration
  std::string directory_;
  std::uint64_t last_ = 0;
};

}  // namespace

Result<std::unique_ptr<OomEvents>> Cgroup::oom_events() const {
  if (const std::string* directory = v1_directory("memory"); directory != nullptr) {
    UniqueFd event = TRY(eventfd(), "oom events");
    auto control = linux::open(*directory + "/memory.oom_control", O_RDONLY);
    if (!control) return Error(ErrorKind::not_found, concat("cgroup ", *directory, " does not exist"), ESRCH);
    TRY(write_kernel_file(*directory + "/cgroup.event_control", concat(event.get(), ' ', control->get())), "oom events");
    return std::unique_ptr<OomEvents>(std::make_unique<OomEventsV1>(std::move(event), std::move(*control), *directory));
  }
  const CgroupHierarchy* hierarchy = layout_->find("memory");
  if (hierarchy == nullptr || v2_directory() == nullptr) return detail::missing_controller("memory");
  UniqueFd watcher = TRY(inotify_create(), "oom events");
  const auto watch = inotify_add_watch(watcher.get(), *v2_directory() + "/memory.events", IN_MODIFY);
  if (!watch) {
    if (watch.error().error_number() == ENOENT) return detail::missing_controller("memory");
    return Error(watch.error()).in("oom events");
  }
  return std::unique_ptr<OomEvents>(std::make_unique<OomEventsV2>(std::move(watcher), *v2_directory()));
}

}  // namespace caisson::linux
