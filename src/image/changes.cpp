// CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD SHELL STOPSIGNAL USER VOLUME WORKDIR, one line each.
#include "image/changes.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <optional>

#include "base/strings.hpp"

namespace caisson::image {

namespace {

using Words = std::vector<std::string>;

bool is_name_char(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

std::string value_of(const Words& env, std::string_view name) {
  for (const auto& item : env) {
    auto halves = split_once(item, '=');
    if (halves.found && halves.before == name) return std::string(halves.after);
  }
  return {};
}

/// One pass over shell-like text: quotes, escapes and variables; words end at blanks outside quotes.
class WordReader {
 public:
  WordReader(std::string_view text, const Words& env) : text_(text), env_(env) {}

  /// False: no more words. Errors: invalid (an open quote, a bad substitution).
  Result<bool> next(std::string& word) {
    word.clear();
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
    if (at_ == text_.size()) return false;
    while (at_ < text_.size() && !is_blank(text_[at_])) TRY_PLAIN(piece(word));
    return true;
  }

 private:
  static bool is_blank(char c) { return c == ' ' || c == '\t'; }

  Status piece(std::string& word) {
    char c = text_[at_++];
    if (c == '\'') return single_quoted(word);
    if (c == '"') return double_quoted(word);
    if (c == '$') return variable(word);
    if (c == '\\' && at_ < text_.size()) c = text_[at_++];
    word += c;
    return {};
  }
  Status single_quoted(std::string& word) {
    auto end = text_.find('\'', at_);
    if (end == std::string_view::npos) return Error(ErrorKind::invalid, "unexpected end of statement while looking for matching single-quote");
    word += text_.substr(at_, end - at_);
    at_ = end + 1;
    return {};
  }
  Status double_quoted(std::string& word) {
    while (at_ < text_.size() && text_[at_] != '"') {
      char c = text_[at_++];
      if (c == '$') {
        TRY_PLAIN(variable(word));
        continue;
      }
      if (c == '\\' && at_ < text_.size() && (text_[at_] == '"' || text_[at_] == '\\' || text_[at_] == '$')) c = text_[at_++];
      word += c;
    }
    if (at_ == text_.size()) return Error(ErrorKind::invalid, "unexpected end of statement while looking for matching double-quote");
    ++at_;
    return {};
  }
  Status variable(std::string& word) {
    if (at_ < text_.size() && text_[at_] == '{') return braced(word);
    auto start = at_;
    while (at_ < text_.size() && is_name_char(text_[at_])) ++at_;
    if (at_ == start) word += '$';
    else word += value_of(env_, text_.substr(start, at_ - start));
    return {};
  }
  Status braced(std::string& word) {
    auto end = text_.find('}', at_);
    if (end == std::string_view::npos) return Error(ErrorKind::invalid, "syntax error: missing '}'");
    auto body = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    auto length = static_cast<std::size_t>(std::find_if_not(body.begin(), body.end(), is_name_char) - body.begin());
    auto value = value_of(env_, body.substr(0, length));
    auto rest = body.substr(length);
    if (length == 0 || !(rest.empty() || rest.starts_with(":-") || rest.starts_with(":+")))
      return Error(ErrorKind::invalid, concat("unsupported modifier in substitution \"${", body, "}\""));
    if (rest.starts_with(":-") && value.empty()) value = rest.substr(2);
    if (rest.starts_with(":+")) value = value.empty() ? std::string() : std::string(rest.substr(2));
    word += value;
    return {};
  }

  std::string_view text_;
  const Words& env_;
  std::size_t at_ = 0;
};

Result<Words> words_of(std::string_view text, const Words& env) {
  WordReader reader(text, env);
  Words words;
  std::string word;
  while (TRY_PLAIN(reader.next(word))) words.push_back(word);
  return words;
}

/// A JSON array of strings, or none when the text is anything else (which then is the shell form).
std::optional<Words> json_form(std::string_view text) {
  if (!text.starts_with('[')) return std::nullopt;
  auto document = parse_json(text, "exec form");
  Words words;
  if (!document.ok() || !JsonView(*document).read(words).ok()) return std::nullopt;
  return words;
}

Words command_of(std::string_view text, const ImageConfig& image) {
  if (auto words = json_form(text)) return *words;
  Words words = image.config.shell.empty() ? Words{"/bin/sh", "-c"} : image.config.shell;
  words.emplace_back(text);
  return words;
}

void set_pair(Words& list, const std::string& name, const std::string& value) {
  for (auto& item : list) {
    if (split_once(item, '=').before != name) continue;
    item = concat(name, "=", value);
    return;
  }
  list.push_back(concat(name, "=", value));
}

/// "a=b c=d", or the old "a the rest of the line".
Status for_each_pair(std::string_view instruction, std::string_view text, const Words& env, const std::function<void(const std::string&, const std::string&)>& visit) {
  auto first = text.substr(0, text.find_first_of(" \t"));
  if (first.find('=') == std::string_view::npos) {
    auto value = trim(text.substr(first.size()));
    if (value.empty()) return Error(ErrorKind::invalid, concat(instruction, " must have two arguments"));
    auto words = TRY_PLAIN(words_of(value, env));
    visit(std::string(first), join(words, " "));
    return {};
  }
  for (const auto& word : TRY_PLAIN(words_of(text, env))) {
    auto halves = split_once(word, '=');
    if (!halves.found) return Error(ErrorKind::invalid, concat("Syntax error - can't find = in \"", word, "\". Must be of the form: name=value"));
    if (halves.before.empty()) return Error(ErrorKind::invalid, concat(instruction, " names can not be blank"));
    visit(std::string(halves.before), std::string(halves.after));
  }
  return {};
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

Status set_healthcheck(std::string_view text, ImageConfig& image) {
  Healthcheck check;
  if (lower(text) == "none") {
    check.test = {"NONE"};
    image.config.healthcheck = std::move(check);
    return {};
  }
  while (text.starts_with("--")) {
    auto flag = text.substr(0, text.find_first_of(" \t"));
    text = trim(text.substr(flag.size()));
    auto halves = split_once(flag, '=');
    if (halves.before == "--retries") {
      check.retries = TRY(parse_integer<std::int32_t>(halves.after), "HEALTHCHECK --retries");
      if (check.retries < 0) return Error(ErrorKind::invalid, "HEALTHCHECK --retries cannot be negative");
      continue;
    }
    std::int64_t* target = halves.before == "--interval" ? &check.interval_ns : halves.before == "--timeout" ? &check.timeout_ns : halves.before == "--start-period" ? &check.start_period_ns : nullptr;
    if (target == nullptr) return Error(ErrorKind::invalid, concat("unknown flag: ", halves.before));
    *target = TRY(parse_duration_ns(halves.after), concat("HEALTHCHECK ", halves.before));
    if (*target != 0 && *target < 1'000'000) return Error(ErrorKind::invalid, concat("Interval \"", halves.before.substr(2), "\" cannot be less than 1ms"));
  }
  auto type = text.substr(0, text.find_first_of(" \t"));
  if (lower(type) != "cmd") return Error(ErrorKind::invalid, concat("Unknown type \"", type, "\" in HEALTHCHECK (try CMD)"));
  auto command = trim(text.substr(type.size()));
  if (command.empty()) return Error(ErrorKind::invalid, "Missing command after HEALTHCHECK CMD");
  if (auto words = json_form(command)) {
    check.test = {"CMD"};
    check.test.insert(check.test.end(), words->begin(), words->end());
  } else {
    check.test = {"CMD-SHELL", std::string(command)};
  }
  image.config.healthcheck = std::move(check);
  return {};
}

Status set_workdir(const std::string& path, ImageConfig& image) {
  std::string whole = path.starts_with('/') ? path : concat(image.config.working_dir, "/", path);
  // ".." above the root stays at the root, as in every shell.
  std::vector<std::string> parts;
  for (auto piece : split(whole, '/')) {
    if (piece.empty() || piece == ".") continue;
    if (piece != "..") parts.emplace_back(piece);
    else if (!parts.empty()) parts.pop_back();
  }
  image.config.working_dir = "/" + join(parts, "/");
  return {};
}

Status set_one_word(std::string_view instruction, std::string_view text, ImageConfig& image) {
  auto words = TRY_PLAIN(words_of(text, image.config.env));
  if (words.size() != 1 && instruction != "WORKDIR") return Error(ErrorKind::invalid, concat(instruction, " requires exactly one argument"));
  if (instruction == "USER") image.config.user = words[0];
  else if (instruction == "STOPSIGNAL") image.config.stop_signal = words[0];
  else return set_workdir(join(words, " "), image);
  return {};
}

}  // namespace

Status apply_change(std::string_view line, ImageConfig& image) {
  line = trim(line);
  auto first = line.substr(0, line.find_first_of(" \t"));
  std::string instruction;
  for (char c : first) instruction += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  auto text = trim(line.substr(first.size()));
  constexpr std::array known{"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"};
  if (std::find(known.begin(), known.end(), instruction) == known.end()) return Error(ErrorKind::invalid, concat(first, " is not a valid change command"));
  if (line.find_first_of(std::string_view("\0\n", 2)) != std::string_view::npos) return Error(ErrorKind::invalid, concat(instruction, ": one line only"));
  if (text.empty()) return Error(ErrorKind::invalid, concat(instruction, " requires at least one argument"));
  auto& config = image.config;
  if (instruction == "CMD") config.cmd = command_of(text, image);
  else if (instruction == "ENTRYPOINT") config.entrypoint = command_of(text, image);
  else if (instruction == "ENV") return for_each_pair(instruction, text, Words(config.env), [&](const auto& name, const auto& value) { set_pair(config.env, name, value); });
  else if (instruction == "LABEL") return for_each_pair(instruction, text, config.env, [&](const auto& name, const auto& value) { config.labels[name] = value; });
  else if (instruction == "HEALTHCHECK") return set_healthcheck(text, image);
  else if (instruction == "ONBUILD") image.on_build.emplace_back(text);
  else if (instruction == "EXPOSE") {
    for (const auto& word : TRY_PLAIN(words_of(text, config.env))) TRY_PLAIN(expose(word, config.exposed_ports));
  } else if (instruction == "VOLUME") {
    auto volumes = json_form(text);
    if (!volumes) volumes = TRY_PLAIN(words_of(text, config.env));
    for (const auto& volume : *volumes) {
      if (volume.empty()) return Error(ErrorKind::invalid, "VOLUME specified can not be an empty string");
      add_unique(config.volumes, volume);
    }
  } else {
    return set_one_word(instruction, text, image);
  }
  return {};
}

}  // namespace caisson::image
