// Writes log lines in one write(2) each, so that lines of several processes do not mix.
#include "base/log.hpp"

#include <unistd.h>

#include <atomic>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"

namespace caisson {

namespace {
std::atomic<LogLevel> current_level{LogLevel::info};
std::atomic<bool> json_lines{false};
std::atomic<int> sink_fd{2};

std::string_view name_of(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return "debug";
    case LogLevel::info: return "info";
    case LogLevel::warning: return "warning";
    case LogLevel::error: return "error";
  }
  return "error";
}

void append_field(std::string& line, std::string_view key, std::string_view value) {
  if (value.empty()) return;
  line += concat(" ", key, "=", to_text(json::string(value)));
}
}  // namespace

void configure_log(const LogOptions& options) {
  current_level = options.level;
  json_lines = options.as_json;
  sink_fd = options.fd;
}

void log(LogLevel level, std::string_view step, std::string_view object, std::string_view text) {
  if (level < current_level.load()) return;
  std::string line;
  if (json_lines.load()) {
    json::object fields{{"time", to_rfc3339(now_ns())}, {"level", name_of(level)}, {"step", step}, {"object", object}, {"msg", text}};
    line = to_text(fields);
  } else {
    line = concat(to_rfc3339(now_ns()), " ", name_of(level), " ", step);
    append_field(line, "object", object);
    append_field(line, "msg", text);
  }
  line += '\n';
  [[maybe_unused]] auto written = ::write(sink_fd.load(), line.data(), line.size());  // a full log disk must not stop the engine
}

void log_error(std::string_view step, std::string_view object, const Error& error) {
  log(LogLevel::error, step, object, concat(error.text(), " (", to_string(error.kind()), ")"));
}

}  // namespace caisson
