// The thread that hears the kernel's audit records.
#include "engine/refusals.hpp"

#include <algorithm>
#include <array>

#include "base/log.hpp"
#include "linux/event.hpp"

namespace caisson::engine {

namespace {
constexpr std::size_t most_kinds = 64;  // what a container can make us remember

std::string_view name_of(linux::RefusedBy by) {
  switch (by) {
    case linux::RefusedBy::seccomp: return "seccomp";
    case linux::RefusedBy::apparmor: return "apparmor";
    case linux::RefusedBy::selinux: return "selinux";
  }
  return "";
}
}  // namespace

Status Refusals::begin() {
  auto opened = linux::AuditListener::open();
  if (!opened.ok()) {
    std::lock_guard lock(mutex_);
    gap_ = opened.error().text();
    return std::move(opened).error();
  }
  wake_ = TRY_PLAIN(linux::eventfd());
  listener_ = std::move(*opened);
  {
    std::lock_guard lock(mutex_);
    gap_.clear();
  }
  thread_ = std::thread([this] { run(); });
  return {};
}

void Refusals::finish() {
  if (!thread_.joinable()) return;
  ignore(linux::eventfd_signal(wake_.get()));  // fails only for a bad descriptor
  thread_.join();
}

void Refusals::run() {
  std::array<linux::PollEntry, 2> entries{};
  entries[0].fd = listener_->fd();
  entries[1].fd = wake_.get();
  entries[0].events = entries[1].events = POLLIN;
  for (;;) {
    auto ready = linux::poll(entries, -1);
    if (!ready.ok() || entries[1].revents != 0) return;
    auto records = listener_->take();
    if (!records.ok()) {
      log_error("refusals", "the kernel's audit records", records.error());
      std::lock_guard lock(mutex_);
      gap_ = records.error().text();
      return;
    }
    for (const auto& record : *records) take(record, now_ns());
  }
}

void Refusals::take(const linux::AuditRecord& record, TimestampNs now) {
  const auto id = find_(record);
  if (id.empty()) return;
  std::lock_guard lock(mutex_);
  auto& list = refusals_[id];
  auto same = std::find_if(list.begin(), list.end(), [&](const Refusal& known) {
    return known.by == name_of(record.by) && known.what == record.what && known.program == record.program && known.is_fatal == record.is_fatal;
  });
  if (same == list.end()) {
    if (list.size() >= most_kinds) {
      same = list.end() - 1;
      same->what = "and others";
      same->program.clear();
    } else {
      list.push_back({std::string(name_of(record.by)), record.what, record.program, 0, now, now, record.is_fatal});
      same = list.end() - 1;
    }
  }
  ++same->count;
  same->last = now;
}

std::vector<Refusal> Refusals::of(const std::string& container_id) const {
  std::lock_guard lock(mutex_);
  auto found = refusals_.find(container_id);
  return found == refusals_.end() ? std::vector<Refusal>() : found->second;
}

void Refusals::forget(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  refusals_.erase(container_id);
}

std::string Refusals::gap() const {
  std::lock_guard lock(mutex_);
  return gap_;
}

}  // namespace caisson::engine
