// Functions that expressions may call, by name. Names and meanings are those of go-cty's standard library as buildx offers it.
#pragma once

#include <span>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::bake {

/// Takes values, gives one. Errors: invalid, without the function's name.
using Builtin = Result<json::value> (*)(std::span<const json::value> arguments);
struct BuiltinEntry {
  std::string_view name;
  std::size_t least = 0;
  std::size_t most = 0;  ///< of arguments
  Builtin call = nullptr;
};
/// nullptr: there is none.
const BuiltinEntry* find_builtin(std::string_view name);

bool equal(const json::value& a, const json::value& b);
Result<double> number_of(const json::value& value);
Result<bool> bool_of(const json::value& value);
/// Whole where it can be.
json::value number(double value);

}  // namespace caisson::bake
