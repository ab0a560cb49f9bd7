// Environment, labels, limits, devices, health checks and security options.
#include <algorithm>
#include <map>

#include "base/strings.hpp"
#include "base/environment.hpp"
#include "cli/create_body.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

namespace {

Error bad(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

constexpr std::size_t largest_file_bytes = 16U << 20U;

Result<std::string> read_user_file(const std::string& path) {
  auto text = linux::read_file(path, largest_file_bytes);
  if (text.ok()) return text;
  auto halves = split_last(text.error().text(), ':');
  return Error(text.error().kind(), concat("open ", path, ":", lower(halves.after)), text.error().error_number());  // docker's words
}

// Lines "KEY=value"; a bare KEY takes the value from this process's environment when `inherits`.
Result<std::vector<std::string>> read_pairs(const std::string& path, std::string_view what, bool inherits) {
  std::string text = TRY_PLAIN(read_user_file(path));
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);  // a byte order mark, as editors on Windows write it
  std::vector<std::string> out;
  for (auto line : split(text, '\n')) {
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    auto halves = split_once(line, '=');
    if (halves.before.empty()) return bad(concat("invalid ", what, " file (", path, "): no variable name on line '", line, "'"));
    if (halves.before.find_first_of(" \t") != std::string_view::npos)
      return bad(concat("invalid ", what, " file (", path, "): variable '", halves.before, "' contains whitespaces"));
    if (halves.found) {
      out.emplace_back(line);
    } else if (const char* value = inherits ? environment(std::string(line).c_str()) : nullptr; value != nullptr) {
      out.push_back(concat(line, "=", value));
    } else if (!inherits) {
      out.emplace_back(line);
    }
  }
  return out;
}

// --ulimit: what setrlimit(2) knows.
constexpr std::array<std::string_view, 16> ulimit_names = {"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
    "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack", "as"};

}  // namespace

json::object to_map(const std::vector<std::string>& values) {
  json::object out;
  for (const auto& value : values) {
    auto halves = split_once(value, '=');
    out[halves.before] = halves.after;
  }
  return out;
}

Result<json::array> collect_environment(const std::vector<std::string>& files, const std::vector<std::string>& values) {
  json::array out;
  for (const auto& file : files)
    for (const auto& pair : TRY_PLAIN(read_pairs(file, "env", true))) out.emplace_back(pair);
  for (const auto& value : values) {
    if (value.empty() || value.front() == '=') return bad_value("env", value, concat("invalid environment variable: ", value));
    const char* inherited = value.find('=') == std::string::npos ? environment(value.c_str()) : nullptr;
    // A bare name that is not set here stays bare: the daemon then removes the image's value.
    if (inherited != nullptr) out.emplace_back(concat(value, "=", inherited));
    else out.emplace_back(value);
  }
  return out;
}

Result<json::object> collect_labels(const std::vector<std::string>& files, const std::vector<std::string>& values) {
  std::vector<std::string> all;
  for (const auto& file : files)
    for (auto& pair : TRY_PLAIN(read_pairs(file, "label", false))) all.push_back(std::move(pair));
  for (const auto& value : values) {
    if (value.empty() || value.front() == '=') return bad_value("label", value, concat("invalid label '", value, "': empty name"));
    all.push_back(value);
  }
  return to_map(all);
}

Result<json::value> parse_ulimits(const std::vector<std::string>& values) {
  std::map<std::string, json::object> by_name;  // a later one of the same name wins; docker sends them sorted
  for (const auto& value : values) {
    auto halves = split_once(value, '=');
    if (!halves.found || halves.after.empty()) return bad_value("ulimit", value, concat("invalid ulimit argument: ", value));
    if (std::find(ulimit_names.begin(), ulimit_names.end(), halves.before) == ulimit_names.end()) {
      std::string near = nearest(halves.before, ulimit_names);
      return bad_value("ulimit", value, concat("invalid ulimit type: ", halves.before, near.empty() ? "" : concat("; the nearest is ", near)));
    }
    auto limits = split_once(halves.after, ':');
    auto soft = parse_integer<std::int64_t>(limits.before);
    auto hard = limits.found ? parse_integer<std::int64_t>(limits.after) : soft;
    if (!soft.ok() || !hard.ok()) return bad_value("ulimit", value, concat("invalid ulimit value: ", halves.after));
    bool exceeds = *hard != -1 && (*soft > *hard || *soft == -1);
    if (exceeds) return bad_value("ulimit", value, concat("ulimit soft limit must be less than or equal to hard limit: ", *soft, " > ", *hard));
    by_name[std::string(halves.before)] = json::object{{"Name", halves.before}, {"Hard", *hard}, {"Soft", *soft}};
  }
  json::array out;
  for (auto& [name, limit] : by_name) out.emplace_back(std::move(limit));
  return json::value(out);
}

Result<json::array> parse_devices(const std::vector<std::string>& values, json::array& requests) {
  json::array out;
  json::array cdi_names;
  auto is_mode = [](std::string_view text) { return !text.empty() && text.find_first_not_of("rwm") == std::string_view::npos; };
  for (const auto& value : values) {
    auto parts = split(value, ':');
    // A CDI device is vendor/class=name; a path starts with a slash.
    if (!value.starts_with("/") && value.find('/') != std::string::npos && value.find('=') != std::string::npos) {
      cdi_names.emplace_back(value);
      continue;
    }
    if (parts.size() > 3) return bad(concat("bad format for path: ", value));
    std::string_view inside = parts[0];
    std::string_view mode = "rwm";
    if (parts.size() == 2 && is_mode(parts[1])) mode = parts[1];
    else if (parts.size() >= 2) inside = parts[1];
    if (parts.size() == 3) {
      mode = parts[2];
      if (!is_mode(mode)) return bad(concat("bad mode specified: ", mode));
    }
    if (parts.size() == 2 && !is_mode(parts[1]) && !parts[1].starts_with("/")) return bad(concat("bad mode specified: ", parts[1]));
    for (std::string_view path : {parts[0], inside})
      if (!path.starts_with("/")) return bad(concat(path, " is not an absolute path"));
    out.emplace_back(json::object{{"PathOnHost", parts[0]}, {"PathInContainer", inside}, {"CgroupPermissions", mode}});
  }
  if (!cdi_names.empty())
    requests.emplace_back(json::object{{"Driver", "cdi"}, {"Count", 0}, {"DeviceIDs", cdi_names}, {"Capabilities", nullptr}, {"Options", nullptr}});
  return out;
}

Result<json::object> parse_gpus(std::string_view value) {
  auto fields = parse_csv(value);
  if (!fields.ok()) return bad_value("gpus", value, fields.error().text());
  json::object request{{"Driver", ""}, {"Count", 0}, {"DeviceIDs", nullptr}, {"Capabilities", nullptr}, {"Options", json::object()}};
  std::vector<std::string> seen;
  std::vector<std::string> capabilities = {"gpu"};
  for (const auto& field : *fields) {
    auto halves = split_once(field, '=');
    std::string key = halves.found ? std::string(halves.before) : "count";  // a bare "all" or number is the count
    std::string_view text = halves.found ? halves.after : halves.before;
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) return bad_value("gpus", value, concat("gpu request key '", key, "' can be specified only once"));
    seen.push_back(key);
    if (key == "count") {
      auto count = parse_integer<std::int32_t>(text);
      if (text != "all" && !count.ok())
        return bad_value("gpus", value, concat("invalid count (", text, "): value must be either \"all\" or an integer: invalid syntax"));
      request["Count"] = text == "all" ? -1 : *count;
    } else if (key == "driver") {
      request["Driver"] = text;
    } else if (key == "device") {
      json::array ids;
      for (auto id : split(text, ',')) ids.emplace_back(id);
      request["DeviceIDs"] = ids;
    } else if (key == "capabilities") {
      for (auto capability : split(text, ',')) capabilities.emplace_back(capability);
    } else if (key == "options") {
      for (auto option : TRY_PLAIN(parse_csv(text))) request["Options"].get_object()[split_once(option, '=').before] = split_once(option, '=').after;
    } else {
      return bad_value("gpus", value, concat("unexpected key '", key, "' in '", field, "'"));
    }
  }
  bool names_devices = !request["DeviceIDs"].is_null();
  bool counts = std::find(seen.begin(), seen.end(), "count") != seen.end();
  if (!names_devices && !counts) request["Count"] = 1;
  std::sort(capabilities.begin(), capabilities.end());
  capabilities.erase(std::unique(capabilities.begin(), capabilities.end()), capabilities.end());
  request["Capabilities"] = json::array{list_or_null(capabilities)};
  return request;
}

Result<json::object> parse_restart_policy(std::string_view value) {
  auto halves = split_once(value, ':');
  std::int64_t retries = 0;
  if (halves.found) {
    if (halves.before.empty()) return bad("invalid restart policy format: no policy provided before colon");
    auto parsed = parse_integer<std::int32_t>(halves.after);
    if (!parsed.ok()) return bad("invalid restart policy format: maximum retry count must be an integer");
    retries = *parsed;
  }
  return json::object{{"Name", halves.before}, {"MaximumRetryCount", retries}};
}

Result<json::object> parse_health(const Invocation& invocation) {
  json::object out;
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> durations = {
      {{"health-interval", "Interval"}, {"health-timeout", "Timeout"}, {"health-start-period", "StartPeriod"}, {"health-start-interval", "StartInterval"}}};
  bool any = invocation.has("health-cmd") || invocation.has("health-retries");
  for (const auto& [flag, key] : durations) any = any || invocation.has(flag);
  if (invocation.flag("no-healthcheck")) {
    if (any) return bad("--no-healthcheck conflicts with --health-* options");
    return json::object{{"Test", json::array{"NONE"}}};
  }
  if (!any) return out;
  if (invocation.has("health-cmd") && !invocation.text("health-cmd").empty()) out["Test"] = json::array{"CMD-SHELL", invocation.text("health-cmd")};
  for (const auto& [flag, key] : durations) {
    std::int64_t value = invocation.duration_ns(flag);
    if (value < 0) return bad(concat("--", flag, " cannot be negative"));
    if (value > 0) out[key] = value;
  }
  std::int64_t retries = invocation.integer("health-retries");
  if (retries < 0) return bad("--health-retries cannot be negative");
  if (retries > 0) out["Retries"] = retries;
  return out;
}

Result<json::value> parse_security_options(const std::vector<std::string>& values, bool& unmasked) {
  if (values.empty()) return json::value();
  json::array out;
  for (const auto& value : values) {
    std::size_t at = value.find_first_of("=:");
    std::string_view key = std::string_view(value).substr(0, at);
    std::string text = at == std::string::npos ? "" : value.substr(at + 1);
    if (value == "systempaths=unconfined") {
      unmasked = true;
      continue;
    }
    if (at == std::string::npos && key != "no-new-privileges" && key != "log-refusals" && key != "nesting") return bad(concat("Invalid --security-opt: \"", value, "\""));
    bool is_file = key == "seccomp" && text != "unconfined" && text != "builtin";
    if (!is_file) {
      out.emplace_back(value);
      continue;
    }
    auto profile = read_user_file(text);
    if (!profile.ok()) return Error(profile.error().kind(), concat("opening seccomp profile (", text, ") failed: ", profile.error().text()));
    auto parsed = parse_json(*profile, concat("seccomp profile (", text, ")"));
    if (!parsed.ok()) return bad(concat("compacting json for ", parsed.error().text()));
    out.emplace_back(concat("seccomp=", to_text(*parsed)));
  }
  return json::value(out);
}

json::value normalise_capabilities(const std::vector<std::string>& values) {
  if (values.empty()) return nullptr;
  std::vector<std::string> names;
  for (const auto& value : values) {
    std::string name(trim(value));
    for (char& c : name)
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    if (name != "ALL" && name != "RESET" && !name.starts_with("CAP_")) name.insert(0, "CAP_");
    names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());  // "ALL" sorts before "CAP_…"
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return list_or_null(names);
}

Result<json::array> parse_device_rates(std::string_view flag, const std::vector<std::string>& values, std::string_view number_key, bool is_size) {
  json::array out;
  for (const auto& value : values) {
    auto halves = split_last(value, ':');
    if (!halves.found || halves.before.empty()) return bad_value(flag, value, concat("bad format: ", value));
    if (!halves.before.starts_with("/dev/")) return bad_value(flag, value, concat("bad format for device path: ", value));
    auto number = is_size ? parse_size_bytes(halves.after) : parse_integer<std::int64_t>(halves.after);
    if (!number.ok() || *number < 0) return bad_value(flag, value, concat("invalid rate for device: ", value));
    if (number_key == "Weight" && *number != 0 && (*number < 10 || *number > 1000)) return bad_value(flag, value, concat("invalid weight for device: ", value));
    out.emplace_back(json::object{{"Path", halves.before}, {number_key, *number}});
  }
  return out;
}

}  // namespace caisson::cli
