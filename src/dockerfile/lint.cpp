// The build checks of docker's reference ("Build checks"), one function each; messages are docker's.
#include "dockerfile/lint.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"

namespace caisson::dockerfile {

namespace {

bool is_lower(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}
bool is_upper(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known, std::string_view prefix) {
  std::vector<std::string_view> views(known.begin(), known.end());
  auto close = nearest(word, views.data(), views.size());
  return close.empty() ? std::string() : concat(" (did you mean ", prefix, close, "?)");
}

/// "API_TOKEN" names a secret, "PUBLIC_KEY" and "TOKEN_FILE" do not.
bool names_a_secret(std::string_view key) {
  constexpr std::array<std::string_view, 10> secret{"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"};
  constexpr std::array<std::string_view, 3> harmless{"public", "file", "version"};
  bool found = false;
  auto small = lower(key);
  for (auto word : split(small, '_')) {
    if (std::find(harmless.begin(), harmless.end(), word) != harmless.end()) return false;
    found = found || std::find(secret.begin(), secret.end(), word) != secret.end();
  }
  return found;
}

class Linter {
 public:
  Linter(const File& file, const LintInput& input, CheckSettings settings)
      : file_(file), input_(input), settings_(std::move(settings)), globals_(input.platform, input.given), defaults_(input.platform, {}) {}

  Result<Checked> run() {
    check_casing();
    for (auto line : file_.empty_continuations) warn("NoEmptyContinuation", "Empty continuation line", {line, line});
    for (const auto& argument : file_.arguments) {
      TRY_PLAIN(globals_.declare(argument, file_.directives.escape));
      TRY_PLAIN(defaults_.declare(argument, file_.directives.escape));
      check_secrets(argument);
      check_description(argument);
    }
    for (std::size_t index = 0; index < file_.stages.size(); ++index) TRY_PLAIN(check_stage(index));
    std::stable_sort(out_.begin(), out_.end(), [](const Warning& a, const Warning& b) { return a.lines.first < b.lines.first; });
    return Checked{std::move(out_), settings_.error};
  }

 private:
  void warn(std::string_view rule, std::string message, Lines lines, const Instruction* where = nullptr) {
    if (settings_.skipped.contains("all") || settings_.skipped.contains(std::string(rule))) return;
    if (where != nullptr && is_skipped_above(*where, rule)) return;
    out_.push_back({std::string(rule), std::move(message), lines});
  }
  void warn(std::string_view rule, std::string message, const Instruction& where) { warn(rule, std::move(message), where.lines, &where); }

  /// "# check=skip=X" in the comment right above.
  static bool is_skipped_above(const Instruction& instruction, std::string_view rule) {
    for (const auto& comment : instruction.comments) {
      if (!comment.starts_with("check=")) continue;
      auto settings = parse_check(std::string_view(comment).substr(6));
      if (settings.ok() && (settings->skipped.contains("all") || settings->skipped.contains(std::string(rule)))) return true;
    }
    return false;
  }
  [[nodiscard]] bool is_experimental_on(const std::string& rule) const {
    return settings_.experimental.contains("all") || settings_.experimental.contains(rule);
  }

  template <typename Visit>
  void for_each_instruction(Visit visit) const {
    for (const auto& argument : file_.arguments) visit(argument);
    for (const auto& stage : file_.stages) {
      visit(stage.from);
      for (const auto& instruction : stage.instructions) visit(instruction);
    }
  }

  void check_casing() {
    std::size_t upper_count = 0;
    std::size_t lower_count = 0;
    for_each_instruction([&](const Instruction& instruction) {
      if (is_upper(instruction.written)) ++upper_count;
      if (is_lower(instruction.written)) ++lower_count;
    });
    bool wants_lower = lower_count > upper_count;
    for_each_instruction([&](const Instruction& instruction) {
      bool fits = wants_lower ? is_lower(instruction.written) : is_upper(instruction.written);
      if (fits) return;
      warn("ConsistentInstructionCasing",
           concat("Command '", instruction.written, "' should match the case of the command majority (", wants_lower ? "lowercase" : "uppercase", ")"), instruction);
    });
  }

  Status check_stage(std::size_t index) {
    const auto& stage = file_.stages[index];
    check_stage_name(index);
    TRY_PLAIN(check_from(stage));
    StageScope scope(globals_, file_.directives.escape);
    auto& known = environments_.emplace_back();
    auto base = TRY_PLAIN(Expander(globals_.lookup(), file_.directives.escape).word(stage.base));
    bool knows_environment = begin_environment(index, base, scope, known);
    for (const auto& instruction : stage.instructions) {
      check_instruction(instruction);
      TRY_PLAIN(check_variables(instruction, scope, knows_environment));
    }
    known.environment = scope.environment();
    known.is_known = knows_environment;
    check_repeated(stage);
    check_workdir(stage, index, base);
    return {};
  }

  struct Known {
    std::vector<std::string> environment;
    bool is_known = false;
    bool has_workdir = false;
  };

  [[nodiscard]] std::optional<std::size_t> stage_before(std::size_t index, std::string_view name) const {
    for (std::size_t i = index; i-- > 0;)
      if (!file_.stages[i].name.empty() && file_.stages[i].name == lower(name)) return i;
    return std::nullopt;
  }

  bool begin_environment(std::size_t index, const std::string& base, StageScope& scope, Known& known) {
    if (auto before = stage_before(index, base)) {
      scope.set_environment(environments_[*before].environment);
      known.has_workdir = environments_[*before].has_workdir;
      return environments_[*before].is_known;
    }
    if (base == "scratch") return true;
    auto environment = input_.base_environment ? input_.base_environment(base) : std::nullopt;
    if (environment) scope.set_environment(std::move(*environment));
    return environment.has_value();
  }

  void check_stage_name(std::size_t index) {
    const auto& stage = file_.stages[index];
    if (stage.name.empty()) return;
    const auto& written = stage.from.words[2];
    if (!is_lower(written)) warn("StageNameCasing", concat("Stage name '", written, "' should be lowercase"), stage.from);
    if (stage.name == "scratch" || stage.name == "context")
      warn("ReservedStageName", concat("Stage name should not use the same name as reserved stage \"", stage.name, "\""), stage.from);
    if (stage_before(index, stage.name)) warn("DuplicateStageName", concat("Duplicate stage name \"", stage.name, "\", stage names should be unique"), stage.from);
    const auto& as = stage.from.words[1];
    if ((is_lower(stage.from.written) && !is_lower(as)) || (is_upper(stage.from.written) && !is_upper(as)))
      warn("FromAsCasing", concat("'", as, "' and '", stage.from.written, "' keywords' casing do not match"), stage.from);
    check_description(stage.from);
  }

  Status check_from(const Stage& stage) {
    Expander expander(globals_.lookup(), file_.directives.escape);
    auto base = TRY_PLAIN(expander.word(stage.base));
    auto platform = TRY_PLAIN(expander.word(stage.platform));
    for (const auto& name : expander.missing())
      warn("UndefinedArgInFrom", concat("FROM argument '", name, "' is not declared", did_you_mean(name, globals_.names(), "")), stage.from);
    auto by_default = Expander(defaults_.lookup(), file_.directives.escape).word(stage.base);
    if (stage.base.find('$') != std::string::npos && (!by_default.ok() || by_default->empty() || by_default->starts_with(':') || by_default->ends_with(':')))
      warn("InvalidDefaultArgInFrom", concat("Default value for ARG ", stage.base, " results in empty or invalid base image name"), stage.from);
    check_platform_flag(stage, platform);
    return {};
  }

  void check_platform_flag(const Stage& stage, const std::string& platform) {
    if (stage.platform == "$TARGETPLATFORM" || stage.platform == "${TARGETPLATFORM}")
      warn("RedundantTargetPlatform", concat("Setting platform to predefined ", stage.platform, " in FROM is redundant as this is the default behavior"), stage.from);
    if (platform.empty() || stage.platform.find('$') != std::string::npos) return;
    for (auto part : split(platform, '/'))
      if (!part.empty() && stage.name.find(part) != std::string::npos) return;
    warn("FromPlatformFlagConstDisallowed", concat("FROM --platform flag should not use constant value \"", platform, "\""), stage.from);
  }

  void check_instruction(const Instruction& instruction) {
    switch (instruction.keyword) {
      case Keyword::maintainer: warn("MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label", instruction); break;
      case Keyword::shell: has_shell_ = true; break;
      case Keyword::cmd:
      case Keyword::entrypoint:
        if (!instruction.json && !has_shell_)
          warn("JSONArgsRecommended", concat("JSON arguments recommended for ", to_string(instruction.keyword), " to prevent unintended behavior related to OS signals"), instruction);
        break;
      case Keyword::env:
      case Keyword::label:
        if (instruction.legacy_pair)
          warn("LegacyKeyValueFormat",
               concat("\"", to_string(instruction.keyword), " key=value\" should be used instead of legacy \"", to_string(instruction.keyword), " key value\" format"), instruction);
        if (instruction.keyword == Keyword::env) check_secrets(instruction);
        break;
      case Keyword::arg:
        check_secrets(instruction);
        check_description(instruction);
        break;
      case Keyword::expose: check_expose(instruction); break;
      case Keyword::copy:
      case Keyword::add: check_ignored(instruction); break;
      default: break;
    }
  }

  void check_secrets(const Instruction& instruction) {
    for (const auto& pair : instruction.pairs)
      if (names_a_secret(pair.key))
        warn("SecretsUsedInArgOrEnv", concat("Do not use ARG or ENV instructions for sensitive data (", to_string(instruction.keyword), " \"", pair.key, "\")"), instruction);
  }

  void check_description(const Instruction& instruction) {
    if (!is_experimental_on("InvalidDefinitionDescription") || instruction.comments.empty()) return;
    const auto& comment = instruction.comments.back();
    if (comment.starts_with("check=")) return;
    auto name = instruction.keyword == Keyword::arg ? instruction.pairs[0].key : instruction.words[2];
    if (comment.starts_with(name + " ")) return;
    warn("InvalidDefinitionDescription", concat("Comment for ", instruction.keyword == Keyword::arg ? "ARG" : "FROM", " should follow the format: `# ", name, " <description>`"), instruction);
  }

  void check_expose(const Instruction& instruction) {
    for (const auto& port : instruction.words) {
      auto halves = split_once(port, '/');
      if (halves.found && !is_lower(halves.after)) warn("ExposeProtoCasing", concat("Defined protocol '", port, "' in EXPOSE instruction should be lowercase"), instruction);
      if (halves.before.find(':') != std::string_view::npos && port.find('$') == std::string::npos)
        warn("ExposeInvalidFormat", concat("EXPOSE instruction should not define an IP address or host-port mapping, found '", port, "'"), instruction);
    }
  }

  void check_ignored(const Instruction& instruction) {
    if (input_.ignore == nullptr || input_.ignore->has_exceptions() || instruction.flag("from") != nullptr) return;
    for (std::size_t i = 0; i + 1 < instruction.words.size(); ++i) {
      const auto& word = instruction.words[i];
      if (word.find("://") != std::string::npos || word.find('$') != std::string::npos || heredoc_of_word(word, file_.directives.escape)) continue;
      auto path = clean_path(concat("/", word)).substr(1);
      const auto& texts = input_.ignore->texts();
      bool all = std::any_of(texts.begin(), texts.end(), [](const std::string& text) { return text == "*" || text == "**"; });
      if (path.empty() ? !all : !input_.ignore->excludes(path)) continue;
      warn("CopyIgnoredFile", concat("Attempting to ", instruction.keyword == Keyword::add ? "Add" : "Copy", " file \"", word, "\" that is excluded by .dockerignore"), instruction);
    }
  }

  /// Expands what the builder would, to learn which names are set and which are missing.
  Status check_variables(const Instruction& instruction, StageScope& scope, bool knows_environment) {
    switch (instruction.keyword) {
      case Keyword::arg: TRY_PLAIN(scope.declare(instruction)); break;
      case Keyword::env:
        for (const auto& pair : TRY_PLAIN(scope.expand_pairs(instruction))) scope.set(pair.key, pair.value);
        break;
      case Keyword::label: TRY_PLAIN(scope.expand_pairs(instruction)); break;
      case Keyword::add:
      case Keyword::copy:
      case Keyword::expose:
      case Keyword::stopsignal:
      case Keyword::user:
      case Keyword::volume:
      case Keyword::workdir:
        for (const auto& word : instruction.words) TRY_PLAIN(scope.expand_words(word));
        break;
      default: break;
    }
    for (const auto& name : scope.take_missing())
      if (knows_environment)
        warn("UndefinedVar", concat("Usage of undefined variable '$", name, "'", did_you_mean(name, scope.names(), "$")), instruction);
    return {};
  }

  void check_repeated(const Stage& stage) {
    for (auto keyword : {Keyword::cmd, Keyword::entrypoint, Keyword::healthcheck}) {
      const Instruction* last = nullptr;
      for (const auto& instruction : stage.instructions) {
        if (instruction.keyword != keyword) continue;
        if (last != nullptr)
          warn("MultipleInstructionsDisallowed",
               concat("Multiple ", to_string(keyword), " instructions should not be used in the same stage because only the last one will be used"), *last);
        last = &instruction;
      }
    }
    has_shell_ = false;
  }

  void check_workdir(const Stage& stage, std::size_t index, const std::string& base) {
    auto& known = environments_[index];
    for (const auto& instruction : stage.instructions) {
      if (instruction.keyword != Keyword::workdir) continue;
      const auto& path = instruction.words[0];
      if (!known.has_workdir && base != "scratch" && !path.starts_with('/') && !path.starts_with('$') && !path.starts_with('"'))
        warn("WorkdirRelativePath", concat("Relative workdir \"", path, "\" can have unexpected results if the base image changes"), instruction);
      known.has_workdir = true;
    }
  }

  const File& file_;
  const LintInput& input_;
  CheckSettings settings_;
  GlobalScope globals_;
  GlobalScope defaults_;  // as if nothing were given
  std::vector<Known> environments_;
  bool has_shell_ = false;
  std::vector<Warning> out_;
};

}  // namespace

Result<CheckSettings> parse_check(std::string_view text) {
  CheckSettings settings;
  for (auto part : split(text, ';')) {
    auto halves = split_once(trim(part), '=');
    auto key = lower(trim(halves.before));
    if (key.empty()) continue;
    if (key == "error") {
      auto value = lower(trim(halves.after));
      if (value != "true" && value != "false" && value != "1" && value != "0") return Error(ErrorKind::invalid, concat("check: error=", halves.after, " is no boolean"));
      settings.error = value == "true" || value == "1";
    } else if (key == "skip" || key == "experimental") {
      for (auto name : split(halves.after, ',')) (key == "skip" ? settings.skipped : settings.experimental).emplace(trim(name));
    } else {
      return Error(ErrorKind::invalid, concat("check: invalid option \"", key, "\" (skip, error, experimental)"));
    }
  }
  return settings;
}

Result<Checked> lint(const Source& source, const File& file, const LintInput& input) {
  auto settings = parse_check(input.check.empty() ? file.directives.check : input.check);
  if (!settings.ok()) {
    if (file.directives.check_line == 0) return std::move(settings).error();
    return parse_error(source, {file.directives.check_line, file.directives.check_line}, "", settings.error().text());
  }
  return Linter(file, input, std::move(*settings)).run();
}

}  // namespace caisson::dockerfile
