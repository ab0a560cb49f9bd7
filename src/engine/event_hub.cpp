// Replay from the ring, then live events, then (with `until`) the end.
#include "engine/event_hub.hpp"

#include <algorithm>
#include <array>

#include "linux/event.hpp"

namespace caisson::engine {

class EventHub::Stream final : public EventStream {
 public:
  Stream(std::shared_ptr<EventHub> hub, std::shared_ptr<Listener> listener, TimestampNs until)
      : hub_(std::move(hub)), listener_(std::move(listener)), until_(until) {}
  ~Stream() override {
    std::lock_guard lock(hub_->mutex_);
    hub_->listeners_.remove(listener_);
  }

  Result<std::optional<Event>> next(Cancel cancel) override {
    for (;;) {
      {
        std::lock_guard lock(listener_->mutex);
        if (!listener_->queue.empty()) {
          auto event = listener_->queue.front();
          if (until_ != 0 && event->time > until_) return std::optional<Event>();
          listener_->queue.pop_front();
          return std::optional<Event>(*event);
        }
        if (listener_->overflowed)
          return Error(ErrorKind::unavailable, "events were dropped: this reader did not keep up").with_hint("subscribe again with since=");
      }
      TimestampNs now = now_ns();
      if (until_ != 0 && now >= until_) return std::optional<Event>();
      TRY_PLAIN(wait(cancel, now));
    }
  }

 private:
  Status wait(Cancel cancel, TimestampNs now) {
    int timeout_ms = -1;
    if (until_ != 0) {
      constexpr std::int64_t longest_ms = 3'600'000;  // poll takes an int; the loop asks again
      timeout_ms = static_cast<int>(std::min<std::int64_t>((until_ - now) / 1'000'000 + 1, longest_ms));
    }
    std::array<linux::PollEntry, 2> entries{};
    entries[0] = {listener_->wake.get(), POLLIN, 0};
    entries[1] = {cancel.fd, POLLIN, 0};
    TRY(linux::poll(entries, timeout_ms), "wait for events");
    if (entries[1].revents != 0) return Error(ErrorKind::timeout, "wait for events: the client went away");
    TRY(linux::eventfd_take(listener_->wake.get()), "wait for events");
    return {};
  }

  std::shared_ptr<EventHub> hub_;
  std::shared_ptr<Listener> listener_;
  TimestampNs until_;
};

void EventHub::publish(Event event) {
  if (event.time == 0) event.time = now_ns();
  auto shared = std::make_shared<const Event>(std::move(event));
  std::lock_guard lock(mutex_);
  ring_.push_back(shared);
  if (ring_.size() > ring_size) ring_.pop_front();
  for (const auto& listener : listeners_) {
    std::lock_guard listener_lock(listener->mutex);
    if (listener->queue.size() >= queue_limit)
      listener->overflowed = true;
    else if (!listener->overflowed)
      listener->queue.push_back(shared);
    ignore(linux::eventfd_signal(listener->wake.get()));  // fails only when the counter is full, and then it is readable already
  }
}

Result<std::unique_ptr<EventStream>> EventHub::subscribe(const EventOptions& options) {
  auto listener = std::make_shared<Listener>();
  listener->wake = TRY(linux::eventfd(), "subscribe to events");
  std::lock_guard lock(mutex_);
  if (options.since != 0)
    std::copy_if(ring_.begin(), ring_.end(), std::back_inserter(listener->queue), [&](const auto& event) { return event->time >= options.since; });
  listeners_.push_back(listener);
  return std::unique_ptr<EventStream>(std::make_unique<Stream>(shared_from_this(), std::move(listener), options.until));
}

std::size_t EventHub::listeners() {
  std::lock_guard lock(mutex_);
  return listeners_.size();
}

}  // namespace caisson::engine
