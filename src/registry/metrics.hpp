// Counters in Prometheus' text format.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace caisson::registry {

/// What is counted elsewhere and read when somebody asks.
struct Gauges {
  std::map<std::string, std::uint64_t> repository_bytes;
  std::uint64_t blob_bytes = 0;
  std::uint64_t uploads = 0;
  std::uint64_t waiting_events = 0;
};

/// Thread-safe.
class Metrics {
 public:
  void count_request(std::string_view method, int status, std::uint64_t sent_bytes, std::int64_t duration_ns);
  [[nodiscard]] std::string text(const Gauges& gauges);

  std::atomic<std::uint64_t> received_bytes = 0;
  std::atomic<std::uint64_t> clean_ups = 0;
  std::atomic<std::uint64_t> cleaned_bytes = 0;
  std::atomic<std::uint64_t> events_sent = 0;
  std::atomic<std::uint64_t> events_failed = 0;
  std::atomic<std::uint64_t> events_dropped = 0;
  std::atomic<std::uint64_t> proxy_hits = 0;
  std::atomic<std::uint64_t> proxy_misses = 0;

 private:
  static constexpr std::array<double, 8> bounds_s{0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60};
  std::mutex mutex_;
  std::map<std::pair<std::string, int>, std::uint64_t> requests_;
  std::array<std::uint64_t, bounds_s.size() + 1> durations_{};
  double duration_sum_s_ = 0;
  std::uint64_t sent_bytes_ = 0;
};

}  // namespace caisson::registry
