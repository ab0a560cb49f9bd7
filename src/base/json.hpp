// JSON: parse with limits, and read fields so that every error names the field by its path ("process.user.uid").
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/strings.hpp"

namespace caisson {

namespace json = boost::json;

/// Parses one document, at most 64 levels deep. `what` names the source in errors ("config.json", "request body").
/// Errors: invalid, with line and column.
Result<json::value> parse_json(std::string_view text, std::string_view what);

/// A value with the path that leads to it. `null` and absent are the same: unset (Docker's and Go's rule).
/// All readers are strict about type: a number in a string field is an error that names the path.
class JsonView {
 public:
  /// `value` must outlive the view. `path` is what errors show for the document itself; "" for none.
  explicit JsonView(const json::value& value, std::string path = "") : value_(&value), document_(&value), prefix_(std::move(path)) {}

  [[nodiscard]] bool is_set() const { return value_ != nullptr && !value_->is_null(); }
  /// Worked out by a search in the document: it is asked for only when something is wrong.
  [[nodiscard]] std::string path() const;
  [[nodiscard]] const json::value& raw() const { return *value_; }  ///< precondition: is_set()

  /// The named member, or an unset view. Errors: invalid when this is set but no object.
  [[nodiscard]] Result<JsonView> at(std::string_view key) const;

  Status read(bool& out) const;
  Status read(std::string& out) const;
  Status read(std::int64_t& out) const;
  Status read(std::uint64_t& out) const;
  Status read(std::int32_t& out) const;
  Status read(std::uint32_t& out) const;
  Status read(std::uint16_t& out) const;
  Status read(double& out) const;
  Status read(std::map<std::string, std::string>& out) const;

  template <typename T>
  Status read(std::optional<T>& out) const {
    if (!is_set()) return {};
    T inner{};
    TRY_PLAIN(read_into(inner));
    out = std::move(inner);
    return {};
  }
  template <typename T>
  Status read(std::vector<T>& out) const {
    if (!is_set()) return {};
    TRY_PLAIN(expect_array());
    std::vector<T> items;
    items.reserve(value_->get_array().size());
    for (const auto& element : value_->get_array()) {
      T inner{};
      TRY_PLAIN(below(&element).read_into(inner));
      items.push_back(std::move(inner));
    }
    out = std::move(items);
    return {};
  }
  /// Structs of ours: a free function `Status from_json(const JsonView&, T&)` found by argument-dependent lookup.
  template <typename T>
    requires requires(const JsonView& view, T& out) { from_json(view, out); }
  Status read(T& out) const {
    if (!is_set()) return {};
    return from_json(*this, out);
  }

  /// Reads member `key` into `out`; unset leaves `out` as it is.
  template <typename T>
  Status read(std::string_view key, T& out) const {
    JsonView member = TRY_PLAIN(at(key));
    return member.read(out);
  }

  /// Calls `visit(key, view)` for every member in document order.
  Status for_each_member(const std::function<Status(std::string_view, const JsonView&)>& visit) const;
  Status for_each_element(const std::function<Status(const JsonView&)>& visit) const;

  /// "PATH: TEXT" of kind invalid.
  [[nodiscard]] Error error(std::string_view text) const;

 private:
  JsonView(const json::value* value, const JsonView& above) : value_(value), document_(above.document_), prefix_(above.prefix_) {}
  /// A view of what lies in our value.
  [[nodiscard]] JsonView below(const json::value* value) const { return {value, *this}; }
  [[nodiscard]] Status expect_array() const;
  template <typename T>
  Status read_into(T& out) const {
    return read(out);
  }
  const json::value* value_;             ///< null: not there
  const json::value* document_;          ///< where the search for the path begins
  std::string prefix_;                   ///< the document's own path
  const json::value* holder_ = nullptr;  ///< what is not there is not there in this …
  std::string missing_;                  ///< … under this path
};

/// Compact text; object members in insertion order. What is not UTF-8 becomes U+FFFD: no reader would take it.
std::string to_text(const json::value& value);

}  // namespace caisson
