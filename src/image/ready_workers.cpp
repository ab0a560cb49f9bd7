// One thread that starts workers ahead of their jobs, and ends those that nobody needed.
#include "image/ready_workers.hpp"

#include "base/log.hpp"
#include "image/worker_process.hpp"
#include "image/worker_protocol.hpp"
#include "linux/idmap.hpp"
#include "linux/socket.hpp"

namespace caisson::image {

Result<std::unique_ptr<ReadyWorkers>> ReadyWorkers::create(const WorkerOptions& options, int idle_ms) {
  auto ids = TRY(linux::create_user_namespace(one_range(options.first_host_id)), "ids of workers");
  return std::unique_ptr<ReadyWorkers>(new ReadyWorkers(options, idle_ms, std::move(ids)));
}

ReadyWorkers::ReadyWorkers(WorkerOptions options, int idle_ms, UniqueFd ids)
    : options_(std::move(options)), idle_ms_(idle_ms), ids_(std::move(ids)), thread_([this] { run(); }) {}

ReadyWorkers::~ReadyWorkers() {
  {
    std::lock_guard lock(mutex_);
    is_stopped_ = true;
    changed_.notify_all();
  }
  thread_.join();
  end(waiting_);
}

void ReadyWorkers::end(std::optional<Waiting>& waiting) {
  if (waiting) linux::kill_and_reap(waiting->process.pidfd.get());
  waiting.reset();
}

Result<ReadyWorkers::Waiting> ReadyWorkers::start() const {
  auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  auto process = TRY_PLAIN(start_worker(options_.path, {"caisson-worker", std::string(ready_argument)},
                                        one_range(options_.first_host_id), {{ends.second.get(), worker_fd::request}}));
  return Waiting{std::move(process), std::move(ends.first)};
}

void ReadyWorkers::end_idle() {
  end(waiting_);
  changed_.notify_all();
}

void ReadyWorkers::run() {
  std::unique_lock lock(mutex_);
  while (!is_stopped_) {
    if (is_wanted_ && !waiting_) {
      if (changed_.wait_until(lock, due_, [&, due = due_] { return is_stopped_ || due_ != due; })) continue;
      is_wanted_ = false;
      lock.unlock();
      auto started = start();
      lock.lock();
      if (started.ok()) waiting_.emplace(std::move(*started));
      else log_error("keep a worker ready", options_.path, started.error());  // jobs start their own, and hear the reason then
    }
    is_wanted_ = false;
    changed_.notify_all();
    const auto is_needed = [&] { return is_stopped_ || is_wanted_; };
    if (!waiting_) changed_.wait(lock, is_needed);
    else if (!changed_.wait_for(lock, std::chrono::milliseconds(idle_ms_), is_needed)) end_idle();
  }
}

std::optional<linux::ChildProcess> ReadyWorkers::hand_over(const std::vector<linux::FdMapping>& fds) {
  std::optional<Waiting> taken;
  {
    std::lock_guard lock(mutex_);
    taken.swap(waiting_);
  }
  if (!taken) return std::nullopt;
  std::string places;
  std::vector<int> sources;
  for (const auto& fd : fds) {
    places += static_cast<char>(fd.target);
    sources.push_back(fd.source);
  }
  if (linux::send_message(taken->channel.get(), places, sources).ok()) return std::move(taken->process);
  end(taken);
  return std::nullopt;
}

void ReadyWorkers::refill(int delay_ms) {
  std::lock_guard lock(mutex_);
  const auto due = std::chrono::steady_clock::now() + std::chrono::milliseconds(delay_ms);
  if (!is_wanted_ || due < due_) due_ = due;
  is_wanted_ = true;
  changed_.notify_all();
}

bool ReadyWorkers::await(bool is_there, int timeout_ms) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return waiting_.has_value() == is_there; });
}

}  // namespace caisson::image
