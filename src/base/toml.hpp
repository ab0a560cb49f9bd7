// Configuration files in TOML: toml++ as this tree uses it, without exceptions and compiled once, and its errors as ours.
#pragma once

#include <string_view>

#include "base/result.hpp"

// toml++ states as an assertion what a file can break ("[=]", parser.inl parse_key), and refuses it a few lines below: a malformed file must not
// end the process where assertions are on, nor be undefined behaviour where they are taken for facts.
#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_ASSERT(expr) static_cast<void>(0)
#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 0
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace caisson {

/// Errors: invalid, "line 3, column 7: why".
Result<toml::table> parse_toml(std::string_view text);

}  // namespace caisson
