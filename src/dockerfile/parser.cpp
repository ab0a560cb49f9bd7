// One function per form of arguments; one table says which form and which flags an instruction has.
#include "dockerfile/parser.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "dockerfile/mount.hpp"

namespace caisson::dockerfile {

namespace {

enum class Form : std::uint8_t { command, health, json_only, one_text, pairs, names, paths, from, trigger, words };
enum class FlagKind : std::uint8_t { value, boolean, list };

struct FlagRule {
  std::string_view name;
  FlagKind kind = FlagKind::value;
};
struct Rule {
  std::string_view name;
  Form form = Form::command;
  std::array<FlagRule, 8> flags{};
};

/// In the order of Keyword.
constexpr std::array<Rule, 18> rules{{
    {"ADD", Form::paths, {{{"chown"}, {"chmod"}, {"link", FlagKind::boolean}, {"keep-git-dir", FlagKind::boolean}, {"checksum"}, {"exclude", FlagKind::list}, {"unpack", FlagKind::boolean}}}},
    {"ARG", Form::names},
    {"CMD", Form::command},
    {"COPY", Form::paths, {{{"from"}, {"chown"}, {"chmod"}, {"link", FlagKind::boolean}, {"parents", FlagKind::boolean}, {"exclude", FlagKind::list}}}},
    {"ENTRYPOINT", Form::command},
    {"ENV", Form::pairs},
    {"EXPOSE", Form::words},
    {"FROM", Form::from, {{{"platform"}}}},
    {"HEALTHCHECK", Form::health, {{{"interval"}, {"timeout"}, {"start-period"}, {"start-interval"}, {"retries"}}}},
    {"LABEL", Form::pairs},
    {"MAINTAINER", Form::one_text},
    {"ONBUILD", Form::trigger},
    {"RUN", Form::command, {{{"mount", FlagKind::list}, {"network"}, {"security"}, {"device", FlagKind::list}}}},
    {"SHELL", Form::json_only},
    {"STOPSIGNAL", Form::one_text},
    {"USER", Form::one_text},
    {"VOLUME", Form::words},
    {"WORKDIR", Form::one_text},
}};

const Rule& rule_of(Keyword keyword) { return rules[static_cast<std::size_t>(keyword)]; }

std::string upper(std::string_view text) {
  std::string out;
  for (char c : text) out += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return out;
}

/// An error and the piece of the line that it speaks of.
struct Problem {
  std::string piece;
  std::string text;
};
using Outcome = std::optional<Problem>;

Problem unknown_instruction(std::string_view word) {
  std::array<std::string_view, rules.size()> names;
  std::transform(rules.begin(), rules.end(), names.begin(), [](const Rule& rule) { return rule.name; });
  auto name = upper(word);
  auto close = nearest(name, names.data(), names.size());
  return {std::string(word), concat("unknown instruction: ", name, close.empty() ? std::string() : concat(" (did you mean ", close, "?)"))};
}

Outcome check_flags(const Rule& rule, const std::vector<Flag>& flags) {
  std::vector<std::string_view> seen;
  for (const auto& flag : flags) {
    auto found = std::find_if(rule.flags.begin(), rule.flags.end(), [&](const FlagRule& known) { return !known.name.empty() && known.name == flag.name; });
    if (found == rule.flags.end()) {
      std::array<std::string_view, 8> names;
      std::transform(rule.flags.begin(), rule.flags.end(), names.begin(), [](const FlagRule& known) { return known.name; });
      auto close = nearest(flag.name, names.data(), names.size());
      return Problem{concat("--", flag.name), concat("unknown flag: --", flag.name, close.empty() ? std::string() : concat(" (did you mean ", close, "?)"))};
    }
    if (found->kind != FlagKind::boolean && !flag.has_value) return Problem{concat("--", flag.name), concat("missing a value on flag: ", flag.name)};
    if (found->kind == FlagKind::boolean && flag.has_value && flag.value != "true" && flag.value != "false")
      return Problem{concat("--", flag.name), concat("expecting boolean value for flag ", flag.name, ", not: ", flag.value)};
    if (found->kind != FlagKind::list && std::find(seen.begin(), seen.end(), found->name) != seen.end())
      return Problem{concat("--", flag.name), concat("duplicate flag specified: ", flag.name)};
    seen.push_back(found->name);
  }
  return std::nullopt;
}

Outcome at_least_one(std::string_view name) { return Problem{std::string(), concat(name, " requires at least one argument")}; }

/// Words of a JSON array, or the whole text as one word.
Outcome read_command(Instruction& out) {
  auto list = json_list(out.text);
  if (!list.ok()) return Problem{out.text, list.error().text()};
  out.json = list->has_value();
  if (out.json) out.words = **list;
  else if (!out.text.empty()) out.words = {out.text};
  else return at_least_one(to_string(out.keyword));
  if (out.json && out.words.empty() && out.keyword == Keyword::run) return at_least_one("RUN");
  return std::nullopt;
}

Outcome read_words(Instruction& out) {
  auto list = out.keyword == Keyword::expose ? Result<std::optional<std::vector<std::string>>>(std::optional<std::vector<std::string>>()) : json_list(out.text);
  if (!list.ok()) return Problem{out.text, list.error().text()};
  out.json = list->has_value();
  out.words = out.json ? **list : split_at_blanks(out.text);
  if (out.words.empty()) return at_least_one(to_string(out.keyword));
  if (out.keyword == Keyword::volume && std::find(out.words.begin(), out.words.end(), "") != out.words.end())
    return Problem{"\"\"", "VOLUME specified can not be an empty string"};
  return std::nullopt;
}

Outcome read_paths(Instruction& out) {
  if (auto problem = read_words(out)) return problem;
  if (out.words.size() < 2)
    return Problem{out.text, concat(to_string(out.keyword), " requires at least two arguments, but only one was provided. Destination could not be determined.")};
  if (!out.heredocs.empty() && heredoc_of_word(out.words.back(), '\\'))
    return Problem{out.words.back(), concat(to_string(out.keyword), " cannot accept a heredoc as a destination")};
  return std::nullopt;
}

Outcome read_pairs(Instruction& out, char escape) {
  auto name = to_string(out.keyword);
  auto words = split_words(out.text, escape);
  if (words.empty()) return at_least_one(name);
  if (words[0].find('=') == std::string::npos) {
    auto value = trim(std::string_view(out.text).substr(split_at_blanks(out.text)[0].size()));
    if (value.empty()) return Problem{out.text, concat(name, " must have two arguments")};
    out.legacy_pair = true;
    out.pairs.push_back({split_at_blanks(out.text)[0], std::string(value)});
    return std::nullopt;
  }
  for (const auto& word : words) {
    auto halves = split_once(word, '=');
    if (!halves.found) return Problem{word, concat("Syntax error - can't find = in \"", word, "\". Must be of the form: name=value")};
    if (halves.before.empty()) return Problem{word, concat(name, " names can not be blank")};
    out.pairs.push_back({std::string(halves.before), std::string(halves.after)});
  }
  return std::nullopt;
}

Outcome read_names(Instruction& out, char escape) {
  for (const auto& word : split_words(out.text, escape)) {
    auto halves = split_once(word, '=');
    if (halves.before.empty()) return Problem{word, "ARG names can not be blank"};
    out.pairs.push_back({std::string(halves.before), std::string(halves.after), halves.found});
  }
  if (out.pairs.empty()) return at_least_one("ARG");
  return std::nullopt;
}

Outcome read_one_text(Instruction& out) {
  if (out.text.empty()) return Problem{std::string(), concat(to_string(out.keyword), " requires exactly one argument")};
  out.words = {out.text};
  return std::nullopt;
}

Outcome read_json_only(Instruction& out) {
  if (out.text.empty()) return at_least_one("SHELL");
  auto list = json_list(out.text);
  if (!list.ok() || !*list) return Problem{out.text, "SHELL requires the arguments to be in JSON form"};
  out.json = true;
  out.words = **list;
  if (out.words.empty()) return at_least_one("SHELL");
  return std::nullopt;
}

Outcome check_health_flags(const Instruction& out) {
  for (const auto& flag : out.flags) {
    if (flag.name == "retries") {
      auto count = parse_integer<std::int32_t>(flag.value);
      if (!count.ok()) return Problem{flag.value, count.error().text()};
      if (*count < 0) return Problem{flag.value, concat("--retries cannot be negative (", *count, ")")};
      continue;
    }
    auto duration = parse_duration_ns(flag.value);
    if (!duration.ok()) return Problem{flag.value, duration.error().text()};
    if (*duration < 0) return Problem{flag.value, concat("Interval \"", flag.name, "\" cannot be negative")};
    if (*duration != 0 && *duration < 1'000'000) return Problem{flag.value, concat("Interval \"", flag.name, "\" cannot be less than 1ms")};
  }
  return std::nullopt;
}

Outcome read_health(Instruction& out) {
  auto words = split_at_blanks(out.text);
  if (words.empty()) return at_least_one("HEALTHCHECK");
  out.check_type = upper(words[0]);
  auto command = trim(std::string_view(out.text).substr(words[0].size()));
  if (out.check_type == "NONE") {
    if (!command.empty()) return Problem{std::string(command), "HEALTHCHECK NONE takes no arguments"};
    return std::nullopt;
  }
  if (out.check_type != "CMD") return Problem{words[0], concat("Unknown type \"", out.check_type, "\" in HEALTHCHECK (try CMD)")};
  if (auto problem = check_health_flags(out)) return problem;
  auto list = json_list(command);
  if (!list.ok()) return Problem{std::string(command), list.error().text()};
  out.json = list->has_value();
  if (out.json) out.words = **list;
  else if (!command.empty()) out.words = {std::string(command)};
  if (out.words.empty()) return Problem{words[0], "Missing command after HEALTHCHECK CMD"};
  return std::nullopt;
}

bool is_stage_name(std::string_view name) {
  auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
  return !name.empty() && is_letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'; });
}

Outcome read_from(Instruction& out) {
  out.words = split_at_blanks(out.text);
  if (out.words.size() == 3 && lower(out.words[1]) == "as") {
    if (is_stage_name(lower(out.words[2]))) return std::nullopt;
    return Problem{out.words[2], concat("invalid name for build stage: \"", out.words[2], "\", name can't start with a number or contain symbols")};
  }
  if (out.words.size() != 1) return Problem{out.text, "FROM requires either one or three arguments"};
  return std::nullopt;
}

Outcome check_run(const Instruction& out) {
  for (const auto& flag : out.flags) {
    if (flag.name == "network" && flag.value != "default" && flag.value != "none" && flag.value != "host")
      return Problem{flag.value, concat("invalid network mode: \"", flag.value, "\" (default, none, host)")};
    if (flag.name == "security" && flag.value != "sandbox" && flag.value != "insecure")
      return Problem{flag.value, concat("invalid security mode: \"", flag.value, "\" (sandbox, insecure)")};
    // What holds a variable is checked once that is known.
    if (flag.name != "mount" || flag.value.find('$') != std::string::npos) continue;
    auto mount = parse_mount(flag.value);
    if (!mount.ok()) return Problem{flag.value, mount.error().text()};
  }
  return std::nullopt;
}

struct Context {
  char escape = '\\';
  bool in_trigger = false;
};

Outcome read_instruction(const Statement& statement, const Context& context, Instruction& out);

Outcome read_trigger(const Statement& statement, const Context& context, Instruction& out) {
  if (out.text.empty()) return at_least_one("ONBUILD");
  auto word = upper(split_at_blanks(out.text)[0]);
  if (word == "ONBUILD") return Problem{word, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"};
  if (word == "FROM" || word == "MAINTAINER") return Problem{word, concat(word, " isn't allowed as an ONBUILD trigger")};
  Statement inner = statement;
  inner.text = out.text;
  return read_instruction(inner, {context.escape, true}, out.trigger.emplace_back());
}

Outcome read_arguments(const Statement& statement, const Context& context, Instruction& out) {
  switch (rule_of(out.keyword).form) {
    case Form::command: return read_command(out);
    case Form::health: return read_health(out);
    case Form::json_only: return read_json_only(out);
    case Form::one_text: return read_one_text(out);
    case Form::pairs: return read_pairs(out, context.escape);
    case Form::names: return read_names(out, context.escape);
    case Form::paths: return read_paths(out);
    case Form::from: return read_from(out);
    case Form::trigger: return read_trigger(statement, context, out);
    case Form::words: return read_words(out);
  }
  return Problem{std::string(), "unknown form"};
}

Outcome read_instruction(const Statement& statement, const Context& context, Instruction& out) {
  auto text = trim(statement.text);
  std::size_t end = 0;
  while (end < text.size() && !is_blank(text[end])) ++end;
  out.written = text.substr(0, end);
  auto rule = std::find_if(rules.begin(), rules.end(), [name = upper(out.written)](const Rule& known) { return known.name == name; });
  if (rule == rules.end()) return unknown_instruction(out.written);
  out.keyword = static_cast<Keyword>(rule - rules.begin());
  // ONBUILD's own flags are those of its trigger.
  auto parts = rule->form == Form::trigger ? FlagsAndRest{{}, std::string(trim(text.substr(end)))} : take_flags(text.substr(end), context.escape);
  out.flags = std::move(parts.flags);
  out.text = std::move(parts.rest);
  out.statement = statement.heredoc_text.empty() ? std::string(text) : concat(text, "\n", statement.heredoc_text);
  out.heredocs = statement.heredocs;
  out.lines = statement.lines;
  out.comments = statement.comments;
  if (auto problem = check_flags(*rule, out.flags)) return problem;
  if (auto problem = read_arguments(statement, context, out)) return problem;
  if (out.keyword == Keyword::run) return check_run(out);
  return std::nullopt;
}

void begin_stage(Instruction from, File& file) {
  Stage stage;
  stage.base = from.words[0];
  if (from.words.size() == 3) stage.name = lower(from.words[2]);
  stage.platform = from.flag_value("platform");
  stage.from = std::move(from);
  file.stages.push_back(std::move(stage));
}

}  // namespace

std::string_view to_string(Keyword keyword) { return rule_of(keyword).name; }

const Flag* Instruction::flag(std::string_view name) const {
  auto found = std::find_if(flags.begin(), flags.end(), [&](const Flag& flag) { return flag.name == name; });
  return found == flags.end() ? nullptr : &*found;
}
std::string_view Instruction::flag_value(std::string_view name) const {
  const auto* found = flag(name);
  return found == nullptr ? std::string_view() : std::string_view(found->value);
}
bool Instruction::is_set(std::string_view name) const {
  const auto* found = flag(name);
  return found != nullptr && (!found->has_value || found->value == "true");
}

Result<File> parse(const Source& source) {
  auto lexed = TRY_PLAIN(lex(source));
  File file;
  file.directives = lexed.directives;
  file.empty_continuations = std::move(lexed.empty_continuations);
  for (const auto& statement : lexed.statements) {
    Instruction instruction;
    if (auto problem = read_instruction(statement, {lexed.directives.escape}, instruction)) return parse_error(source, statement.lines, problem->piece, problem->text);
    if (instruction.keyword == Keyword::from) begin_stage(std::move(instruction), file);
    else if (!file.stages.empty()) file.stages.back().instructions.push_back(std::move(instruction));
    else if (instruction.keyword == Keyword::arg) file.arguments.push_back(std::move(instruction));
    else return parse_error(source, statement.lines, instruction.written, "no build stage in current context");
  }
  if (file.stages.empty()) return Error(ErrorKind::invalid, concat(source.name, ": dockerfile contains no stages to build"));
  return file;
}

Result<Instruction> parse_instruction(std::string_view text, char escape) {
  Source source{"instruction", std::string(text)};
  auto lexed = TRY_PLAIN(lex(source));
  if (lexed.statements.size() != 1) return Error(ErrorKind::invalid, "one instruction only");
  Instruction instruction;
  if (auto problem = read_instruction(lexed.statements[0], {escape}, instruction)) return Error(ErrorKind::invalid, std::move(problem->text));
  return instruction;
}

}  // namespace caisson::dockerfile
