// Health: what a container's probes mean. Pure; HealthChecks runs the probes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/types.hpp"

namespace caisson::engine {

/// The check in force when a request and its image both say something: each field that the request leaves out is the image's.
std::optional<image::Healthcheck> merge_healthcheck(const std::optional<image::Healthcheck>& asked, const std::optional<image::Healthcheck>& from_image);

/// The program of a container's probe and its arguments; empty when there is nothing to run: no check, NONE, or a kind that does not exist
/// (which docker only logs).
std::vector<std::string> probe_command(const ContainerSpec& spec);

/// How long one probe may take.
std::int64_t probe_timeout_ns(const image::Healthcheck& check);
/// From the end of one probe (or the start of the container) to the next probe.
std::int64_t probe_pause_ns(const image::Healthcheck& check, HealthStatus status, std::int64_t since_start_ns);

/// One more result. Failures before `started_at` plus the start period do not count, until the first success. True when the status changed.
bool apply_probe(Health& health, const image::Healthcheck& check, ProbeResult result, TimestampNs started_at);

/// Collects a probe's output up to docker's limit.
class ProbeOutput {
 public:
  static constexpr std::size_t limit_bytes = 4096;
  void append(std::string_view bytes);
  /// With "..." behind what was cut.
  [[nodiscard]] std::string text() const { return is_cut_ ? text_ + "..." : text_; }

 private:
  std::string text_;
  bool is_cut_ = false;
};

/// The result of a probe that was killed after `timeout_ns`, in docker's words.
std::string timeout_text(std::int64_t timeout_ns, const std::string& output);

}  // namespace caisson::engine
