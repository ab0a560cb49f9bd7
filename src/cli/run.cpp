// run, create and start: making and starting containers, attached or not.
#include "base/strings.hpp"
#include "cli/attached.hpp"
#include "cli/commands.hpp"
#include "cli/create_body.hpp"
#include "cli/registry.hpp"
#include "cli/request.hpp"
#include "cli/suggest.hpp"
#include "linux/file.hpp"
#include "linux/terminal.hpp"

namespace caisson::cli {

namespace {

constexpr int launch_failed = 125;
constexpr int removal_timeout_ms = 10'000;

struct Created {
  std::string id;
};

std::string with_tag(std::string_view image) {
  bool has_tag = image.find('@') != std::string_view::npos || split_last(image, '/').after.find(':') != std::string_view::npos ||
                 (image.find('/') == std::string_view::npos && image.find(':') != std::string_view::npos);
  return has_tag ? std::string(image) : concat(image, ":latest");
}

Error missing_image(Session& session, std::string_view image, const Error& reason) {
  if (auto near = suggest_name(session, "images", image); !near.empty()) return Error(reason.kind(), reason.text()).with_hint(concat("did you mean '", near, "'?"));
  return Error(reason.kind(), reason.text())
      .with_hint(concat("make one with 'caisson image bootstrap debian:bookworm --tag ", image, "', or load one with 'caisson load -i FILE'"));
}

// Exclusive from the start, so that two callers cannot both believe that the file is theirs.
class CidFile {
 public:
  static Result<CidFile> create(std::string path) {
    CidFile file;
    if (path.empty()) return file;
    auto opened = linux::open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (!opened.ok()) {
      if (opened.error().error_number() == EEXIST)
        return Error(ErrorKind::conflict, concat("container ID file found, make sure the other container isn't running or delete ", path));
      return Error(opened.error().kind(), concat("failed to create the container ID file: ", opened.error().text()));
    }
    file.path_ = std::move(path);
    file.fd_ = std::move(opened).value();
    return file;
  }
  CidFile(CidFile&& other) noexcept : path_(std::exchange(other.path_, "")), fd_(std::move(other.fd_)) {}
  CidFile& operator=(CidFile&&) = delete;
  CidFile(const CidFile&) = delete;
  CidFile& operator=(const CidFile&) = delete;
  /// A file without an id in it is removed again.
  ~CidFile() {
    if (!path_.empty()) ignore(linux::unlink(path_));
  }
  Status write(std::string_view id) {
    if (path_.empty()) return {};
    TRY(linux::write_all(fd_.get(), id), concat("write the container ID file ", path_));
    path_.clear();
    return {};
  }

 private:
  CidFile() = default;
  std::string path_;
  UniqueFd fd_;
};

Status check_pull(const Invocation& invocation) {
  std::string_view policy = invocation.text("pull");
  if (policy == "missing" || policy == "never" || policy == "always") return {};
  return Error(ErrorKind::invalid, concat("invalid pull option: '", policy, "': must be one of \"always\", \"missing\" or \"never\""));
}

Status pull_for(Session& session, const Invocation& invocation) {
  return pull(session, {.name = invocation.word(0), .platform = std::string(invocation.text("platform")), .is_quiet = invocation.flag("quiet")});
}

// Everything that can be refused without asking the daemon.
Result<CreateRequest> prepare(const Invocation& invocation, bool detach) {
  TRY_PLAIN(check_pull(invocation));
  return build_create(invocation, detach);
}

Result<Created> create(Session& session, const Invocation& invocation, CreateRequest request) {
  CidFile cid_file = TRY_PLAIN(CidFile::create(std::string(invocation.text("cidfile"))));
  if (invocation.flag("tty") && session.out().is_terminal())
    if (auto size = linux::window_size(1); size.ok())  // so that the program starts with the right size
      request.body["HostConfig"].get_object()["ConsoleSize"] = json::array{size->rows, size->columns};
  Query query;
  query.add_if(!request.name.empty(), "name", request.name).add_if(!request.platform.empty(), "platform", request.platform);
  json::value body(std::move(request.body));
  if (invocation.text("pull") == "always") TRY_PLAIN(pull_for(session, invocation));
  auto answer = session.post("/containers/create" + query.text(), &body);
  bool no_image = !answer.ok() && answer.error().kind() == ErrorKind::not_found && answer.error().text().find("o such image") != std::string::npos;
  if (no_image && invocation.text("pull") == "missing") {
    session.err().line(concat("Unable to find image '", with_tag(invocation.word(0)), "' locally"));
    TRY_PLAIN(session.err().flush());
    auto pulled = pull_for(session, invocation);
    if (!pulled.ok()) return missing_image(session, invocation.word(0), pulled.error());
    answer = session.post("/containers/create" + query.text(), &body);
  } else if (no_image) {
    return missing_image(session, invocation.word(0), answer.error());
  }
  if (!answer.ok()) return std::move(answer).error();
  JsonView view(*answer);
  Created created;
  TRY_PLAIN(view.read("Id", created.id));
  std::vector<std::string> warnings;
  TRY_PLAIN(view.read("Warnings", warnings));
  for (const auto& warning : warnings) session.err().line(concat("WARNING: ", warning));
  TRY_PLAIN(session.err().flush());
  TRY_PLAIN(cid_file.write(created.id));
  return created;
}

// docker prefixes start errors of run with its own name; scripts match what follows.
int report_start_error(Session& session, const Error& error) {
  print_error(session.err(), Error(error).in("caisson"));
  return exit_code_of_start_error(error.text());
}

// After the stream has ended: how did it end, and with which code?
Result<int> conclude(Session& session, const PumpResult& result, ExitWatch& watch) {
  if (result.end == StreamEnd::detached) {
    TRY_PLAIN(session.out().flush());
    return 0;
  }
  if (result.end == StreamEnd::interrupted) return 128 + result.signal;
  return watch.wait();
}

Result<int> run_attached(Session& session, const Invocation& invocation, const std::string& id) {
  auto wanted = invocation.list("attach");
  auto wants = [&](std::string_view name, bool otherwise) {
    if (wanted.empty()) return otherwise;
    for (const auto& stream : wanted)
      if (lower(stream) == name) return true;
    return false;
  };
  bool in = wants("stdin", invocation.flag("interactive"));
  AttachSettings settings;
  settings.resize_path = object_path("containers", id, "resize");
  settings.kill_path = object_path("containers", id, "kill");
  settings.tty = invocation.flag("tty");
  settings.takes_input = in;
  settings.passes_signals = invocation.flag("sig-proxy");
  settings.detach_keys = invocation.text("detach-keys");

  auto [stream, watch] = TRY_PLAIN(watch_container(session, id, attach_target(id, in, wants("stdout", true), wants("stderr", true), settings.detach_keys),
                                                   invocation.flag("rm") ? "removed" : "next-exit"));
  PumpResult result;
  {
    // The terminal is raw only inside this block.
    auto attached = TRY_PLAIN(Attached::create(session, std::move(settings)));
    auto started = session.call("POST", object_path("containers", id, "start"));
    if (!started.ok()) {
      { auto restore_terminal = std::move(attached); }
      if (invocation.flag("rm")) ignore(watch.wait_for(removal_timeout_ms));  // the daemon removes it; its name is free when we return
      return report_start_error(session, started.error());
    }
    attached.send_size();
    result = TRY_PLAIN(attached.run(stream, &watch));
  }
  return conclude(session, result, watch);
}

}  // namespace

Result<int> run_container(Session& session, const Invocation& invocation) {
  bool detach = invocation.flag("detach");
  bool reads_terminal = !detach && invocation.flag("tty") && invocation.flag("interactive") && invocation.list("attach").empty();
  if (reads_terminal) {
    auto terminal = require_terminal_input();
    if (!terminal.ok()) {
      print_error(session.err(), terminal.error());
      return 1;  // docker's code for this one
    }
  }
  CreateRequest request = TRY_PLAIN(prepare(invocation, detach));
  Created created = TRY_PLAIN(create(session, invocation, std::move(request)));
  if (!detach) return run_attached(session, invocation, created.id);
  auto started = session.call("POST", object_path("containers", created.id, "start"));
  if (!started.ok()) return report_start_error(session, started.error());
  session.out().line(created.id);
  return 0;
}

Result<int> create_container(Session& session, const Invocation& invocation) {
  auto request = prepare(invocation, false);
  if (!request.ok()) {  // docker's rule for create: wrong flags are 125, the daemon's refusals 1
    print_error(session, Error(request.error()).in("caisson"));
    return launch_failed;
  }
  Created created = TRY_PLAIN(create(session, invocation, std::move(request).value()));
  session.out().line(created.id);
  return 0;
}

namespace {

// What an inspect document says about attaching.
struct Target {
  std::string id;
  bool tty = false;
  bool open_stdin = false;
  bool auto_remove = false;
  bool running = false;
  bool paused = false;
  bool restarting = false;
};

Result<Target> inspect(Session& session, std::string_view name) {
  auto document = TRY_PLAIN(session.get(object_path("containers", name, "json")));
  JsonView view(document);
  Target target;
  TRY_PLAIN(view.read("Id", target.id));
  JsonView config = TRY_PLAIN(view.at("Config"));
  TRY_PLAIN(config.read("Tty", target.tty));
  TRY_PLAIN(config.read("OpenStdin", target.open_stdin));
  JsonView host = TRY_PLAIN(view.at("HostConfig"));
  TRY_PLAIN(host.read("AutoRemove", target.auto_remove));
  JsonView state = TRY_PLAIN(view.at("State"));
  TRY_PLAIN(state.read("Running", target.running));
  TRY_PLAIN(state.read("Paused", target.paused));
  TRY_PLAIN(state.read("Restarting", target.restarting));
  return target;
}

AttachSettings settings_for(const Target& target, const Invocation& invocation, bool takes_input, bool passes_signals) {
  AttachSettings settings;
  settings.resize_path = object_path("containers", target.id, "resize");
  settings.kill_path = object_path("containers", target.id, "kill");
  settings.tty = target.tty;
  settings.takes_input = takes_input;
  settings.passes_signals = passes_signals;
  settings.detach_keys = invocation.text("detach-keys");
  return settings;
}

Result<int> start_attached(Session& session, const Invocation& invocation) {
  if (invocation.words().size() > 1) return Error(ErrorKind::invalid, "you cannot start and attach multiple containers at once");
  Target target = TRY_PLAIN(inspect(session, invocation.word(0)));
  bool in = invocation.flag("interactive") && target.open_stdin;
  if (in && target.tty) TRY_PLAIN(require_terminal_input());
  auto [stream, watch] = TRY_PLAIN(watch_container(session, target.id, attach_target(target.id, in, true, true, invocation.text("detach-keys")),
                                                   target.auto_remove ? "removed" : "next-exit"));
  PumpResult result;
  {
    auto attached = TRY_PLAIN(Attached::create(session, settings_for(target, invocation, in, true)));
    auto started = session.call("POST", object_path("containers", target.id, "start"));
    if (!started.ok()) {
      { auto restore_terminal = std::move(attached); }
      print_error(session, started.error());
      return 1;
    }
    attached.send_size();
    result = TRY_PLAIN(attached.run(stream, &watch));
  }
  return conclude(session, result, watch);
}

}  // namespace

Result<int> start_containers(Session& session, const Invocation& invocation) {
  if (invocation.flag("attach") || invocation.flag("interactive")) return start_attached(session, invocation);
  std::vector<std::string> failed;
  for (const auto& name : invocation.words()) {
    auto started = session.call("POST", object_path("containers", name, "start"));
    if (started.ok()) {
      session.out().line(name);
    } else {
      TRY_PLAIN(session.out().flush());
      print_error(session, started.error());
      failed.push_back(name);
    }
  }
  if (failed.empty()) return 0;
  session.err().line(concat("Error: failed to start containers: ", join(failed, ", ")));
  return 1;
}

Result<int> attach_container(Session& session, const Invocation& invocation) {
  Target target = TRY_PLAIN(inspect(session, invocation.word(0)));
  auto refuse = [](std::string_view why) { return Error(ErrorKind::conflict, concat("cannot attach to a ", why)); };
  if (!target.running) return refuse("stopped container, start it first");
  if (target.paused) return refuse("paused container, unpause it first");
  if (target.restarting) return refuse("restarting container, wait until it is running");
  bool in = target.open_stdin && !invocation.flag("no-stdin");
  if (in && target.tty) TRY_PLAIN(require_terminal_input());
  auto watch = TRY_PLAIN(ExitWatch::open(session, target.id, ""));
  auto stream_client = TRY_PLAIN(session.connect());
  auto stream = TRY_PLAIN(session.hijack(std::move(stream_client), attach_target(target.id, in, true, true, invocation.text("detach-keys"))));
  PumpResult result;
  {
    auto attached = TRY_PLAIN(Attached::create(session, settings_for(target, invocation, in, invocation.flag("sig-proxy") && !target.tty)));
    attached.send_size();
    result = TRY_PLAIN(attached.run(stream, &watch));
  }
  return conclude(session, result, watch);
}

Result<int> exec_in_container(Session& session, const Invocation& invocation) {
  bool detach = invocation.flag("detach");
  bool tty = invocation.flag("tty");
  bool in = !detach && invocation.flag("interactive");
  if (in && tty) TRY_PLAIN(require_terminal_input());
  TRY_PLAIN(DetachKeys::parse(invocation.text("detach-keys")));
  json::value body(TRY_PLAIN(build_exec(invocation)));
  if (tty && session.out().is_terminal())
    if (auto size = linux::window_size(1); size.ok()) body.get_object()["ConsoleSize"] = json::array{size->rows, size->columns};
  auto answer = TRY_PLAIN(session.post(object_path("containers", invocation.word(0), "exec"), &body));
  std::string id;
  TRY_PLAIN(JsonView(answer).read("Id", id));
  json::value start(json::object{{"Detach", detach}, {"Tty", tty}});
  if (body.get_object().contains("ConsoleSize")) start.get_object()["ConsoleSize"] = body.get_object()["ConsoleSize"];
  if (detach) {
    TRY_PLAIN(session.post(object_path("exec", id, "start"), &start));
    return 0;
  }
  auto client = TRY_PLAIN(session.connect());
  PumpResult result;
  {
    AttachSettings settings;
    settings.resize_path = object_path("exec", id, "resize");
    settings.tty = tty;
    settings.takes_input = in;
    settings.detach_keys = invocation.text("detach-keys");
    auto attached = TRY_PLAIN(Attached::create(session, std::move(settings)));
    auto stream = TRY_PLAIN(session.hijack(std::move(client), object_path("exec", id, "start"), &start));
    attached.send_size();
    result = TRY_PLAIN(attached.run(stream, nullptr));
  }
  if (result.end == StreamEnd::detached) return 0;
  if (result.end == StreamEnd::interrupted) return 128 + result.signal;
  auto ended = TRY_PLAIN(session.get(object_path("exec", id, "json")));
  JsonView view(ended);
  bool running = false;
  std::optional<std::int64_t> code;
  TRY_PLAIN(view.read("Running", running));
  TRY_PLAIN(view.read("ExitCode", code));
  if (running && !code) return Error(ErrorKind::io, "the stream ended while the command still runs");
  return static_cast<int>(code.value_or(launch_failed));
}

}  // namespace caisson::cli
