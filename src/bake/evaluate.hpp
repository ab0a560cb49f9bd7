// Values of expressions: variables, operators, and the functions that build files may call.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bake/syntax.hpp"
#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::bake {

/// Where names lead: to local ones first (of for expressions and parameters), then to `variable`.
struct Scope {
  std::function<Result<json::value>(const std::string& name)> variable;
  /// Functions of the file; nullptr when there is none of that name.
  std::function<const struct Function*(const std::string& name)> function;
};
struct Function {
  std::vector<std::string> parameters;
  std::string variadic;        ///< name of the list of further arguments, or ""
  const Expression* result = nullptr;
};

/// Numbers are whole where they can be. Errors: invalid, with the line; more than a million steps or 16 MiB of text.
Result<json::value> evaluate(const Expression& expression, const Scope& scope);
/// As templates and environment variables show it: texts, numbers and booleans only. Errors: invalid.
Result<std::string> text_of(const json::value& value);

}  // namespace caisson::bake
