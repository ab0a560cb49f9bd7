// The family tree, and what its members did.
#include "engine/observation.hpp"

#include <algorithm>
#include <utility>

namespace caisson::engine {

namespace {
constexpr std::size_t most_early = 200'000;  // of a start: some thousands
}  // namespace

void Observation::take(const Observed& event) {
  if (monitor_ != 0) {
    apply(event);
    return;
  }
  if (early_.size() < most_early) early_.push_back(event);
  else if (early_.size() == most_early) ++losses_;
}

void Observation::set_monitor(pid_t monitor) {
  if (monitor_ == monitor || monitor == 0) return;
  monitor_ = monitor;
  for (const auto& event : std::exchange(early_, {})) apply(event);
}

bool Observation::set_first(pid_t first, std::span<const pid_t> makers) {
  std::map<pid_t, pid_t> makers_of;
  for (const auto& event : early_)
    if (event.kind == Observed::Kind::forked) makers_of[static_cast<pid_t>(event.number)] = event.thread;
  // Bounded by the forks that were seen: a number that was used twice could lead in a circle.
  for (std::size_t steps = 0; steps <= makers_of.size(); ++steps) {
    auto made = makers_of.find(first);
    if (made == makers_of.end()) return false;
    if (std::find(makers.begin(), makers.end(), made->second) != makers.end()) {
      set_monitor(first);
      return true;
    }
    first = made->second;
  }
  return false;
}

void Observation::note_loss() {
  ++losses_;
  entered_.clear();
  seen_.clear();
}

void Observation::apply(const Observed& event) {
  if (event.kind == Observed::Kind::forked) {
    const auto child = static_cast<pid_t>(event.number);
    threads_.erase(child);  // a number that is used again
    entered_.erase(child);
    if (event.thread == monitor_) {
      threads_[child] = Standing::prepared;
    } else if (auto parent = threads_.find(event.thread); parent != threads_.end()) {
      const auto standing = parent->second;
      threads_[child] = standing;
      // The young thread returns from the call that made it, which its parent entered.
      if (auto call = entered_.find(event.thread); call != entered_.end()) entered_[child] = call->second;
      seen_.insert(child);
    }
    return;
  }
  auto found = threads_.find(event.thread);
  if (found == threads_.end()) return;
  if (event.kind == Observed::Kind::executed) {
    found->second = Standing::inside;
    return;
  }
  if (event.kind == Observed::Kind::entered) {
    entered_[event.thread] = event.number;
    seen_.insert(event.thread);
  }
  if (found->second != Standing::inside) {
    if (event.kind == Observed::Kind::returned) entered_.erase(event.thread);
    return;
  }
  switch (event.kind) {
    case Observed::Kind::entered: calls_.insert(event.number); break;
    case Observed::Kind::returned: {
      auto call = entered_.find(event.thread);
      const bool was_entered = call != entered_.end() && call->second == event.number;
      if (call != entered_.end()) entered_.erase(call);
      if (!was_entered && event.result < 0 && (losses_ == 0 || seen_.contains(event.thread)) && may_refuse_(event.number)) refused_.insert(event.number);
      seen_.insert(event.thread);
      break;
    }
    case Observed::Kind::asked: (event.result == 0 ? capabilities_ : lacking_).insert(event.number); break;
    default: break;
  }
}

}  // namespace caisson::engine
