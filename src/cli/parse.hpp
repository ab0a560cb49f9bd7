// The command line's grammar (docker's, that is Go's pflag): words to a checked Invocation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "cli/command.hpp"

namespace caisson::cli {

/// The values of the flags that were given, and the words behind them. All values passed their type's check.
class Invocation {
 public:
  explicit Invocation(std::span<const Flag> flags) : flags_(flags) {}

  /// Was the flag given at all?
  [[nodiscard]] bool has(std::string_view name) const;
  /// Its last value, or the table's default, or "". Precondition: the table has that flag.
  [[nodiscard]] std::string_view text(std::string_view name) const;
  [[nodiscard]] bool flag(std::string_view name) const;
  [[nodiscard]] std::int64_t integer(std::string_view name) const;
  /// In bytes; -1 stays -1.
  [[nodiscard]] std::int64_t bytes(std::string_view name) const;
  [[nodiscard]] std::int64_t duration_ns(std::string_view name) const;
  /// In billionths of a processor.
  [[nodiscard]] std::int64_t nano_cpus(std::string_view name) const;
  /// All values in the order given.
  [[nodiscard]] std::vector<std::string> list(std::string_view name) const;

  [[nodiscard]] const std::vector<std::string>& words() const { return words_; }
  [[nodiscard]] const std::string& word(std::size_t index) const { return words_[index]; }

  void add(const Flag& flag, std::string value) { values_.emplace_back(&flag, std::move(value)); }
  void add_word(std::string word) { words_.push_back(std::move(word)); }

 private:
  std::span<const Flag> flags_;
  std::vector<std::pair<const Flag*, std::string>> values_;
  std::vector<std::string> words_;
};

/// What a whole command line means.
struct Parsed {
  const Command* command = nullptr;  ///< nullptr: no command was named
  Invocation global{global_flags()};
  Invocation invocation{{}};
  bool wants_help = false;
};

/// What is wrong with a command line, ready to print: `text` in docker's words, then a hint when something is near.
struct UsageError {
  std::string text;
  std::string hint;
  const Command* command = nullptr;  ///< whose usage line belongs below; nullptr: the overview's
  int exit_code = 125;
  bool is_count = false;             ///< too few or too many words
};

/// Parses flags until a word (when not interspersed) or to the end. `-it`, `-p80:80`, `--flag=v`, `--flag v`, `--`.
/// Returns an error text in docker's words, or none.
std::optional<UsageError> parse_flags(std::span<const Flag> flags, bool interspersed, std::span<const std::string> words,
                                      Invocation& out, bool& wants_help);

/// `words` without the program's name. On failure `*error` is filled and the result must not be used.
Parsed parse_command_line(std::span<const std::string> words, std::optional<UsageError>& error);

/// The words that Go's ParseBool knows: "1", "t", "true", "FALSE", …
std::optional<bool> parse_bool(std::string_view text);
/// docker's NanoCPUs: "1.5" → 1500000000. Errors: invalid.
Result<std::int64_t> parse_nano_cpus(std::string_view text);

/// The nearest of `candidates` when it is near enough to be meant, or "".
std::string nearest(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace caisson::cli
