// /exec: further programs in a running container.
#include "api/create_body.hpp"
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "api/stream_frames.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::api {

namespace {

/// [height, width] of the request, when the client has a terminal.
Status read_console(const JsonView& body, runtime::ConsoleSize& size) {
  std::vector<std::uint16_t> numbers;
  JsonView view = TRY_PLAIN(body.at("ConsoleSize"));
  TRY_PLAIN(view.read(numbers));
  if (numbers.empty()) return {};
  if (numbers.size() != 2) return view.error("want [height, width]");
  size.height = numbers[0];
  size.width = numbers[1];
  return {};
}

/// The client was told 101 already, so Docker's CLI reads the reason from the stream and the code from inspect.
void tell_failure(int client, const Error& error, bool framed) {
  std::string text = concat(error.text(), framed ? "\n" : "\r\n");
  std::string bytes;
  if (framed)
    append_frame(bytes, StreamId::standard_output, text);
  else
    bytes = std::move(text);
  ignore(linux::send_all(client, bytes));  // the client may have left
}

Status start_attached(Request& request, const engine::ExecInfo& exec, engine::ExecStart options) {
  const bool framed = !exec.spec.tty;
  auto taken = TRY_PLAIN(hijack_stream(request, framed));
  UniqueFd spare = TRY(linux::dup(taken.socket.get()), "exec start");
  auto& attach = options.attached.emplace();
  attach.client = std::move(taken.socket);
  attach.pending_input = std::move(taken.pending);
  attach.with_stdin = exec.spec.attach_stdin;
  attach.with_stdout = exec.spec.attach_stdout;
  attach.with_stderr = exec.spec.attach_stderr;
  attach.framed = framed;
  attach.detach_keys = exec.spec.detach_keys;
  auto started = request.engine.start_exec(request.caller, exec.id, std::move(options));
  if (started.ok()) return {};
  tell_failure(spare.get(), started.error(), framed);
  return std::move(started).error();
}

}  // namespace

Status create_exec(Request& request) {
  auto document = TRY_PLAIN(request.read_json());
  JsonView body(document);
  engine::ExecSpec spec;
  TRY_PLAIN(body.read("Cmd", spec.cmd));
  TRY_PLAIN(body.read("Env", spec.env));
  TRY_PLAIN(body.read("WorkingDir", spec.working_dir));
  TRY_PLAIN(body.read("User", spec.user));
  TRY_PLAIN(body.read("Tty", spec.tty));
  TRY_PLAIN(body.read("Privileged", spec.privileged));
  TRY_PLAIN(body.read("AttachStdin", spec.attach_stdin));
  TRY_PLAIN(body.read("AttachStdout", spec.attach_stdout));
  TRY_PLAIN(body.read("AttachStderr", spec.attach_stderr));
  std::string keys;
  TRY_PLAIN(body.read("DetachKeys", keys));
  spec.detach_keys = TRY_PLAIN(parse_detach_keys(keys));
  TRY_PLAIN(read_console(body, spec.console_size));
  if (spec.cmd.empty()) return Error(ErrorKind::invalid, "No exec command specified");
  spec.client_data = keys;
  auto id = TRY_PLAIN(request.engine.create_exec(request.caller, request.name, std::move(spec)));
  return request.reply_json(201, json::object{{"Id", id}});
}

Status start_exec(Request& request) {
  auto document = TRY_PLAIN(request.read_optional_json());
  JsonView body(document);
  engine::ExecStart options;
  bool tty = false;
  TRY_PLAIN(body.read("Detach", options.detach));
  TRY_PLAIN(body.read("Tty", tty));  // repeats what create said, and create decides
  TRY_PLAIN(read_console(body, options.console_size));
  auto exec = TRY_PLAIN(request.engine.inspect_exec(request.caller, request.name));
  if (!options.detach) return start_attached(request, exec, std::move(options));
  auto started = request.engine.start_exec(request.caller, exec.id, std::move(options));
  if (!started.ok()) {
    const auto kind = started.error().kind();
    // What the kernel refuses the program, not the policy the caller.
    const bool is_programs = kind == ErrorKind::denied && started.error().error_number() != 0;
    return request.reply_error(is_programs || kind == ErrorKind::not_found ? 400 : http_status(kind), started.error().text(), started.error().hint());
  }
  return request.reply_empty(200);
}

Status inspect_exec(Request& request) {
  auto exec = TRY_PLAIN(request.engine.inspect_exec(request.caller, request.name));
  const auto& spec = exec.spec;
  std::vector<std::string> arguments(spec.cmd.begin() + (spec.cmd.empty() ? 0 : 1), spec.cmd.end());
  json::object process{{"tty", spec.tty},
                       {"entrypoint", spec.cmd.empty() ? "" : spec.cmd.front()},
                       {"arguments", texts(arguments)},
                       {"privileged", spec.privileged}};
  if (!spec.user.empty()) process["user"] = spec.user;
  return request.reply_json(200, json::object{{"ID", exec.id},
                                              {"Running", exec.running},
                                              {"ExitCode", exec.exit_code ? json::value(*exec.exit_code) : json::value(nullptr)},
                                              {"ProcessConfig", std::move(process)},
                                              {"OpenStdin", spec.attach_stdin},
                                              {"OpenStderr", spec.attach_stderr},
                                              {"OpenStdout", spec.attach_stdout},
                                              {"CanRemove", exec.exit_code.has_value()},
                                              {"ContainerID", exec.container_id},
                                              {"DetachKeys", spec.client_data},
                                              {"Pid", exec.pid}});
}

}  // namespace caisson::api
