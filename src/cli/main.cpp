// Dispatch, and the one place where errors are printed.
#include "cli/main.hpp"

#include <cstdlib>

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/help.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

namespace {

std::string help_command(const Command* command) {
  return command == nullptr ? "caisson --help" : concat("caisson ", command->path, " --help");
}

int print_usage_error(Output& err, const UsageError& error) {
  err.line(error.is_count || error.command == nullptr || error.text.starts_with("unknown command") ? concat("caisson: ", error.text) : error.text);
  if (!error.hint.empty()) err.line(concat("hint: ", error.hint));
  if (error.command != nullptr && !error.command->is_group) err.line(concat("\n", usage_line(error.command)));
  err.line(concat("\nSee '", help_command(error.command), "'."));
  ignore(err.flush());  // nowhere left to complain
  return error.exit_code;
}

// docker's own words stay as they are, because scripts match them; run and create put the program's name in front, as docker does.
Error dressed(const Error& error, const Command& command) {
  bool is_dockers = error.text().starts_with("Error response from daemon") || error.text().starts_with("Error: ") ||
                    error.text().starts_with("Cannot connect to") || error.text().starts_with("invalid argument ");
  if (is_dockers && command.error_code == 1) return error;
  return Error(error).in("caisson");
}

int finish(Session& session, const Command& command, Result<int> result) {
  auto flushed = session.out().flush();
  if (!result.ok()) {
    print_error(session, dressed(result.error(), command));
    return command.error_code;
  }
  ignore(session.err().flush());  // the exit code tells the rest
  if (flushed.ok()) return *result;
  print_error(session.err(), Error(flushed.error()).in("caisson: write the output"));
  return *result != 0 ? *result : 1;
}

}  // namespace

int run_command_line(std::span<const std::string> words) {
  std::optional<UsageError> error;
  Parsed parsed = parse_command_line(words, error);
  Session session(parsed.global);
  if (error) return print_usage_error(session.err(), *error);
  if (parsed.global.flag("version")) {
    session.out().line("caisson version " CAISSON_VERSION);
    return 0;
  }
  if (parsed.command == nullptr || parsed.wants_help) {
    session.out().write(parsed.command == nullptr ? overview(session.out().width()) : help_for(*parsed.command, session.out().width()));
    return 0;
  }
  if (!parsed.command->refusal.empty()) {
    auto refused = Error(ErrorKind::unsupported, concat("'caisson ", parsed.command->path, "' is not supported: ", parsed.command->refusal));
    return finish(session, *parsed.command, std::move(refused));
  }
  return finish(session, *parsed.command, parsed.command->run(session, parsed.invocation));
}

}  // namespace caisson::cli
