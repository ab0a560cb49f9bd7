// The client's side of a debug shell: a container that waits to be attached to and started, as `run` would.
#include "cli/debug_shell.hpp"

#include "base/strings.hpp"
#include "cli/attached.hpp"
#include "cli/request.hpp"
#include "linux/terminal.hpp"

namespace caisson::cli {

namespace {

/// How long a RUN may be in the banner; Dockerfiles have some that fill the screen.
constexpr std::size_t most_shown_bytes = 200;

Result<PumpResult> talk(Session& session, const OfferedShell& shell) {
  const bool has_terminal = linux::is_terminal(0);
  AttachSettings settings;
  settings.resize_path = object_path("containers", shell.container, "resize");
  settings.tty = has_terminal;
  settings.takes_input = true;
  auto client = TRY_PLAIN(session.connect());
  auto stream = TRY_PLAIN(session.hijack(std::move(client), attach_target(shell.container, true, true, true, "")));
  auto attached = TRY_PLAIN(Attached::create(session, std::move(settings)));
  TRY_PLAIN(session.call("POST", object_path("containers", shell.container, "start")));
  attached.send_size();
  return attached.run(stream, nullptr);
}

}  // namespace

Result<OfferedShell> read_offered_shell(const JsonView& view) {
  OfferedShell shell;
  TRY_PLAIN(view.read("ID", shell.container));
  TRY_PLAIN(view.read("Problem", shell.problem));
  TRY_PLAIN(view.read("Program", shell.program));
  TRY_PLAIN(view.read("Step", shell.step));
  TRY_PLAIN(view.read("Line", shell.line));
  TRY_PLAIN(view.read("ExitCode", shell.exit_code));
  TRY_PLAIN(view.read("Failure", shell.failure));
  TRY_PLAIN(view.read("BeforeStep", shell.is_before_step));
  return shell;
}

Result<json::object> debug_shell_wish(const Invocation& invocation) {
  const auto progress = invocation.text("progress");
  if (progress == "json" || progress == "rawjson")
    return Error(ErrorKind::invalid, concat("--debug-shell does not go with --progress ", progress, ": both use standard output"));
  if (invocation.word(0) == "-" || invocation.text("file") == "-")
    return Error(ErrorKind::invalid, "--debug-shell needs standard input, which is the context or the Dockerfile here");
  const bool has_terminal = linux::is_terminal(0);
  json::object out{{"tty", has_terminal}};
  const auto program = invocation.text("debug-shell");
  if (program.empty()) return Error(ErrorKind::invalid, "--debug-shell=: the program's name is missing");
  if (program != "auto") out["program"] = std::string(program);
  if (!has_terminal) return out;
  auto size = linux::window_size(1);
  if (!size.ok()) size = linux::window_size(0);
  if (size.ok()) out["size"] = json::array{size->rows, size->columns};
  return out;
}

std::string debug_shell_banner(const OfferedShell& shell) {
  auto step = shell.step.substr(0, most_shown_bytes);
  if (step.size() < shell.step.size()) step += "…";
  std::string out = concat("Debug shell (", shell.program, ") in line ", shell.line, ": ", step, "\n");
  if (shell.exit_code) out += concat("  The step ended with exit code ", *shell.exit_code, ".");
  else
    out += concat("  The step failed: ", shell.failure.find('\n') == std::string::npos ? shell.failure : concat("\n", shell.failure),
                  ".");
  out += shell.is_before_step ? " The files are as they were before it.\n" : " The files are as it left them.\n";
  return out + "  Leave with \"exit\" or ctrl-d; the build then ends with this failure.\n";
}

Status enter_debug_shell(Session& session, const OfferedShell& shell) {
  auto& err = session.err();
  if (shell.container.empty()) {
    err.line(concat("No debug shell: ", shell.problem));
    return err.flush();
  }
  TRY_PLAIN(session.out().flush());
  err.write(debug_shell_banner(shell));
  TRY_PLAIN(err.flush());
  auto result = talk(session, shell);
  if (!result.ok()) {
    err.line(concat("No debug shell: ", result.error().text()));
    TRY_PLAIN(err.flush());
  }
  if (result.ok() && result->end == StreamEnd::interrupted)
    return Error(ErrorKind::unavailable, concat("the debug shell was ended by signal ", signal_name(result->signal)));
  // One that we cannot reach, or have detached from, would keep the build waiting.
  if (!result.ok() || result->end == StreamEnd::detached)
    ignore(session.call("DELETE", object_path("containers", shell.container) + "?force=1"));
  return {};
}

Status decline_debug_shell(Session& session, const OfferedShell& shell, const std::string& why) {
  session.err().line(concat("No debug shell: ", why));
  TRY_PLAIN(session.err().flush());
  if (!shell.container.empty()) ignore(session.call("DELETE", object_path("containers", shell.container) + "?force=1"));  // else the daemon waits a minute
  return {};
}

}  // namespace caisson::cli
