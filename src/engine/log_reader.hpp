// Reading what monitors have written: json-file logs with their rotated predecessors, from any point, and on as they grow.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

/// {"log":"text\n","stream":"stdout","time":"…"} → a record. Nothing for a line that is no such object (cut off by a crash or a full
/// disk): the reader passes over it.
std::optional<LogRecord> parse_log_line(std::string_view line);

/// Reads `path`.N … `path`.1, which may be `path`.N.gz, then `path`, oldest record first. With `follow` it goes on until `over` fires (no more will come; what is
/// there is still read) or `cancel` fires. `over` with fd -1 means that nothing more comes already now.
/// Errors: what the sink returns, io. A log that does not exist yet is empty.
Status read_log(const std::string& path, const LogOptions& options, LogSink& sink, Cancel cancel, Cancel over);

}  // namespace caisson::engine
