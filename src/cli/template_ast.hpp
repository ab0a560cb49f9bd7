// The syntax tree of a template; shared by its parser and its evaluator.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::cli::tpl {

struct Pipeline;

enum class OperandKind : std::uint8_t { dot, variable, literal, function, paren };

/// One operand with the fields behind it: `.A.B`, `$x.A`, `"text"`, `len`, `(…).A`.
struct Operand {
  OperandKind kind = OperandKind::dot;
  std::string name;                  ///< of the variable or function
  json::value literal;
  bool is_nil = false;
  std::vector<std::string> fields;
  std::shared_ptr<Pipeline> inner;   ///< paren; shared because nodes are copied while parsing, never changed afterwards
  std::size_t at = 0;                ///< offset in the source, for errors
};

struct Command {
  std::vector<Operand> operands;
};

struct Pipeline {
  std::vector<std::string> variables;  ///< `$x :=` or `$i, $e :=`
  bool assigns = false;                ///< `$x =`
  std::vector<Command> commands;
  std::size_t at = 0;
};

enum class NodeKind : std::uint8_t { list, text, action, if_, range, with, break_, continue_ };

struct Node {
  NodeKind kind = NodeKind::list;
  std::string text;                              ///< text
  Pipeline pipeline;                             ///< action, if, range, with
  std::vector<std::unique_ptr<Node>> body;       ///< list; or what follows the condition
  std::vector<std::unique_ptr<Node>> otherwise;  ///< behind {{else}}
  std::string source;                            ///< of the whole template, in the root only
};

/// Errors: invalid, "template: LINE:COLUMN: …".
Result<std::unique_ptr<Node>> parse(std::string_view text);

/// "template: LINE:COLUMN: TEXT" for the offset `at` in `source`.
Error error_at(std::string_view source, std::size_t at, std::string_view text);

}  // namespace caisson::cli::tpl
