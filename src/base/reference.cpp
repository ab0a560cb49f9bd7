// Image references in Docker's grammar: [domain/]path[:tag][@digest].
#include "base/reference.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"

namespace caisson {

namespace {

constexpr std::string_view default_domain = "docker.io";
constexpr std::string_view official_prefix = "library/";
constexpr std::size_t most_tag_bytes = 128;

bool is_lower_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_alnum(char c) { return is_lower_alnum(c) || is_upper(c); }
bool is_word(char c) { return is_alnum(c) || c == '_'; }
bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

Error bad_format() { return {ErrorKind::invalid, "invalid reference format"}; }

/// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
bool is_path_component(std::string_view text) {
  std::size_t at = 0;
  auto skip_alnum = [&] {
    auto first = at;
    while (at < text.size() && is_lower_alnum(text[at])) ++at;
    return at > first;
  };
  if (!skip_alnum()) return false;
  while (at < text.size()) {
    if (text[at] == '.') ++at;
    else if (text[at] == '_') at += text.substr(at).starts_with("__") ? 2U : 1U;
    else if (text[at] == '-') at = std::min(text.find_first_not_of('-', at), text.size());
    else return false;
    if (!skip_alnum()) return false;
  }
  return true;
}

/// One label of a host name: alphanumeric at both ends, dashes between.
bool is_domain_label(std::string_view text) {
  return !text.empty() && is_alnum(text.front()) && is_alnum(text.back()) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_alnum(c) || c == '-'; });
}

/// "host", "host.name:port", "[2001:db8::1]:port".
bool is_domain(std::string_view text) {
  std::string_view host = text;
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    auto close = text.find(']');
    if (close == std::string_view::npos) return false;
    host = text.substr(1, close - 1);
    auto rest = text.substr(close + 1);
    if (host.empty() || !std::all_of(host.begin(), host.end(), [](char c) { return is_hex(c) || (c >= 'A' && c <= 'F') || c == ':'; })) return false;
    if (!rest.empty() && rest[0] != ':') return false;
    has_port = !rest.empty();
    port = rest.empty() ? rest : rest.substr(1);
  } else {
    auto halves = split_once(text, ':');
    host = halves.before;
    port = halves.after;
    has_port = halves.found;
    for (auto label : split(host, '.'))
      if (!is_domain_label(label)) return false;
  }
  return !has_port || (!port.empty() && std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }));
}

/// What stands before the first slash is a host only if it could not be a path: docker's rule for "localhost/x" and "a/x".
bool looks_like_domain(std::string_view text) {
  return text.find_first_of(".:") != std::string_view::npos || text == "localhost" || std::any_of(text.begin(), text.end(), is_upper);
}

}  // namespace

bool is_repository_path(std::string_view text) {
  for (auto component : split(text, '/'))
    if (!is_path_component(component)) return false;
  return true;
}

bool is_tag(std::string_view text) {
  return !text.empty() && text.size() <= most_tag_bytes && is_word(text[0]) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_word(c) || c == '.' || c == '-'; });
}

namespace {

Status split_name(std::string_view name, Reference& out) {
  auto halves = split_once(name, '/');
  std::string_view path = name;
  out.domain = default_domain;
  if (halves.found && looks_like_domain(halves.before)) {
    if (!is_domain(halves.before)) return bad_format();
    out.domain = halves.before == "index.docker.io" ? default_domain : halves.before;
    path = halves.after;
  }
  if (std::any_of(path.begin(), path.end(), is_upper)) {
    if (is_repository_path(lower(path))) return Error(ErrorKind::invalid, "invalid reference format: repository name must be lowercase");
    return bad_format();
  }
  if (!is_repository_path(path)) return bad_format();
  if (out.domain == default_domain && path.find('/') == std::string_view::npos) out.path = official_prefix;
  out.path += path;
  if (out.domain.size() + 1 + out.path.size() > most_repository_bytes)
    return Error(ErrorKind::invalid, concat("repository name must not be more than ", most_repository_bytes, " characters"));
  return {};
}

}  // namespace

Result<Reference> parse_reference(std::string_view text) {
  // A bare image id is no name: "docker tag x <64 hex>" must not create a repository that hides an image.
  if (text.size() == 64 && std::all_of(text.begin(), text.end(), is_hex))
    return Error(ErrorKind::invalid, concat("invalid repository name (", text, "), cannot specify 64-byte hexadecimal strings"));
  Reference out;
  auto at_digest = split_once(text, '@');
  if (at_digest.found) {
    auto digest = Digest::parse(at_digest.after);
    if (!digest.ok()) return bad_format();
    out.digest = std::move(*digest);
  }
  std::string_view name = at_digest.before;
  auto colon = name.rfind(':');
  if (colon != std::string_view::npos && name.find('/', colon) == std::string_view::npos) {
    if (!is_tag(name.substr(colon + 1))) return bad_format();
    out.tag = name.substr(colon + 1);
    name = name.substr(0, colon);
  }
  TRY_PLAIN(split_name(name, out));
  if (out.tag.empty() && !out.digest) out.tag = "latest";
  return out;
}

namespace {
std::string with_suffix(std::string name, const Reference& reference) {
  if (!reference.tag.empty()) name += ":" + reference.tag;
  if (reference.digest) name += "@" + reference.digest->text();
  return name;
}
}  // namespace

std::string Reference::canonical() const { return with_suffix(domain + "/" + path, *this); }

std::string Reference::familiar_name() const {
  if (domain != default_domain) return domain + "/" + path;
  std::string_view rest = path;
  if (rest.starts_with(official_prefix) && rest.find('/', official_prefix.size()) == std::string_view::npos) rest.remove_prefix(official_prefix.size());
  // "docker.io/docker.io/x" must not be shortened to "docker.io/x", which means another image (found by fuzzing).
  std::size_t slash = rest.find('/');
  if (slash != std::string_view::npos && looks_like_domain(rest.substr(0, slash))) return domain + "/" + path;
  return std::string(rest);
}

std::string Reference::familiar() const { return with_suffix(familiar_name(), *this); }

}  // namespace caisson
