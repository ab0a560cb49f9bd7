// exec, attach and resize: clients and further programs in a container that runs.
#include "base/ids.hpp"
#include "base/strings.hpp"
#include "engine/capabilities.hpp"
#include "engine/local_engine.hpp"
#include "engine/log_reader.hpp"
#include "linux/file.hpp"

namespace caisson::engine {

namespace {
constexpr int exit_not_executable = 126;
constexpr int exit_not_found = 127;

Status check_running(const Record& record) {
  if (record.info.state == State::paused)
    return Error(ErrorKind::conflict, concat("Container ", record.info.id, " is paused, unpause the container before exec"));
  if (record.info.state != State::running) return Error(ErrorKind::conflict, concat("container ", record.info.id, " is not running"));
  return {};
}

std::string command_text(const ExecSpec& spec) { return join(spec.cmd, " "); }

/// Replays the log into a client's stream, in the client's own framing, before it is connected.
class ReplaySink final : public LogSink {
 public:
  ReplaySink(int fd, bool framed) : fd_(fd), framed_(framed) {}
  Status write(const LogRecord& record) override {
    std::string bytes;
    if (framed_) {
      // docker's frame: stream number, three zero bytes, length in network order.
      auto size = static_cast<std::uint32_t>(record.text.size());
      bytes = {record.stream == LogStream::standard_output ? '\1' : '\2', '\0', '\0', '\0'};
      for (int shift : {24, 16, 8, 0}) bytes += static_cast<char>((size >> shift) & 0xff);
    }
    bytes += record.text;
    return linux::write_all(fd_, bytes);
  }
  Status flush() override { return {}; }

 private:
  int fd_;
  bool framed_;
};
}  // namespace

Status LocalEngine::attach(const Caller& caller, const std::string& name, AttachOptions options) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_attach, name));
  auto record = container->snapshot();
  const auto& spec = record->info.spec;
  auto& request = options.request;
  request.framed = !spec.tty && !options.raw;
  if (record->info.state == State::paused)
    return Error(ErrorKind::conflict, concat("container ", container->id, " is paused, unpause the container before attach"));
  if (record->info.state == State::restarting)
    return Error(ErrorKind::conflict, concat("container ", container->id, " is restarting, wait until the container is running"));
  auto connect = [&]() -> Status {
    auto fill = std::exchange(options.connect, nullptr);
    return fill ? fill(request) : Status{};
  };
  if (options.logs) {
    TRY(connect(), "attach");
    LogOptions all;
    all.standard_output = request.with_stdout;
    all.standard_error = request.with_stderr;
    ReplaySink sink(request.client.get(), request.framed);
    std::string path = log_path_of(*record);
    if (has_readable_log(spec)) TRY(read_log(path, all, sink, {}, {}), "attach: replay the log");
  }
  if (!options.stream) return connect();
  if (!spec.open_stdin) request.with_stdin = false;
  publish(*record, "attach");
  std::unique_lock lock(container->operation);  // a start is under way or not, nothing in between
  if (container->removed) return Error(ErrorKind::not_found, concat("No such container: ", name));
  TRY(connect(), "attach");
  if (container->snapshot()->info.state == State::running) return runtime_->attach(container->id, std::move(request));
  container->keep_client(std::move(request));
  return {};
}

Status LocalEngine::resize(const Caller& caller, const std::string& name, runtime::ConsoleSize size) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_resize, name));
  auto record = container->snapshot();
  if (record->info.state != State::running) return Error(ErrorKind::conflict, concat("container ", container->id, " is not running"));
  TRY(runtime_->resize(container->id, "", size), concat("resize container ", container->id.substr(0, 12)));
  publish(*record, "resize", {{"height", concat(size.height)}, {"width", concat(size.width)}});
  return {};
}

Result<std::string> LocalEngine::create_exec(const Caller& caller, const std::string& name, ExecSpec spec) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_exec, name));
  auto record = container->snapshot();
  TRY_PLAIN(check_running(*record));
  if (spec.cmd.empty()) return Error(ErrorKind::invalid, "No exec command specified");
  if (!spec.working_dir.empty() && !spec.working_dir.starts_with('/'))
    return Error(ErrorKind::invalid, concat("exec: working directory \"", spec.working_dir, "\": must be an absolute path"));
  for (const auto& setting : spec.env)
    if (setting.empty() || setting[0] == '=') return Error(ErrorKind::invalid, concat("invalid environment variable: ", setting));
  if (auto judged = check_exec(role_of(caller), spec, record->info.spec); !judged.ok()) return refuse(caller, Verb::container_exec, name, container->id, judged.error().text()).error();
  ExecInfo exec;
  exec.id = random_id();
  exec.container_id = container->id;
  exec.spec = std::move(spec);
  publish(*record, concat("exec_create: ", command_text(exec.spec)), {{"execID", exec.id}});
  execs_.add(exec);
  return exec.id;
}

Result<runtime::ExecRequest> LocalEngine::plan_exec(const Record& record, const ExecInfo& exec) {
  SpecInput input{.info = record.info};
  input.default_apparmor = apparmor_default_;
  const auto& spec = record.info.spec;
  bool own_user = !exec.spec.user.empty();
  // docker: the container's --group-add applies to its own user only.
  input.user = TRY_PLAIN(resolve_container_user(record.info, own_user ? exec.spec.user : spec.user, own_user ? std::vector<std::string>{} : spec.groups));
  input.id_map = ranges_.map_of(record.info.first_host_id);
  input.link_env = link_settings(record.info);
  runtime::ExecRequest request;
  request.exec_id = exec.id;
  request.process = TRY_PLAIN(build_exec_process(input, exec.spec));
  request.privileged = exec.spec.privileged;
  return request;
}

Status LocalEngine::start_exec(const Caller& caller, const std::string& exec_id, ExecStart options) {
  auto known = TRY_PLAIN(execs_.find(exec_id));
  auto container = TRY_PLAIN(find_for(caller, Verb::container_exec, known.container_id));
  auto record = container->snapshot();
  TRY_PLAIN(check_running(*record));
  auto exec = TRY_PLAIN(execs_.claim(exec_id));
  if (options.console_size.height != 0) exec.spec.console_size = options.console_size;

  auto launch = [&]() -> Result<pid_t> {
    auto request = TRY_PLAIN(plan_exec(*record, exec));
    request.with_stdin = exec.spec.attach_stdin && !options.detach;
    if (!options.detach && options.attached) {
      request.attached = std::move(options.attached);
      request.attached->framed = !exec.spec.tty;
      request.attached->with_stdin = exec.spec.attach_stdin;
      request.attached->with_stdout = exec.spec.attach_stdout;
      request.attached->with_stderr = exec.spec.attach_stderr;
      request.attached->detach_keys = exec.spec.detach_keys;
    }
    return runtime_->exec(container->id, std::move(request));
  };
  publish(*record, concat("exec_start: ", command_text(exec.spec)), {{"execID", exec_id}});  // before it can end, so that events keep their order
  auto pid = launch();
  if (!pid.ok()) {
    execs_.finished(exec_id, pid.error().kind() == ErrorKind::not_found ? exit_not_found : exit_not_executable);
    return std::move(pid).error().in(concat("exec in container ", container->id.substr(0, 12)));
  }
  execs_.started(exec_id, *pid);
  return {};
}

Result<ExecInfo> LocalEngine::inspect_exec(const Caller& caller, const std::string& exec_id) {
  TRY_PLAIN(permit_verb(caller, Verb::container_inspect, exec_id));
  auto exec = TRY_PLAIN(execs_.find_settled(exec_id));
  // The container may be gone, and its programs are told of a little longer: then they are their creator's no more, and told to whoever sees all.
  if (role_of(caller).scope.is_everything()) return exec;
  auto permitted = find_for(caller, Verb::container_inspect, exec.container_id);
  if (!permitted.ok()) return std::move(permitted).error();
  return exec;
}

Status LocalEngine::resize_exec(const Caller& caller, const std::string& exec_id, runtime::ConsoleSize size) {
  TRY_PLAIN(permit_verb(caller, Verb::container_resize, exec_id));
  auto exec = TRY_PLAIN(execs_.find(exec_id));
  auto container = TRY_PLAIN(find_for(caller, Verb::container_resize, exec.container_id));
  if (!exec.running) return Error(ErrorKind::conflict, concat("exec ", exec_id, " is not running"));
  return runtime_->resize(container->id, exec_id, size);
}

void LocalEngine::exec_exited(const std::string& id, const std::string& exec_id, const runtime::ExitStatus& status) {
  execs_.finished(exec_id, status.code);
  if (auto container = registry_.find_id(id))
    publish(*container->snapshot(), "exec_die", {{"execID", exec_id}, {"exitCode", concat(status.code)}});
  health_checks_.exec_ended(id, exec_id, status.code);
}

}  // namespace caisson::engine
