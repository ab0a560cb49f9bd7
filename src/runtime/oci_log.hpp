// Where the command line tells its errors and warnings: standard error, and the --log destination that callers read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::runtime {

enum class OciLogLevel : std::uint8_t { error, warning, debug };

enum class OciLogKind : std::uint8_t { none, file, journald, syslog };

struct OciLog {
  OciLogKind kind = OciLogKind::none;
  std::string target;  ///< a path; for journald and syslog the identifier
  bool json = false;   ///< of a file; else logfmt
  OciLogLevel level = OciLogLevel::warning;
};

/// "[file:]PATH", "journald:NAME", "syslog:NAME".
void set_destination(OciLog& log, std::string_view text);
/// Errors: invalid, for another word than error, warning, info or debug (and runc's trace, warn, fatal, panic).
Result<OciLogLevel> parse_log_level(std::string_view text);

/// One line to the destination, in the form that containerd's shim parses: level, msg and time (RFC 3339). A destination that
/// cannot be written is passed over: it must not hide what standard error says.
void write_log(const OciLog& log, OciLogLevel level, const std::string& text);
/// The same, and to standard error: an error with its hint always, a warning only under --debug.
void report(const OciLog& log, const Error& error);
void warn(const OciLog& log, const std::string& text);

}  // namespace caisson::runtime
