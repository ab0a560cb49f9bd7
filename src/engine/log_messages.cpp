// Syslog (RFC 3164, RFC 5424) and the journal's native protocol, as docker's drivers write them.
#include <algorithm>
#include <array>
#include <ctime>

#include "base/strings.hpp"
#include "engine/log_drivers.hpp"

namespace caisson::engine {

namespace {
Error invalid(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

constexpr std::array<std::string_view, 24> facilities = {"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
                                                         "",     "",     "",     "",       "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"};

Result<std::uint8_t> parse_facility(const std::string& text) {
  if (text.empty()) return std::uint8_t{3};
  for (std::size_t i = 0; i < facilities.size(); ++i)
    if (facilities[i] == text) return static_cast<std::uint8_t>(i);
  auto number = parse_integer<std::uint8_t>(text);
  if (number.ok() && *number < facilities.size()) return *number;
  return invalid("invalid syslog facility");
}

Status parse_address(const std::string& text, SyslogTarget& target) {
  using Transport = SyslogTarget::Transport;
  auto halves = split_once(text, ':');
  if (!halves.found || !halves.after.starts_with("//")) return invalid("syslog-address should be in form proto://address, got " + text);
  const std::string_view rest = halves.after.substr(2);
  if (halves.before == "unix" || halves.before == "unixgram") {
    target.transport = halves.before == "unix" ? Transport::unix_any : Transport::unix_datagram;
    if (!rest.starts_with('/')) return invalid(concat("syslog-address: \"", text, "\": want the socket's absolute path"));
    target.path = rest;
    return {};
  }
  if (halves.before == "udp") target.transport = Transport::udp;
  else if (halves.before == "tcp") target.transport = Transport::tcp;
  else if (halves.before == "tcp+tls") target.transport = Transport::tls;
  else return invalid(concat("unsupported scheme: '", halves.before, "'"));
  // The port may be left out: 514 (RFC 5426, RFC 6587), as docker has it for all of them.
  const auto bracket = rest.find(']');
  const auto colon = rest.find(':', bracket == std::string_view::npos ? 0 : bracket);
  target.host = rest.substr(0, colon);
  target.port = colon == std::string_view::npos ? "514" : rest.substr(colon + 1);
  if (target.host.size() > 2 && target.host.front() == '[' && target.host.back() == ']') target.host = target.host.substr(1, target.host.size() - 2);
  if (target.host.empty() || !parse_integer<std::uint16_t>(target.port).ok()) return invalid(concat("syslog-address: \"", text, "\": want PROTOCOL://HOST:PORT"));
  return {};
}

std::string two(int number, char fill = '0') { return number < 10 ? concat(fill, number) : concat(number); }

std::tm parts_of(TimestampNs time, bool is_local) {
  const std::time_t seconds = time / 1'000'000'000;
  std::tm parts{};
  if (is_local) localtime_r(&seconds, &parts);
  else gmtime_r(&seconds, &parts);
  return parts;
}

/// "Nov  5 17:04:14", in the host's zone, as RFC 3164 wants it.
std::string stamp_of(TimestampNs time) {
  constexpr std::array months{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::tm parts = parts_of(time, true);
  return concat(months[static_cast<std::size_t>(parts.tm_mon)], " ", two(parts.tm_mday, ' '), " ", two(parts.tm_hour), ":", two(parts.tm_min), ":", two(parts.tm_sec));
}

/// RFC 3339 with whole seconds or microseconds.
std::string iso_of(TimestampNs time, bool with_micros) {
  const std::string full = to_rfc3339(time);  // "2026-11-20T15:27:32.054385335Z"
  return full.substr(0, with_micros ? 26 : 19) + "Z";
}

std::string_view without_newline(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

/// A field whose value has line breaks travels with its length (systemd, "Native Journal Protocol").
void append_field(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  if (value.find('\n') == std::string_view::npos) {
    out += concat("=", value, "\n");
    return;
  }
  out += '\n';
  for (int i = 0; i < 8; ++i) out += static_cast<char>((static_cast<std::uint64_t>(value.size()) >> (8 * i)) & 0xff);
  out += concat(value, "\n");
}

/// Names of fields are capitals, digits and underscores, and begin with neither digit nor underscore.
std::string journal_name(std::string_view key) {
  std::string name;
  for (char c : key) {
    if (c >= 'a' && c <= 'z') name += static_cast<char>(c - 'a' + 'A');
    else if ((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) name += c;
    else name += '_';
  }
  name.erase(0, std::min(name.find_first_not_of("_0123456789"), name.size()));
  return name;
}
}  // namespace

Result<SyslogTarget> parse_syslog_target(const std::map<std::string, std::string>& options) {
  SyslogTarget target;
  auto get = [&](const char* key) {
    auto found = options.find(key);
    return found == options.end() ? std::string() : found->second;
  };
  if (auto address = get("syslog-address"); !address.empty()) TRY_PLAIN(parse_address(address, target));
  target.facility = TRY_PLAIN(parse_facility(get("syslog-facility")));
  const std::string format = get("syslog-format");
  if (format == "rfc3164") target.format = SyslogTarget::Format::rfc3164;
  else if (format == "rfc5424") target.format = SyslogTarget::Format::rfc5424;
  else if (format == "rfc5424micro") target.format = SyslogTarget::Format::rfc5424_micro;
  else if (!format.empty()) return invalid("Invalid syslog format");
  target.ca = get("syslog-tls-ca-cert");
  target.certificate = get("syslog-tls-cert");
  target.key = get("syslog-tls-key");
  if (target.certificate.empty() != target.key.empty()) return invalid("syslog-tls-cert and syslog-tls-key belong together");
  target.verify = !options.contains("syslog-tls-skip-verify");  // docker looks at its presence alone
  return target;
}

std::string syslog_message(const SyslogTarget& target, const LogIdentity& identity, const LogRecord& record) {
  using Format = SyslogTarget::Format;
  using Transport = SyslogTarget::Transport;
  constexpr int informational = 6;
  constexpr int error = 3;
  const int priority = target.facility * 8 + (record.stream == LogStream::standard_error ? error : informational);
  const auto text = without_newline(record.text);
  std::string message;
  switch (target.format) {
    case Format::local: message = concat("<", priority, ">", stamp_of(record.time), " ", identity.tag, "[", identity.pid, "]: ", text); break;
    case Format::rfc3164:
      message = concat("<", priority, ">", stamp_of(record.time), " ", identity.hostname, " ", identity.tag, "[", identity.pid, "]: ", text);
      break;
    case Format::rfc5424:
    case Format::rfc5424_micro:
      message = concat("<", priority, ">1 ", iso_of(record.time, target.format == Format::rfc5424_micro), " ", identity.hostname, " ", identity.tag, " ",
                       identity.pid, " ", identity.tag, " - ", text);
      break;
  }
  message += '\n';
  const bool is_5424 = target.format == Format::rfc5424 || target.format == Format::rfc5424_micro;
  if (is_5424 && target.transport == Transport::tls) return concat(message.size(), " ", message);  // octet counting, RFC 5425
  return message;
}

std::string journal_fields(const ContainerInfo& info, const std::string& tag, const std::map<std::string, std::string>& attributes) {
  std::string out;
  append_field(out, "CONTAINER_ID", info.id.substr(0, 12));
  append_field(out, "CONTAINER_ID_FULL", info.id);
  append_field(out, "CONTAINER_NAME", info.name);
  append_field(out, "CONTAINER_TAG", tag);
  append_field(out, "IMAGE_NAME", info.spec.image);
  append_field(out, "SYSLOG_IDENTIFIER", tag);
  for (const auto& [key, value] : attributes)
    if (auto name = journal_name(key); !name.empty()) append_field(out, name, value);
  return out;
}

std::string journal_message(const std::string& fields, const LogRecord& record) {
  std::string out;
  append_field(out, "MESSAGE", without_newline(record.text));
  append_field(out, "PRIORITY", record.stream == LogStream::standard_error ? "3" : "6");
  append_field(out, "SYSLOG_TIMESTAMP", to_rfc3339(record.time));
  if (!record.text.ends_with('\n')) append_field(out, "CONTAINER_PARTIAL_MESSAGE", "true");
  return out + fields;
}

}  // namespace caisson::engine
