// One pass over the text; words of a substitution are expanded by the same pass, one level deeper.
#include "dockerfile/expand.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "dockerfile/glob.hpp"
#include "dockerfile/words.hpp"

namespace caisson::dockerfile {

namespace {

constexpr std::size_t most_bytes = 1 << 20;        // "ENV A=$A$A" thirty times over would fill the memory
constexpr std::size_t most_depth = 64;             // of ${a:-${b:-…}}
constexpr std::size_t most_search_steps = 1 << 26;  // of ${name/pattern/replacement}: value² × pattern

Error invalid(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

bool is_special(char c) { return std::string_view("@*#?-$!0").find(c) != std::string_view::npos; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80; }

/// What a text becomes: one string, or words split at blanks that no quote protects.
struct Output {
  std::string whole;
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;

  void add_raw(std::string_view text) {
    whole += text;
    word += text;
    in_word = true;
  }
  void add(std::string_view text) {
    for (char c : text) {
      whole += c;
      if (!is_blank(c)) {
        word += c;
        in_word = true;
      } else if (in_word) {
        words.push_back(std::exchange(word, {}));
        in_word = false;
      }
    }
  }
  void finish() {
    if (in_word) words.push_back(std::exchange(word, {}));
    in_word = false;
  }
};

enum class Quotes : std::uint8_t { resolved, kept };

class Reader {
 public:
  Reader(std::string_view text, const Lookup& lookup, char escape, std::set<std::string, std::less<>>& missing)
      : text_(text), lookup_(lookup), escape_(escape), missing_(missing) {}

  Status read_all(Output& out) {
    TRY_PLAIN(read_until(0, Quotes::resolved, out));
    out.finish();
    return {};
  }

  Status read_body(Output& out) {
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (c == '$') {
        TRY_PLAIN(read_variable(out, true));
      } else {
        ++at_;
        if (c == escape_ && at_ < text_.size() && (text_[at_] == '$' || text_[at_] == escape_)) c = text_[at_++];
        out.add_raw({&c, 1});
      }
      TRY_PLAIN(check_size(out));
    }
    return {};
  }

 private:
  static Status check_size(const Output& out) {
    if (out.whole.size() > most_bytes) return invalid("the expanded text is longer than a megabyte");
    return {};
  }

  /// Up to `stop` (taken, and demanded unless 0) or the end.
  Status read_until(char stop, Quotes quotes, Output& out) {
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (stop != 0 && c == stop) {
        ++at_;
        return {};
      }
      if (c == '\'') {
        TRY_PLAIN(read_single_quoted(quotes, out));
      } else if (c == '"') {
        TRY_PLAIN(read_double_quoted(quotes, out));
      } else if (c == '$') {
        TRY_PLAIN(read_variable(out, false));
      } else if (c == escape_) {
        read_escape(quotes, out);
      } else {
        ++at_;
        out.add({&c, 1});
      }
      TRY_PLAIN(check_size(out));
    }
    if (stop != 0) return invalid(concat("unexpected end of statement while looking for matching ", stop));
    return {};
  }

  void read_escape(Quotes quotes, Output& out) {
    if (quotes == Quotes::kept) out.add_raw(text_.substr(at_, 1));
    if (++at_ < text_.size()) out.add_raw(text_.substr(at_++, 1));
  }

  Status read_single_quoted(Quotes quotes, Output& out) {
    auto end = text_.find('\'', at_ + 1);
    if (end == std::string_view::npos) return invalid("unexpected end of statement while looking for matching single-quote");
    // Within a pattern a quoted character stands for itself.
    auto content = text_.substr(at_ + 1, end - at_ - 1);
    if (quotes == Quotes::kept) add_escaped(content, out);
    else out.add_raw(content);
    at_ = end + 1;
    return {};
  }

  void add_escaped(std::string_view content, Output& out) {
    for (char c : content) {
      if (c == '*' || c == '?' || c == '\\') out.add_raw("\\");
      out.add_raw({&c, 1});
    }
  }

  Status read_double_quoted(Quotes quotes, Output& out) {
    ++at_;
    out.add_raw("");
    while (at_ < text_.size() && text_[at_] != '"') {
      char c = text_[at_];
      if (c == '$') {
        TRY_PLAIN(read_variable(out, true));
        TRY_PLAIN(check_size(out));
        continue;
      }
      if (c == escape_ && at_ + 1 < text_.size() && (text_[at_ + 1] == '"' || text_[at_ + 1] == '$' || text_[at_ + 1] == escape_)) c = text_[++at_];
      ++at_;
      if (quotes == Quotes::kept) add_escaped({&c, 1}, out);
      else out.add_raw({&c, 1});
    }
    if (at_ == text_.size()) return invalid("unexpected end of statement while looking for matching double-quote");
    ++at_;
    return {};
  }

  std::string_view read_name() {
    auto start = at_;
    if (at_ == text_.size()) return {};
    if (is_name_start(text_[at_])) {
      while (at_ < text_.size() && (is_name_start(text_[at_]) || is_digit(text_[at_]))) ++at_;
    } else if (is_digit(text_[at_])) {
      while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    } else if (is_special(text_[at_])) {
      ++at_;
    }
    return text_.substr(start, at_ - start);
  }

  /// `quoted`: the value is not split at blanks.
  Status read_variable(Output& out, bool quoted) {
    ++at_;
    std::string value;
    if (at_ < text_.size() && text_[at_] == '{') {
      ++at_;
      value = TRY_PLAIN(read_braced());
    } else {
      auto name = read_name();
      if (name.empty()) value = "$";
      else value = plain_value(name);
    }
    if (quoted) out.add_raw(value);
    else out.add(value);
    return {};
  }

  std::string plain_value(std::string_view name) {
    auto value = lookup_(name);
    if (!value) missing_.emplace(name);
    return value.value_or("");
  }

  Result<std::string> read_braced() {
    if (at_ == text_.size()) return invalid("syntax error: missing '}'");
    if (text_[at_] == '{' || text_[at_] == '}' || text_[at_] == ':') return invalid("syntax error: bad substitution");
    auto name = read_name();
    if (name.empty()) return invalid("syntax error: bad substitution");
    if (at_ == text_.size()) return invalid("syntax error: missing '}'");
    char c = text_[at_++];
    if (c == '}') return plain_value(name);
    bool empty_counts = c == ':';
    if (empty_counts) {
      if (at_ == text_.size()) return invalid("syntax error: missing modifier in substitution");
      c = text_[at_++];
    }
    if (c == '-' || c == '+' || c == '?') return substitute(name, c, empty_counts);
    if (empty_counts || (c != '#' && c != '%' && c != '/')) return invalid(concat("unsupported modifier (", empty_counts ? ":" : "", c, ") in substitution"));
    if (c == '/') return replace(name);
    return strip(name, c);
  }

  /// The text up to the brace or slash that ends it.
  Result<std::string> inner(char stop, Quotes quotes) {
    if (++depth_ > most_depth) return invalid("substitutions are nested too deeply");
    Output out;
    auto status = read_until(stop, quotes, out);
    --depth_;
    if (!status.ok()) return stop == '}' && at_ == text_.size() ? invalid("syntax error: missing '}'") : std::move(status).error();
    return std::move(out.whole);
  }

  Result<std::string> substitute(std::string_view name, char modifier, bool empty_counts) {
    // Only a word that is used may complain about what it lacks.
    auto missing_before = missing_;
    auto word = TRY_PLAIN(inner('}', Quotes::resolved));
    auto value = lookup_(name);
    bool is_set = value && !(empty_counts && value->empty());
    bool uses_word = modifier == '+' ? is_set : !is_set;
    if (!uses_word || modifier == '?') missing_ = std::move(missing_before);
    if (modifier == '?') {
      if (is_set) return *value;
      return invalid(concat(name, ": ", !word.empty() ? word : empty_counts ? "is not allowed to be unset or empty" : "is not allowed to be unset"));
    }
    if (modifier == '+') return is_set ? word : std::string();
    return is_set ? *value : word;
  }

  Result<std::string> strip(std::string_view name, char end) {
    bool longest = at_ < text_.size() && text_[at_] == end;
    if (longest) ++at_;
    auto pattern = Glob::for_substitution(TRY_PLAIN(inner('}', Quotes::kept)));
    auto value = plain_value(name);
    auto found = end == '#' ? pattern.matching_starts(value) : pattern.matching_ends(value);
    if (!found) return value;
    auto length = longest ? found->second : found->first;
    return end == '#' ? value.substr(length) : value.substr(0, value.size() - length);
  }

  Result<std::string> replace(std::string_view name) {
    bool all = at_ < text_.size() && text_[at_] == '/';
    if (all) ++at_;
    auto pattern = Glob::for_substitution(TRY_PLAIN(inner('/', Quotes::kept)));
    auto replacement = TRY_PLAIN(inner('}', Quotes::resolved));
    auto value = plain_value(name);
    if (value.size() > most_search_steps / (value.size() + 1) / (pattern.size() + 1)) return invalid(concat(name, ": the value is too long for a replacement"));
    std::string out;
    std::size_t at = 0;
    bool done = pattern.size() == 0;
    while (at < value.size() && !done) {
      auto found = pattern.matching_starts(std::string_view(value).substr(at));
      if (!found || found->second == 0) {
        out += value[at++];
        continue;
      }
      out += replacement;
      if (out.size() > most_bytes) return invalid("the expanded text is longer than a megabyte");
      at += found->second;
      done = !all;
    }
    return out + value.substr(at);
  }

  std::string_view text_;
  const Lookup& lookup_;
  char escape_;
  std::set<std::string, std::less<>>& missing_;
  std::size_t at_ = 0;
  std::size_t depth_ = 0;
};

}  // namespace

Result<std::string> Expander::word(std::string_view text) {
  Output out;
  TRY_PLAIN(Reader(text, lookup_, escape_, missing_).read_all(out));
  return std::move(out.whole);
}

Result<std::vector<std::string>> Expander::words(std::string_view text) {
  Output out;
  TRY_PLAIN(Reader(text, lookup_, escape_, missing_).read_all(out));
  return std::move(out.words);
}

Result<std::string> Expander::body(std::string_view text) {
  Output out;
  TRY_PLAIN(Reader(text, lookup_, escape_, missing_).read_body(out));
  return std::move(out.whole);
}

}  // namespace caisson::dockerfile
