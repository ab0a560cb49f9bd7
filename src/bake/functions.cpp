// The table of built-in functions.
#include "bake/functions.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <regex>
#include <set>

#include "bake/evaluate.hpp"
#include "base/digest.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"

namespace caisson::bake {

namespace {

using Values = std::span<const json::value>;
constexpr std::size_t any = 1000;
constexpr std::size_t longest_searched = 4096;  // std::regex recurses per character

Error bad(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

Result<const json::array*> list_of(const json::value& value) {
  if (!value.is_array()) return bad("want a list");
  return &value.get_array();
}

Result<std::vector<std::string>> texts_of(const json::value& value) {
  std::vector<std::string> out;
  for (const auto& item : *TRY_PLAIN(list_of(value))) out.push_back(TRY_PLAIN(text_of(item)));
  return out;
}

json::array to_list(const std::vector<std::string>& texts) {
  json::array out;
  for (const auto& text : texts) out.push_back(json::value(text));
  return out;
}

/// Where the characters of UTF-8 begin, and the end.
std::vector<std::size_t> starts_of(std::string_view text) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < text.size(); ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xc0U) != 0x80U) out.push_back(i);
  out.push_back(text.size());
  return out;
}

template <std::string (*F)(std::string_view)>
Result<json::value> of_text(Values a) {
  return json::value(F(TRY_PLAIN(text_of(a[0]))));
}
template <double (*F)(double)>
Result<json::value> of_number(Values a) {
  return number(F(TRY_PLAIN(number_of(a[0]))));
}
template <double (*F)(double, double)>
Result<json::value> of_numbers(Values a) {
  double out = TRY_PLAIN(number_of(a[0]));
  for (const auto& other : a.subspan(1)) out = F(out, TRY_PLAIN(number_of(other)));
  return number(out);
}
template <typename Compare>
Result<json::value> compared(Values a) {
  return json::value(Compare()(TRY_PLAIN(number_of(a[0])), TRY_PLAIN(number_of(a[1]))));
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}
std::string title(std::string_view text) {
  std::string out(text);
  bool at_start = true;
  for (char& c : out) {
    if (at_start && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    at_start = c == ' ' || c == '\t' || c == '\n' || c == '-';
  }
  return out;
}
std::string trimspace(std::string_view text) { return std::string(trim(text)); }
std::string chomp(std::string_view text) {
  while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
  return std::string(text);
}
std::string backwards(std::string_view text) {
  auto starts = starts_of(text);
  std::string out;
  for (std::size_t i = starts.size() - 1; i-- > 0;) out += text.substr(starts[i], starts[i + 1] - starts[i]);
  return out;
}
/// buildx's: what a target's name may not hold becomes "_".
std::string sanitize(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-')) c = '_';
  return out;
}
std::string base_name(std::string_view text) {
  while (text.size() > 1 && text.ends_with('/')) text.remove_suffix(1);
  return text.empty() ? "." : std::string(text == "/" ? text : text.substr(text.find_last_of('/') + 1));
}
std::string dir_name(std::string_view text) {
  const auto slash = text.find_last_of('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(text.substr(0, slash));
}
std::string sha256_hex(std::string_view text) { return std::string(sha256_of(text).hex()); }
std::string url_encode(std::string_view text) {
  std::string out;
  for (char c : text) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~') out += c;
    else if (c == ' ') out += '+';
    else out += concat("%", upper(to_hex(std::array{static_cast<std::uint8_t>(c)})));
  }
  return out;
}
double absolute(double a) { return std::fabs(a); }
double upwards(double a) { return std::ceil(a); }
double downwards(double a) { return std::floor(a); }
double towards_zero(double a) { return std::trunc(a); }
double negated(double a) { return -a; }
double sign(double a) { return a > 0 ? 1 : a < 0 ? -1 : 0; }
double sum(double a, double b) { return a + b; }
double difference(double a, double b) { return a - b; }
double product(double a, double b) { return a * b; }
double power(double a, double b) { return std::pow(a, b); }
double larger(double a, double b) { return std::max(a, b); }
double smaller(double a, double b) { return std::min(a, b); }

Result<json::value> divide(Values a) {
  const double by = TRY_PLAIN(number_of(a[1]));
  if (by == 0) return bad("division by zero");
  return number(TRY_PLAIN(number_of(a[0])) / by);
}
Result<json::value> modulo(Values a) {
  const double by = TRY_PLAIN(number_of(a[1]));
  if (by == 0) return bad("division by zero");
  return number(std::fmod(TRY_PLAIN(number_of(a[0])), by));
}
Result<json::value> parse_int(Values a) {
  const double base = TRY_PLAIN(number_of(a[1]));
  if (base < 2 || base > 36) return bad("the base must be between 2 and 36");
  const auto text = lower(TRY_PLAIN(text_of(a[0])));
  auto value = parse_integer<std::int64_t>(text, static_cast<int>(base));
  if (!value.ok()) return bad(concat("\"", text, "\" is no number to the base ", static_cast<int>(base)));
  return json::value(*value);
}
Result<json::value> is_equal(Values a) { return json::value(equal(a[0], a[1])); }
Result<json::value> is_not_equal(Values a) { return json::value(!equal(a[0], a[1])); }
Result<json::value> negation(Values a) { return json::value(!TRY_PLAIN(bool_of(a[0]))); }
Result<json::value> both(Values a) { return json::value(TRY_PLAIN(bool_of(a[0])) && TRY_PLAIN(bool_of(a[1]))); }
Result<json::value> either(Values a) { return json::value(TRY_PLAIN(bool_of(a[0])) || TRY_PLAIN(bool_of(a[1]))); }

Result<json::value> trim_set(Values a) {
  auto text = TRY_PLAIN(text_of(a[0]));
  const auto cut = TRY_PLAIN(text_of(a[1]));
  const auto first = text.find_first_not_of(cut);
  return json::value(first == std::string::npos ? std::string() : text.substr(first, text.find_last_not_of(cut) + 1 - first));
}
Result<json::value> trim_prefix(Values a) {
  auto text = TRY_PLAIN(text_of(a[0]));
  const auto cut = TRY_PLAIN(text_of(a[1]));
  return json::value(text.starts_with(cut) ? text.substr(cut.size()) : text);
}
Result<json::value> trim_suffix(Values a) {
  auto text = TRY_PLAIN(text_of(a[0]));
  const auto cut = TRY_PLAIN(text_of(a[1]));
  return json::value(text.ends_with(cut) ? text.substr(0, text.size() - cut.size()) : text);
}
Result<json::value> starts_with(Values a) { return json::value(TRY_PLAIN(text_of(a[0])).starts_with(TRY_PLAIN(text_of(a[1])))); }
Result<json::value> ends_with(Values a) { return json::value(TRY_PLAIN(text_of(a[0])).ends_with(TRY_PLAIN(text_of(a[1])))); }
Result<json::value> replaced(Values a) {
  const auto from = TRY_PLAIN(text_of(a[1]));
  if (from.empty()) return bad("what is to be replaced is empty");
  return json::value(replace_all(TRY_PLAIN(text_of(a[0])), from, TRY_PLAIN(text_of(a[2]))));
}
Result<json::value> joined(Values a) {
  std::vector<std::string> texts;
  for (const auto& list : a.subspan(1))
    for (auto& text : TRY_PLAIN(texts_of(list))) texts.push_back(std::move(text));
  return json::value(join(texts, TRY_PLAIN(text_of(a[0]))));
}
Result<json::value> parted(Values a) {
  const auto separator = TRY_PLAIN(text_of(a[0]));
  const auto text = TRY_PLAIN(text_of(a[1]));
  json::array out;
  if (separator.empty()) return bad("the separator is empty");
  std::size_t begin = 0;
  for (auto at = text.find(separator); at != std::string::npos; at = text.find(separator, begin)) {
    out.push_back(json::value(text.substr(begin, at - begin)));
    begin = at + separator.size();
  }
  out.push_back(json::value(text.substr(begin)));
  return json::value(std::move(out));
}
Result<json::value> text_length(Values a) { return number(static_cast<double>(starts_of(TRY_PLAIN(text_of(a[0]))).size() - 1)); }
Result<json::value> part_of_text(Values a) {
  const auto text = TRY_PLAIN(text_of(a[0]));
  const auto starts = starts_of(text);
  const double size = static_cast<double>(starts.size() - 1);
  double begin = TRY_PLAIN(number_of(a[1]));
  const double length = TRY_PLAIN(number_of(a[2]));
  if (begin < 0) begin += size;
  if (!(begin >= 0) || begin > size) return json::value("");
  const double end = length < 0 ? size : std::min(size, begin + length);
  const auto from = starts[static_cast<std::size_t>(begin)];
  return json::value(text.substr(from, starts[static_cast<std::size_t>(end)] - from));
}
Result<json::value> indented(Values a) {
  const double count = TRY_PLAIN(number_of(a[0]));
  if (count < 0 || count > 1000) return bad("want between 0 and 1000 blanks");
  return json::value(replace_all(TRY_PLAIN(text_of(a[1])), "\n", "\n" + std::string(static_cast<std::size_t>(count), ' ')));
}

/// printf's words that matter for texts: %s, %d, %v, %q, %%, with width and zeros ("%03d").
Result<std::string> formatted(Values a) {
  const auto form = TRY_PLAIN(text_of(a[0]));
  std::size_t next = 1;
  std::string out;
  for (std::size_t i = 0; i < form.size(); ++i) {
    if (form[i] != '%') {
      out += form[i];
      continue;
    }
    std::string width;
    bool is_left = false;
    for (++i; i < form.size() && (form[i] == '-' || (form[i] >= '0' && form[i] <= '9')); ++i) {
      if (form[i] == '-') is_left = true;
      else width += form[i];
    }
    if (i == form.size()) return bad("the format ends in '%'");
    if (form[i] == '%') {
      out += '%';
      continue;
    }
    if (next == a.size()) return bad("there are fewer values than the format wants");
    const auto& value = a[next++];
    std::string text;
    if (form[i] == 'd') text = concat(static_cast<std::int64_t>(TRY_PLAIN(number_of(value))));
    else if (form[i] == 's') text = TRY_PLAIN(text_of(value));
    else if (form[i] == 'q') text = to_text(json::value(TRY_PLAIN(text_of(value))));
    else if (form[i] == 'v') text = value.is_string() ? std::string(value.get_string()) : to_text(value);
    else return bad(concat("unknown %", form[i], " (known: %s %d %q %v %%)"));
    auto wide = width.empty() ? Result<std::size_t>(std::size_t{0}) : parse_integer<std::size_t>(width);
    if (!wide.ok() || *wide > 1000) return bad("the width is too large");
    const char filler = width.starts_with('0') && !is_left ? '0' : ' ';
    if (text.size() < *wide && is_left) text += std::string(*wide - text.size(), ' ');
    if (text.size() < *wide) text.insert(filler == '0' && text.starts_with('-') ? 1 : 0, *wide - text.size(), filler);
    out += text;
  }
  if (next != a.size()) return bad("there are more values than the format wants");
  return out;
}
Result<json::value> format(Values a) { return json::value(TRY_PLAIN(formatted(a))); }
Result<json::value> format_list(Values a) {
  std::size_t count = 1;
  for (const auto& value : a.subspan(1))
    if (value.is_array()) count = value.get_array().size();
  json::array out;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<json::value> row{a[0]};
    for (const auto& value : a.subspan(1)) {
      if (value.is_array() && value.get_array().size() != count) return bad("the lists have different lengths");
      row.push_back(value.is_array() ? value.get_array()[i] : value);
    }
    out.push_back(json::value(TRY_PLAIN(formatted(row))));
  }
  return json::value(std::move(out));
}

Result<std::regex> pattern_of(const json::value& value, std::string_view searched) {
  const auto text = TRY_PLAIN(text_of(value));
  if (searched.size() > longest_searched || text.size() > longest_searched) return bad(concat("texts longer than ", longest_searched, " bytes are not searched"));
  try {
    return std::regex(text, std::regex::ECMAScript);
  } catch (const std::regex_error& error) {
    return bad(concat("the pattern ", text, ": ", error.what()));
  }
}
json::value match_value(const std::smatch& match) {
  if (match.size() == 1) return json::value(match.str(0));
  json::array groups;
  for (std::size_t i = 1; i < match.size(); ++i) groups.push_back(match[i].matched ? json::value(match.str(i)) : json::value(nullptr));
  return json::value(std::move(groups));
}
Result<json::value> searched(Values a) {
  const auto text = TRY_PLAIN(text_of(a[1]));
  const auto pattern = TRY_PLAIN(pattern_of(a[0], text));
  std::smatch match;
  if (!std::regex_search(text, match, pattern)) return bad("the pattern does not match");
  return match_value(match);
}
Result<json::value> searched_all(Values a) {
  const auto text = TRY_PLAIN(text_of(a[1]));
  const auto pattern = TRY_PLAIN(pattern_of(a[0], text));
  json::array out;
  for (auto match = std::sregex_iterator(text.begin(), text.end(), pattern); match != std::sregex_iterator(); ++match) out.push_back(match_value(*match));
  return json::value(std::move(out));
}
Result<json::value> regex_replaced(Values a) {
  const auto text = TRY_PLAIN(text_of(a[0]));
  const auto pattern = TRY_PLAIN(pattern_of(a[1], text));
  return json::value(std::regex_replace(text, pattern, TRY_PLAIN(text_of(a[2]))));
}

Result<json::value> length(Values a) {
  if (a[0].is_array()) return json::value(a[0].get_array().size());
  if (a[0].is_object()) return json::value(a[0].get_object().size());
  return text_length(a);
}
Result<json::value> concatenated(Values a) {
  json::array out;
  for (const auto& list : a)
    for (const auto& item : *TRY_PLAIN(list_of(list))) out.push_back(item);
  return json::value(std::move(out));
}
Result<json::value> contains(Values a) {
  const auto& list = *TRY_PLAIN(list_of(a[0]));
  return json::value(std::any_of(list.begin(), list.end(), [&](const json::value& item) { return equal(item, a[1]); }));
}
Result<json::value> distinct(Values a) {
  json::array out;
  for (const auto& item : *TRY_PLAIN(list_of(a[0])))
    if (std::none_of(out.begin(), out.end(), [&](const json::value& other) { return equal(item, other); })) out.push_back(item);
  return json::value(std::move(out));
}
Result<json::value> compact(Values a) {
  json::array out;
  for (const auto& item : *TRY_PLAIN(list_of(a[0])))
    if (!item.is_null() && !(item.is_string() && item.get_string().empty())) out.push_back(item);
  return json::value(std::move(out));
}
void flatten_into(const json::value& value, json::array& out) {
  if (!value.is_array()) out.push_back(value);
  else
    for (const auto& item : value.get_array()) flatten_into(item, out);
}
Result<json::value> flattened(Values a) {
  TRY_PLAIN(list_of(a[0]));
  json::array out;
  flatten_into(a[0], out);
  return json::value(std::move(out));
}
Result<json::value> reversed(Values a) {
  const auto& list = *TRY_PLAIN(list_of(a[0]));
  json::array out;
  for (auto item = list.rbegin(); item != list.rend(); ++item) out.push_back(*item);
  return json::value(std::move(out));
}
Result<json::value> sorted(Values a) {
  auto texts = TRY_PLAIN(texts_of(a[0]));
  std::sort(texts.begin(), texts.end());
  return json::value(to_list(texts));
}
Result<json::value> sliced(Values a) {
  const auto& list = *TRY_PLAIN(list_of(a[0]));
  const double begin = TRY_PLAIN(number_of(a[1]));
  const double end = a.size() > 2 ? TRY_PLAIN(number_of(a[2])) : static_cast<double>(list.size());
  if (!(begin >= 0) || begin > end || end > static_cast<double>(list.size())) return bad(concat("the list has ", list.size(), " elements"));
  json::array out;
  for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) out.push_back(list[i]);
  return json::value(std::move(out));
}
Result<json::value> element(Values a) {
  const auto& list = *TRY_PLAIN(list_of(a[0]));
  const double index = TRY_PLAIN(number_of(a[1]));
  if (list.empty() || index < 0) return bad(list.empty() ? "the list is empty" : "the index is negative");
  return list[static_cast<std::size_t>(std::fmod(index, static_cast<double>(list.size())))];
}
Result<json::value> index_of(Values a) {
  const auto& list = *TRY_PLAIN(list_of(a[0]));
  for (std::size_t i = 0; i < list.size(); ++i)
    if (equal(list[i], a[1])) return json::value(i);
  return bad("the list does not hold it");
}
Result<json::value> chunked(Values a) {
  const auto& list = *TRY_PLAIN(list_of(a[0]));
  const double size = TRY_PLAIN(number_of(a[1]));
  if (size < 1) return bad("chunks have at least one element");
  json::array out;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (std::fmod(static_cast<double>(i), std::floor(size)) == 0) out.push_back(json::array());
    out.back().get_array().push_back(list[i]);
  }
  return json::value(std::move(out));
}
Result<json::value> ranged(Values a) {
  constexpr double most = 1024;
  double begin = a.size() > 1 ? TRY_PLAIN(number_of(a[0])) : 0;
  const double end = TRY_PLAIN(number_of(a[a.size() > 1 ? 1 : 0]));
  const double step = a.size() > 2 ? TRY_PLAIN(number_of(a[2])) : begin <= end ? 1 : -1;
  if (step == 0 || std::fabs((end - begin) / step) > most) return bad(concat("want at most ", static_cast<int>(most), " numbers"));
  json::array out;
  for (; step > 0 ? begin < end : begin > end; begin += step) out.push_back(number(begin));
  return json::value(std::move(out));
}
Result<json::value> coalesced(Values a) {
  for (const auto& value : a)
    if (!value.is_null()) return value;
  return bad("all of them are null");
}
Result<json::value> coalesced_list(Values a) {
  for (const auto& value : a)
    if (!TRY_PLAIN(list_of(value))->empty()) return value;
  return bad("all of them are empty");
}
Result<json::value> has_index(Values a) {
  if (a[0].is_object()) return json::value(a[0].get_object().contains(TRY_PLAIN(text_of(a[1]))));
  const double index = TRY_PLAIN(number_of(a[1]));
  return json::value(index >= 0 && index < static_cast<double>(TRY_PLAIN(list_of(a[0]))->size()));
}
Result<const json::object*> object_of(const json::value& value) {
  if (!value.is_object()) return bad("want an object");
  return &value.get_object();
}
Result<json::value> keys(Values a) {
  std::vector<std::string> out;
  for (const auto& member : *TRY_PLAIN(object_of(a[0]))) out.emplace_back(member.key());
  std::sort(out.begin(), out.end());
  return json::value(to_list(out));
}
Result<json::value> values(Values a) {
  const auto& object = *TRY_PLAIN(object_of(a[0]));
  std::map<std::string, json::value> in_order;
  for (const auto& member : object) in_order.emplace(member.key(), member.value());
  json::array out;
  for (auto& [key, value] : in_order) out.push_back(std::move(value));
  return json::value(std::move(out));
}
Result<json::value> lookup(Values a) {
  const auto key = TRY_PLAIN(text_of(a[1]));
  const auto* found = TRY_PLAIN(object_of(a[0]))->if_contains(key);
  if (found != nullptr) return *found;
  if (a.size() > 2) return a[2];
  return bad(concat("there is no key ", key));
}
Result<json::value> merged(Values a) {
  json::object out;
  for (const auto& value : a)
    if (!value.is_null())
      for (const auto& member : *TRY_PLAIN(object_of(value))) out[member.key()] = member.value();
  return json::value(std::move(out));
}
Result<json::value> zip_map(Values a) {
  const auto names = TRY_PLAIN(texts_of(a[0]));
  const auto& list = *TRY_PLAIN(list_of(a[1]));
  if (names.size() != list.size()) return bad("as many values as keys are needed");
  json::object out;
  for (std::size_t i = 0; i < names.size(); ++i) out[names[i]] = list[i];
  return json::value(std::move(out));
}
Result<json::value> json_text(Values a) { return json::value(to_text(a[0])); }
Result<json::value> from_json_text(Values a) { return TRY_PLAIN(parse_json(TRY_PLAIN(text_of(a[0])), "jsondecode")); }
Result<json::value> base64_text(Values a) { return json::value(base64_encode(TRY_PLAIN(text_of(a[0])))); }
Result<json::value> from_base64(Values a) { return json::value(TRY_PLAIN(base64_decode(TRY_PLAIN(text_of(a[0]))))); }
Result<json::value> timestamp(Values /*a*/) { return json::value(to_rfc3339(now_ns() / 1'000'000'000 * 1'000'000'000)); }
Result<json::value> as_text(Values a) { return json::value(TRY_PLAIN(text_of(a[0]))); }
Result<json::value> as_number(Values a) { return number(TRY_PLAIN(number_of(a[0]))); }
Result<json::value> as_bool(Values a) { return json::value(TRY_PLAIN(bool_of(a[0]))); }

constexpr std::array table = {
    BuiltinEntry{"absolute", 1, 1, of_number<absolute>}, BuiltinEntry{"add", 2, 2, of_numbers<sum>}, BuiltinEntry{"and", 2, 2, both},
    BuiltinEntry{"base64decode", 1, 1, from_base64}, BuiltinEntry{"base64encode", 1, 1, base64_text}, BuiltinEntry{"basename", 1, 1, of_text<base_name>},
    BuiltinEntry{"ceil", 1, 1, of_number<upwards>}, BuiltinEntry{"chomp", 1, 1, of_text<chomp>}, BuiltinEntry{"chunklist", 2, 2, chunked},
    BuiltinEntry{"coalesce", 1, any, coalesced}, BuiltinEntry{"coalescelist", 1, any, coalesced_list}, BuiltinEntry{"compact", 1, 1, compact},
    BuiltinEntry{"concat", 1, any, concatenated}, BuiltinEntry{"contains", 2, 2, contains}, BuiltinEntry{"dirname", 1, 1, of_text<dir_name>},
    BuiltinEntry{"distinct", 1, 1, distinct}, BuiltinEntry{"divide", 2, 2, divide}, BuiltinEntry{"element", 2, 2, element}, BuiltinEntry{"endswith", 2, 2, ends_with},
    BuiltinEntry{"equal", 2, 2, is_equal}, BuiltinEntry{"flatten", 1, 1, flattened}, BuiltinEntry{"floor", 1, 1, of_number<downwards>}, BuiltinEntry{"format", 1, any, format},
    BuiltinEntry{"formatlist", 1, any, format_list}, BuiltinEntry{"greaterthan", 2, 2, compared<std::greater<>>}, BuiltinEntry{"greaterthanorequalto", 2, 2, compared<std::greater_equal<>>},
    BuiltinEntry{"hasindex", 2, 2, has_index}, BuiltinEntry{"indent", 2, 2, indented}, BuiltinEntry{"indexof", 2, 2, index_of}, BuiltinEntry{"int", 1, 1, of_number<towards_zero>},
    BuiltinEntry{"join", 2, any, joined}, BuiltinEntry{"jsondecode", 1, 1, from_json_text}, BuiltinEntry{"jsonencode", 1, 1, json_text}, BuiltinEntry{"keys", 1, 1, keys},
    BuiltinEntry{"length", 1, 1, length}, BuiltinEntry{"lessthan", 2, 2, compared<std::less<>>}, BuiltinEntry{"lessthanorequalto", 2, 2, compared<std::less_equal<>>},
    BuiltinEntry{"lookup", 2, 3, lookup}, BuiltinEntry{"lower", 1, 1, of_text<lower>}, BuiltinEntry{"max", 1, any, of_numbers<larger>}, BuiltinEntry{"merge", 0, any, merged},
    BuiltinEntry{"min", 1, any, of_numbers<smaller>}, BuiltinEntry{"modulo", 2, 2, modulo}, BuiltinEntry{"multiply", 2, 2, of_numbers<product>}, BuiltinEntry{"negate", 1, 1, of_number<negated>},
    BuiltinEntry{"not", 1, 1, negation}, BuiltinEntry{"notequal", 2, 2, is_not_equal}, BuiltinEntry{"or", 2, 2, either}, BuiltinEntry{"parseint", 2, 2, parse_int},
    BuiltinEntry{"pow", 2, 2, of_numbers<power>}, BuiltinEntry{"range", 1, 3, ranged}, BuiltinEntry{"regex", 2, 2, searched}, BuiltinEntry{"regex_replace", 3, 3, regex_replaced},
    BuiltinEntry{"regexall", 2, 2, searched_all}, BuiltinEntry{"replace", 3, 3, replaced}, BuiltinEntry{"reverse", 1, 1, of_text<backwards>}, BuiltinEntry{"reverselist", 1, 1, reversed},
    BuiltinEntry{"sanitize", 1, 1, of_text<sanitize>}, BuiltinEntry{"sha256", 1, 1, of_text<sha256_hex>}, BuiltinEntry{"signum", 1, 1, of_number<sign>}, BuiltinEntry{"slice", 2, 3, sliced},
    BuiltinEntry{"sort", 1, 1, sorted}, BuiltinEntry{"split", 2, 2, parted}, BuiltinEntry{"startswith", 2, 2, starts_with}, BuiltinEntry{"strlen", 1, 1, text_length},
    BuiltinEntry{"substr", 3, 3, part_of_text}, BuiltinEntry{"subtract", 2, 2, of_numbers<difference>}, BuiltinEntry{"timestamp", 0, 0, timestamp}, BuiltinEntry{"title", 1, 1, of_text<title>},
    BuiltinEntry{"tobool", 1, 1, as_bool}, BuiltinEntry{"tonumber", 1, 1, as_number}, BuiltinEntry{"tostring", 1, 1, as_text}, BuiltinEntry{"trim", 2, 2, trim_set},
    BuiltinEntry{"trimprefix", 2, 2, trim_prefix}, BuiltinEntry{"trimspace", 1, 1, of_text<trimspace>}, BuiltinEntry{"trimsuffix", 2, 2, trim_suffix}, BuiltinEntry{"upper", 1, 1, of_text<upper>},
    BuiltinEntry{"urlencode", 1, 1, of_text<url_encode>}, BuiltinEntry{"values", 1, 1, values}, BuiltinEntry{"zipmap", 2, 2, zip_map},
};

}  // namespace

const BuiltinEntry* find_builtin(std::string_view name) {
  const auto* found = std::find_if(table.begin(), table.end(), [&](const BuiltinEntry& entry) { return entry.name == name; });
  return found == table.end() ? nullptr : found;
}

bool equal(const json::value& a, const json::value& b) {
  if (a.is_number() && b.is_number()) return a.to_number<double>() == b.to_number<double>();
  return a == b;
}

Result<double> number_of(const json::value& value) {
  if (value.is_number()) return value.to_number<double>();
  if (value.is_string()) {
    auto parsed = parse_json(std::string_view(value.get_string()), "number");
    if (parsed.ok() && parsed->is_number()) return parsed->to_number<double>();
    return bad(concat("\"", std::string_view(value.get_string()), "\" is no number"));
  }
  return bad("want a number");
}

Result<bool> bool_of(const json::value& value) {
  if (value.is_bool()) return value.get_bool();
  if (value.is_string() && value.get_string() == "true") return true;
  if (value.is_string() && value.get_string() == "false") return false;
  return bad("want true or false");
}

json::value number(double value) {
  constexpr double most_exact = 9007199254740992.0;
  if (value == std::floor(value) && std::fabs(value) <= most_exact) return json::value(static_cast<std::int64_t>(value));
  return json::value(value);
}

}  // namespace caisson::bake
