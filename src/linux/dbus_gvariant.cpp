// GVariant's text form, in which annotations give properties of systemd units.
#include <bit>
#include <cctype>
#include <charconv>

#include "base/strings.hpp"
#include "linux/dbus_message.hpp"

namespace caisson::linux {

namespace {

constexpr int depth_limit = 16;

struct TypeWord {
  std::string_view word;
  char type;
};
constexpr TypeWord type_words[] = {
    {"byte", 'y'},  {"boolean", 'b'}, {"int16", 'n'},  {"uint16", 'q'}, {"int32", 'i'},      {"uint32", 'u'},    {"handle", 'h'},
    {"int64", 'x'}, {"uint64", 't'},  {"double", 'd'}, {"string", 's'}, {"objectpath", 'o'}, {"signature", 'g'},
};

struct Range {
  std::int64_t least;
  std::uint64_t most;
};
Range range_of(char type) {
  switch (type) {
    case 'y': return {0, UINT8_MAX};
    case 'n': return {INT16_MIN, INT16_MAX};
    case 'q': return {0, UINT16_MAX};
    case 'u': return {0, UINT32_MAX};
    case 'x': return {INT64_MIN, INT64_MAX};
    case 't': return {0, UINT64_MAX};
    default: return {INT32_MIN, INT32_MAX};  // i, h
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}
  Result<DbusValue> whole() {
    DbusValue out = TRY_PLAIN(value("", 0));
    skip_blanks();
    if (at_ != text_.size()) return bad("something follows the value");
    return out;
  }

 private:
  Error bad(std::string_view why) const {
    return {ErrorKind::invalid, concat("\"", text_, "\" is not a value in GVariant text form: ", why, " at byte ", at_), EINVAL};
  }
  void skip_blanks() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool take(char wanted) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  std::string_view word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 ||
                                  std::string_view("+-._").find(text_[at_]) != std::string_view::npos))
      ++at_;
    return text_.substr(begin, at_ - begin);
  }
  Result<DbusValue> value(std::string_view wanted, int depth);
  Result<DbusValue> typed(int depth);
  Result<DbusValue> text(std::string_view wanted);
  Result<DbusValue> list(std::string_view wanted, int depth);
  Result<DbusValue> tuple(std::string_view wanted, int depth);
  Result<DbusValue> dictionary(std::string_view wanted, int depth);
  Result<DbusValue> number(std::string_view literal, std::string_view wanted);

  std::string_view text_;
  std::size_t at_ = 0;
};

Result<DbusValue> Parser::typed(int depth) {
  ++at_;  // '@'
  const auto length = dbus_type_length(text_.substr(at_));
  if (!length) return bad("an unknown type");
  const std::string_view signature = text_.substr(at_, *length);
  at_ += *length;
  return value(signature, depth + 1);
}

Result<DbusValue> Parser::text(std::string_view wanted) {
  if (!wanted.empty() && wanted != "s" && wanted != "o" && wanted != "g")
    return bad(concat("a text where type ", wanted, " is wanted"));
  DbusValue out;
  out.signature = wanted.empty() ? "s" : std::string(wanted);
  const char quote = text_[at_++];
  while (at_ < text_.size() && text_[at_] != quote) {
    char letter = text_[at_++];
    if (letter == '\\') {
      if (at_ >= text_.size()) break;
      letter = text_[at_++];
      if (letter == 'n') letter = '\n';
      else if (letter == 't') letter = '\t';
      else if (letter != '\\' && letter != '\'' && letter != '"') return bad("an escape that is not supported");
    }
    out.text += letter;
  }
  if (at_ >= text_.size()) return bad("a text without its end");
  ++at_;
  return out;
}

Result<DbusValue> Parser::list(std::string_view wanted, int depth) {
  if (!wanted.empty() && wanted[0] != 'a') return bad(concat("an array where type ", wanted, " is wanted"));
  ++at_;
  std::string element(wanted.empty() ? std::string_view() : wanted.substr(1));
  std::vector<DbusValue> items;
  while (!take(']')) {
    if (!items.empty() && !take(',')) return bad("no comma");
    items.push_back(TRY_PLAIN(value(element, depth + 1)));
    if (element.empty()) element = items.back().signature;
  }
  if (element.empty()) return bad("an empty array needs its type before it, such as @as []");
  return DbusValue::array(element, std::move(items));
}

Result<DbusValue> Parser::tuple(std::string_view wanted, int depth) {
  if (!wanted.empty() && wanted[0] != '(') return bad(concat("a tuple where type ", wanted, " is wanted"));
  ++at_;
  std::string_view rest = wanted.empty() ? wanted : wanted.substr(1, wanted.size() - 2);
  std::vector<DbusValue> fields;
  while (!take(')')) {
    if (!fields.empty() && !take(',')) return bad("no comma");
    if (!fields.empty() && take(')')) break;  // ('a',) has one field
    const std::size_t length = rest.empty() ? 0 : TRY_PLAIN(dbus_type_length(rest));
    if (!wanted.empty() && length == 0) return bad("too many fields");
    fields.push_back(TRY_PLAIN(value(rest.substr(0, length), depth + 1)));
    rest.remove_prefix(length);
  }
  if (fields.empty() || !rest.empty()) return bad("too few fields");
  return DbusValue::structure(std::move(fields));
}

Result<DbusValue> Parser::dictionary(std::string_view wanted, int depth) {
  if (!wanted.empty() && !wanted.starts_with("a{")) return bad(concat("a dictionary where type ", wanted, " is wanted"));
  ++at_;
  std::string key;
  std::string content;
  if (!wanted.empty()) {
    key = wanted.substr(2, 1);
    content = wanted.substr(3, wanted.size() - 4);
  }
  std::vector<DbusValue> items;
  while (!take('}')) {
    if (!items.empty() && !take(',')) return bad("no comma");
    DbusValue entry;
    entry.items.push_back(TRY_PLAIN(value(key, depth + 1)));
    if (!take(':')) return bad("no colon");
    entry.items.push_back(TRY_PLAIN(value(content, depth + 1)));
    key = entry.items[0].signature;
    content = entry.items[1].signature;
    entry.signature = concat('{', key, content, '}');
    items.push_back(std::move(entry));
  }
  if (key.empty()) return bad("an empty dictionary needs its type before it");
  return DbusValue::array(concat('{', key, content, '}'), std::move(items));
}

Result<DbusValue> Parser::number(std::string_view literal, std::string_view wanted) {
  DbusValue out;
  const bool fraction = literal.find_first_of(".eE") != std::string_view::npos && !literal.starts_with("0x");
  out.signature = !wanted.empty() ? std::string(wanted) : fraction ? "d" : "i";
  if (out.signature == "d") {
    double value = 0;
    const auto read = std::from_chars(literal.data(), literal.data() + literal.size(), value);
    if (read.ec != std::errc() || read.ptr != literal.data() + literal.size()) return bad("not a number");
    out.number = std::bit_cast<std::uint64_t>(value);
    return out;
  }
  if (out.signature.size() != 1 || std::string_view("yniuqxth").find(out.signature[0]) == std::string_view::npos)
    return bad(concat("a number where type ", wanted, " is wanted"));
  const bool negative = literal.starts_with('-');
  if (negative || literal.starts_with('+')) literal.remove_prefix(1);
  int base = 10;
  if (literal.starts_with("0x")) {
    base = 16;
    literal.remove_prefix(2);
  } else if (literal.size() > 1 && literal.starts_with('0')) {
    base = 8;
  }
  const auto magnitude = parse_integer<std::uint64_t>(literal, base);
  if (!magnitude) return bad("not a number");
  const Range range = range_of(out.signature[0]);
  const bool fits = negative ? *magnitude <= std::uint64_t{0} - static_cast<std::uint64_t>(range.least) && range.least != 0
                             : *magnitude <= range.most;
  if (!fits && *magnitude != 0) return bad(concat("the number does not fit type ", out.signature));
  out.number = negative ? std::uint64_t{0} - *magnitude : *magnitude;
  return out;
}

Result<DbusValue> Parser::value(std::string_view wanted, int depth) {
  if (depth > depth_limit) return bad("nested too deeply");
  skip_blanks();
  if (at_ >= text_.size()) return bad("a value is missing");
  switch (text_[at_]) {
    case '@': return typed(depth);
    case '\'':
    case '"': return text(wanted);
    case '[': return list(wanted, depth);
    case '(': return tuple(wanted, depth);
    case '{': return dictionary(wanted, depth);
    case '<': {
      if (!wanted.empty() && wanted != "v") return bad(concat("a variant where type ", wanted, " is wanted"));
      ++at_;
      DbusValue inside = TRY_PLAIN(value("", depth + 1));
      if (!take('>')) return bad("a variant without its end");
      return DbusValue::variant(std::move(inside));
    }
    default: break;
  }
  const std::string_view literal = word();
  if (literal == "true" || literal == "false") {
    if (!wanted.empty() && wanted != "b") return bad(concat("a truth value where type ", wanted, " is wanted"));
    return DbusValue::boolean(literal == "true");
  }
  for (const TypeWord& known : type_words)
    if (known.word == literal) return value(std::string_view(&known.type, 1), depth + 1);
  return number(literal, wanted);
}

}  // namespace

Result<DbusValue> parse_gvariant(std::string_view text) { return Parser(text).whole(); }

}  // namespace caisson::linux
