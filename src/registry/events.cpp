// The queues and their threads.
#include "registry/events.hpp"

#include <algorithm>
#include <chrono>

#include "base/ids.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"

namespace caisson::registry {

namespace {

constexpr std::size_t most_per_envelope = 64;

std::string prefix_of(const EventTarget& target) { return concat("event/", target.name, "/"); }

/// Twenty digits: byte order is the order of events.
std::string key_of(const EventTarget& target, std::uint64_t number) {
  auto text = concat(number);
  return concat(prefix_of(target), std::string(20 - text.size(), '0'), text);
}

bool wants(const EventTarget& target, std::string_view action) {
  return target.actions.empty() || std::find(target.actions.begin(), target.actions.end(), action) != target.actions.end();
}

}  // namespace

std::string write_event(const Event& event, std::string_view id, std::int64_t time_ns, std::string_view source, std::string_view instance) {
  json::object target;
  target["mediaType"] = event.media_type;
  target["size"] = event.size_bytes;
  target["digest"] = event.digest;
  target["length"] = event.size_bytes;
  target["repository"] = event.repository;
  if (!event.from_repository.empty()) target["fromRepository"] = event.from_repository;
  const bool is_manifest = event.media_type.find("manifest") != std::string::npos || event.media_type.find("index") != std::string::npos;
  target["url"] = concat("http://", event.host, "/v2/", event.repository, is_manifest ? "/manifests/" : "/blobs/", event.digest);
  if (!event.tag.empty()) target["tag"] = event.tag;
  json::object request;
  request["id"] = id;
  request["addr"] = event.address;
  request["host"] = event.host;
  request["method"] = event.method;
  request["useragent"] = event.user_agent;
  json::object out;
  out["id"] = id;
  out["timestamp"] = to_rfc3339(time_ns);
  out["action"] = event.action;
  out["target"] = std::move(target);
  out["request"] = std::move(request);
  out["actor"] = event.actor.empty() ? json::object() : json::object{{"name", event.actor}};
  out["source"] = json::object{{"addr", source}, {"instanceID", instance}};
  return to_text(out);
}

EventSink::EventSink(state::Store& store, Metrics& metrics, std::string source, EventPatience patience)
    : store_(store), metrics_(metrics), source_(std::move(source)), instance_(random_id().substr(0, 32)), patience_(patience) {}

Result<std::unique_ptr<EventSink>> EventSink::open(state::Store& store, Metrics& metrics, std::string source, std::vector<EventTarget> targets, EventPatience patience) {
  std::unique_ptr<EventSink> sink(new EventSink(store, metrics, std::move(source), patience));
  for (auto& target : targets) {
    auto queue = std::make_unique<Queue>();
    const auto prefix = prefix_of(target);
    for (auto& entry : TRY(store.list(prefix), "read the events that wait")) {
      auto number = parse_integer<std::uint64_t>(std::string_view(entry.key).substr(prefix.size()));
      if (number.ok()) sink->next_ = std::max(sink->next_, *number + 1);
      queue->waiting.emplace_back(std::move(entry.key), std::move(entry.value));
    }
    queue->target = std::move(target);
    sink->queues_.push_back(std::move(queue));
  }
  for (auto& queue : sink->queues_) queue->thread = std::thread([raw = sink.get(), one = queue.get()] { raw->run(*one); });
  return sink;
}

EventSink::~EventSink() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& queue : queues_)
    if (queue->thread.joinable()) queue->thread.join();
}

bool EventSink::is_wanted(std::string_view action) const {
  return std::any_of(queues_.begin(), queues_.end(), [&](const auto& queue) { return wants(queue->target, action); });
}

void EventSink::add(const Event& event) {
  const auto text = write_event(event, random_id().substr(0, 32), now_ns(), source_, instance_);
  std::lock_guard lock(mutex_);
  state::Transaction change;
  for (auto& queue : queues_) {
    if (!wants(queue->target, event.action)) continue;
    auto key = key_of(queue->target, next_++);
    change.put(key, text);
    queue->waiting.emplace_back(std::move(key), text);
    if (queue->waiting.size() <= patience_.most_waiting) continue;
    change.erase(queue->waiting.front().first);
    queue->waiting.pop_front();
    ++metrics_.events_dropped;
  }
  if (auto committed = store_.commit(change); !committed.ok()) log_error("queue an event", event.repository, committed.error());
  changed_.notify_all();
}

std::size_t EventSink::waiting() {
  std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const auto& queue : queues_) count += queue->waiting.size();
  return count;
}

void EventSink::run(Queue& queue) {
  std::int64_t pause_ms = patience_.first_pause_ms;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !queue.waiting.empty(); });
    if (stopping_) return;
    std::vector<std::string> keys;
    std::string envelope = "{\"events\":[";
    for (const auto& [key, text] : queue.waiting) {
      if (keys.size() == most_per_envelope) break;
      if (!keys.empty()) envelope += ',';
      envelope += text;
      keys.push_back(key);
    }
    envelope += "]}";
    lock.unlock();
    auto delivered = queue.target.deliver(envelope);
    if (!delivered.ok()) log_error("deliver events", queue.target.name, delivered.error());
    lock.lock();
    if (delivered.ok()) {
      pause_ms = patience_.first_pause_ms;
      metrics_.events_sent += keys.size();
      state::Transaction change;
      for (auto& key : keys) {
        // The oldest may have been given up meanwhile.
        if (!queue.waiting.empty() && queue.waiting.front().first == key) queue.waiting.pop_front();
        change.erase(std::move(key));
      }
      // If the store refuses, they are delivered again by the next process: at least once is the promise.
      if (auto committed = store_.commit(change); !committed.ok()) log_error("forget delivered events", queue.target.name, committed.error());
      continue;
    }
    ++metrics_.events_failed;
    changed_.wait_for(lock, std::chrono::milliseconds(pause_ms), [&] { return stopping_; });
    pause_ms = std::min(pause_ms * 2, patience_.longest_pause_ms);
  }
}

}  // namespace caisson::registry
