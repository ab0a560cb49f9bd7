// A value while a template runs, and the functions templates may call.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::cli::tpl {

/// A JSON value, borrowed from the document or made by a function; or nothing at all.
class Value {
 public:
  Value() = default;
  static Value borrow(const json::value& value, bool is_map = false) {
    Value out;
    out.borrowed_ = &value;
    out.is_map_ = is_map;
    return out;
  }
  static Value own(json::value value) {
    Value out;
    out.owned_ = std::move(value);
    return out;
  }
  /// What a missing key of a map is: prints as "<no value>", is false.
  static Value missing() {
    Value out;
    out.is_missing_ = true;
    return out;
  }

  [[nodiscard]] const json::value& get() const { return borrowed_ != nullptr ? *borrowed_ : owned_; }
  [[nodiscard]] bool is_borrowed() const { return borrowed_ != nullptr; }
  [[nodiscard]] bool is_missing() const { return is_missing_; }
  /// A map of user-chosen keys (Labels, Ports), where a missing key is no mistake, as against an object with fixed fields.
  [[nodiscard]] bool is_map() const { return is_map_; }

 private:
  const json::value* borrowed_ = nullptr;
  json::value owned_;
  bool is_missing_ = false;
  bool is_map_ = false;
};

/// As Go prints it with %v.
std::string to_print(const Value& value);
/// Go's truth: not false, 0, "", nil, empty list or map.
bool is_true(const Value& value);

/// Is there such a function?
bool is_function(std::string_view name);
/// All names, for "did you mean".
std::span<const std::string_view> function_names();
/// Errors: invalid ("wrong number of args for split: want 2 got 1").
Result<Value> call_function(std::string_view name, std::vector<Value> arguments, bool is_header);

}  // namespace caisson::cli::tpl
