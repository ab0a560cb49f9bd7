// A line at a time, by the rules of docker's reference ("Parser directives", "Escape", "Here-Documents").
#include "dockerfile/lexer.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "base/strings.hpp"

namespace caisson::dockerfile {

namespace {

constexpr std::size_t most_line_bytes = 65'535;
constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_alphanumeric(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }

class Lexer {
 public:
  explicit Lexer(const Source& source) : source_(source), rest_(source.text) {
    if (rest_.starts_with(byte_order_mark)) rest_.remove_prefix(byte_order_mark.size());
  }

  Result<Lexed> run() {
    TRY_PLAIN(read_directives());
    while (true) {
      auto line = TRY_PLAIN(next_line());
      if (!line) break;
      TRY_PLAIN(read_statement(*line));
    }
    if (out_.statements.empty()) return Error(ErrorKind::invalid, concat(source_.name, ": file with no instructions"));
    return std::move(out_);
  }

 private:
  /// Without its newline; nothing at the end of the file.
  Result<std::optional<std::string_view>> next_line() {
    if (rest_.empty()) return std::optional<std::string_view>();
    auto end = std::min(rest_.find('\n'), rest_.size());
    auto line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    ++number_;
    if (line.size() > most_line_bytes)
      return parse_error(source_, {number_, number_}, "", concat("dockerfile line greater than max allowed size of ", most_line_bytes));
    if (line.ends_with('\r')) line.remove_suffix(1);
    return std::optional(line);
  }

  // -- directives
  struct Directive {
    std::string key;
    std::string_view value;
  };
  static std::optional<Directive> directive_of(std::string_view line) {
    if (!line.starts_with('#')) return std::nullopt;
    line = trim_start(line.substr(1));
    std::size_t end = 0;
    while (end < line.size() && is_alphanumeric(line[end])) ++end;
    if (end == 0 || !is_letter(line[0])) return std::nullopt;
    auto key = lower(line.substr(0, end));
    line = trim_start(line.substr(end));
    if (!line.starts_with('=')) return std::nullopt;
    auto value = trim(line.substr(1));
    if (value.empty() || (key != "syntax" && key != "escape" && key != "check")) return std::nullopt;
    return Directive{key, value};
  }

  Status read_directives() {
    std::set<std::string> seen;
    while (true) {
      auto before = rest_;
      auto line = TRY_PLAIN(next_line());
      auto directive = line ? directive_of(*line) : std::nullopt;
      if (!directive) {  // the first line of another kind ends them, and is read again
        rest_ = before;
        if (line) --number_;
        return {};
      }
      if (!seen.insert(directive->key).second)
        return parse_error(source_, {number_, number_}, *line, concat("only one ", directive->key, " parser directive can be used"));
      if (directive->key == "syntax") out_.directives.syntax = directive->value;
      if (directive->key == "check") {
        out_.directives.check = directive->value;
        out_.directives.check_line = number_;
      }
      if (directive->key == "escape") {
        if (directive->value != "\\" && directive->value != "`")
          return parse_error(source_, {number_, number_}, directive->value, concat("invalid escape token '", directive->value, "' does not match ` or \\"));
        out_.directives.escape = directive->value[0];
      }
    }
  }

  // -- statements
  /// Takes an escape and blanks off the end; false when the line does not go on. Two escapes do not continue a line.
  bool take_continuation(std::string_view& line) const {
    auto end = line.find_last_not_of(" \t");
    if (end == std::string_view::npos || line[end] != out_.directives.escape) return false;
    if (end > 0 && line[end - 1] == out_.directives.escape) return false;
    line = line.substr(0, end);
    return true;
  }

  Status read_statement(std::string_view line) {
    line = trim_start(line);
    if (line.empty()) {
      comments_.clear();
      return {};
    }
    if (line.starts_with('#')) {
      comments_.emplace_back(trim(line.substr(1)));
      return {};
    }
    Statement statement;
    statement.lines.first = number_;
    bool goes_on = take_continuation(line);
    statement.text = line;
    while (goes_on) {
      auto next = TRY_PLAIN(next_line());
      if (!next) break;
      if (trim_start(*next).starts_with('#')) continue;
      if (trim_start(*next).empty()) {
        out_.empty_continuations.push_back(number_);
        continue;
      }
      goes_on = take_continuation(*next);
      statement.text += *next;
    }
    statement.lines.last = number_;
    TRY_PLAIN(read_heredocs(statement));
    statement.comments = std::exchange(comments_, {});
    if (!trim_start(statement.text).empty()) out_.statements.push_back(std::move(statement));
    return {};
  }

  /// RUN, COPY and ADD take here-documents, also behind ONBUILD; not in JSON form.
  [[nodiscard]] bool may_have_heredocs(std::string_view text) const {
    auto words = take_word(text);
    if (words.first == "onbuild") words = take_word(words.second);
    if (words.first != "run" && words.first != "copy" && words.first != "add") return false;
    auto list = json_list(take_flags(words.second, out_.directives.escape).rest);
    return list.ok() && !*list;
  }
  static std::pair<std::string, std::string_view> take_word(std::string_view text) {
    text = trim_start(text);
    std::size_t end = 0;
    while (end < text.size() && !is_blank(text[end])) ++end;
    return {lower(text.substr(0, end)), text.substr(end)};
  }

  Status read_heredocs(Statement& statement) {
    if (statement.text.find("<<") == std::string::npos || !may_have_heredocs(statement.text)) return {};
    statement.heredocs = announced_heredocs(statement.text, out_.directives.escape);
    for (auto& heredoc : statement.heredocs) {
      while (true) {
        auto line = TRY_PLAIN(next_line());
        if (!line) return parse_error(source_, statement.lines, concat("<<", heredoc.name), concat("unterminated heredoc \"", heredoc.name, "\""));
        statement.heredoc_text += concat(*line, "\n");
        auto bare = heredoc.strip_tabs ? line->substr(std::min(line->find_first_not_of('\t'), line->size())) : *line;
        if (bare == heredoc.name) break;
        heredoc.content += concat(bare, "\n");
      }
    }
    statement.lines.last = number_;
    return {};
  }

  const Source& source_;
  std::string_view rest_;
  std::uint32_t number_ = 0;  // of the line read last
  std::vector<std::string> comments_;
  Lexed out_;
};

}  // namespace

Result<Lexed> lex(const Source& source) { return Lexer(source).run(); }

}  // namespace caisson::dockerfile
