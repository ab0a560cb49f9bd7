// The loop: timers, outputs, ends.
#include "engine/health_checks.hpp"

#include <algorithm>
#include <array>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::engine {

namespace {
constexpr std::uint64_t wake_tag = 0;
/// The monitor kills a probe in time and drains what it left for two seconds more; who is silent for longer will not speak again.
constexpr std::int64_t patience_ns = 5'000'000'000;
constexpr std::size_t most_starters = 64;  // so many monitors may be stuck before the others have to wait
}  // namespace

Status HealthChecks::start_thread() {
  if (thread_.joinable()) return {};
  UniqueFd epoll = TRY_PLAIN(linux::epoll_create());
  UniqueFd wake = TRY_PLAIN(linux::eventfd());
  TRY_PLAIN(linux::epoll_add(epoll.get(), wake.get(), EPOLLIN, wake_tag));
  epoll_ = std::move(epoll);
  wake_ = std::move(wake);
  thread_ = std::thread([this] { run(); });
  return {};
}

Status HealthChecks::watch(const std::string& container_id, std::int64_t pause_ns) {
  std::lock_guard lock(mutex_);
  if (stopping_) return {};
  TRY(start_thread(), "health checks");
  Entry& entry = entries_[container_id];
  entry.probe.reset();
  entry.due_ns = monotonic_ns() + pause_ns;
  return linux::eventfd_signal(wake_.get());
}

void HealthChecks::forget(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  entries_.erase(container_id);
}

void HealthChecks::exec_ended(const std::string& container_id, const std::string& exec_id, int exit_code) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(container_id);
  if (found == entries_.end() || !found->second.probe || found->second.probe->exec_id != exec_id) return;
  found->second.probe->exit_code = exit_code;
  ignore(linux::eventfd_signal(wake_.get()));  // fails only for a bad descriptor
}

void HealthChecks::finish() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (wake_) ignore(linux::eventfd_signal(wake_.get()));  // fails only for a bad descriptor
    start_told_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  for (auto& starter : starters_) starter.join();  // the loop alone makes them, and it has ended
  starters_.clear();
}

void HealthChecks::run() {
  std::array<linux::EpollEvent, 32> events;
  for (;;) {
    auto count = linux::epoll_wait(epoll_.get(), events, wait_ms());
    if (!count.ok()) return log_error("health checks", "", count.error());
    for (std::size_t i = 0; i < *count; ++i) {
      if (events[i].tag == wake_tag) ignore(linux::eventfd_take(wake_.get()));  // what it says is looked up below
      else read_outputs(events[i].tag);
    }
    end_probes();
    begin_due();
    std::lock_guard lock(mutex_);
    if (stopping_) return;
  }
}

int HealthChecks::wait_ms() {
  std::lock_guard lock(mutex_);
  std::int64_t next = 0;
  for (const auto& [id, entry] : entries_) {
    if (!entry.probe && starting_.contains(id)) continue;  // its starter wakes us
    const std::int64_t at = entry.probe ? entry.probe->give_up_ns : entry.due_ns;
    if (next == 0 || at < next) next = at;
  }
  if (next == 0) return -1;
  constexpr std::int64_t longest_ms = 3'600'000;
  return static_cast<int>(std::clamp<std::int64_t>((next - monotonic_ns()) / 1'000'000 + 1, 0, longest_ms));
}

void HealthChecks::begin_due() {
  std::lock_guard lock(mutex_);
  const std::int64_t now = monotonic_ns();
  for (const auto& [id, entry] : entries_) {
    if (entry.probe || entry.due_ns > now || !starting_.insert(id).second) continue;
    to_start_.push_back(id);
  }
  while (to_start_.size() > idle_starters_ && starters_.size() < most_starters) {
    starters_.emplace_back([this] { run_starter(); });
    ++idle_starters_;  // its own count, so that the next turn sees it
  }
  start_told_.notify_all();
}

void HealthChecks::run_starter() {
  std::unique_lock lock(mutex_);
  for (;;) {
    start_told_.wait(lock, [&] { return stopping_ || !to_start_.empty(); });
    if (stopping_) return;
    const std::string id = std::move(to_start_.front());
    to_start_.pop_front();
    --idle_starters_;
    lock.unlock();
    begin_one(id);
    lock.lock();
    ++idle_starters_;
    starting_.erase(id);
    ignore(linux::eventfd_signal(wake_.get()));  // fails only for a bad descriptor
  }
}

void HealthChecks::begin_one(const std::string& container_id) {
  Probe probe;
  probe.exec_id = random_id();
  probe.start = now_ns();
  probe.begun_ns = monotonic_ns();
  probe.give_up_ns = probe.begun_ns + patience_ns;
  const std::string exec_id = probe.exec_id;
  UniqueFd client;
  bool is_known = false;
  auto begin = [&]() -> Result<std::int64_t> {
    auto pair = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
    TRY_PLAIN(linux::set_nonblocking(pair.first.get(), true));
    client = std::move(pair.second);
    {
      // Known before it runs: its end may be told before its start has returned.
      std::lock_guard lock(mutex_);
      auto found = entries_.find(container_id);
      if (stopping_ || found == entries_.end()) return std::int64_t{0};
      probe.tag = next_tag_++;
      TRY_PLAIN(linux::epoll_add(epoll_.get(), pair.first.get(), EPOLLIN, probe.tag));
      probe.output = std::move(pair.first);
      found->second.probe = std::move(probe);
      is_known = true;
    }
    return owner_.begin(container_id, exec_id, std::move(client));
  };
  auto timeout = begin();
  std::unique_lock lock(mutex_);
  auto found = entries_.find(container_id);
  if (found == entries_.end()) return;  // it ended or was paused meanwhile
  auto& running = found->second.probe;
  if (timeout.ok()) {
    if (!running || running->exec_id != exec_id) return;
    running->timeout_ns = *timeout;
    running->give_up_ns = monotonic_ns() + *timeout + patience_ns;
    return;
  }
  if (is_known && (!running || running->exec_id != exec_id)) return;  // given up meanwhile, and reported
  Ended failed{container_id, {running ? running->start : probe.start, now_ns(), -1, timeout.error().text()}};
  running.reset();
  found->second.due_ns = INT64_MAX;
  lock.unlock();
  report(std::move(failed));
}

void HealthChecks::read_outputs(std::uint64_t tag) {
  std::lock_guard lock(mutex_);
  auto found = std::find_if(entries_.begin(), entries_.end(), [&](const auto& item) { return item.second.probe && item.second.probe->tag == tag; });
  if (found == entries_.end()) return;
  Probe& probe = *found->second.probe;
  std::array<char, 4096> bytes;
  auto got = linux::recv(probe.output.get(), bytes, MSG_DONTWAIT);
  if (got.ok() && *got > 0) return probe.text.append({bytes.data(), *got});
  if (!got.ok() && got.error().error_number() == EAGAIN) return;
  probe.is_silent = true;
  ignore(linux::epoll_remove(epoll_.get(), probe.output.get()));  // it would be readable for ever
}

void HealthChecks::end_probes() {
  std::vector<Ended> over;
  {
    std::lock_guard lock(mutex_);
    const std::int64_t now = monotonic_ns();
    for (auto& [id, entry] : entries_) {
      if (!entry.probe) continue;
      const bool has_ended = entry.probe->is_silent && entry.probe->exit_code;
      if (!has_ended && entry.probe->give_up_ns > now) continue;
      over.push_back(conclude(id, *entry.probe));
      entry.probe.reset();
      entry.due_ns = INT64_MAX;
    }
  }
  for (auto& item : over) report(std::move(item));
}

HealthChecks::Ended HealthChecks::conclude(const std::string& container_id, const Probe& probe) {
  ProbeResult result{probe.start, now_ns(), probe.exit_code.value_or(-1), probe.text.text()};
  const bool took_too_long = probe.timeout_ns > 0 && monotonic_ns() - probe.begun_ns >= probe.timeout_ns;
  if (took_too_long && result.exit_code != 0) {
    result.exit_code = -1;
    result.output = timeout_text(probe.timeout_ns, result.output);
  } else if (!probe.exit_code) {
    result.output = "the end of the probe was not seen";
  }
  return {container_id, std::move(result)};
}

void HealthChecks::report(Ended ended) {
  const std::string id = ended.container_id;
  auto pause = owner_.end(id, std::move(ended.result));
  std::lock_guard lock(mutex_);
  auto found = entries_.find(id);
  if (found == entries_.end() || found->second.probe || found->second.due_ns != INT64_MAX) return;  // forgotten, or watched anew
  if (!pause) entries_.erase(found);
  else found->second.due_ns = monotonic_ns() + *pause;
}

}  // namespace caisson::engine
