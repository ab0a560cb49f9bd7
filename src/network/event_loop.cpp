// The loop on epoll, with an eventfd that wakes it for posted work.
#include "network/event_loop.hpp"

#include <algorithm>
#include <array>
#include <future>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/process.hpp"

namespace caisson::network {
namespace {
constexpr std::uint64_t wake_tag = 0;
}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create(std::string name) {
  UniqueFd epoll = TRY_PLAIN(linux::epoll_create());
  UniqueFd wake = TRY_PLAIN(linux::eventfd());
  TRY_PLAIN(linux::epoll_add(epoll.get(), wake.get(), EPOLLIN, wake_tag));
  std::unique_ptr<EventLoop> loop(new EventLoop(std::move(name), std::move(epoll), std::move(wake)));
  loop->start_thread();
  return loop;
}

void EventLoop::start_thread() {
  thread_ = std::thread([this] { run(); });
}

void EventLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ignore(linux::eventfd_signal(wake_.get()));  // fails only when the counter is full, and then it wakes as well
  if (thread_.joinable()) thread_.join();
}

Result<std::uint64_t> EventLoop::reserve_watch(int fd) {
  const std::uint64_t number = next_number_++;
  TRY_PLAIN(linux::epoll_add(epoll_.get(), fd, 0, number));
  return number;
}

void EventLoop::begin_watch(std::uint64_t watch, int fd, std::uint32_t events, std::function<void(std::uint32_t)> on_ready) {
  Watch entry;
  entry.fd = fd;
  entry.on_ready = std::make_shared<std::function<void(std::uint32_t)>>(std::move(on_ready));
  watches_.insert_or_assign(watch, std::move(entry));
  change(watch, events);
}

Result<std::uint64_t> EventLoop::watch(int fd, std::uint32_t events, std::function<void(std::uint32_t)> on_ready) {
  const std::uint64_t number = TRY_PLAIN(reserve_watch(fd));
  begin_watch(number, fd, events, std::move(on_ready));
  return number;
}

void EventLoop::change(std::uint64_t watch, std::uint32_t events) {
  auto found = watches_.find(watch);
  if (found == watches_.end()) return;
  ignore(linux::epoll_modify(epoll_.get(), found->second.fd, events, watch));  // allocates nothing: fails only for a descriptor not watched
}

void EventLoop::unwatch(std::uint64_t watch) {
  auto found = watches_.find(watch);
  if (found == watches_.end()) return;
  ignore(linux::epoll_remove(epoll_.get(), found->second.fd));  // closing the descriptor does it too, and its number is not looked up again
  watches_.erase(found);
}

std::uint64_t EventLoop::at(std::int64_t deadline_ns, std::function<void()> on_time) {
  const std::uint64_t number = next_number_++;
  timers_.emplace(std::pair(deadline_ns, number), std::move(on_time));
  deadlines_.emplace(number, deadline_ns);
  return number;
}

void EventLoop::cancel(std::uint64_t timer) {
  auto found = deadlines_.find(timer);
  if (found == deadlines_.end()) return;
  timers_.erase({found->second, timer});
  deadlines_.erase(found);
}

Status EventLoop::post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Error(ErrorKind::unavailable, "the serving thread has been stopped");
    if (has_ended_) {
      thread_.join();
      has_ended_ = false;
      start_thread();
    }
    posted_.push_back(std::move(work));
  }
  return linux::eventfd_signal(wake_.get());
}

Status EventLoop::post_and_wait(std::function<void()> work) {
  auto done = std::make_shared<std::promise<void>>();
  auto future = done->get_future();
  TRY_PLAIN(post([work = std::move(work), done] {
    work();
    done->set_value();
  }));
  done.reset();  // the loop's copy is the last one: dropped unrun, it ends the wait with broken_promise
  try {
    future.get();
  } catch (const std::future_error&) {
    const std::lock_guard lock(mutex_);
    return Error(ErrorKind::unavailable, concat("the serving thread has ended", ended_because_.empty() ? "" : ": ", ended_because_));
  }
  return {};
}

void EventLoop::run() {
  ignore(linux::set_thread_name(name_));  // only for people who look at the process
  Status ended = run_until_stopped();
  std::vector<std::function<void()>> dropped;
  const std::lock_guard lock(mutex_);
  has_ended_ = true;  // who waits for work is told why; the next work starts the thread anew
  if (!ended) ended_because_ = ended.error().text();
  dropped.swap(posted_);
}

Status EventLoop::run_until_stopped() {
  std::array<linux::EpollEvent, 64> events;
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return {};
    }
    const std::size_t count = TRY_PLAIN(linux::epoll_wait(epoll_.get(), events, time_left_ms()));
    for (std::size_t i = 0; i < count; ++i) {
      if (events[i].tag == wake_tag) {
        TRY_PLAIN(linux::eventfd_take(wake_.get()));
        run_posted();
        continue;
      }
      auto found = watches_.find(events[i].tag);
      if (found == watches_.end()) continue;  // removed by a callback before it
      const auto on_ready = found->second.on_ready;
      (*on_ready)(events[i].events);
    }
    run_due_timers();
  }
}

int EventLoop::time_left_ms() const {
  if (timers_.empty()) return -1;
  const std::int64_t left_ns = timers_.begin()->first.first - monotonic_ns();
  return static_cast<int>(std::clamp<std::int64_t>((left_ns + 999'999) / 1'000'000, 0, 3'600'000));
}

void EventLoop::run_due_timers() {
  const std::int64_t now = monotonic_ns();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto due = timers_.extract(timers_.begin());
    deadlines_.erase(due.key().second);
    due.mapped()();
  }
}

void EventLoop::run_posted() {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock(mutex_);
    work.swap(posted_);
  }
  for (auto& item : work) item();
}

}  // namespace caisson::network
