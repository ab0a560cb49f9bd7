// The log sink: one structured line per event. Only engine, api, cluster, cli and app log; libraries return errors.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson {

enum class LogLevel : std::uint8_t { debug, info, warning, error };

/// Where lines go. The default writes text lines to standard error from level info on.
/// This is the program's one global (design/style: "No globals but the log sink"). Thread-safe.
struct LogOptions {
  LogLevel level = LogLevel::info;
  bool as_json = false;
  int fd = 2;  ///< borrowed
};
void configure_log(const LogOptions& options);

/// `step` says what was being done, `object` names what it was done to ("container 3f2a…"), `text` is the rest.
void log(LogLevel level, std::string_view step, std::string_view object, std::string_view text);
void log_error(std::string_view step, std::string_view object, const Error& error);

}  // namespace caisson
