// Text exposition format, version 0.0.4.
#include "registry/metrics.hpp"

#include <algorithm>

#include "base/strings.hpp"

namespace caisson::registry {

namespace {

constexpr std::array<const char*, 8> bound_texts{"0.001", "0.005", "0.02", "0.1", "0.5", "2", "10", "60"};
constexpr std::array<std::string_view, 7> known_methods{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

void head(std::string& out, std::string_view name, std::string_view type, std::string_view help) {
  out += concat("# HELP caisson_registry_", name, " ", help, "\n# TYPE caisson_registry_", name, " ", type, "\n");
}

void single(std::string& out, std::string_view name, std::string_view type, std::string_view help, std::uint64_t value) {
  head(out, name, type, help);
  out += concat("caisson_registry_", name, " ", value, "\n");
}

/// Seconds with microseconds: no locale, no streams.
std::string seconds_text(double seconds) {
  const auto micros = static_cast<std::uint64_t>(seconds * 1e6);
  auto fraction = concat(1'000'000 + micros % 1'000'000).substr(1);
  return concat(micros / 1'000'000, ".", fraction);
}

}  // namespace

void Metrics::count_request(std::string_view method, int status, std::uint64_t sent_bytes, std::int64_t duration_ns) {
  const double seconds = static_cast<double>(duration_ns) / 1e9;
  const auto bucket = static_cast<std::size_t>(std::lower_bound(bounds_s.begin(), bounds_s.end(), seconds) - bounds_s.begin());
  // A method is a client's text: an unknown one must not become a label of its own.
  const bool is_known = std::find(known_methods.begin(), known_methods.end(), method) != known_methods.end();
  std::lock_guard lock(mutex_);
  ++requests_[{std::string(is_known ? method : "other"), status}];
  ++durations_[bucket];
  duration_sum_s_ += seconds;
  sent_bytes_ += sent_bytes;
}

std::string Metrics::text(const Gauges& gauges) {
  std::string out;
  {
    std::lock_guard lock(mutex_);
    head(out, "requests_total", "counter", "Requests answered.");
    for (const auto& [key, count] : requests_) out += concat("caisson_registry_requests_total{method=\"", key.first, "\",code=\"", key.second, "\"} ", count, "\n");
    head(out, "request_duration_seconds", "histogram", "From a request's head to the end of its answer.");
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < durations_.size(); ++i) {
      sum += durations_[i];
      out += concat("caisson_registry_request_duration_seconds_bucket{le=\"", i < bound_texts.size() ? bound_texts[i] : "+Inf", "\"} ", sum, "\n");
    }
    out += concat("caisson_registry_request_duration_seconds_sum ", seconds_text(duration_sum_s_), "\ncaisson_registry_request_duration_seconds_count ", sum, "\n");
    single(out, "sent_bytes_total", "counter", "Bytes of answers' bodies.", sent_bytes_);
  }
  single(out, "received_bytes_total", "counter", "Bytes of blobs received.", received_bytes);
  single(out, "blob_bytes", "gauge", "Bytes on disk, each blob once.", gauges.blob_bytes);
  single(out, "uploads", "gauge", "Uploads that were begun and are not finished.", gauges.uploads);
  head(out, "repository_bytes", "gauge", "Bytes that a repository holds; shared ones count in each.");
  for (const auto& [name, bytes] : gauges.repository_bytes) out += concat("caisson_registry_repository_bytes{repository=\"", name, "\"} ", bytes, "\n");
  single(out, "clean_ups_total", "counter", "Clean-ups finished.", clean_ups);
  single(out, "cleaned_bytes_total", "counter", "Bytes given back by clean-ups.", cleaned_bytes);
  single(out, "events_waiting", "gauge", "Events that are still to be sent.", gauges.waiting_events);
  single(out, "events_sent_total", "counter", "Events delivered.", events_sent);
  single(out, "events_failed_total", "counter", "Attempts to deliver that failed.", events_failed);
  single(out, "events_dropped_total", "counter", "Events given up because too many waited.", events_dropped);
  single(out, "proxy_hits_total", "counter", "Manifests and blobs of other registries that were here.", proxy_hits);
  single(out, "proxy_misses_total", "counter", "Manifests and blobs that were brought.", proxy_misses);
  return out;
}

}  // namespace caisson::registry
