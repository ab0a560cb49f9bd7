// The options, field by field, in docker's words where it refuses one.
#include "engine/log_drivers.hpp"

#include <regex.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <memory>
#include <span>
#include <utility>

#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::engine {

namespace {
constexpr std::int64_t megabyte = 1 << 20;

Error invalid(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

bool is_one_of(std::string_view word, std::span<const std::string_view> list) { return std::find(list.begin(), list.end(), word) != list.end(); }

std::string option(const std::map<std::string, std::string>& options, const std::string& key) {
  auto found = options.find(key);
  return found == options.end() ? "" : found->second;
}

/// regcomp(3) of glibc recurses with every parenthesis and copies what is repeated (CVE-2010-4051, 4052: not mended), and a request's thread has
/// a small stack: an expression must be one that people write.
Status check_pattern(const std::string& text) {
  constexpr std::size_t longest = 512;
  constexpr int deepest = 16;
  auto refuse = [&](std::string_view why) { return invalid(concat("log option: the regular expression \"", text.substr(0, 64), "\" ", why)); };
  if (text.size() > longest) return refuse("is longer than 512 characters");
  int depth = 0;
  int most = 0;
  for (const char c : text) {
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    most = std::max(most, depth);
  }
  if (most > deepest) return refuse("is nested too deeply");
  const std::size_t counted = text.find('{');
  if (counted == std::string::npos) return {};
  if (text.find('{', counted + 1) != std::string::npos) return refuse("has more than one {count}");
  constexpr int most_digits = 2;
  for (std::size_t i = counted + 1, run = 0; i < text.size() && text[i] != '}'; ++i) {
    run = text[i] >= '0' && text[i] <= '9' ? run + 1 : 0;
    if (run > most_digits) return refuse("counts beyond 99");
  }
  return {};
}

/// A regular expression that is compiled once; POSIX extended, which agrees with Go's on what people write here.
class Pattern {
 public:
  static Result<Pattern> create(const std::string& text) {
    TRY_PLAIN(check_pattern(text));
    Pattern pattern;
    if (::regcomp(pattern.regex_.get(), text.c_str(), REG_EXTENDED | REG_NOSUB) != 0)
      return invalid(concat("log option: \"", text, "\" is no regular expression"));
    pattern.compiled_ = true;
    return pattern;
  }
  Pattern(Pattern&& other) noexcept : regex_(std::move(other.regex_)), compiled_(std::exchange(other.compiled_, false)) {}
  Pattern& operator=(Pattern&&) = delete;
  ~Pattern() {
    if (compiled_) ::regfree(regex_.get());
  }
  [[nodiscard]] bool matches(const std::string& text) const { return ::regexec(regex_.get(), text.c_str(), 0, nullptr, 0) == 0; }

 private:
  Pattern() : regex_(std::make_unique<regex_t>()) {}
  std::unique_ptr<regex_t> regex_;
  bool compiled_ = false;
};

Status check_bool(const std::map<std::string, std::string>& options, const std::string& key) {
  static constexpr std::string_view words[] = {"", "1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"};
  if (is_one_of(option(options, key), words)) return {};
  return invalid(concat("log option ", key, ": \"", option(options, key), "\" is neither true nor false"));
}

bool is_true(const std::string& word) { return !word.empty() && std::string_view("1tT").find(word[0]) != std::string_view::npos; }

Result<std::int64_t> size_of(const std::string& text, std::string_view name) {
  if (text == "-1") return std::int64_t{-1};
  const std::int64_t size = TRY(parse_size_bytes(text), concat("log option ", name));
  if (size <= 0) return invalid(concat("log option ", name, ": must be positive"));
  return size;
}

Result<LogLimits> limits_from(const std::map<std::string, std::string>& options, const std::string& size_key, const std::string& files_key, LogLimits limits) {
  if (auto text = option(options, size_key); !text.empty()) limits.max_size_bytes = TRY_PLAIN(size_of(text, size_key));
  if (auto text = option(options, files_key); !text.empty()) {
    limits.max_files = TRY(parse_integer<std::uint32_t>(text), concat("log option ", files_key));
    if (limits.max_files == 0 || limits.max_files > 1000) return invalid(concat("log option ", files_key, ": must be 1 to 1000"));
  }
  return limits;
}

constexpr std::string_view attribute_options[] = {"labels", "labels-regex", "env", "env-regex", "tag"};
constexpr std::string_view common_options[] = {"mode", "max-buffer-size"};
constexpr std::string_view cache_options[] = {"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"};
constexpr std::string_view file_options[] = {"max-size", "max-file", "compress"};
constexpr std::string_view syslog_options[] = {"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert",
                                               "syslog-tls-key", "syslog-tls-skip-verify"};

bool is_file_driver(std::string_view driver) { return driver.empty() || driver == "json-file" || driver == "local"; }

bool has_option(std::string_view driver, std::string_view key) {
  if (is_one_of(key, common_options)) return true;
  if (driver == "none") return false;
  if (is_one_of(key, attribute_options)) return true;
  if (is_file_driver(driver)) return is_one_of(key, file_options);
  return is_one_of(key, cache_options) || (driver == "syslog" && is_one_of(key, syslog_options));
}

Status check_mode(const std::map<std::string, std::string>& options) {
  const std::string mode = option(options, "mode");
  if (!mode.empty() && mode != "blocking" && mode != "non-blocking") return invalid(concat("logger: logging mode not supported: ", mode));
  if (!options.contains("max-buffer-size")) return {};
  if (mode != "non-blocking") return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
  TRY_PLAIN(size_of(option(options, "max-buffer-size"), "max-buffer-size"));
  return {};
}

std::string_view environment_name(std::string_view setting) { return split_once(setting, '=').before; }

std::string field_of(const ContainerInfo& info, std::string_view name, bool& is_known) {
  is_known = true;
  const std::string image_id = info.image_id.substr(info.image_id.find(':') + 1);
  if (name == "ID" || name == "ContainerID") return name == "ID" ? info.id.substr(0, 12) : info.id;
  if (name == "FullID") return info.id;
  if (name == "Name") return info.name;
  if (name == "ContainerName") return "/" + info.name;
  if (name == "ImageID") return image_id.substr(0, 12);
  if (name == "ImageFullID" || name == "ContainerImageID") return name == "ImageFullID" ? image_id : info.image_id;
  if (name == "ImageName" || name == "ContainerImageName") return info.spec.image;
  if (name == "DaemonName") return "docker";
  if (name == "Command") return join(info.args, " ");
  is_known = false;
  return "";
}
}  // namespace

const std::vector<std::string>& log_driver_names() {
  static const std::vector<std::string> names = {"journald", "json-file", "local", "none", "syslog"};
  return names;
}

Status check_log_driver(const std::string& driver, const std::map<std::string, std::string>& options) {
  const std::string name = driver.empty() ? "json-file" : driver;
  const auto& names = log_driver_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) return invalid(concat("logger: no log driver named '", name, "' is registered"));
  for (const auto& [key, value] : options)
    if (!has_option(name, key)) return invalid(concat("unknown log opt '", key, "' for ", name, " log driver"));
  TRY_PLAIN(check_mode(options));
  for (const auto* key : {"compress", "cache-disabled", "cache-compress", "syslog-tls-skip-verify"}) TRY_PLAIN(check_bool(options, key));
  ContainerSpec spec;
  spec.log_driver = name;
  spec.log_options = options;
  const LogLimits limits = TRY_PLAIN(file_limits_of(spec));
  if (is_true(option(options, "compress")) && (limits.max_files < 2 || limits.max_size_bytes < 0))
    return invalid("compress cannot be true when max-file is less than 2 or max-size is not set");
  TRY_PLAIN(chosen_attributes(spec));
  TRY_PLAIN(log_tag(ContainerInfo{.spec = spec}, ""));
  if (name == "syslog") TRY_PLAIN(parse_syslog_target(options));
  return {};
}

void fill_log_defaults(ContainerSpec& spec, const Settings& settings) {
  if (spec.log_driver.empty()) spec.log_driver = settings.log_driver;
  if (spec.log_driver != settings.log_driver) return;
  for (const auto& [key, value] : settings.log_options) spec.log_options.emplace(key, value);
}

Result<LogLimits> file_limits_of(const ContainerSpec& spec) {
  if (is_sent_away(spec)) return limits_from(spec.log_options, "cache-max-size", "cache-max-file", {20 * megabyte, 5});
  if (spec.log_driver == "local") return limits_from(spec.log_options, "max-size", "max-file", {20 * megabyte, 5});
  return limits_from(spec.log_options, "max-size", "max-file", {});
}

bool compresses_log(const ContainerSpec& spec) {
  if (!is_file_driver(spec.log_driver)) return false;
  const std::string wanted = option(spec.log_options, "compress");
  if (wanted.empty() ? spec.log_driver != "local" : !is_true(wanted)) return false;
  const LogLimits limits = file_limits_of(spec).value_or(LogLimits{});
  return limits.max_files > 1 && limits.max_size_bytes > 0;
}

bool is_sent_away(const ContainerSpec& spec) { return spec.log_driver == "syslog" || spec.log_driver == "journald"; }

bool has_readable_log(const ContainerSpec& spec) { return spec.log_driver != "none" && !is_true(option(spec.log_options, "cache-disabled")); }

Result<std::map<std::string, std::string>> chosen_attributes(const ContainerSpec& spec) {
  std::map<std::string, std::string> chosen;
  auto environment = [&](const auto& wants) {
    for (const auto& setting : spec.env)
      if (std::string name(environment_name(setting)); wants(name)) chosen[name] = setting.substr(std::min(setting.size(), name.size() + 1));
  };
  const std::string labels = option(spec.log_options, "labels");
  for (auto name : split(labels, ','))
    if (auto label = spec.labels.find(std::string(name)); label != spec.labels.end()) chosen.insert(*label);
  if (auto text = option(spec.log_options, "labels-regex"); !text.empty()) {
    auto pattern = TRY_PLAIN(Pattern::create(text));
    for (const auto& label : spec.labels)
      if (pattern.matches(label.first)) chosen.insert(label);
  }
  const std::string listed = option(spec.log_options, "env");
  auto names = split(listed, ',');
  environment([&](const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); });
  if (auto text = option(spec.log_options, "env-regex"); !text.empty()) {
    auto pattern = TRY_PLAIN(Pattern::create(text));
    environment([&](const std::string& name) { return pattern.matches(name); });
  }
  return chosen;
}

Result<std::string> log_tag(const ContainerInfo& info, std::string_view fallback) {
  std::string text = option(info.spec.log_options, "tag");
  if (text.empty()) text = fallback;
  std::string out;
  for (std::string_view rest = text; !rest.empty();) {
    const auto open = rest.find("{{");
    out += rest.substr(0, open);
    if (open == std::string_view::npos) break;
    const auto close = rest.find("}}", open);
    if (close == std::string_view::npos) return invalid(concat("log option tag: \"", text, "\": {{ without }}"));
    const auto word = trim(rest.substr(open + 2, close - open - 2));
    bool is_known = false;
    if (word.starts_with('.')) out += field_of(info, word.substr(1), is_known);
    if (!is_known) return invalid(concat("log option tag: {{", word, "}} is not known")).with_hint("use {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageName}}, {{.ImageID}}, {{.ImageFullID}}, {{.Command}} or {{.DaemonName}}");
    rest = rest.substr(close + 2);
  }
  return out;
}

Result<std::string> attributes_json(const ContainerInfo& info) {
  auto chosen = TRY_PLAIN(chosen_attributes(info.spec));
  if (auto tag = TRY_PLAIN(log_tag(info, "")); !tag.empty()) chosen["tag"] = tag;
  if (chosen.empty()) return std::string();
  json::object out;
  for (const auto& [key, value] : chosen) out[key] = value;
  return to_text(out);
}

}  // namespace caisson::engine
