// A recursive descent over the bytes: HCL's lexer depends on where it is (text, template, expression), so there is none apart from the parser.
#include "bake/syntax.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "base/strings.hpp"
#include "base/utf8.hpp"

namespace caisson::bake {

namespace {

constexpr int most_depth = 64;

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80; }
bool is_name_part(char c) { return is_name_start(c) || (c >= '0' && c <= '9') || c == '-'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

ExpressionPtr make(ExpressionKind kind, std::uint32_t line) {
  auto out = std::make_unique<Expression>();
  out->kind = kind;
  out->line = line;
  return out;
}

class Parser {
 public:
  Parser(std::string_view text, std::string_view name, std::uint32_t line = 1) : text_(text), name_(name), line_(line) {}

  Result<Body> file() {
    auto body = TRY_PLAIN(this->body(true));
    return body;
  }
  /// All of the text is one template.
  Result<ExpressionPtr> whole_template() {
    auto out = TRY_PLAIN(template_until(false));
    return out;
  }

 private:
  /// Counts how deep the descent is.
  class Level {
   public:
    explicit Level(int& depth) : depth_(depth) { ++depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --depth_; }
    [[nodiscard]] bool is_too_deep() const { return depth_ > most_depth; }

   private:
    int& depth_;
  };

  [[nodiscard]] Error fail(std::string_view what) const { return {ErrorKind::invalid, concat(name_, ":", line_, ": ", what)}; }
  [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }
  [[nodiscard]] char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  [[nodiscard]] bool looks_at(std::string_view words) const { return text_.substr(at_).starts_with(words); }
  void advance(std::size_t count = 1) {
    for (; count > 0 && at_ < text_.size(); --count)
      if (text_[at_++] == '\n') ++line_;
  }
  bool accept(std::string_view words) {
    if (!looks_at(words)) return false;
    advance(words.size());
    return true;
  }

  /// Blanks and comments; line ends too inside of brackets.
  Status skip(bool with_lines) {
    while (!at_end()) {
      if (peek() == ' ' || peek() == '\t' || peek() == '\r' || (with_lines && peek() == '\n')) {
        advance();
      } else if (peek() == '#' || looks_at("//")) {
        while (!at_end() && peek() != '\n') advance();
      } else if (looks_at("/*")) {
        const auto end = text_.find("*/", at_ + 2);
        if (end == std::string_view::npos) return fail("a comment does not end");
        advance(end + 2 - at_);
      } else {
        return {};
      }
    }
    return {};
  }

  std::string identifier() {
    std::string out;
    if (!is_name_start(peek())) return out;
    while (is_name_part(peek())) {
      out += peek();
      advance();
    }
    return out;
  }

  Result<Body> body(bool is_file) {
    const Level level(depth_);
    if (level.is_too_deep()) return fail("too many levels");
    Body out;
    while (true) {
      TRY_PLAIN(skip(true));
      if (at_end() && is_file) return out;
      if (!is_file && accept("}")) return out;
      const auto line = line_;
      auto name = identifier();
      if (name.empty()) return fail(at_end() ? "a block does not end: '}' is missing" : concat("want a name, not '", peek(), "'"));
      TRY_PLAIN(skip(false));
      if (peek() == '=' && peek(1) != '=') {
        advance();
        // By itself: clang forgets the members that an initializer had made when a return leaves it.
        auto value = TRY_PLAIN(expression(false));
        Attribute attribute{std::move(name), line, std::move(value)};
        for (const auto& other : out.attributes)
          if (other.name == attribute.name) return fail(concat("the attribute ", attribute.name, " is given twice"));
        out.attributes.push_back(std::move(attribute));
        TRY_PLAIN(end_of_line(is_file));
        continue;
      }
      Block block;
      block.type = std::move(name);
      block.line = line;
      while (true) {
        if (accept("{")) break;
        if (peek() == '"') {
          block.labels.push_back(TRY_PLAIN(plain_text()));
        } else if (is_name_start(peek())) {
          block.labels.push_back(identifier());
        } else {
          return fail(concat("want '=' or '{' behind ", block.type));
        }
        TRY_PLAIN(skip(false));
      }
      block.body = TRY_PLAIN(body(false));
      out.blocks.push_back(std::move(block));
    }
  }

  Status end_of_line(bool is_file) {
    TRY_PLAIN(skip(false));
    if (peek() == '\n' || (at_end() && is_file) || (!is_file && peek() == '}')) return {};
    return fail(concat("want the end of the line, not '", text_.substr(at_, 10), "'"));
  }

  /// A label: a quoted text without templates in it.
  Result<std::string> plain_text() {
    auto text = TRY_PLAIN(quoted());
    if (text->kind != ExpressionKind::literal) return fail("a label takes no ${…}");
    return std::string(text->value.as_string());
  }

  // -- templates

  Status escape(std::string& out) {
    advance();
    const char c = peek();
    advance();
    switch (c) {
      case 'n': out += '\n'; return {};
      case 'r': out += '\r'; return {};
      case 't': out += '\t'; return {};
      case '"':
      case '\\': out += c; return {};
      case 'u':
      case 'U': {
        const std::size_t digits = c == 'u' ? 4 : 8;
        auto code = parse_integer<std::uint32_t>(text_.substr(at_, digits), 16);
        if (!code.ok() || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000)) return fail(concat("\\", c, " wants ", digits, " hexadecimal digits of a character"));
        advance(digits);
        append_utf8(out, *code);
        return {};
      }
      default: return fail(concat("unknown escape \\", c));
    }
  }

  Result<ExpressionPtr> quoted() {
    advance();
    return template_until(true);
  }

  /// "%{ else }", "%{ endif ~}" and the like: the word, when one of these comes now.
  std::optional<std::string> control_word(std::initializer_list<std::string_view> words) {
    if (!looks_at("%{")) return std::nullopt;
    auto rest = text_.substr(at_ + 2);
    if (rest.starts_with('~')) rest.remove_prefix(1);
    rest = rest.substr(std::min(rest.size(), rest.find_first_not_of(" \t\r\n")));
    for (auto word : words)
      if (rest.starts_with(word) && (rest.size() == word.size() || !is_name_part(rest[word.size()]))) return std::string(word);
    return std::nullopt;
  }

  /// The parts of a template up to its end: a quote, or the end of the text; with `stops` a directive with one of these words, which stays.
  Result<ExpressionPtr> template_until(bool is_quoted, std::initializer_list<std::string_view> stops = {}) {
    const Level level(depth_);
    if (level.is_too_deep()) return fail("too many levels");
    auto out = make(ExpressionKind::template_, line_);
    std::string text;
    bool trims = false;  // the last sequence ended with "~}"
    auto flush = [&](bool trims_end) {
      std::string_view piece = text;
      if (trims) piece.remove_prefix(std::min(piece.size(), piece.find_first_not_of(" \t\r\n")));
      if (trims_end) piece = piece.substr(0, piece.find_last_not_of(" \t\r\n") + 1);
      if (!piece.empty()) {
        auto literal = make(ExpressionKind::literal, line_);
        literal->value = piece;
        out->parts.push_back(std::move(literal));
      }
      text.clear();
      trims = false;
    };
    while (true) {
      const bool is_end = is_quoted ? peek() == '"' : at_end();
      if (is_end && stops.size() > 0) return fail("a template's directive does not end");
      if (is_end) {
        advance();
        break;
      }
      if (is_quoted && (at_end() || peek() == '\n')) return fail("a text does not end in its line");
      if (stops.size() > 0 && control_word(stops)) {
        flush(peek(2) == '~');
        break;
      }
      if (looks_at("$${") || looks_at("%%{")) {
        text += text_.substr(at_ + 1, 2);
        advance(3);
      } else if (looks_at("${")) {
        advance(2);
        const bool trims_before = accept("~");
        flush(trims_before);
        out->parts.push_back(TRY_PLAIN(expression(true)));
        TRY_PLAIN(end_of_sequence(trims));
      } else if (looks_at("%{")) {
        const bool trims_before = peek(2) == '~';
        flush(trims_before);
        out->parts.push_back(TRY_PLAIN(control(is_quoted, trims)));
      } else if (is_quoted && peek() == '\\') {
        TRY_PLAIN(escape(text));
      } else {
        text += peek();
        advance();
      }
    }
    if (!text.empty() || trims) flush(false);
    return simplified(std::move(out));
  }

  static ExpressionPtr simplified(ExpressionPtr part) {
    if (part->parts.empty()) {
      part->kind = ExpressionKind::literal;
      part->value = "";
    } else if (part->parts.size() == 1 && part->parts[0]->kind == ExpressionKind::literal) {
      return std::move(part->parts[0]);
    }
    return part;
  }

  Status end_of_sequence(bool& trims) {
    TRY_PLAIN(skip(true));
    trims = accept("~");
    if (!accept("}")) return fail("want '}' at the end of a template's sequence");
    return {};
  }

  Status word(std::string_view wanted) {
    TRY_PLAIN(skip(true));
    if (looks_at(wanted) && !is_name_part(peek(wanted.size()))) {
      advance(wanted.size());
      return {};
    }
    return fail(concat("want '", wanted, "'"));
  }

  Status control_end(std::string_view wanted, bool& trims) {
    advance(2);
    accept("~");
    TRY_PLAIN(word(wanted));
    return end_of_sequence(trims);
  }

  /// "%{ if … }…%{ else }…%{ endif }" and "%{ for … }…%{ endfor }".
  Result<ExpressionPtr> control(bool is_quoted, bool& trims) {
    const bool is_if = control_word({"if"}).has_value();
    if (!is_if && !control_word({"for"})) return fail("unknown template directive: want if or for");
    const auto line = line_;
    advance(2);
    accept("~");
    bool ignored = false;
    if (is_if) {
      TRY_PLAIN(word("if"));
      auto out = make(ExpressionKind::conditional, line);
      out->parts.push_back(TRY_PLAIN(expression(true)));
      TRY_PLAIN(end_of_sequence(ignored));
      out->parts.push_back(TRY_PLAIN(template_until(is_quoted, {"else", "endif"})));
      if (control_word({"else"})) {
        TRY_PLAIN(control_end("else", ignored));
        out->parts.push_back(TRY_PLAIN(template_until(is_quoted, {"endif"})));
      } else {
        auto none = make(ExpressionKind::literal, line);
        none->value = "";
        out->parts.push_back(std::move(none));
      }
      TRY_PLAIN(control_end("endif", trims));
      return out;
    }
    TRY_PLAIN(word("for"));
    auto out = make(ExpressionKind::for_list, line);
    TRY_PLAIN(for_names(*out));
    TRY_PLAIN(end_of_sequence(ignored));
    out->parts.push_back(TRY_PLAIN(template_until(is_quoted, {"endfor"})));
    out->parts.push_back(nullptr);
    TRY_PLAIN(control_end("endfor", trims));
    // The texts follow each other.
    auto joined = make(ExpressionKind::call, line);
    joined->name = "join";
    auto nothing = make(ExpressionKind::literal, line);
    nothing->value = "";
    joined->parts.push_back(std::move(nothing));
    joined->parts.push_back(std::move(out));
    return joined;
  }

  Result<ExpressionPtr> heredoc() {
    advance(2);
    const bool is_indented = accept("-");
    const auto marker = identifier();
    if (marker.empty()) return fail("a here-document wants a name behind <<");
    if (peek() == '\r') advance();
    if (peek() != '\n') return fail("a here-document begins behind the end of its line");
    advance();
    const auto first_line = line_;
    std::vector<std::string_view> lines;
    while (true) {
      if (at_end()) return fail(concat("the here-document ", marker, " does not end"));
      const auto end = text_.find('\n', at_);
      auto line = text_.substr(at_, end == std::string_view::npos ? std::string_view::npos : end - at_);
      if (trim(line) == marker) {
        advance(line.size());
        break;
      }
      lines.push_back(line);
      advance(line.size() + 1);
    }
    std::size_t indent = is_indented ? std::string_view::npos : 0;
    for (auto line : lines)
      if (is_indented && !trim(line).empty()) indent = std::min(indent, line.find_first_not_of(" \t"));
    std::string body;
    for (auto line : lines) body += concat(line.substr(std::min(indent, line.size())), "\n");
    bodies_.push_back(std::make_unique<std::string>(std::move(body)));
    Parser inner(*bodies_.back(), name_, first_line);
    inner.depth_ = depth_;
    return inner.whole_template();
  }

  // -- expressions

  Result<ExpressionPtr> expression(bool with_lines) {
    const Level level(depth_);
    if (level.is_too_deep()) return fail("too many levels");
    auto condition = TRY_PLAIN(binary(0, with_lines));
    TRY_PLAIN(skip(with_lines));
    if (!accept("?")) return condition;
    auto out = make(ExpressionKind::conditional, condition->line);
    out->parts.push_back(std::move(condition));
    TRY_PLAIN(skip(true));
    out->parts.push_back(TRY_PLAIN(expression(with_lines)));
    TRY_PLAIN(skip(with_lines));
    if (!accept(":")) return fail("want ':' of a conditional");
    TRY_PLAIN(skip(true));
    out->parts.push_back(TRY_PLAIN(expression(with_lines)));
    return out;
  }

  /// The operator of that level that comes now, or "".
  [[nodiscard]] std::string_view operator_here(int level) const {
    static constexpr std::array<std::array<std::string_view, 4>, 6> levels = {{{"||"}, {"&&"}, {"==", "!="}, {"<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/", "%"}}};
    for (auto word : levels.at(static_cast<std::size_t>(level)))
      if (!word.empty() && looks_at(word) && !looks_at("%{") && !looks_at("//") && !looks_at("/*")) return word;
    return "";
  }

  Result<ExpressionPtr> binary(int level, bool with_lines) {
    constexpr int unary_level = 6;
    if (level == unary_level) return unary(with_lines);
    auto left = TRY_PLAIN(binary(level + 1, with_lines));
    while (true) {
      TRY_PLAIN(skip(with_lines));
      const auto word = operator_here(level);
      if (word.empty()) return left;
      auto out = make(ExpressionKind::binary, line_);
      advance(word.size());
      out->name = word;
      TRY_PLAIN(skip(true));
      out->parts.push_back(std::move(left));
      out->parts.push_back(TRY_PLAIN(binary(level + 1, with_lines)));
      left = std::move(out);
    }
  }

  Result<ExpressionPtr> unary(bool with_lines) {
    const Level level(depth_);
    if (level.is_too_deep()) return fail("too many levels");
    TRY_PLAIN(skip(with_lines));
    if (peek() == '-' || (peek() == '!' && peek(1) != '=')) {
      auto out = make(ExpressionKind::unary, line_);
      out->name = std::string(1, peek());
      advance();
      out->parts.push_back(TRY_PLAIN(unary(with_lines)));
      return out;
    }
    return postfix(TRY_PLAIN(primary()), with_lines);
  }

  Result<ExpressionPtr> postfix(ExpressionPtr of, bool with_lines) {
    while (true) {
      if (looks_at(".*") || looks_at("[*]")) {
        auto out = make(ExpressionKind::splat, line_);
        advance(peek() == '.' ? 2 : 3);
        out->parts.push_back(std::move(of));
        out->parts.push_back(TRY_PLAIN(postfix(make(ExpressionKind::variable, line_), with_lines)));
        return out;
      }
      if (peek() == '.' && (is_name_start(peek(1)) || is_digit(peek(1)))) {
        advance();
        auto out = make(is_digit(peek()) ? ExpressionKind::index : ExpressionKind::attribute, line_);
        out->parts.push_back(std::move(of));
        if (is_digit(peek())) out->parts.push_back(TRY_PLAIN(number()));
        else out->name = identifier();
        of = std::move(out);
      } else if (peek() == '[') {
        auto out = make(ExpressionKind::index, line_);
        advance();
        TRY_PLAIN(skip(true));
        out->parts.push_back(std::move(of));
        out->parts.push_back(TRY_PLAIN(expression(true)));
        TRY_PLAIN(skip(true));
        if (!accept("]")) return fail("want ']'");
        of = std::move(out);
      } else {
        return of;
      }
    }
  }

  Result<ExpressionPtr> number() {
    const auto begin = at_;
    while (is_digit(peek())) advance();
    bool is_whole = true;
    if (peek() == '.' && is_digit(peek(1))) {
      is_whole = false;
      advance();
      while (is_digit(peek())) advance();
    }
    if ((peek() == 'e' || peek() == 'E') && (is_digit(peek(1)) || ((peek(1) == '+' || peek(1) == '-') && is_digit(peek(2))))) {
      is_whole = false;
      advance(2);
      while (is_digit(peek())) advance();
    }
    auto out = make(ExpressionKind::literal, line_);
    const auto text = text_.substr(begin, at_ - begin);
    if (is_whole) {
      auto value = parse_integer<std::int64_t>(text);
      if (!value.ok()) return fail(concat("the number ", text, " is too large"));
      out->value = *value;
      return out;
    }
    auto value = parse_json(text, name_);
    if (!value.ok()) return fail(concat(text, " is no number"));
    const double real = value->to_number<double>();
    constexpr double most_exact = 9007199254740992.0;  // 1e3 is as whole as 1000
    if (real == std::floor(real) && real <= most_exact) out->value = static_cast<std::int64_t>(real);
    else out->value = real;
    return out;
  }

  Result<ExpressionPtr> primary() {
    if (peek() == '"') return quoted();
    if (looks_at("<<")) return heredoc();
    if (is_digit(peek())) return number();
    if (accept("(")) {
      auto inner = TRY_PLAIN(expression(true));
      TRY_PLAIN(skip(true));
      if (!accept(")")) return fail("want ')'");
      return inner;
    }
    if (peek() == '[') return list();
    if (peek() == '{') return object();
    const auto line = line_;
    auto name = identifier();
    if (name.empty()) return fail(at_end() ? "want a value, not the end of the file" : concat("want a value, not '", text_.substr(at_, 1), "'"));
    while (looks_at("::")) {  // namespaces of functions
      advance(2);
      name += "::" + identifier();
    }
    if (peek() == '(') return call(std::move(name), line);
    auto out = make(ExpressionKind::literal, line);
    if (name == "true") out->value = true;
    else if (name == "false") out->value = false;
    else if (name != "null") {
      out->kind = ExpressionKind::variable;
      out->name = std::move(name);
    }
    return out;
  }

  Result<ExpressionPtr> call(std::string name, std::uint32_t line) {
    auto out = make(ExpressionKind::call, line);
    out->name = std::move(name);
    advance();
    while (true) {
      TRY_PLAIN(skip(true));
      if (accept(")")) return out;
      out->parts.push_back(TRY_PLAIN(expression(true)));
      TRY_PLAIN(skip(true));
      if (accept("...")) {
        out->spread = true;
        TRY_PLAIN(skip(true));
        if (!accept(")")) return fail("want ')' behind ...");
        return out;
      }
      if (!accept(",") && peek() != ')') return fail(concat("want ',' or ')' in the arguments of ", out->name));
    }
  }

  /// "k, v in collection": names and the collection.
  Status for_names(Expression& out) {
    TRY_PLAIN(skip(true));
    out.name = identifier();
    if (out.name.empty()) return fail("for wants a name");
    TRY_PLAIN(skip(true));
    if (accept(",")) {
      TRY_PLAIN(skip(true));
      out.key_name = std::exchange(out.name, identifier());
      if (out.name.empty()) return fail("for wants a second name behind ','");
    }
    TRY_PLAIN(word("in"));
    out.parts.push_back(TRY_PLAIN(expression(true)));
    return {};
  }

  /// What comes now is "for" and a name, not an attribute called "for".
  [[nodiscard]] bool looks_at_for() const { return looks_at("for") && (peek(3) == ' ' || peek(3) == '\t' || peek(3) == '\n') && text_.substr(at_).find_first_not_of(" \t\r\n", 3) != std::string_view::npos && is_name_start(text_[text_.find_first_not_of(" \t\r\n", at_ + 3)]); }

  Status for_condition(Expression& out) {
    TRY_PLAIN(skip(true));
    if (looks_at("if") && !is_name_part(peek(2))) {
      advance(2);
      out.parts.push_back(TRY_PLAIN(expression(true)));
      TRY_PLAIN(skip(true));
    } else {
      out.parts.push_back(nullptr);
    }
    return {};
  }

  Result<ExpressionPtr> list() {
    auto out = make(ExpressionKind::list, line_);
    advance();
    TRY_PLAIN(skip(true));
    if (looks_at_for()) {
      advance(3);
      out->kind = ExpressionKind::for_list;
      TRY_PLAIN(for_names(*out));
      TRY_PLAIN(skip(true));
      if (!accept(":")) return fail("want ':' of a for");
      out->parts.push_back(TRY_PLAIN(expression(true)));
      TRY_PLAIN(for_condition(*out));
      if (!accept("]")) return fail("want ']' at the end of a for");
      return out;
    }
    while (true) {
      TRY_PLAIN(skip(true));
      if (accept("]")) return out;
      out->parts.push_back(TRY_PLAIN(expression(true)));
      TRY_PLAIN(skip(true));
      if (!accept(",") && peek() != ']') return fail("want ',' or ']' in a list");
    }
  }

  Result<ExpressionPtr> object() {
    auto out = make(ExpressionKind::object, line_);
    advance();
    TRY_PLAIN(skip(true));
    if (looks_at_for()) {
      advance(3);
      out->kind = ExpressionKind::for_object;
      TRY_PLAIN(for_names(*out));
      TRY_PLAIN(skip(true));
      if (!accept(":")) return fail("want ':' of a for");
      out->keys.push_back(TRY_PLAIN(expression(true)));
      TRY_PLAIN(skip(true));
      if (!accept("=>")) return fail("want '=>' of a for");
      out->parts.push_back(TRY_PLAIN(expression(true)));
      TRY_PLAIN(skip(true));
      out->spread = accept("...");
      TRY_PLAIN(for_condition(*out));
      if (!accept("}")) return fail("want '}' at the end of a for");
      return out;
    }
    while (true) {
      TRY_PLAIN(skip(true));
      if (accept("}")) return out;
      // A bare name is itself; a variable as a key stands in parentheses.
      const auto begin = at_;
      const auto line = line_;
      auto name = identifier();
      TRY_PLAIN(skip(false));
      if (!name.empty() && (peek() == '=' || peek() == ':') && peek(1) != '=') {
        auto key = make(ExpressionKind::literal, line);
        key->value = name;
        out->keys.push_back(std::move(key));
      } else {
        at_ = begin;
        line_ = line;
        out->keys.push_back(TRY_PLAIN(expression(true)));
        TRY_PLAIN(skip(false));
      }
      if (!accept("=") && !accept(":")) return fail("want '=' or ':' behind a key");
      TRY_PLAIN(skip(true));
      out->parts.push_back(TRY_PLAIN(expression(false)));
      TRY_PLAIN(skip(false));
      if (!accept(",") && peek() != '\n' && peek() != '}') return fail("want ',' or a new line between members of an object");
    }
  }

  std::string_view text_;
  std::string_view name_;
  std::uint32_t line_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::vector<std::unique_ptr<std::string>> bodies_;  ///< of here-documents, while they are parsed
};

/// A JSON value as an expression: texts are templates.
Result<ExpressionPtr> from_json_value(const json::value& value, std::string_view name) {
  if (value.is_string()) return parse_template(std::string_view(value.get_string()), name, 1);
  auto out = make(ExpressionKind::literal, 1);
  if (value.is_array()) {
    out->kind = ExpressionKind::list;
    for (const auto& item : value.get_array()) out->parts.push_back(TRY_PLAIN(from_json_value(item, name)));
  } else if (value.is_object()) {
    out->kind = ExpressionKind::object;
    for (const auto& member : value.get_object()) {
      out->keys.push_back(TRY_PLAIN(parse_template(std::string_view(member.key()), name, 1)));
      out->parts.push_back(TRY_PLAIN(from_json_value(member.value(), name)));
    }
  } else {
    out->value = value;
  }
  return out;
}

Result<Body> body_of(const json::object& object, std::string_view name) {
  Body out;
  for (const auto& member : object) {
    auto value = TRY_PLAIN(from_json_value(member.value(), name));
    out.attributes.push_back({std::string(member.key()), 1, std::move(value)});
  }
  return out;
}

}  // namespace

Result<Body> parse_hcl(std::string_view text, std::string_view name) {
  if (valid_utf8(std::string(text)) != text) return Error(ErrorKind::invalid, concat(name, ": is not UTF-8"));
  return Parser(text, name).file();
}

Result<ExpressionPtr> parse_template(std::string_view text, std::string_view name, std::uint32_t line) { return Parser(text, name, line).whole_template(); }

Result<Body> parse_hcl_json(std::string_view text, std::string_view name, const std::vector<std::string>& blocks) {
  auto document = TRY_PLAIN(parse_json(text, name));
  if (!document.is_object()) return Error(ErrorKind::invalid, concat(name, ": want an object"));
  Body out;
  for (const auto& member : document.get_object()) {
    const std::string type(member.key());
    if (std::find(blocks.begin(), blocks.end(), type) == blocks.end()) {
      auto value = TRY_PLAIN(from_json_value(member.value(), name));
      out.attributes.push_back({type, 1, std::move(value)});
      continue;
    }
    if (!member.value().is_object()) return Error(ErrorKind::invalid, concat(name, ": ", type, ": want an object of blocks by name"));
    for (const auto& labelled : member.value().get_object()) {
      if (!labelled.value().is_object()) return Error(ErrorKind::invalid, concat(name, ": ", type, ".", std::string_view(labelled.key()), ": want an object"));
      Block block;
      block.type = type;
      block.labels.emplace_back(labelled.key());
      block.line = 1;
      block.body = TRY_PLAIN(body_of(labelled.value().get_object(), name));
      out.blocks.push_back(std::move(block));
    }
  }
  return out;
}

}  // namespace caisson::bake
