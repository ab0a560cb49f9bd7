// Parsing by the table. Error texts are docker's, because scripts and people know them.
#include "cli/parse.hpp"

#include <algorithm>
#include <array>
#include <cassert>

#include "base/strings.hpp"
#include "base/time.hpp"

namespace caisson::cli {

namespace {

std::string go_integer_problem(std::string_view function, std::string_view text) {
  bool digits = !text.empty() && text.find_first_not_of("+-0123456789") == std::string_view::npos;
  return concat("strconv.", function, ": parsing \"", text, "\": ", digits ? "value out of range" : "invalid syntax");
}

Result<std::int64_t> parse_signed(std::string_view text) {
  if (text.size() > 1 && text[0] == '+') text.remove_prefix(1);
  return parse_integer<std::int64_t>(text);
}

// Returns what is wrong with `value`, or "".
std::string check_value(const Flag& flag, std::string_view value) {
  switch (flag.type) {
    case FlagType::boolean:
      return parse_bool(value) ? "" : concat("strconv.ParseBool: parsing \"", value, "\": invalid syntax");
    case FlagType::text:
    case FlagType::list: return "";
    case FlagType::integer: return parse_signed(value).ok() ? "" : go_integer_problem("ParseInt", value);
    case FlagType::uint16: return parse_integer<std::uint16_t>(value).ok() ? "" : go_integer_problem("ParseUint", value);
    case FlagType::decimal: {
      auto parsed = parse_nano_cpus(value);
      return parsed.ok() ? "" : parsed.error().text();
    }
    case FlagType::swap_bytes:
      if (value == "-1") return "";
      [[fallthrough]];
    case FlagType::bytes: {
      auto parsed = parse_size_bytes(value);
      return parsed.ok() ? "" : parsed.error().text();
    }
    case FlagType::duration: {
      if (parse_duration_ns(value).ok()) return "";
      bool is_number = !value.empty() && value.find_first_not_of("0123456789.") == std::string_view::npos;
      return concat(is_number ? "time: missing unit in duration \"" : "time: invalid duration \"", value, "\"");
    }
  }
  return "";
}

std::string shown_name(const Flag& flag) {
  return flag.letter != 0 ? concat("-", flag.letter, ", --", flag.name) : concat("--", flag.name);
}

UsageError usage(std::string text, std::string hint = "") { return {std::move(text), std::move(hint), nullptr, 125, false}; }

std::optional<UsageError> store(const Flag& flag, std::string_view value, Invocation& out) {
  const bool is_off = flag.type == FlagType::boolean && parse_bool(value) == false;
  if (!flag.refusal.empty() && !is_off) return usage(concat("--", flag.name, " is not supported: ", flag.refusal));
  std::string problem = check_value(flag, value);
  if (!problem.empty()) return usage(concat("invalid argument \"", value, "\" for \"", shown_name(flag), "\" flag: ", problem));
  out.add(flag, std::string(value));
  return std::nullopt;
}

UsageError unknown_flag(std::span<const Flag> flags, std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& flag : flags)
    if (!flag.hidden) names.push_back(flag.name);
  std::string near = nearest(name, names);
  return usage(concat("unknown flag: --", name), near.empty() ? "" : concat("did you mean '--", near, "'?"));
}

// Words of one call, read from the front.
class Reader {
 public:
  explicit Reader(std::span<const std::string> words) : words_(words) {}
  [[nodiscard]] bool empty() const { return at_ == words_.size(); }
  const std::string& next() { return words_[at_++]; }
  [[nodiscard]] std::size_t position() const { return at_; }

 private:
  std::span<const std::string> words_;
  std::size_t at_ = 0;
};

std::optional<UsageError> parse_long(std::span<const Flag> flags, std::string_view body, Reader& reader, Invocation& out,
                                     bool& wants_help) {
  auto halves = split_once(body, '=');
  if (halves.before.empty()) return usage(concat("bad flag syntax: --", body));
  const Flag* flag = find_flag(flags, halves.before);
  if (flag == nullptr) {
    if (halves.before != "help") return unknown_flag(flags, halves.before);
    wants_help = true;
    return std::nullopt;
  }
  if (halves.found) return store(*flag, halves.after, out);
  if (flag->type == FlagType::boolean) return store(*flag, "true", out);
  if (!flag->bare_value.empty()) return store(*flag, flag->bare_value, out);
  if (reader.empty()) return usage(concat("flag needs an argument: --", halves.before));
  return store(*flag, reader.next(), out);
}

std::optional<UsageError> parse_short(std::span<const Flag> flags, std::string_view letters, Reader& reader, Invocation& out,
                                      bool& wants_help) {
  std::string_view all = letters;
  while (!letters.empty()) {
    char letter = letters.front();
    letters.remove_prefix(1);
    const Flag* flag = find_flag(flags, letter);
    if (flag == nullptr) {
      if (letter != 'h') return usage(concat("unknown shorthand flag: '", letter, "' in -", all));
      wants_help = true;
      return std::nullopt;
    }
    if (!letters.empty() && letters.front() == '=') return store(*flag, letters.substr(1), out);
    if (flag->type == FlagType::boolean) {
      if (auto error = store(*flag, "true", out)) return error;
      continue;
    }
    if (!letters.empty()) return store(*flag, letters, out);
    if (reader.empty()) return usage(concat("flag needs an argument: '", letter, "' in -", all));
    return store(*flag, reader.next(), out);
  }
  return std::nullopt;
}

// Edit distance where a swap of neighbours counts one (typing errors).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i)
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  return cost[a.size()][b.size()];
}

std::string plural(int count, std::string_view noun) { return concat(count, " ", noun, count == 1 ? "" : "s"); }

std::optional<UsageError> check_count(const Command& command, std::size_t count) {
  auto given = static_cast<int>(count);
  auto [least, most] = command.arity;
  if (given >= least && (most < 0 || given <= most)) return std::nullopt;
  std::string need;
  if (most == 0) need = "accepts no arguments";
  else if (least == most) need = concat("requires ", plural(least, "argument"));
  else if (given < least) need = concat("requires at least ", plural(least, "argument"));
  else need = concat("requires at most ", plural(most, "argument"));
  return UsageError{concat("'caisson ", command.path, "' ", need), "", &command, 1, true};
}

// The longest path of words that names a command. `used` is how many words it takes.
const Command* resolve(std::span<const std::string> words, std::size_t& used) {
  const Command* found = nullptr;
  std::string path;
  for (std::size_t i = 0; i < words.size() && i < 3; ++i) {
    if (words[i].empty() || words[i][0] == '-') break;
    path = path.empty() ? words[i] : concat(path, " ", words[i]);
    const Command* command = find_command(path);
    if (command == nullptr) break;
    found = command;
    used = i + 1;
  }
  return found;
}

UsageError unknown_command(std::string_view group, std::string_view word) {
  std::string prefix = group.empty() ? "" : concat(group, " ");
  std::vector<std::string_view> names;
  for (const auto& command : all_commands()) {
    if (command.hidden) continue;
    auto consider = [&](std::string_view path) {
      if (!path.starts_with(prefix)) return;
      std::string_view rest = path.substr(prefix.size());
      if (rest.find(' ') == std::string_view::npos) names.push_back(rest);
    };
    consider(command.path);
    for (auto alias : split(command.aliases, ',')) consider(trim(alias));
  }
  std::string near = nearest(word, names);
  return {concat("unknown command: caisson ", prefix, word), near.empty() ? "" : concat("did you mean 'caisson ", prefix, near, "'?"),
          group.empty() ? nullptr : find_command(group), 1, false};
}

}  // namespace

std::string nearest(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view best;
  std::size_t best_cost = std::max<std::size_t>(word.size() / 3, 1) + 1;
  for (auto candidate : candidates) {
    std::size_t cost = distance(word, candidate);
    if (word.size() >= 3 && candidate.starts_with(word)) cost = 1;
    if (cost < best_cost) {
      best_cost = cost;
      best = candidate;
    }
  }
  return std::string(best);
}

bool Invocation::has(std::string_view name) const {
  for (const auto& [flag, value] : values_)
    if (flag->name == name) return true;
  return false;
}

std::string_view Invocation::text(std::string_view name) const {
  for (auto entry = values_.rbegin(); entry != values_.rend(); ++entry)
    if (entry->first->name == name) return entry->second;
  const Flag* flag = find_flag(flags_, name);
  return flag == nullptr ? std::string_view() : flag->default_text;
}

bool Invocation::flag(std::string_view name) const { return parse_bool(text(name)).value_or(false); }

// The values below passed check_value, so a failing parse can only mean "not given, no default": zero.
std::int64_t Invocation::integer(std::string_view name) const { return parse_signed(text(name)).value_or(0); }

std::int64_t Invocation::bytes(std::string_view name) const {
  if (text(name) == "-1") return -1;
  return parse_size_bytes(text(name)).value_or(0);
}

std::int64_t Invocation::duration_ns(std::string_view name) const { return parse_duration_ns(text(name)).value_or(0); }

std::int64_t Invocation::nano_cpus(std::string_view name) const { return parse_nano_cpus(text(name)).value_or(0); }

std::vector<std::string> Invocation::list(std::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [flag, value] : values_)
    if (flag->name == name) out.push_back(value);
  return out;
}

std::optional<bool> parse_bool(std::string_view text) {
  static constexpr std::array<std::string_view, 6> yes = {"1", "t", "T", "TRUE", "true", "True"};
  static constexpr std::array<std::string_view, 6> no = {"0", "f", "F", "FALSE", "false", "False"};
  if (std::find(yes.begin(), yes.end(), text) != yes.end()) return true;
  if (std::find(no.begin(), no.end(), text) != no.end()) return false;
  return std::nullopt;
}

Result<std::int64_t> parse_nano_cpus(std::string_view text) {
  constexpr std::size_t digits = 9;
  auto bad = [&] { return Error(ErrorKind::invalid, concat("failed to parse ", text, " as a rational number")); };
  auto halves = split_once(text, '.');
  std::string fraction(halves.after);
  if (halves.before.empty() && fraction.empty()) return bad();
  if (fraction.find_first_not_of("0123456789") != std::string::npos) return bad();
  std::int64_t whole = 0;
  if (!halves.before.empty()) {
    auto parsed = parse_integer<std::uint32_t>(halves.before);
    if (!parsed.ok()) return bad();
    whole = *parsed;
  }
  while (fraction.size() > digits && fraction.back() == '0') fraction.pop_back();
  if (fraction.size() > digits) return Error(ErrorKind::invalid, "value is too precise");
  fraction.append(digits - fraction.size(), '0');
  return whole * 1'000'000'000 + TRY_PLAIN(parse_integer<std::int64_t>(fraction));
}

std::optional<UsageError> parse_flags(std::span<const Flag> flags, bool interspersed, std::span<const std::string> words,
                                      Invocation& out, bool& wants_help) {
  Reader reader(words);
  while (!reader.empty()) {
    const std::string& word = reader.next();
    if (word == "--") break;
    std::optional<UsageError> error;
    if (word.starts_with("--")) {
      error = parse_long(flags, std::string_view(word).substr(2), reader, out, wants_help);
    } else if (word.size() > 1 && word[0] == '-') {
      error = parse_short(flags, std::string_view(word).substr(1), reader, out, wants_help);
    } else {
      out.add_word(word);
      if (!interspersed) break;
    }
    if (error || wants_help) return error;
  }
  while (!reader.empty()) out.add_word(reader.next());
  return std::nullopt;
}

Parsed parse_command_line(std::span<const std::string> words, std::optional<UsageError>& error) {
  Parsed parsed;
  error = parse_flags(global_flags(), false, words, parsed.global, parsed.wants_help);
  if (error) return parsed;
  const auto& rest = parsed.global.words();
  if (rest.empty()) return parsed;
  std::size_t used = 0;
  parsed.command = resolve(rest, used);
  std::span<const std::string> behind = std::span(rest).subspan(used);
  if (parsed.command == nullptr) {
    if (!parsed.wants_help) error = unknown_command("", rest[0]);
    return parsed;
  }
  if (parsed.command->is_group) {
    Invocation unused({});
    error = parse_flags({}, false, behind, unused, parsed.wants_help);
    if (!error && !unused.words().empty()) error = unknown_command(parsed.command->path, unused.words()[0]);
    if (error) error->command = parsed.command;
    parsed.wants_help = true;  // a group by itself shows what it holds
    return parsed;
  }
  parsed.invocation = Invocation(parsed.command->flags);
  if (parsed.command->raw_words) {
    for (const auto& word : behind) parsed.invocation.add_word(word);
    return parsed;
  }
  error = parse_flags(parsed.command->flags, parsed.command->interspersed, behind, parsed.invocation, parsed.wants_help);
  if (error) error->command = parsed.command;
  else if (!parsed.wants_help) error = check_count(*parsed.command, parsed.invocation.words().size());
  return parsed;
}

}  // namespace caisson::cli
