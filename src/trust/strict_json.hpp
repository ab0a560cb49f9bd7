// Reading JSON in which every member counts: one that is unknown, or there twice, refuses the document.
#pragma once

#include <initializer_list>
#include <string_view>

#include "base/json.hpp"

namespace caisson::trust {

/// As parse_json, and without a member that occurs twice in its object: two readers must not see different things.
Result<json::value> parse_strict_json(std::string_view text, std::string_view what);
/// Errors: invalid, naming the first member that is not in `known`; invalid when it is no object.
Status refuse_unknown(const JsonView& object, std::initializer_list<std::string_view> known);

}  // namespace caisson::trust
