// The functions of docker's templates, with Go's semantics.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "base/strings.hpp"
#include "cli/template.hpp"
#include "cli/template_value.hpp"

namespace caisson::cli::tpl {

namespace {

using Arguments = std::vector<Value>;

Error bad(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

std::string text_of(const Value& value) {
  if (value.is_missing()) return "";
  if (const auto* text = value.get().if_string()) return {text->data(), text->size()};
  return to_print(value);
}

Value text(std::string out) { return Value::own(json::value(out)); }

// Go prints a double with %v like %g, with the shortest text that reads back, and an exponent from 1e+21 on.
std::string print_double(double number) {
  std::array<char, 64> buffer{};
  double magnitude = std::fabs(number);
  bool is_plain = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e21);
  auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, is_plain ? std::chars_format::fixed : std::chars_format::scientific);
  return {buffer.data(), end.ptr};
}

void print_into(std::string& out, const json::value& value, bool is_map) {
  if (value.is_null()) {
    out += "<nil>";
  } else if (const auto* array = value.if_array()) {
    out += '[';
    bool first = true;
    for (const auto& item : *array) {
      if (!first) out += ' ';
      first = false;
      print_into(out, item, false);
    }
    out += ']';
  } else if (const auto* object = value.if_object()) {
    std::vector<const json::key_value_pair*> members;
    for (const auto& member : *object) members.push_back(&member);
    if (is_map) std::sort(members.begin(), members.end(), [](const auto* a, const auto* b) { return a->key() < b->key(); });
    out += is_map ? "map[" : "{";
    bool first = true;
    for (const auto* member : members) {
      if (!first) out += ' ';
      first = false;
      if (is_map) out += concat(std::string_view(member->key()), ":");
      print_into(out, member->value(), false);
    }
    out += is_map ? "]" : "}";
  } else if (const auto* string = value.if_string()) {
    out.append(string->data(), string->size());
  } else if (const auto* number = value.if_double()) {
    out += print_double(*number);
  } else {
    out += to_text(value);
  }
}

std::string title(std::string_view text) {
  std::string out(text);
  bool at_start = true;
  for (char& c : out) {
    bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '\'' || (c & 0x80) != 0;
    if (at_start && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    at_start = !is_letter;
  }
  return out;
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

std::string html_escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&#34;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string js_escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '\\': out += "\\\\"; break;
      case '\'': out += "\\'"; break;
      case '"': out += "\\\""; break;
      case '<': out += "\\u003C"; break;
      case '>': out += "\\u003E"; break;
      case '&': out += "\\u0026"; break;
      case '=': out += "\\u003D"; break;
      case '\n': out += "\\n"; break;
      case '\t': out += "\\t"; break;
      case '\r': out += "\\r"; break;
      default: out += c;
    }
  }
  return out;
}

std::string url_escape(std::string_view text) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
    auto byte = static_cast<unsigned char>(c);
    if (plain) out += c;
    else if (c == ' ') out += '+';
    else out += concat('%', digits[byte >> 4], digits[byte & 15]);
  }
  return out;
}

// Go's print: blanks only between operands when neither is a string; println: always.
std::string print_all(const Arguments& arguments, bool line) {
  std::string out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    bool both_plain = i > 0 && !arguments[i].get().is_string() && !arguments[i - 1].get().is_string();
    if (i > 0 && (line || both_plain)) out += ' ';
    out += to_print(arguments[i]);
  }
  if (line) out += '\n';
  return out;
}

std::string padded(std::string body, std::string_view flags, std::size_t width) {
  if (body.size() >= width) return body;
  std::size_t missing = width - body.size();
  if (flags.find('-') != std::string_view::npos) return body + std::string(missing, ' ');
  bool zeros = flags.find('0') != std::string_view::npos;
  std::size_t sign = zeros && !body.empty() && (body[0] == '-' || body[0] == '+') ? 1 : 0;
  return body.insert(zeros ? sign : 0, missing, zeros ? '0' : ' ');
}

Result<std::string> format_one(char verb, int precision, const Value& value) {
  const auto& raw = value.get();
  switch (verb) {
    case 'v': return to_print(value);
    case 's': {
      std::string body = text_of(value);
      if (precision >= 0 && body.size() > static_cast<std::size_t>(precision)) body.resize(static_cast<std::size_t>(precision));
      return body;
    }
    case 'q': return to_text(json::value(text_of(value)));
    case 'd':
      if (raw.is_int64() || raw.is_uint64()) return to_text(raw);
      return bad(concat("printf: %d of something that is no integer: ", to_print(value)));
    case 'x': {
      if (raw.is_string()) {
        std::string body = text_of(value);
        return to_hex(std::span(reinterpret_cast<const std::uint8_t*>(body.data()), body.size()));
      }
      if (!raw.is_int64()) return bad("printf: %x of something that is no integer");
      std::array<char, 24> buffer{};
      auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), raw.get_int64(), 16);
      return std::string(buffer.data(), end.ptr);
    }
    case 'f': case 'g': case 'e': {
      if (!raw.is_number()) return bad("printf: number wanted");
      double number = raw.to_number<double>();
      if (verb == 'g' && precision < 0) return print_double(number);
      std::array<char, 400> buffer{};
      auto form = verb == 'f' ? std::chars_format::fixed : verb == 'e' ? std::chars_format::scientific : std::chars_format::general;
      auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, form, std::min(precision < 0 ? 6 : precision, 60));
      return std::string(buffer.data(), end.ptr);
    }
    case 't':
      if (!raw.is_bool()) return bad("printf: %t of something that is no boolean");
      return to_print(value);
    default: return bad(concat("printf: unknown verb %", verb));
  }
}

Result<Value> print_format(const Arguments& arguments) {
  constexpr std::size_t widest = 1000;  // a width from a typing error must not fill the memory
  std::string format = text_of(arguments[0]);
  std::string out;
  std::size_t next = 1;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    ++i;
    std::size_t flags_end = format.find_first_not_of("-+# 0", i);
    if (flags_end == std::string::npos) return bad("printf: format ends within a verb");
    std::string_view flags = std::string_view(format).substr(i, flags_end - i);
    i = flags_end;
    std::size_t width = 0;
    while (i < format.size() && format[i] >= '0' && format[i] <= '9') width = std::min(widest, width * 10 + static_cast<std::size_t>(format[i++] - '0'));
    int precision = -1;
    if (i < format.size() && format[i] == '.') {
      precision = 0;
      for (++i; i < format.size() && format[i] >= '0' && format[i] <= '9'; ++i) precision = std::min(1000, precision * 10 + (format[i] - '0'));
    }
    if (i >= format.size()) return bad("printf: format ends within a verb");
    if (format[i] == '%') {
      out += '%';
      continue;
    }
    if (next >= arguments.size()) return bad(concat("printf: no value for %", format[i]));
    out += padded(TRY_PLAIN(format_one(format[i], precision, arguments[next++])), flags, width);
  }
  if (next < arguments.size()) return bad("printf: more values than verbs");
  return text(std::move(out));
}

Result<Value> length(const Value& value) {
  const auto& raw = value.get();
  if (const auto* array = raw.if_array()) return Value::own(static_cast<std::int64_t>(array->size()));
  if (const auto* object = raw.if_object()) return Value::own(static_cast<std::int64_t>(object->size()));
  if (const auto* string = raw.if_string()) return Value::own(static_cast<std::int64_t>(string->size()));
  if (raw.is_null()) return Value::own(std::int64_t{0});  // an unset list or map
  return bad("len of a number or boolean");
}

Result<Value> index_into(const Arguments& arguments) {
  Value current = arguments[0];
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const auto& raw = current.get();
    const auto& key = arguments[i].get();
    const json::value* found = nullptr;
    if (const auto* object = raw.if_object()) {
      if (!key.is_string()) return bad("index of a map wants a string");
      found = object->if_contains(text_of(arguments[i]));
      if (found == nullptr) return text("");
    } else if (const auto* array = raw.if_array()) {
      if (!key.is_int64()) return bad("index of a list wants an integer");
      std::int64_t at = key.get_int64();
      if (at < 0 || at >= static_cast<std::int64_t>(array->size())) return bad(concat("error calling index: index out of range: ", at));
      found = &(*array)[static_cast<std::size_t>(at)];
    } else if (raw.is_null()) {
      return bad("error calling index: index of untyped nil");
    } else {
      return bad("error calling index: can't index this value");
    }
    Value next = current.is_borrowed() ? Value::borrow(*found) : Value::own(*found);
    current = std::move(next);
  }
  return current;
}

Result<Value> slice_of(const Arguments& arguments) {
  std::array<std::size_t, 2> bounds = {0, 0};
  const auto& raw = arguments[0].get();
  const auto* string = raw.if_string();
  const auto* array = raw.if_array();
  if (string == nullptr && array == nullptr) return bad("error calling slice: can't slice this value");
  std::size_t size = string != nullptr ? string->size() : array->size();
  bounds[1] = size;
  for (std::size_t i = 1; i < arguments.size() && i < 3; ++i) {
    const auto* number = arguments[i].get().if_int64();
    if (number == nullptr || *number < 0 || *number > static_cast<std::int64_t>(size))
      return bad(concat("error calling slice: index out of range: ", to_print(arguments[i])));
    bounds[i - 1] = static_cast<std::size_t>(*number);
  }
  if (bounds[0] > bounds[1]) return bad("error calling slice: the begin is behind the end");
  if (string != nullptr) return text(std::string(string->data() + bounds[0], bounds[1] - bounds[0]));
  json::array part;
  for (std::size_t i = bounds[0]; i < bounds[1]; ++i) part.push_back((*array)[i]);
  return Value::own(part);
}

// -1, 0, 1; strings by bytes, numbers by value.
Result<int> compare(const Value& a, const Value& b) {
  const auto& x = a.get();
  const auto& y = b.get();
  if (x.is_string() && y.is_string()) {
    int order = text_of(a).compare(text_of(b));
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if (x.is_int64() && y.is_int64()) return x.get_int64() < y.get_int64() ? -1 : x.get_int64() > y.get_int64() ? 1 : 0;
  if (x.is_number() && y.is_number()) {
    auto left = x.to_number<double>();
    auto right = y.to_number<double>();
    return left < right ? -1 : left > right ? 1 : 0;
  }
  return bad("incompatible types for comparison");
}

Result<bool> equals(const Value& a, const Value& b) {
  const auto& x = a.get();
  const auto& y = b.get();
  if (x.is_bool() && y.is_bool()) return x.get_bool() == y.get_bool();
  if (x.is_null() || y.is_null()) return x.is_null() && y.is_null();
  return TRY_PLAIN(compare(a, b)) == 0;
}

Result<Value> call_comparison(std::string_view name, const Arguments& arguments) {
  if (name == "eq") {
    for (std::size_t i = 1; i < arguments.size(); ++i)
      if (TRY_PLAIN(equals(arguments[0], arguments[i]))) return Value::own(true);
    return Value::own(false);
  }
  if (name == "ne") return Value::own(!TRY_PLAIN(equals(arguments[0], arguments[1])));
  int order = TRY_PLAIN(compare(arguments[0], arguments[1]));
  if (name == "lt") return Value::own(order < 0);
  if (name == "le") return Value::own(order <= 0);
  if (name == "gt") return Value::own(order > 0);
  return Value::own(order >= 0);
}

Result<Value> split_text(const Arguments& arguments) {
  std::string whole = text_of(arguments[0]);
  std::string separator = text_of(arguments[1]);
  json::array out;
  if (separator.empty()) {
    for (char c : whole) out.emplace_back(std::string(1, c));
    return Value::own(out);
  }
  std::size_t from = 0;
  for (std::size_t at = whole.find(separator); at != std::string::npos; at = whole.find(separator, from)) {
    out.emplace_back(whole.substr(from, at - from));
    from = at + separator.size();
  }
  out.emplace_back(whole.substr(from));
  return Value::own(out);
}

Result<Value> join_text(const Arguments& arguments) {
  const auto* array = arguments[0].get().if_array();
  if (array == nullptr) {
    if (arguments[0].get().is_null()) return text("");
    return bad("join wants a list");
  }
  std::vector<std::string> pieces;
  for (const auto& item : *array) pieces.push_back(to_print(Value::borrow(item)));
  return text(join(pieces, text_of(arguments[1])));
}

Result<Value> pad_text(const Arguments& arguments) {
  std::string body = text_of(arguments[0]);
  const auto* before = arguments[1].get().if_int64();
  const auto* after = arguments[2].get().if_int64();
  constexpr std::int64_t widest = 1000;
  if (before == nullptr || after == nullptr || *before < 0 || *after < 0 || *before > widest || *after > widest) return bad("pad wants two small numbers");
  if (body.empty()) return text("");
  return text(concat(std::string(static_cast<std::size_t>(*before), ' '), body, std::string(static_cast<std::size_t>(*after), ' ')));
}

Result<Value> truncate_text(const Arguments& arguments) {
  const auto* size = arguments[1].get().if_int64();
  if (size == nullptr || *size < 0) return bad("truncate wants a number");
  return text(text_of(arguments[0]).substr(0, static_cast<std::size_t>(*size)));
}

struct Function {
  std::string_view name;
  std::size_t least;
  std::size_t most;
};
constexpr std::size_t many = 1000;
constexpr std::array functions = {
    Function{"json", 1, 1}, Function{"split", 2, 2}, Function{"join", 2, 2}, Function{"lower", 1, 1}, Function{"upper", 1, 1},
    Function{"title", 1, 1}, Function{"pad", 3, 3}, Function{"truncate", 2, 2}, Function{"print", 0, many}, Function{"printf", 1, many},
    Function{"println", 0, many}, Function{"len", 1, 1}, Function{"index", 1, many}, Function{"slice", 1, 3}, Function{"html", 1, many},
    Function{"js", 1, many}, Function{"urlquery", 1, many}, Function{"not", 1, 1}, Function{"and", 1, many}, Function{"or", 1, many},
    Function{"eq", 2, many}, Function{"ne", 2, 2}, Function{"lt", 2, 2}, Function{"le", 2, 2}, Function{"gt", 2, 2}, Function{"ge", 2, 2},
};
constexpr auto names = [] {
  std::array<std::string_view, functions.size()> out{};
  for (std::size_t i = 0; i < functions.size(); ++i) out[i] = functions[i].name;
  return out;
}();

const Function* find(std::string_view name) {
  for (const auto& function : functions)
    if (function.name == name) return &function;
  return nullptr;
}

// In a table's head line these hand their text through (docker's formatter package).
bool keeps_header(std::string_view name) {
  constexpr std::array<std::string_view, 7> list = {"json", "split", "join", "title", "lower", "upper", "truncate"};
  return std::find(list.begin(), list.end(), name) != list.end();
}

}  // namespace

std::string to_print(const Value& value) {
  if (value.is_missing()) return "<no value>";
  std::string out;
  print_into(out, value.get(), value.is_map());
  return out;
}

bool is_true(const Value& value) {
  const auto& raw = value.get();
  if (value.is_missing() || raw.is_null()) return false;
  if (const auto* flag = raw.if_bool()) return *flag;
  if (const auto* text = raw.if_string()) return !text->empty();
  if (const auto* array = raw.if_array()) return !array->empty();
  if (const auto* object = raw.if_object()) return !object->empty();
  return raw.to_number<double>() != 0;
}

bool is_function(std::string_view name) { return find(name) != nullptr; }

std::span<const std::string_view> function_names() { return names; }

Result<Value> call_function(std::string_view name, std::vector<Value> arguments, bool is_header) {
  const Function* function = find(name);
  if (function == nullptr) return bad(concat("function \"", name, "\" not defined"));
  if (arguments.size() < function->least || arguments.size() > function->most)
    return bad(concat("wrong number of args for ", name, ": want ", function->least == function->most ? "" : "at least ", function->least,
                      " got ", arguments.size()));
  if (is_header && keeps_header(name)) return arguments[0];
  if (name == "json") return text(to_text(arguments[0].get()));
  if (name == "split") return split_text(arguments);
  if (name == "join") return join_text(arguments);
  if (name == "lower") return text(lower(text_of(arguments[0])));
  if (name == "upper") return text(upper(text_of(arguments[0])));
  if (name == "title") return text(title(text_of(arguments[0])));
  if (name == "pad") return pad_text(arguments);
  if (name == "truncate") return truncate_text(arguments);
  if (name == "print") return text(print_all(arguments, false));
  if (name == "println") return text(print_all(arguments, true));
  if (name == "printf") return print_format(arguments);
  if (name == "len") return length(arguments[0]);
  if (name == "index") return index_into(arguments);
  if (name == "slice") return slice_of(arguments);
  if (name == "html") return text(html_escape(print_all(arguments, false)));
  if (name == "js") return text(js_escape(print_all(arguments, false)));
  if (name == "urlquery") return text(url_escape(print_all(arguments, false)));
  if (name == "not") return Value::own(!is_true(arguments[0]));
  return call_comparison(name, arguments);
}

}  // namespace caisson::cli::tpl
