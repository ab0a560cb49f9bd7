// The syntax of HCL 2, HashiCorp's configuration language, as far as build files use it: bodies, expressions, templates. JSON's form of it too.
// Source: github.com/hashicorp/hcl, hclsyntax/spec.md and json/spec.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::bake {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind : std::uint8_t {
  literal,      ///< value
  variable,     ///< name
  template_,    ///< parts, joined as texts; one part alone keeps its type
  list,         ///< parts
  object,       ///< keys and parts
  call,         ///< name; parts; spread: the last part is a list of further arguments
  unary,        ///< name: "-" or "!"; parts[0]
  binary,       ///< name: the operator; parts[0], parts[1]
  conditional,  ///< parts: condition, then, else
  attribute,    ///< parts[0].name
  index,        ///< parts[0][parts[1]]
  splat,        ///< parts[0][*], and what follows it applied to every element: parts[1] with the element as the variable ""
  for_list,     ///< key_name, name: parts: collection, value, condition (may be null)
  for_object,   ///< the same with keys[0]; spread: values of one key are collected
};

struct Expression {
  ExpressionKind kind = ExpressionKind::literal;
  std::uint32_t line = 0;
  json::value value;
  std::string name;
  std::string key_name;
  std::vector<ExpressionPtr> keys;
  std::vector<ExpressionPtr> parts;
  bool spread = false;
};

struct Attribute {
  std::string name;
  std::uint32_t line = 0;
  ExpressionPtr value;
};
struct Block;
struct Body {
  std::vector<Attribute> attributes;
  std::vector<Block> blocks;
};
struct Block {
  std::string type;
  std::vector<std::string> labels;
  std::uint32_t line = 0;
  Body body;
};

/// `name`: of the file, for errors. Errors: invalid, with file and line; deeper than 64 levels.
Result<Body> parse_hcl(std::string_view text, std::string_view name);
/// JSON: members of `blocks` (such as "target") hold objects of blocks by label, the others are attributes whose texts are templates.
Result<Body> parse_hcl_json(std::string_view text, std::string_view name, const std::vector<std::string>& blocks);
/// One template ("a${b}c"), as the texts of JSON are. Errors: invalid.
Result<ExpressionPtr> parse_template(std::string_view text, std::string_view name, std::uint32_t line);

}  // namespace caisson::bake
