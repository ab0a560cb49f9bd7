// CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL MAINTAINER ONBUILD SHELL STOPSIGNAL USER VOLUME WORKDIR, each in a function.
#include "image/changes.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "dockerfile/ignore.hpp"

namespace caisson::image {

namespace {

using dockerfile::Instruction;
using dockerfile::Keyword;
using dockerfile::StageScope;
using Words = std::vector<std::string>;

/// `["a" "b"]`: a list as Go's %q prints it, which is what histories hold.
std::string quoted_list(const Words& words) {
  std::string out = "[";
  for (const auto& word : words) {
    if (out.size() > 1) out += ' ';
    out += to_text(json::value(word));
  }
  return out + "]";
}

Words command_of(const Instruction& instruction, const ImageConfig& image) {
  if (instruction.json) return instruction.words;
  Words words = image.config.shell.empty() ? Words{"/bin/sh", "-c"} : image.config.shell;
  words.insert(words.end(), instruction.words.begin(), instruction.words.end());
  return words;
}

void add_unique(Words& list, const std::string& item) {
  if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
}

/// "80", "80-82/udp": ports of this image; a host part is ignored, as docker does.
Status expose(std::string_view word, Words& out) {
  auto bad = [&] { return Error(ErrorKind::invalid, concat("invalid containerPort: ", word)); };
  auto halves = split_once(word, '/');
  std::string protocol = halves.found ? lower(halves.after) : "tcp";
  if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") return Error(ErrorKind::invalid, concat("invalid proto: ", halves.after));
  auto ports = halves.before.substr(halves.before.find_last_of(':') + 1);
  auto range = split_once(ports, '-');
  auto first = parse_integer<std::uint16_t>(range.before);
  auto last = range.found ? parse_integer<std::uint16_t>(range.after) : first;
  if (!first.ok() || !last.ok() || *first == 0 || *last < *first) return bad();
  for (std::uint32_t port = *first; port <= *last; ++port) add_unique(out, concat(port, "/", protocol));
  return {};
}

Result<std::string> apply_expose(const Instruction& instruction, StageScope& scope, ImageConfig& image) {
  Words ports;
  for (const auto& word : instruction.words)
    for (auto& port : TRY_PLAIN(scope.expand_words(word))) ports.push_back(std::move(port));
  for (const auto& port : ports) TRY_PLAIN(expose(port, image.config.exposed_ports));
  return concat("EXPOSE ", join(ports, " "));
}

Result<std::string> apply_volume(const Instruction& instruction, StageScope& scope, ImageConfig& image) {
  Words volumes;
  for (const auto& word : instruction.words) {
    auto volume = std::string(trim(TRY_PLAIN(scope.expand(word))));
    if (volume.empty()) return Error(ErrorKind::invalid, "VOLUME specified can not be an empty string");
    volumes.push_back(std::move(volume));
  }
  for (const auto& volume : volumes) add_unique(image.config.volumes, volume);
  return concat("VOLUME [", join(volumes, " "), "]");
}

Result<std::string> apply_env(const Instruction& instruction, StageScope& scope, ImageConfig& image) {
  std::string text = "ENV";
  for (const auto& pair : TRY_PLAIN(scope.expand_pairs(instruction))) {
    scope.set(pair.key, pair.value);
    text += concat(" ", pair.key, "=", pair.value);
  }
  image.config.env = scope.environment();
  return text;
}

Result<std::string> apply_label(const Instruction& instruction, StageScope& scope, ImageConfig& image) {
  std::string text = "LABEL";
  for (const auto& pair : TRY_PLAIN(scope.expand_pairs(instruction))) {
    image.config.labels[pair.key] = pair.value;
    text += concat(" ", pair.key, "=", pair.value);
  }
  return text;
}

/// A duration as Go prints it within a structure: "30s", "1m0s", "1m30.5s".
std::string go_duration(std::int64_t ns) {
  if (ns == 0) return "0s";
  auto fraction = [](std::int64_t value, std::int64_t unit) {
    std::string digits = concat(unit + value % unit).substr(1);
    digits.erase(digits.find_last_not_of('0') + 1);
    return digits.empty() ? concat(value / unit) : concat(value / unit, ".", digits);
  };
  if (ns < 1'000'000'000) return ns < 1'000'000 ? concat(fraction(ns, 1'000), "µs") : concat(fraction(ns, 1'000'000), "ms");
  auto minutes = ns / 60'000'000'000;
  auto seconds = concat(fraction(ns % 60'000'000'000, 1'000'000'000), "s");
  if (minutes == 0) return seconds;
  return minutes < 60 ? concat(minutes, "m", seconds) : concat(minutes / 60, "h", minutes % 60, "m", seconds);
}

Result<std::string> apply_healthcheck(const Instruction& instruction, ImageConfig& image) {
  Healthcheck check;
  if (instruction.check_type == "NONE") {
    check.test = {"NONE"};
  } else {
    check.test = {instruction.json ? "CMD" : "CMD-SHELL"};
    check.test.insert(check.test.end(), instruction.words.begin(), instruction.words.end());
    for (const auto& flag : instruction.flags) {
      if (flag.name == "retries") check.retries = TRY(parse_integer<std::int32_t>(flag.value), "HEALTHCHECK --retries");
      auto* target = flag.name == "interval" ? &check.interval_ns : flag.name == "timeout" ? &check.timeout_ns : flag.name == "start-period" ? &check.start_period_ns : flag.name == "start-interval" ? &check.start_interval_ns : nullptr;
      if (target != nullptr) *target = TRY(parse_duration_ns(flag.value), concat("HEALTHCHECK --", flag.name));
    }
  }
  auto retries = check.retries < 0x20 ? concat("\\x", to_hex(std::array{static_cast<std::uint8_t>(check.retries)})) : std::string(1, static_cast<char>(std::min<std::int64_t>(check.retries, 0x7e)));
  auto text = concat("HEALTHCHECK &{", quoted_list(check.test), " \"", go_duration(check.interval_ns), "\" \"", go_duration(check.timeout_ns), "\" \"",
                     go_duration(check.start_period_ns), "\" '", retries, "'}");
  image.config.healthcheck = std::move(check);
  return text;
}

Result<std::string> apply_workdir(const Instruction& instruction, StageScope& scope, ImageConfig& image) {
  auto path = TRY_PLAIN(scope.expand(instruction.words[0]));
  if (path.empty()) return Error(ErrorKind::invalid, "WORKDIR: the path is empty");
  std::string whole = path.starts_with('/') ? path : concat(image.config.working_dir, "/", path);
  // ".." above the root stays at the root, as in every shell.
  image.config.working_dir = dockerfile::clean_path(concat("/", whole));
  return concat("WORKDIR ", image.config.working_dir);
}

/// USER and STOPSIGNAL: a value with a blank in it is no user's name and no signal's.
Result<std::string> apply_one_word(const Instruction& instruction, StageScope& scope, std::string& target) {
  auto name = to_string(instruction.keyword);
  auto value = TRY_PLAIN(scope.expand(instruction.words[0]));
  if (value.empty() || value.find_first_of(" \t\n") != std::string::npos) return Error(ErrorKind::invalid, concat(name, " requires exactly one argument"));
  target = value;
  return concat(name, " ", value);
}

}  // namespace

bool is_configuration(Keyword keyword) {
  return keyword != Keyword::from && keyword != Keyword::arg && keyword != Keyword::run && keyword != Keyword::copy && keyword != Keyword::add;
}

Result<std::string> apply_instruction(const Instruction& instruction, StageScope& scope, ImageConfig& image, bool& has_cmd) {
  auto& config = image.config;
  switch (instruction.keyword) {
    case Keyword::cmd:
      config.cmd = command_of(instruction, image);
      has_cmd = true;
      return concat("CMD ", quoted_list(config.cmd));
    case Keyword::entrypoint:
      config.entrypoint = command_of(instruction, image);
      if (!has_cmd) config.cmd.clear();
      return concat("ENTRYPOINT ", quoted_list(config.entrypoint));
    case Keyword::env: return apply_env(instruction, scope, image);
    case Keyword::label: return apply_label(instruction, scope, image);
    case Keyword::expose: return apply_expose(instruction, scope, image);
    case Keyword::volume: return apply_volume(instruction, scope, image);
    case Keyword::healthcheck: return apply_healthcheck(instruction, image);
    case Keyword::workdir: return apply_workdir(instruction, scope, image);
    case Keyword::user: return apply_one_word(instruction, scope, config.user);
    case Keyword::stopsignal: return apply_one_word(instruction, scope, config.stop_signal);
    case Keyword::shell:
      config.shell = instruction.words;
      return concat("SHELL [", join(config.shell, " "), "]");
    case Keyword::maintainer:
      image.author = instruction.words[0];
      return concat("MAINTAINER ", image.author);
    case Keyword::onbuild:
      image.on_build.push_back(instruction.trigger[0].statement);
      return concat("ONBUILD ", image.on_build.back());
    default: return Error(ErrorKind::internal, concat(to_string(instruction.keyword), " is no change of the configuration"));
  }
}

Status apply_change(std::string_view line, ImageConfig& image) {
  line = trim(line);
  auto first = line.substr(0, line.find_first_of(" \t"));
  if (first.empty()) return Error(ErrorKind::invalid, "a change is an instruction of a Dockerfile, and this one is empty");
  if (line.find_first_of(std::string_view("\0\n", 2)) != std::string_view::npos) return Error(ErrorKind::invalid, concat(first, ": one line only"));
  auto instruction = TRY_PLAIN(dockerfile::parse_instruction(line));
  if (!is_configuration(instruction.keyword) || instruction.keyword == Keyword::shell || instruction.keyword == Keyword::maintainer)
    return Error(ErrorKind::invalid, concat(first, " is not a valid change command"));
  dockerfile::GlobalScope globals({}, {});
  StageScope scope(globals);
  scope.set_environment(image.config.env);
  bool has_cmd = true;  // of two changes the order tells nothing: what is there stays
  TRY_PLAIN(apply_instruction(instruction, scope, image, has_cmd));
  return {};
}

Status apply_changes(const std::vector<std::string>& changes, ImageConfig& image) {
  const auto text = join(changes, "\n");
  std::string line;
  auto finish = [&]() -> Status {
    auto whole = std::exchange(line, {});
    if (trim(whole).empty()) return {};
    TRY(apply_change(whole, image), concat("change \"", trim(whole), "\""));
    return {};
  };
  for (auto piece : split(text, '\n')) {
    if (piece.ends_with('\r')) piece.remove_suffix(1);
    if (trim(piece).starts_with('#')) continue;
    const bool goes_on = piece.ends_with('\\');
    if (goes_on) piece.remove_suffix(1);
    line += piece;
    if (!goes_on) TRY_PLAIN(finish());
  }
  return finish();
}

}  // namespace caisson::image
