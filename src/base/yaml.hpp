// YAML: the part of it that configuration files written by Go programs and by hand use, read into the JSON it means.
#pragma once

#include <string_view>

#include "base/json.hpp"

namespace caisson {

/// One document of block mappings and sequences, plain scalars (over several lines too) and quoted ones, flow collections of one line, and
/// comments; at most 64 levels deep. Plain scalars mean what YAML 1.2's core schema says. What the part leaves out is refused by name, never
/// guessed at: anchors, aliases, tags, directives, block scalars ("|", ">"), "? " keys, several documents, numbers with a leading zero (octal in
/// YAML 1.1, decimal in 1.2), a key given twice. A library was refused: libyaml reads all of YAML, also into the daemon, for files of fifty lines.
/// `what` names the source in errors. Errors: invalid, with the line.
Result<json::value> parse_yaml(std::string_view text, std::string_view what);

}  // namespace caisson
