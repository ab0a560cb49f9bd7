// A shell in what a failed step left: the step's container once more, with its files and mounts, for the client to start.
#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "build/stage.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"

namespace caisson::build {

namespace {

/// A client that neither starts the shell nor leaves does not keep a build for ever.
constexpr std::int64_t start_patience_ns = 60'000'000'000;
constexpr std::string_view usual_shell = "/bin/sh";
constexpr std::string_view usual_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr mode_t may_execute = 0111;

bool is_program(int root_fd, std::string_view path) {
  while (path.starts_with('/')) path.remove_prefix(1);
  auto file = linux::open_in_root(root_fd, std::string(path), O_PATH);
  if (!file.ok()) return false;
  auto status = linux::fstat(file->get());
  return status.ok() && S_ISREG(status->st_mode) && (status->st_mode & may_execute) != 0;
}

/// Where a program of that name or path lies; "": nowhere. Relative paths are the working folder's, which the runtime looks at too.
std::string find_program(int root_fd, const std::string& name, const std::string& working_dir,
                         const std::vector<std::string>& environment) {
  if (name.find('/') != std::string::npos)
    return is_program(root_fd, name.starts_with('/') ? name : concat(working_dir, "/", name)) ? name : "";
  std::string_view path = usual_path;
  for (const auto& entry : environment)
    if (entry.starts_with("PATH=")) path = std::string_view(entry).substr(5);
  for (auto folder : split(path, ':'))
    if (auto place = concat(folder, "/", name); !folder.empty() && is_program(root_fd, place)) return place;
  return "";
}

}  // namespace

void StageBuilder::note_failure(const dockerfile::Instruction& instruction, const Error& error) {
  failed_.step = split_once(instruction.statement, '\n').before;
  failed_.line = static_cast<std::uint32_t>(instruction.lines.first);
  failed_.failure = error.text();
}

void StageBuilder::offer_shell(Cancel client) {
  auto opened = open_shell(failed_, client);
  kept_.reset();
  if (opened.ok() || opened.error().error_number() == ECANCELED) return;
  auto told = std::make_shared<DebugShell>(failed_);
  told->container.clear();
  const auto& error = opened.error();
  told->problem = error.hint().empty() ? error.text() : concat(error.text(), "; ", error.hint());
  Event event;
  event.kind = EventKind::shell;
  event.debug_shell = std::move(told);
  build_.reporter.send_now(event);
}

/// Seen over the files so far: what the step wrote is not mounted any more.
Result<std::string> StageBuilder::find_shell(const std::string& upper) {
  auto folders = TRY_PLAIN(lower_folders(build_, state_));
  if (!upper.empty()) folders.insert(folders.begin(), upper);
  auto files = TRY_PLAIN(hold_tree(build_, folders, false));
  const auto& wish = build_.request.debug->program;
  const auto& config = state_.config.config;
  std::vector<std::string> candidates{wish};
  if (wish.empty()) candidates = {shell().front(), std::string(usual_shell)};
  for (const auto& candidate : candidates)
    if (auto found = find_program(files.root.get(), candidate, config.working_dir, config.env); !found.empty()) return found;
  return Error(ErrorKind::not_found, concat("the step's files have no program ", candidates.front()))
      .with_hint("--debug-shell=PATH names another one");
}

Status StageBuilder::open_shell(DebugShell& shell, Cancel client) {
  shell.is_before_step = !kept_;
  if (shell.is_before_step && state_.image.empty()) return Error(ErrorKind::not_found, "the stage has no files yet");
  std::string written;
  if (kept_) written = TRY_PLAIN(build_.engine.inspect(build_.caller, kept_->container.id(), false)).upper_dir;
  shell.program = TRY_PLAIN(find_shell(written));
  engine::StepSpec step;
  if (kept_) step = kept_->spec;
  else step.container = TRY_PLAIN(step_spec());
  auto& spec = step.container;
  if (!kept_) {
    spec.env = state_.config.config.env;
    for (auto& argument : scope_.visible_arguments()) spec.env.push_back(std::move(argument));
  }
  const auto& wish = *build_.request.debug;
  spec.cmd = {shell.program};
  spec.open_stdin = spec.stdin_once = spec.attach_stdin = true;
  spec.tty = wish.has_terminal;
  spec.console_size = wish.console_size;
  StepContainer container(build_, TRY_PLAIN(build_.engine.create_step(build_.caller, std::move(step))).id);
  shell.container = container.id();
  if (kept_) {
    // Both lie in the engine's folder for containers. Ids on disk are the container's own, so that another range of the host's changes nothing.
    const auto own = TRY_PLAIN(build_.engine.inspect(build_.caller, container.id(), false)).upper_dir;
    TRY(linux::renameat2(AT_FDCWD, written, AT_FDCWD, own, RENAME_EXCHANGE), "hand the step's files on");
    TRY_PLAIN(kept_->container.remove());
  }
  auto end = TRY_PLAIN(build_.engine.begin_wait(build_.caller, container.id(), engine::WaitCondition::next_exit));
  Event event;
  event.kind = EventKind::shell;
  event.debug_shell = std::make_shared<DebugShell>(shell);
  build_.reporter.send_now(event);
  auto waited = wait_for_shell(*end, container.id(), client);
  auto removed = container.remove();
  TRY_PLAIN(std::move(waited));
  if (!removed.ok() && removed.error().kind() == ErrorKind::not_found) return {};  // by somebody else, which ended it
  return removed;
}

Status StageBuilder::wait_for_shell(engine::Waiter& end, const std::string& id, Cancel client) {
  auto timer = TRY_PLAIN(linux::timerfd_create());
  TRY_PLAIN(linux::timerfd_settime(timer.get(), start_patience_ns, 0));
  auto either = TRY_PLAIN(linux::epoll_create());
  TRY_PLAIN(linux::epoll_add(either.get(), timer.get(), EPOLLIN, 0));
  if (client.fd >= 0) TRY_PLAIN(linux::epoll_add(either.get(), client.fd, EPOLLIN, 1));
  while (true) {
    auto ended = end.wait(Cancel{either.get()});
    if (ended.ok()) return {};
    if (ended.error().kind() != ErrorKind::timeout) return std::move(ended).error();
    std::array<linux::PollEntry, 1> gone{{{client.fd, POLLIN, 0}}};
    TRY_PLAIN(linux::poll(gone, 0));
    if (client.fd >= 0 && gone[0].revents != 0) return Error(ErrorKind::unavailable, "the client left", ECANCELED);
    TRY_PLAIN(linux::epoll_remove(either.get(), timer.get()));
    auto info = build_.engine.inspect(build_.caller, id, false);
    if (!info.ok()) return {};  // somebody has removed it
    if (info->state == engine::State::created) return Error(ErrorKind::timeout, "nobody started it in time");
  }
}

}  // namespace caisson::build
