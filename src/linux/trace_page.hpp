// What the kernel's trace buffers hold: the format of an event, and the records of a page. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::linux {

/// A field of an event that holds one number.
struct TraceField {
  std::uint16_t offset = 0;
  std::uint8_t size = 0;  ///< 1, 2, 4 or 8
  bool is_signed = false;
};
/// events/GROUP/NAME/format.
struct TraceFormat {
  std::uint16_t id = 0;
  std::map<std::string, TraceField> fields;  ///< those that hold one number
};
/// Errors: corrupt, when there is no id or no common_pid.
Result<TraceFormat> parse_trace_format(std::string_view text);

/// One event as it lies in a page.
struct TraceRecord {
  std::uint64_t time_ns = 0;
  std::uint16_t event_id = 0;
  std::string bytes;
};
/// Nothing when the record is too short for the field.
Result<std::int64_t> trace_number(const TraceRecord& record, const TraceField& field);

struct TracePage {
  std::vector<TraceRecord> records;
  bool has_lost = false;  ///< the buffer was full, and older events were overwritten
};
/// A page of trace_pipe_raw, of a 64-bit kernel (Documentation/trace/ring-buffer-design.rst, include/linux/ring_buffer.h).
/// Errors: corrupt, when a length leads out of the page; nothing of it counts then.
Result<TracePage> parse_trace_page(std::string_view page);

}  // namespace caisson::linux
