// The only place that talks to Boost.JSON's parser; its exceptions never leave this file.
#include "base/json.hpp"

#include <limits>

#include "base/utf8.hpp"

namespace caisson {

Result<json::value> parse_json(std::string_view text, std::string_view what) {
  json::parse_options options;
  options.max_depth = 64;
  json::stream_parser parser(json::storage_ptr{}, options);
  boost::system::error_code code;
  std::size_t used = 0;
  try {
    used = parser.write_some(text.data(), text.size(), code);
    if (!code) parser.finish(code);
  } catch (const std::exception& failure) {  // allocation limits of a hostile document
    return Error(ErrorKind::invalid, concat(what, ": ", failure.what()));
  }
  if (!code && text.substr(used).find_first_not_of(" \t\r\n") == std::string_view::npos) return parser.release();
  std::size_t line = 1;
  std::size_t column = 1;
  for (char c : text.substr(0, used)) {
    column = c == '\n' ? 1 : column + 1;
    line += c == '\n' ? 1 : 0;
  }
  return Error(ErrorKind::invalid, concat(what, ": invalid JSON at line ", line, ", column ", column, ": ",
                                          code ? code.message() : std::string("text after the document")));
}

namespace {
std::string member_path(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : concat(path, ".", key);
}

/// Extends `path`, which leads to `at`, until it leads to the very value `wanted`. False: that is not below `at`.
bool search_path(const json::value& at, const json::value* wanted, std::string& path) {
  if (&at == wanted) return true;
  if (const auto* object = at.if_object()) {
    for (const auto& member : *object) {
      std::string below = member_path(path, std::string_view(member.key().data(), member.key().size()));
      if (!search_path(member.value(), wanted, below)) continue;
      path = std::move(below);
      return true;
    }
  } else if (const auto* array = at.if_array()) {
    for (std::size_t i = 0; i < array->size(); ++i) {
      std::string below = concat(path, "[", i, "]");
      if (!search_path((*array)[i], wanted, below)) continue;
      path = std::move(below);
      return true;
    }
  }
  return false;
}
}  // namespace

std::string JsonView::path() const {
  std::string out = prefix_;
  (void)search_path(*document_, value_ != nullptr ? value_ : holder_, out);
  return value_ != nullptr ? out : member_path(out, missing_);
}

Error JsonView::error(std::string_view text) const {
  const std::string at = path();
  return {ErrorKind::invalid, at.empty() ? std::string(text) : concat(at, ": ", text)};
}

Result<JsonView> JsonView::at(std::string_view key) const {
  const auto* object = is_set() ? value_->if_object() : nullptr;
  if (is_set() && object == nullptr) return error("want an object");
  const auto* member = object != nullptr ? object->if_contains(key) : nullptr;
  JsonView out = below(member);
  if (member == nullptr) {
    out.holder_ = value_ != nullptr ? value_ : holder_;
    out.missing_ = value_ != nullptr ? std::string(key) : member_path(missing_, key);
  }
  return out;
}

Status JsonView::read(bool& out) const {
  if (!is_set()) return {};
  const auto* value = value_->if_bool();
  if (value == nullptr) return error("want true or false");
  out = *value;
  return {};
}

Status JsonView::read(std::string& out) const {
  if (!is_set()) return {};
  const auto* value = value_->if_string();
  if (value == nullptr) return error("want a string");
  out.assign(value->data(), value->size());
  return {};
}

Status JsonView::read(double& out) const {
  if (!is_set()) return {};
  if (!value_->is_number()) return error("want a number");
  out = value_->to_number<double>();
  return {};
}

namespace {
template <typename T>
Status read_integer(const JsonView& view, T& out) {
  if (!view.is_set()) return {};
  const auto& value = view.raw();
  auto out_of_range = [&] {
    return view.error(concat("number out of range (", std::numeric_limits<T>::min(), " to ", std::numeric_limits<T>::max(), ")"));
  };
  if (const auto* number = value.if_int64()) {
    if (!std::in_range<T>(*number)) return out_of_range();
    out = static_cast<T>(*number);
    return {};
  }
  if (const auto* number = value.if_uint64()) {
    if (!std::in_range<T>(*number)) return out_of_range();
    out = static_cast<T>(*number);
    return {};
  }
  return view.error("want an integer");
}
}  // namespace

Status JsonView::read(std::int64_t& out) const { return read_integer(*this, out); }
Status JsonView::read(std::uint64_t& out) const { return read_integer(*this, out); }
Status JsonView::read(std::int32_t& out) const { return read_integer(*this, out); }
Status JsonView::read(std::uint32_t& out) const { return read_integer(*this, out); }
Status JsonView::read(std::uint16_t& out) const { return read_integer(*this, out); }

Status JsonView::read(std::map<std::string, std::string>& out) const {
  if (!is_set()) return {};
  std::map<std::string, std::string> items;
  TRY_PLAIN(
      for_each_member([&](std::string_view key, const JsonView& member) -> Status { return member.read(items[std::string(key)]); }));
  out = std::move(items);
  return {};
}

Status JsonView::expect_array() const {
  if (!value_->is_array()) return error("want an array");
  return {};
}

Status JsonView::for_each_member(const std::function<Status(std::string_view, const JsonView&)>& visit) const {
  if (!is_set()) return {};
  const auto* object = value_->if_object();
  if (object == nullptr) return error("want an object");
  for (const auto& member : *object) {
    std::string_view key(member.key().data(), member.key().size());
    TRY_PLAIN(visit(key, below(&member.value())));
  }
  return {};
}

Status JsonView::for_each_element(const std::function<Status(const JsonView&)>& visit) const {
  if (!is_set()) return {};
  TRY_PLAIN(expect_array());
  for (const auto& element : value_->get_array()) TRY_PLAIN(visit(below(&element)));
  return {};
}

std::string to_text(const json::value& value) { return valid_utf8(json::serialize(value)); }

}  // namespace caisson
