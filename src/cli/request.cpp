// Percent encoding as Go's net/url does it.
#include "cli/request.hpp"

#include "base/strings.hpp"

namespace caisson::cli {

namespace {
std::string encode(std::string_view text, std::string_view also_plain) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~' ||
                 also_plain.find(c) != std::string_view::npos;
    auto byte = static_cast<unsigned char>(c);
    if (plain) out += c;
    else out += concat('%', digits[byte >> 4], digits[byte & 15]);
  }
  return out;
}
}  // namespace

std::string path_piece(std::string_view text) { return encode(text, "/:@"); }

std::string object_path(std::string_view collection, std::string_view name, std::string_view suffix) {
  std::string path = concat("/", collection, "/", path_piece(name));
  if (!suffix.empty()) path += concat("/", suffix);
  return path;
}

Query& Query::add(std::string_view key, std::string_view value) {
  if (!text_.empty()) text_ += '&';
  text_ += concat(encode(key, ""), "=", encode(value, ""));
  return *this;
}

Query& Query::add_filters(const json::object& filters) { return filters.empty() ? *this : add("filters", to_text(filters)); }

void add_filter(json::object& filters, std::string_view key, std::string_view value) {
  json::value& entry = filters[key];
  if (!entry.is_object()) entry = json::object();
  entry.get_object()[value] = true;
}

Result<json::object> parse_filters(std::span<const std::string> filters) {
  json::object out;
  for (const auto& filter : filters) {
    auto halves = split_once(filter, '=');
    if (!halves.found) {
      if (filter.empty()) continue;
      return Error(ErrorKind::invalid, "invalid filter '" + filter + "' (should be name=value)");
    }
    add_filter(out, lower(trim(halves.before)), trim(halves.after));
  }
  return out;
}

}  // namespace caisson::cli
