// Finds a member's text inside a JSON document without parsing the document: what a cache knows by its text need not be parsed.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace caisson {

/// The text of the value that `path` leads to, through objects only: {"linux", "seccomp"}. A view into `document`.
/// Nothing when it is not there, when a key on the way occurs twice or is written with an escape, or when the text does not look
/// like JSON on the way. This is a search, no check: the text around the value must still be parsed by whoever relies on it.
std::optional<std::string_view> find_member_text(std::string_view document, std::span<const std::string_view> path);

/// The name of a member that occurs twice in its object, escapes resolved; nothing when there is none. Parsers keep one of the two and do not
/// say which. Precondition: parse_json takes the document, which also bounds its depth.
std::optional<std::string> find_repeated_member(std::string_view document);

}  // namespace caisson
