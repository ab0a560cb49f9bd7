// Splitting of lines, as the Dockerfile's users know it from docker: a dialect of the shell's.
#include "dockerfile/words.hpp"

#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::dockerfile {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f' || c == '\n'; }

std::string_view trim_start(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  return text;
}

std::vector<std::string> split_words(std::string_view text, char escape) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char c = text[at];
    if (quote == 0 && is_blank(c)) {
      if (in_word) words.push_back(std::move(word));
      word.clear();
      in_word = false;
      continue;
    }
    in_word = true;
    if (c == escape && quote != '\'') {
      if (at + 1 == text.size()) break;  // an escape with nothing behind it is dropped
      word += c;
      word += text[++at];
      continue;
    }
    if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    }
    word += c;
  }
  if (in_word) words.push_back(std::move(word));
  return words;
}

std::vector<std::string> split_at_blanks(std::string_view text) {
  std::vector<std::string> words;
  for (text = trim_start(text); !text.empty(); text = trim_start(text)) {
    std::size_t end = 0;
    while (end < text.size() && !is_blank(text[end])) ++end;
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

namespace {

/// One flag's word, its quotes and escapes resolved; returns where it ends.
std::size_t read_flag_word(std::string_view text, char escape, std::string& word) {
  char quote = 0;
  std::size_t at = 0;
  for (; at < text.size(); ++at) {
    char c = text[at];
    if (quote == 0 && is_blank(c)) break;
    if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    } else if (c == escape) {
      if (at + 1 < text.size()) word += text[++at];
    } else {
      word += c;
    }
  }
  return at;
}

}  // namespace

FlagsAndRest take_flags(std::string_view text, char escape) {
  FlagsAndRest out;
  for (text = trim_start(text); text.starts_with("--"); text = trim_start(text)) {
    std::string word;
    text.remove_prefix(read_flag_word(text, escape, word));
    if (word == "--") break;
    auto halves = split_once(std::string_view(word).substr(2), '=');
    out.flags.push_back({.name = std::string(halves.before), .value = std::string(halves.after), .has_value = halves.found});
  }
  out.rest = std::string(trim(text));
  return out;
}

namespace {

/// The text of the array at the start: up to the bracket that closes it.
std::optional<std::string_view> array_text(std::string_view text) {
  if (!text.starts_with('[')) return std::nullopt;
  int depth = 0;
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      else if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && --depth == 0) return text.substr(0, at + 1);
  }
  return std::nullopt;
}

}  // namespace

Result<std::optional<std::vector<std::string>>> json_list(std::string_view text) {
  auto array = array_text(trim_start(text));
  if (!array) return std::optional<std::vector<std::string>>();
  auto document = parse_json(*array, "exec form");
  if (!document.ok() || !document->is_array()) return std::optional<std::vector<std::string>>();
  std::vector<std::string> words;
  for (const auto& item : document->get_array()) {
    if (!item.is_string()) return Error(ErrorKind::invalid, "when using JSON array syntax, arrays must be comprised of strings only");
    words.emplace_back(item.get_string());
  }
  return std::optional(std::move(words));
}

std::string unquoted(std::string_view text, char escape) {
  std::string out;
  char quote = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char c = text[at];
    if (c == escape && quote != '\'' && at + 1 < text.size()) {
      char next = text[at + 1];
      // Within double quotes an escape means something before few characters only.
      if (quote == '"' && next != '"' && next != '$' && next != escape) out += c;
      out += next;
      ++at;
    } else if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    } else {
      out += c;
    }
  }
  return out;
}

std::optional<Heredoc> heredoc_of_word(std::string_view word, char escape) {
  std::size_t digits = 0;
  while (digits < word.size() && word[digits] >= '0' && word[digits] <= '9') ++digits;
  auto number = word.substr(0, digits);
  word.remove_prefix(digits);
  if (!word.starts_with("<<") || digits > 4) return std::nullopt;
  word.remove_prefix(2);
  Heredoc heredoc;
  if (digits > 0) heredoc.descriptor = parse_integer<unsigned>(number).value_or(0);
  if (word.starts_with('-')) {
    heredoc.strip_tabs = true;
    word.remove_prefix(1);
  }
  if (word.empty() || word.find('<') != std::string_view::npos) return std::nullopt;
  heredoc.name = unquoted(word, escape);
  heredoc.expand = heredoc.name == word;
  if (heredoc.name.empty()) return std::nullopt;
  return heredoc;
}

std::vector<Heredoc> announced_heredocs(std::string_view line, char escape) {
  std::vector<Heredoc> heredocs;
  for (const auto& word : split_words(line, escape))
    if (auto heredoc = heredoc_of_word(word, escape)) heredocs.push_back(std::move(*heredoc));
  return heredocs;
}

}  // namespace caisson::dockerfile
