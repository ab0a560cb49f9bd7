// Parsing challenges, ranges, locations and error bodies.
#include "fetch/challenge.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::fetch {

namespace {

constexpr std::size_t most_error_text = 500;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c); }
/// RFC 9110, 5.6.2.
bool is_token(char c) { return is_alnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos; }
bool is_blank(char c) { return c == ' ' || c == '\t'; }

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}
  [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }
  [[nodiscard]] char peek() const { return at_end() ? '\0' : text_[at_]; }
  void skip_blanks() {
    while (!at_end() && is_blank(text_[at_])) ++at_;
  }
  void skip_separators() {
    while (!at_end() && (is_blank(text_[at_]) || text_[at_] == ',')) ++at_;
  }
  bool take(char wanted) {
    if (at_end() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  void skip_one() {
    if (!at_end()) ++at_;
  }
  std::string token() {
    const auto first = at_;
    while (!at_end() && is_token(text_[at_])) ++at_;
    return std::string(text_.substr(first, at_ - first));
  }
  /// A token, or a quoted string with its backslashes resolved.
  std::string value() {
    if (!take('"')) {
      const auto first = at_;
      while (!at_end() && !is_blank(text_[at_]) && text_[at_] != ',') ++at_;
      return std::string(text_.substr(first, at_ - first));
    }
    std::string out;
    while (!at_end() && !take('"')) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
      out += text_[at_++];
    }
    return out;
  }
  /// True when what follows is `name=`, that is: no new challenge begins here.
  [[nodiscard]] bool is_parameter() const {
    Scanner ahead = *this;
    if (ahead.token().empty()) return false;
    ahead.skip_blanks();
    return ahead.peek() == '=';
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

std::string Challenge::get(const std::string& name) const {
  auto found = parameters.find(name);
  return found == parameters.end() ? "" : found->second;
}

std::vector<Challenge> parse_challenges(std::string_view header) {
  std::vector<Challenge> out;
  Scanner scanner(header);
  for (scanner.skip_separators(); !scanner.at_end(); scanner.skip_separators()) {
    if (out.empty() || !scanner.is_parameter()) {
      Challenge challenge;
      challenge.scheme = lower(scanner.token());
      if (challenge.scheme.empty()) scanner.skip_one();  // no token: not a challenge; look further
      else out.push_back(std::move(challenge));
      continue;
    }
    auto name = lower(scanner.token());
    scanner.skip_blanks();
    scanner.take('=');
    scanner.skip_blanks();
    out.back().parameters[std::move(name)] = scanner.value();
  }
  return out;
}

std::optional<ContentRange> parse_content_range(std::string_view header) {
  header = trim(header);
  constexpr std::string_view unit = "bytes ";
  if (!header.starts_with(unit)) return {};
  auto halves = split_once(header.substr(unit.size()), '/');
  auto ends = split_once(halves.before, '-');
  auto first = parse_integer<std::uint64_t>(ends.before);
  auto last = parse_integer<std::uint64_t>(ends.after);
  if (!halves.found || !first.ok() || !last.ok() || *last < *first) return {};
  ContentRange range{*first, *last, {}};
  if (halves.after == "*") return range;
  auto total = parse_integer<std::uint64_t>(halves.after);
  if (!total.ok() || *total <= *last) return {};
  range.total = *total;
  return range;
}

std::uint64_t parse_upload_range(std::string_view header) {
  header = trim(header);
  constexpr std::string_view unit = "bytes=";
  if (header.starts_with(unit)) header.remove_prefix(unit.size());
  auto ends = split_once(header, '-');
  auto last = parse_integer<std::uint64_t>(ends.after);
  if (!ends.found || ends.before != "0" || !last.ok() || *last == 0 || *last == UINT64_MAX) return 0;
  return *last + 1;
}

std::optional<std::uint32_t> parse_retry_after(std::string_view header) {
  auto seconds = parse_integer<std::uint32_t>(trim(header));
  if (!seconds.ok()) return {};
  return *seconds;
}

std::string Url::host_without_port() const {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

Result<Url> parse_url(std::string_view text) {
  auto bad = [&](std::string_view why) { return Error(ErrorKind::invalid, concat("\"", text.substr(0, most_error_text), "\" is no address: ", why)); };
  if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7F; }))
    return bad("it holds a blank or control character");
  Url url;
  for (std::string_view scheme : {"https://", "http://"}) {
    if (lower(text.substr(0, scheme.size())) != scheme) continue;
    url.scheme = scheme.substr(0, scheme.size() - 3);
    auto rest = text.substr(scheme.size());
    auto slash = std::min(rest.find_first_of("/?#"), rest.size());
    url.host = rest.substr(0, slash);
    url.path = rest.substr(slash);
    url.path = url.path.substr(0, url.path.find('#'));
    if (!url.path.starts_with('/')) url.path.insert(0, "/");
    if (url.host.empty()) return bad("it has no host");
    if (url.host.find_first_of("@\\") != std::string::npos) return bad("it has a user in it");
    return url;
  }
  return bad("it is neither http nor https");
}

Result<Url> resolve_location(const Url& base, std::string_view location) {
  if (location.empty()) return Error(ErrorKind::invalid, "the answer has no Location");
  if (location.starts_with("//")) return parse_url(concat(base.scheme, ":", location));
  if (location.starts_with('/')) return parse_url(concat(base.origin(), location));
  if (location.find("://") != std::string_view::npos) return parse_url(location);
  const auto path = std::string_view(base.path).substr(0, base.path.find('?'));
  if (location.starts_with('?')) return parse_url(concat(base.origin(), path, location));
  return parse_url(concat(base.origin(), path.substr(0, path.rfind('/') + 1), location));
}

std::string next_link(std::string_view header) {
  for (auto piece : split(header, ',')) {
    auto halves = split_once(trim(piece), ';');
    auto target = trim(halves.before);
    if (!target.starts_with('<') || !target.ends_with('>')) continue;
    auto relation = lower(trim(halves.after));
    if (relation == "rel=\"next\"" || relation == "rel=next") return std::string(target.substr(1, target.size() - 2));
  }
  return "";
}

std::string percent_encode(std::string_view text) {
  static constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    if (is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += digits[byte >> 4U];
    out += digits[byte & 0xFU];
  }
  return out;
}

std::optional<RegistryError> parse_registry_error(std::string_view body) {
  auto document = parse_json(body, "the registry's error");
  if (!document.ok() || !document->is_object()) return {};
  auto list = JsonView(*document).at("errors");
  if (!list.ok() || !list->is_set() || !list->raw().is_array() || list->raw().get_array().empty()) return {};
  JsonView first(list->raw().get_array().front());
  RegistryError error;
  std::string message;
  if (!first.raw().is_object() || !first.read("code", error.code).ok() || !first.read("message", message).ok() || error.code.empty()) return {};
  error.text = concat(replace_all(lower(error.code), "_", " "), message.empty() ? "" : ": ", message);
  // It is shown to people: no control characters of a stranger on their terminal, and not for pages.
  for (char& c : error.text)
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7F) c = ' ';
  if (error.text.size() > most_error_text) error.text.resize(most_error_text);
  return error;
}

}  // namespace caisson::fetch
