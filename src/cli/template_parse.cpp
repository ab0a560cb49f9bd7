// Template text to syntax tree.
#include <optional>

#include "base/strings.hpp"
#include "base/utf8.hpp"
#include "cli/template_ast.hpp"

namespace caisson::cli::tpl {

Error error_at(std::string_view source, std::size_t at, std::string_view text) {
  std::size_t line = 1;
  std::size_t column = 1;
  for (char c : source.substr(0, at)) {
    column = c == '\n' ? 1 : column + 1;
    line += c == '\n' ? 1 : 0;
  }
  return {ErrorKind::invalid, concat("template: ", line, ":", column, ": ", text)};
}

namespace {

// A template is typed by a person; deeper nesting than this is an accident or an attack on the stack.
constexpr int most_nesting = 64;

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) { return is_name_start(c) || is_digit(c); }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

enum class Stop : std::uint8_t { end, else_, end_of_text };

class Parser {
 public:
  explicit Parser(std::string_view source) : source_(source) {}

  Status parse_list(std::vector<std::unique_ptr<Node>>& out, Stop& stop, bool in_range, int depth) {
    if (depth > most_nesting) return fail("nested too deeply");
    for (;;) {
      TRY_PLAIN(read_text(out));
      if (at_ >= source_.size()) {
        stop = Stop::end_of_text;
        return {};
      }
      if (TRY_PLAIN(skip_comment())) continue;
      skip_blanks();
      std::size_t keyword_at = at_;
      std::string word = peek_name();
      if (word == "end") {
        at_ += word.size();
        stop = Stop::end;
        return close();
      }
      if (word == "else") {
        at_ += word.size();
        stop = Stop::else_;
        return {};  // what follows ("if …" or the end of the action) is read by parse_branches
      }
      auto node = std::make_unique<Node>();
      if (word == "if" || word == "range" || word == "with") {
        at_ += word.size();
        node->kind = word == "if" ? NodeKind::if_ : word == "range" ? NodeKind::range : NodeKind::with;
        TRY_PLAIN(parse_branches(*node, in_range || word == "range", depth));
      } else if (word == "break" || word == "continue") {
        at_ += word.size();
        if (!in_range) return error_at(source_, keyword_at, concat("{{", word, "}} outside {{range}}"));
        node->kind = word == "break" ? NodeKind::break_ : NodeKind::continue_;
        TRY_PLAIN(close());
      } else if (word == "define" || word == "template" || word == "block") {
        return error_at(source_, keyword_at, concat("{{", word, "}} is not supported"));
      } else {
        node->kind = NodeKind::action;
        node->pipeline = TRY_PLAIN(parse_pipeline(depth));
        TRY_PLAIN(close());
      }
      out.push_back(std::move(node));
    }
  }

  [[nodiscard]] Error fail(std::string_view text) const { return error_at(source_, at_, text); }

 private:
  // {{if P}} body [{{else if P}} body]… [{{else}} body] {{end}}
  Status parse_branches(Node& node, bool in_range, int depth) {
    node.pipeline = TRY_PLAIN(parse_pipeline(depth));
    TRY_PLAIN(close());
    Stop stop = Stop::end;
    TRY_PLAIN(parse_list(node.body, stop, in_range, depth + 1));
    if (stop == Stop::end_of_text) return fail("unexpected end: {{end}} is missing");
    if (stop == Stop::end) return {};
    skip_blanks();
    std::string word = peek_name();
    if (word == "if" || word == "with") {
      if (node.kind != (word == "if" ? NodeKind::if_ : NodeKind::with)) return fail(concat("unexpected {{else ", word, "}}"));
      at_ += word.size();
      auto inner = std::make_unique<Node>();
      inner->kind = word == "if" ? NodeKind::if_ : NodeKind::with;
      TRY_PLAIN(parse_branches(*inner, in_range, depth + 1));
      node.otherwise.push_back(std::move(inner));
      return {};
    }
    TRY_PLAIN(close());
    TRY_PLAIN(parse_list(node.otherwise, stop, in_range, depth + 1));
    if (stop == Stop::end_of_text) return fail("unexpected end: {{end}} is missing");
    if (stop == Stop::else_) return fail("a second {{else}}");
    return {};
  }

  Status read_text(std::vector<std::unique_ptr<Node>>& out) {
    std::size_t open = source_.find("{{", at_);
    std::string_view text = source_.substr(at_, open == std::string_view::npos ? open : open - at_);
    if (trims_left_) {
      while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
      trims_left_ = false;
    }
    at_ = open == std::string_view::npos ? source_.size() : open + 2;
    if (open != std::string_view::npos && at_ + 1 < source_.size() && source_[at_] == '-' && is_blank(source_[at_ + 1])) {
      ++at_;
      while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    }
    if (open != std::string_view::npos && at_ >= source_.size()) return fail("unclosed action");
    if (!text.empty()) {
      auto node = std::make_unique<Node>();
      node->kind = NodeKind::text;
      node->text = text;
      out.push_back(std::move(node));
    }
    return {};
  }

  Result<bool> skip_comment() {
    std::size_t start = at_;
    while (start < source_.size() && is_blank(source_[start])) ++start;
    if (source_.substr(start, 2) != "/*") return false;
    std::size_t end = source_.find("*/", start + 2);
    if (end == std::string_view::npos) return fail("unclosed comment");
    at_ = end + 2;
    TRY_PLAIN(close());
    return true;
  }

  void skip_blanks() {
    while (at_ < source_.size() && is_blank(source_[at_])) ++at_;
  }

  [[nodiscard]] std::string peek_name() const {
    std::size_t end = at_;
    if (end < source_.size() && is_name_start(source_[end]))
      while (end < source_.size() && is_name(source_[end])) ++end;
    return std::string(source_.substr(at_, end - at_));
  }

  // The end of an action: "}}", or " -}}" which eats blanks behind it.
  [[nodiscard]] bool at_close() const {
    return source_.substr(at_, 2) == "}}" || (source_.substr(at_, 3) == "-}}" && at_ > 0 && is_blank(source_[at_ - 1]));
  }
  Status close() {
    skip_blanks();
    if (!at_close()) {
      if (at_ >= source_.size()) return fail("unclosed action");
      return fail(concat("unexpected \"", source_.substr(at_, 1), "\""));
    }
    trims_left_ = source_[at_] == '-';
    at_ += trims_left_ ? 3 : 2;
    return {};
  }

  Result<Pipeline> parse_pipeline(int depth) {
    if (depth > most_nesting) return fail("nested too deeply");
    Pipeline pipeline;
    skip_blanks();
    pipeline.at = at_;
    TRY_PLAIN(parse_declaration(pipeline));
    for (;;) {
      pipeline.commands.push_back(TRY_PLAIN(parse_command(depth)));
      skip_blanks();
      if (at_ < source_.size() && source_[at_] == '|') {
        ++at_;
        continue;
      }
      return pipeline;
    }
  }

  // "$x :=", "$i, $e :=", "$x ="; anything else leaves the position as it was.
  Status parse_declaration(Pipeline& pipeline) {
    std::size_t start = at_;
    std::vector<std::string> names;
    while (at_ < source_.size() && source_[at_] == '$') {
      ++at_;
      std::string name = peek_name();
      at_ += name.size();
      names.push_back(name);
      skip_blanks();
      if (at_ < source_.size() && source_[at_] == ',') {
        ++at_;
        skip_blanks();
        continue;
      }
      if (source_.substr(at_, 2) == ":=") {
        at_ += 2;
        pipeline.variables = names;
        if (names.size() > 2) return fail("too many variables");
        return {};
      }
      if (source_.substr(at_, 1) == "=" && names.size() == 1) {
        ++at_;
        pipeline.variables = names;
        pipeline.assigns = true;
        return {};
      }
      break;
    }
    at_ = start;
    return {};
  }

  Result<Command> parse_command(int depth) {
    Command command;
    for (;;) {
      skip_blanks();
      if (at_ >= source_.size()) return fail("unclosed action");
      char c = source_[at_];
      if (c == '|' || c == ')' || at_close()) break;
      command.operands.push_back(TRY_PLAIN(parse_operand(depth)));
    }
    if (command.operands.empty()) return fail("missing value for command");
    return command;
  }

  Result<Operand> parse_operand(int depth) {
    Operand operand;
    operand.at = at_;
    char c = source_[at_];
    if (c == '.') {
      operand.kind = OperandKind::dot;
    } else if (c == '$') {
      ++at_;
      operand.kind = OperandKind::variable;
      operand.name = peek_name();
      at_ += operand.name.size();
    } else if (c == '(') {
      ++at_;
      operand.kind = OperandKind::paren;
      auto inner = TRY_PLAIN(parse_pipeline(depth + 1));
      operand.inner = std::make_shared<Pipeline>(std::move(inner));
      skip_blanks();
      if (at_ >= source_.size() || source_[at_] != ')') return fail("unclosed left paren");
      ++at_;
    } else if (c == '"' || c == '`' || c == '\'') {
      operand.kind = OperandKind::literal;
      operand.literal = TRY_PLAIN(parse_quoted(c));
    } else if (is_digit(c) || c == '-' || c == '+') {
      operand.kind = OperandKind::literal;
      operand.literal = TRY_PLAIN(parse_number());
    } else if (is_name_start(c)) {
      parse_word(operand);
    } else {
      return fail(concat("unexpected \"", c, "\" in operand"));
    }
    return parse_fields(std::move(operand));
  }

  void parse_word(Operand& operand) {
    std::string name = peek_name();
    at_ += name.size();
    operand.kind = OperandKind::literal;
    if (name == "true") operand.literal = true;
    else if (name == "false") operand.literal = false;
    else if (name == "nil") operand.is_nil = true;
    else {
      operand.kind = OperandKind::function;
      operand.name = name;
    }
  }

  Result<Operand> parse_fields(Operand operand) {
    bool lone_dot = operand.kind == OperandKind::dot;
    while (at_ < source_.size() && source_[at_] == '.') {
      ++at_;
      std::string name = peek_name();
      if (name.empty()) {
        if (lone_dot) return operand;  // just the dot
        return fail("unexpected \".\"");
      }
      at_ += name.size();
      operand.fields.push_back(name);
      lone_dot = false;
    }
    return operand;
  }

  Result<json::value> parse_quoted(char quote) {
    std::string text;
    ++at_;
    for (;;) {
      if (at_ >= source_.size() || (source_[at_] == '\n' && quote != '`')) return fail("unterminated quoted string");
      char c = source_[at_++];
      if (c == quote) break;
      if (c == '\\' && quote != '`') TRY_PLAIN(parse_escape(text));
      else text += c;
    }
    if (quote != '\'') return json::value(text);
    if (text.size() != 1) return fail("malformed character constant");
    return json::value(static_cast<std::int64_t>(static_cast<unsigned char>(text[0])));
  }

  Status parse_escape(std::string& text) {
    if (at_ >= source_.size()) return fail("unterminated quoted string");
    char c = source_[at_++];
    switch (c) {
      case 'n': text += '\n'; return {};
      case 't': text += '\t'; return {};
      case 'r': text += '\r'; return {};
      case 'a': text += '\a'; return {};
      case 'b': text += '\b'; return {};
      case 'f': text += '\f'; return {};
      case 'v': text += '\v'; return {};
      case '\\': case '"': case '\'': text += c; return {};
      case 'x': case 'u': case 'U': {
        std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        auto code = parse_integer<std::uint32_t>(source_.substr(at_, digits), 16);
        if (!code.ok() || source_.size() - at_ < digits || *code > 0x10FFFF) return fail("invalid escape in string");
        at_ += digits;
        if (c == 'x') text += static_cast<char>(*code);
        else append_utf8(text, *code);
        return {};
      }
      default: return fail("unknown escape in string");
    }
  }

  Result<json::value> parse_number() {
    std::size_t end = at_ + 1;
    while (end < source_.size() && (is_name(source_[end]) || source_[end] == '.')) ++end;
    std::string_view text = source_.substr(at_, end - at_);
    std::string_view digits = text.starts_with('+') ? text.substr(1) : text;
    bool is_hex = digits.starts_with("0x");
    auto whole = is_hex ? parse_integer<std::int64_t>(digits.substr(2), 16) : parse_integer<std::int64_t>(digits);
    if (whole.ok()) {
      at_ = end;
      return json::value(*whole);
    }
    double number = 0;
    auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (parsed.ec != std::errc{} || parsed.ptr != digits.data() + digits.size()) return fail(concat("bad number syntax: \"", text, "\""));
    at_ = end;
    return json::value(number);
  }

  std::string_view source_;
  std::size_t at_ = 0;
  bool trims_left_ = false;
};

}  // namespace

Result<std::unique_ptr<Node>> parse(std::string_view text) {
  auto root = std::make_unique<Node>();
  root->source = text;
  Parser parser(root->source);
  Stop stop = Stop::end_of_text;
  TRY_PLAIN(parser.parse_list(root->body, stop, false, 0));
  if (stop != Stop::end_of_text) return parser.fail(stop == Stop::end ? "unexpected {{end}}" : "unexpected {{else}}");
  return root;
}

}  // namespace caisson::cli::tpl
