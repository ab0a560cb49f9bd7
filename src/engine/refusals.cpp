// The thread that hears the kernel's audit records.
#include "engine/refusals.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/log.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"

namespace caisson::engine {

namespace {
constexpr int ask_again_ms = 300;
constexpr std::int64_t ask_again_ns = std::int64_t{ask_again_ms} * 1'000'000;
constexpr std::int64_t patience_ns = 10'000'000'000;
constexpr std::size_t most_unclaimed = 64;

struct Unclaimed {
  linux::AuditRecord record;
  TimestampNs heard = 0;
  std::int64_t until_ns = 0;
};
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
  // The kernel may be quicker than the news of an exec: what belongs to nobody is asked about again, on a busy machine for long.
  std::vector<Unclaimed> unclaimed;
  std::int64_t asked_ns = 0;
  for (;;) {
    auto ready = linux::poll(entries, unclaimed.empty() ? -1 : ask_again_ms);
    if (!ready.ok() || entries[1].revents != 0) return;
    if (const auto now = monotonic_ns(); !unclaimed.empty() && now - asked_ns >= ask_again_ns) {
      asked_ns = now;
      std::erase_if(unclaimed, [&](const Unclaimed& one) { return take(one.record, one.heard) || now >= one.until_ns; });
    }
    if (*ready == 0) continue;
    auto records = listener_->take();
    if (!records.ok()) {
      log_error("refusals", "the kernel's audit records", records.error());
      std::lock_guard lock(mutex_);
      gap_ = records.error().text();
      return;
    }
    for (auto& record : *records)
      if (const auto heard = now_ns(); !take(record, heard) && unclaimed.size() < most_unclaimed) unclaimed.push_back({std::move(record), heard, monotonic_ns() + patience_ns});
  }
}

bool Refusals::take(const linux::AuditRecord& record, TimestampNs now) {
  const auto id = find_(record);
  if (id.empty()) return false;
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
  return true;
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
