// Lines first, then blocks by indentation, then what stands in a line.
#include "base/yaml.hpp"

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/strings.hpp"
#include "base/utf8.hpp"

namespace caisson {
namespace {

constexpr int deepest_level = 64;

Error refuse(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

struct Line {
  std::size_t number = 0;  ///< from 1
  std::size_t indent = 0;
  std::string_view text;   ///< from the first character that is no space; never empty
};

bool is_comment(std::string_view text) { return text.empty() || text.front() == '#'; }
bool is_dash(std::string_view text) { return text == "-" || text.starts_with("- "); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

Result<std::vector<Line>> lines_of(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::vector<Line> lines;
  bool has_ended = false;
  std::size_t number = 0;
  for (std::string_view line : split(text, '\n')) {
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    auto refuse_line = [&](std::string_view why) { return refuse(concat("line ", number, ": ", why)); };
    if (std::any_of(line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\t'; })) return refuse_line("a control character");
    const std::size_t indent = std::min(line.find_first_not_of(' '), line.size());
    std::string_view content = line.substr(indent);
    while (!content.empty() && (content.back() == ' ' || content.back() == '\t')) content.remove_suffix(1);
    if (is_comment(content)) continue;
    if (content.front() == '\t') return refuse_line("a tab may not indent");
    if (indent == 0 && content.front() == '%') return refuse_line("directives (%) are not read");
    const bool is_marker = indent == 0 && (content == "---" || content.starts_with("--- ") || content == "...");
    if (has_ended || (is_marker && content != "..." && !lines.empty())) return refuse_line("a second document");
    if (is_marker && content == "...") {
      has_ended = true;
    } else if (is_marker) {
      if (!is_comment(trim(content.substr(3)))) return refuse_line("text behind ---");
    } else {
      lines.push_back({number, indent, content});
    }
  }
  return lines;
}

/// What a plain scalar means (YAML 1.2, 10.3.2).
Result<json::value> resolve(std::string_view text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return json::value(nullptr);
  if (text == "true" || text == "True" || text == "TRUE") return json::value(true);
  if (text == "false" || text == "False" || text == "FALSE") return json::value(false);
  std::string_view digits = text;
  if (digits.front() == '-' || digits.front() == '+') digits.remove_prefix(1);
  const bool is_whole = !digits.empty() && std::all_of(digits.begin(), digits.end(), is_digit);
  if (is_whole && digits.size() > 1 && digits.front() == '0') return refuse(concat("\"", text, "\" is octal to some and decimal to others: put it in quotes"));
  if (is_whole) {
    if (auto number = parse_integer<std::int64_t>(text.front() == '+' ? digits : text); number.ok()) return json::value(*number);
    return refuse(concat("the number ", text, " is too large"));
  }
  for (const auto& [prefix, base] : {std::pair{"0x", 16}, std::pair{"0o", 8}})
    if (text.starts_with(prefix))
      if (auto number = parse_integer<std::int64_t>(text.substr(2), base); number.ok()) return json::value(*number);
  if (digits.empty() || (!is_digit(digits.front()) && !(digits.size() > 1 && digits.front() == '.' && is_digit(digits[1])))) return json::value(text);
  double number = 0;
  const char* first = text.front() == '+' ? text.data() + 1 : text.data();
  auto [end, failure] = std::from_chars(first, text.data() + text.size(), number);
  if (failure == std::errc() && end == text.data() + text.size()) return json::value(number);
  return json::value(text);
}

/// What stands in one line: scalars and flow collections.
class Inline {
 public:
  explicit Inline(std::string_view text) : rest_(text) {}

  /// A whole value, with nothing but a comment behind it.
  Result<json::value> value() {
    auto out = TRY_PLAIN(node(0, false));
    if (!has_ended()) return refuse(concat("\"", rest_, "\" stands behind a value"));
    return out;
  }
  /// A key and its ":"; nothing when this is no key. What is left is the value.
  Result<std::optional<std::string>> key() {
    if (rest_.front() == '"' || rest_.front() == '\'') {
      std::string text = TRY_PLAIN(quoted());
      skip_spaces();
      if (!rest_.starts_with(':') || (rest_.size() > 1 && rest_[1] != ' ')) return std::optional<std::string>();
      rest_.remove_prefix(1);
      return std::optional(std::move(text));
    }
    const std::size_t colon = end_of_key();
    if (colon == std::string_view::npos) return std::optional<std::string>();
    const std::string_view text = trim(rest_.substr(0, colon));
    TRY_PLAIN(check_start(text));
    rest_.remove_prefix(colon + 1);
    return std::optional(std::string(text));
  }
  [[nodiscard]] std::string_view rest() const { return trim(rest_); }

  /// "text # comment" without the comment.
  static std::string_view without_comment(std::string_view text) {
    const std::size_t comment = text.find(" #");
    return trim(text.substr(0, comment));
  }
  static Status check_start(std::string_view text) {
    if (text.empty()) return refuse("a key is missing");
    const bool is_alone = text.size() == 1 || text[1] == ' ';
    switch (text.front()) {
      case '&':
      case '*': return refuse("anchors and aliases are not read");
      case '!': return refuse("tags are not read");
      case '|':
      case '>': return refuse("block scalars are not read: put the text in quotes");
      case '?':
      case '-':
      case ':': return is_alone ? Status(refuse(concat("\"", text.substr(0, 1), "\" cannot stand here"))) : Status();
      case '%':
      case '@':
      case '`':
      case ',':
      case ']':
      case '}':
      case '{':
      case '[':
      case '#': return refuse(concat("a text cannot begin with \"", text.substr(0, 1), "\": put it in quotes"));
      default: return {};
    }
  }

 private:
  void skip_spaces() {
    const std::size_t next = rest_.find_first_not_of(" \t");
    rest_.remove_prefix(std::min(next, rest_.size()));
  }
  [[nodiscard]] bool has_ended() const { return is_comment(trim(rest_)); }

  /// Where a plain key ends: at ": " or a ":" that ends the line, before any comment.
  [[nodiscard]] std::size_t end_of_key() const {
    for (std::size_t i = 0; i < rest_.size(); ++i) {
      if (rest_[i] == '#' && i > 0 && rest_[i - 1] == ' ') break;
      if (rest_[i] == ':' && (i + 1 == rest_.size() || rest_[i + 1] == ' ' || rest_[i + 1] == '\t')) return i;
    }
    return std::string_view::npos;
  }

  Result<json::value> node(int depth, bool in_flow) {
    if (depth > deepest_level) return refuse("nested too deeply");
    skip_spaces();
    if (rest_.empty()) return refuse(in_flow ? "a flow collection must end in its line" : "a value is missing");
    if (rest_.front() == '"' || rest_.front() == '\'') return json::value(TRY_PLAIN(quoted()));
    if (rest_.front() == '[') return sequence(depth);
    if (rest_.front() == '{') return mapping(depth);
    return plain(in_flow);
  }

  Result<json::value> plain(bool in_flow) {
    std::size_t end = 0;
    for (; end < rest_.size(); ++end) {
      const char c = rest_[end];
      if (in_flow && (c == ',' || c == ']' || c == '}' || c == '[' || c == '{')) break;
      if (c == '#' && end > 0 && rest_[end - 1] == ' ') break;
      const bool before_gap = end + 1 == rest_.size() || rest_[end + 1] == ' ' || (in_flow && std::string_view(",]}").find(rest_[end + 1]) != std::string_view::npos);
      if (c != ':' || !before_gap) continue;
      if (in_flow) break;
      return refuse("a mapping cannot begin here: put the text in quotes");
    }
    const std::string_view text = trim(rest_.substr(0, end));
    TRY_PLAIN(check_start(text));
    rest_.remove_prefix(end);
    return resolve(text);
  }

  Result<json::value> sequence(int depth) {
    json::array out;
    rest_.remove_prefix(1);
    for (;;) {
      skip_spaces();
      if (take(']')) return json::value(std::move(out));
      out.push_back(TRY_PLAIN(node(depth + 1, true)));
      skip_spaces();
      if (!take(',') && !rest_.starts_with(']')) return refuse("a flow sequence wants \",\" or \"]\" here, in the same line");
    }
  }

  Result<json::value> mapping(int depth) {
    json::object out;
    rest_.remove_prefix(1);
    for (;;) {
      skip_spaces();
      if (take('}')) return json::value(std::move(out));
      auto key = TRY_PLAIN(node(depth + 1, true));
      const std::string name = key.is_string() ? std::string(key.get_string()) : json::serialize(key);
      skip_spaces();
      if (!take(':')) return refuse("a flow mapping wants \":\" here, in the same line");
      auto value = TRY_PLAIN(node(depth + 1, true));
      if (!out.emplace(name, std::move(value)).second) return refuse(concat("the key \"", name, "\" is given twice"));
      skip_spaces();
      if (!take(',') && !rest_.starts_with('}')) return refuse("a flow mapping wants \",\" or \"}\" here, in the same line");
    }
  }

  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  Result<std::string> quoted() {
    const char quote = rest_.front();
    rest_.remove_prefix(1);
    std::string out;
    while (!rest_.empty()) {
      const char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == quote && quote == '\'' && take('\'')) {
        out += '\'';
      } else if (c == quote) {
        return out;
      } else if (c == '\\' && quote == '"') {
        TRY_PLAIN(escape(out));
      } else {
        out += c;
      }
    }
    return refuse("a quoted text must end in its line");
  }

  Status escape(std::string& out) {
    static constexpr std::string_view names = "0abtnvfre \"/\\";
    static constexpr std::string_view values("\0\a\b\t\n\v\f\r\x1b \"/\\", 13);
    const char c = rest_.empty() ? '\0' : rest_.front();
    const std::size_t known = rest_.empty() ? std::string_view::npos : names.find(c);
    if (known != std::string_view::npos) {
      out += values[known];
      rest_.remove_prefix(1);
      return {};
    }
    const std::size_t length = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (length == 0 || rest_.size() <= length) return refuse(concat("the escape \"\\", rest_.substr(0, 1), "\" is not known, or cut off"));
    auto code = parse_integer<std::uint32_t>(rest_.substr(1, length), 16);
    if (!code.ok() || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff)) return refuse(concat("\"\\", rest_.substr(0, length + 1), "\" is no character"));
    append_utf8(out, *code);
    rest_.remove_prefix(length + 1);
    return {};
  }

  std::string_view rest_;
};

class Blocks {
 public:
  explicit Blocks(std::vector<Line> lines) : lines_(std::move(lines)) {}

  Result<json::value> document() {
    if (lines_.empty()) return json::value(nullptr);
    auto out = block(0);
    if (out.ok() && at_ < lines_.size()) out = refuse("this line is indented less than what it would belong to");
    if (!out.ok()) return std::move(out).error().in(concat("line ", line_number()));
    return out;
  }

 private:
  [[nodiscard]] bool has_line() const { return at_ < lines_.size(); }
  [[nodiscard]] const Line& line() const { return lines_[at_]; }
  [[nodiscard]] std::size_t line_number() const { return lines_[std::min(at_, lines_.size() - 1)].number; }

  /// Everything of the current line's indentation.
  Result<json::value> block(int depth) {
    if (depth > deepest_level) return refuse("nested too deeply");
    if (is_dash(line().text)) return sequence(depth);
    Inline probe(line().text);
    if (line().text.front() != '[' && line().text.front() != '{' && TRY_PLAIN(probe.key())) return mapping(depth);
    const std::size_t indent = line().indent;
    return scalar(line().text, indent == 0 ? 0 : indent - 1, indent == 0);
  }

  Result<json::value> sequence(int depth) {
    json::array out;
    const std::size_t indent = line().indent;
    while (has_line() && line().indent == indent && is_dash(line().text)) {
      const std::string_view rest = trim(line().text.substr(1));
      if (is_comment(rest)) {
        ++at_;
        if (has_line() && line().indent > indent) out.push_back(TRY_PLAIN(block(depth + 1)));
        else out.emplace_back(nullptr);
        continue;
      }
      // "- key: value" is a mapping whose indentation is the key's.
      Line& inner = lines_[at_];
      inner.indent += static_cast<std::size_t>(rest.data() - inner.text.data());
      inner.text = rest;
      Inline probe(rest);
      const bool is_collection = is_dash(rest) || (rest.front() != '[' && rest.front() != '{' && TRY_PLAIN(probe.key()));
      out.push_back(is_collection ? TRY_PLAIN(block(depth + 1)) : TRY_PLAIN(scalar(rest, indent, false)));
    }
    TRY_PLAIN(check_next(indent));
    return json::value(std::move(out));
  }

  Result<json::value> mapping(int depth) {
    json::object out;
    const std::size_t indent = line().indent;
    while (has_line() && line().indent == indent && !is_dash(line().text)) {
      Inline entry(line().text);
      auto key = TRY_PLAIN(entry.key());
      if (!key) return refuse("want \"key: value\"");
      if (out.contains(*key)) return refuse(concat("the key \"", *key, "\" is given twice"));
      const std::string_view rest = entry.rest();
      if (!is_comment(rest)) {
        out[*key] = TRY_PLAIN(scalar(rest, indent, false));
        continue;
      }
      ++at_;
      const bool has_value = has_line() && (line().indent > indent || (line().indent == indent && is_dash(line().text)));
      out[*key] = has_value ? TRY_PLAIN(block(depth + 1)) : json::value(nullptr);
    }
    TRY_PLAIN(check_next(indent));
    return json::value(std::move(out));
  }

  /// What follows a block belongs to one further out.
  Status check_next(std::size_t indent) {
    if (has_line() && line().indent > indent) return refuse("unexpected indentation");
    return {};
  }

  /// A value that begins in the current line; a plain one goes on in lines that are indented more than `indent` (all, at the root).
  Result<json::value> scalar(std::string_view text, std::size_t indent, bool is_root) {
    auto goes_on = [&] { return at_ + 1 < lines_.size() && (is_root || lines_[at_ + 1].indent > indent); };
    const bool is_plain = std::string_view("\"'[{").find(text.front()) == std::string_view::npos;
    if (!is_plain || !goes_on() || text.find(" #") != std::string_view::npos) {
      auto value = TRY_PLAIN(Inline(text).value());
      ++at_;
      return value;
    }
    TRY_PLAIN(Inline(text).value());
    std::string folded(text);
    while (goes_on()) {
      ++at_;
      Inline probe(line().text);
      if (TRY_PLAIN(probe.key())) return refuse("a mapping cannot begin here, behind a text");
      folded += concat(" ", Inline::without_comment(line().text));
      if (line().text.find(" #") != std::string_view::npos) break;
    }
    ++at_;
    return json::value(folded);
  }

  std::vector<Line> lines_;
  std::size_t at_ = 0;
};

}  // namespace

Result<json::value> parse_yaml(std::string_view text, std::string_view what) {
  auto lines = lines_of(text);
  if (!lines.ok()) return std::move(lines).error().in(what);
  auto out = Blocks(std::move(*lines)).document();
  if (!out.ok()) return std::move(out).error().in(what);
  return out;
}

}  // namespace caisson
