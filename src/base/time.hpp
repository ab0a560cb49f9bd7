// Points in time, as nanoseconds since 1970, and their RFC 3339 text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson {

/// Nanoseconds since 1970-01-01T00:00:00Z. 0 means "never happened".
using TimestampNs = std::int64_t;

TimestampNs now_ns();
/// CLOCK_MONOTONIC, for durations.
std::int64_t monotonic_ns();

/// "2026-11-20T15:27:32.054385335Z", always 9 fractional digits. 0 gives docker's "0001-01-01T00:00:00Z".
std::string to_rfc3339(TimestampNs time);
/// RFC 3339 with any fraction up to 9 digits and any offset. "0001-01-01T00:00:00Z" gives 0. Errors: invalid.
Result<TimestampNs> parse_rfc3339(std::string_view text);
/// Go's duration text: "1h30m", "1.5s", "250ms", "-2m". Result in ns. Errors: invalid.
Result<std::int64_t> parse_duration_ns(std::string_view text);
/// docker's `since`/`until`: unix seconds with optional fraction, RFC 3339 (with or without offset), or a duration back from `now`.
/// Errors: invalid.
Result<TimestampNs> parse_point_in_time(std::string_view text, TimestampNs now);
/// "Less than a second", "5 seconds", "About a minute", "3 hours", "2 weeks": docker's HumanDuration.
std::string human_duration(std::int64_t duration_ns);

}  // namespace caisson
