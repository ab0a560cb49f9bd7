// Log lines to a file, to journald by its native protocol, and to syslog.
#include "runtime/oci_log.hpp"

#include "base/json.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"

namespace caisson::runtime {

namespace {

std::string_view name_of(OciLogLevel level) {
  switch (level) {
    case OciLogLevel::error: return "error";
    case OciLogLevel::warning: return "warning";
    case OciLogLevel::debug: return "debug";
  }
  return "error";
}

/// syslog(3)'s severities.
int severity_of(OciLogLevel level) {
  switch (level) {
    case OciLogLevel::error: return 3;
    case OciLogLevel::warning: return 4;
    case OciLogLevel::debug: return 7;
  }
  return 3;
}

Status append_line(const OciLog& log, OciLogLevel level, const std::string& text) {
  std::string line;
  const std::string time = to_rfc3339(now_ns());
  if (log.json) line = concat(to_text(json::object{{"level", std::string(name_of(level))}, {"msg", text}, {"time", time}}), "\n");
  else line = concat("time=\"", time, "\" level=", name_of(level), " msg=", to_text(json::value(text)), "\n");
  auto file = TRY_PLAIN(linux::open(log.target, O_WRONLY | O_APPEND | O_CREAT, 0644));
  return linux::write_all(file.get(), line);
}

/// A value with a newline goes as its length, little-endian in 64 bits, and its bytes (systemd's "Native Journal Protocol").
std::string journal_field(std::string_view name, std::string_view value) {
  if (value.find('\n') == std::string_view::npos) return concat(name, "=", value, "\n");
  std::string out = concat(name, "\n");
  for (std::uint64_t size = value.size(), i = 0; i < 8; ++i, size >>= 8U) out += static_cast<char>(size & 0xffU);
  return concat(out, value, "\n");
}

Status send_datagram(const char* path, const std::string& bytes) {
  auto socket = TRY_PLAIN(linux::unix_connect(path, linux::UnixType::datagram));
  return linux::send_message(socket.get(), bytes);
}

Status send_to(const OciLog& log, OciLogLevel level, const std::string& text) {
  const std::string identifier = log.target.empty() ? "caisson-runtime" : log.target;
  switch (log.kind) {
    case OciLogKind::none: return {};
    case OciLogKind::file: return append_line(log, level, text);
    case OciLogKind::journald:
      return send_datagram("/run/systemd/journal/socket",
                           concat(journal_field("MESSAGE", text), journal_field("PRIORITY", concat(severity_of(level))),
                                  journal_field("SYSLOG_IDENTIFIER", identifier)));
    case OciLogKind::syslog:
      // <facility·8 + severity>, facility 1: user-level (RFC 3164, 4.1.1).
      return send_datagram("/dev/log", concat("<", 8 + severity_of(level), ">", identifier, "[", linux::getpid(), "]: ", text));
  }
  return {};
}

}  // namespace

void set_destination(OciLog& log, std::string_view text) {
  log.kind = text.empty() ? OciLogKind::none : OciLogKind::file;
  for (auto [prefix, kind] : {std::pair<std::string_view, OciLogKind>{"file:", OciLogKind::file},
                              {"journald:", OciLogKind::journald},
                              {"syslog:", OciLogKind::syslog}})
    if (text.starts_with(prefix)) {
      log.kind = kind;
      text.remove_prefix(prefix.size());
      break;
    }
  log.target = text;
}

Result<OciLogLevel> parse_log_level(std::string_view text) {
  if (text == "error" || text == "fatal" || text == "panic") return OciLogLevel::error;
  if (text == "warning" || text == "warn" || text == "info") return OciLogLevel::warning;
  if (text == "debug" || text == "trace") return OciLogLevel::debug;
  return Error(ErrorKind::invalid, concat("--log-level ", text, ": want error, warning, info or debug"));
}

void write_log(const OciLog& log, OciLogLevel level, const std::string& text) {
  if (level <= log.level) ignore(send_to(log, level, text));  // see the header
}

void report(const OciLog& log, const Error& error) {
  write_log(log, OciLogLevel::error, error.text());
  const std::string hint = error.hint().empty() ? "" : concat("hint: ", error.hint(), "\n");
  ignore(linux::write_all(2, concat("caisson-runtime: ", error.text(), "\n", hint)));  // there is no further place to tell it
}

void warn(const OciLog& log, const std::string& text) {
  write_log(log, OciLogLevel::warning, text);
  if (log.level == OciLogLevel::debug) ignore(linux::write_all(2, concat("warning: ", text, "\n")));  // as above
}

}  // namespace caisson::runtime
