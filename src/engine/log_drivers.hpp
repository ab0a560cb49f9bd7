// Log drivers: what their options mean, and how a record looks to each of them. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

/// How a log file is rotated.
struct LogLimits {
  std::int64_t max_size_bytes = 10 << 20;
  std::uint32_t max_files = 3;
};

/// As docker lists them.
const std::vector<std::string>& log_driver_names();

/// Errors: invalid, in docker's words: an unknown driver, an option that this driver does not have, a value that means nothing.
Status check_log_driver(const std::string& driver, const std::map<std::string, std::string>& options);

/// What a container asks for with the configured defaults filled in: the driver, and its options when the driver is the same.
void fill_log_defaults(ContainerSpec& spec, const Settings& settings);

/// Rotation of the file that the monitor writes: the log itself, or what `docker logs` reads where the driver sends records away.
Result<LogLimits> file_limits_of(const ContainerSpec& spec);
/// Whether the daemon compresses what rotation puts aside: asked for by `compress`, and local's own default. Not of files that log servers are
/// still to be sent.
bool compresses_log(const ContainerSpec& spec);
/// Whether `docker logs` has something to read.
bool has_readable_log(const ContainerSpec& spec);
/// Records go to a server, beside the file.
bool is_sent_away(const ContainerSpec& spec);

/// What `labels`, `labels-regex`, `env` and `env-regex` choose, by name. Errors: invalid (a broken expression).
Result<std::map<std::string, std::string>> chosen_attributes(const ContainerSpec& spec);
/// The tag: `tag` of the options, else `fallback`, with {{.Name}} and its kind filled in. Errors: invalid (unknown field).
Result<std::string> log_tag(const ContainerInfo& info, std::string_view fallback);
/// "attrs" of json-file records as JSON, "" when there are none.
Result<std::string> attributes_json(const ContainerInfo& info);

struct SyslogTarget {
  enum class Transport : std::uint8_t { unix_any, unix_datagram, udp, tcp, tls };
  enum class Format : std::uint8_t { local, rfc3164, rfc5424, rfc5424_micro };
  Transport transport = Transport::unix_any;
  Format format = Format::local;
  std::string path = "/dev/log";  ///< unix
  std::string host;
  std::string port;
  std::uint8_t facility = 3;      ///< daemon
  std::string ca;
  std::string certificate;
  std::string key;
  bool verify = true;
};
/// Errors: invalid, naming the option.
Result<SyslogTarget> parse_syslog_target(const std::map<std::string, std::string>& options);

/// What is the same in every record of one container.
struct LogIdentity {
  std::string hostname;
  std::string tag;
  int pid = 0;                    ///< of the daemon, as docker has it
};
/// One message with its framing, ready to be sent: a datagram, or a piece of a stream.
std::string syslog_message(const SyslogTarget& target, const LogIdentity& identity, const LogRecord& record);

/// Fields of the journal that are the same in every record: CONTAINER_ID, CONTAINER_NAME, …, and the chosen attributes.
std::string journal_fields(const ContainerInfo& info, const std::string& tag, const std::map<std::string, std::string>& attributes);
/// One datagram of the journal's native protocol.
std::string journal_message(const std::string& fields, const LogRecord& record);

}  // namespace caisson::engine
