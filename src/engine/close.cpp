// The orderly end: an engine that has nothing running leaves the host as it found it.
#include "base/json.hpp"
#include "base/log.hpp"
#include "engine/local_engine.hpp"
#include "linux/cgroup.hpp"

namespace caisson::engine {

namespace {
constexpr const char* made_parent_key = "engine/cgroup_parent";

Result<linux::Cgroup> parent_cgroup(const LocalOptions& options) {
  std::string path = options.cgroup_parent;
  if (options.systemd)
    path = TRY(linux::systemd_cgroup_path(concat("::", slice_of_parent(path)), "", *options.systemd), "cgroup parent");
  auto layout = TRY(linux::detect_cgroup_layout(), "cgroup parent");
  return linux::Cgroup::open(std::make_shared<const linux::CgroupLayout>(std::move(layout)), path);
}
}  // namespace

Status LocalEngine::remember_cgroup_parent() {
  auto cgroup = TRY_PLAIN(parent_cgroup(options_));
  if (cgroup.exists()) return {};  // an operator's own, or ours from before: then it is on record already
  state::Transaction transaction;
  transaction.put(made_parent_key, caisson::to_text(json::value(options_.cgroup_parent)));
  TRY(store_->commit(transaction), "cgroup parent");
  return {};
}

void LocalEngine::leave_host() {
  for (const auto& container : registry_.all()) {
    const auto state = container->snapshot()->info.state;
    if (state != State::created && state != State::exited && state != State::dead) return;  // it lives on without us
  }
  if (auto left = network_->shut_down(); !left.ok()) log_error("end", "network", left.error());
  auto made = store_->get(made_parent_key);
  if (!made.ok() || made->value != caisson::to_text(json::value(options_.cgroup_parent))) return;
  auto cgroup = parent_cgroup(options_);
  auto removed = cgroup.ok() ? cgroup->remove(0) : Status(std::move(cgroup).error());
  if (!removed.ok()) log_error("end", concat("cgroup ", options_.cgroup_parent), removed.error());
}

}  // namespace caisson::engine
