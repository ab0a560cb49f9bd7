// make_namespaces and start: from a spec to a running container.
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "runtime/launch.hpp"
#include "runtime/oci_runtime_parts.hpp"

namespace caisson::runtime {

namespace detail {

Result<Runtime::NamespacePair> OciRuntime::make_namespaces(const linux::IdMap& id_map, bool with_network, int owner) {
  MakeNamespacesBody body;
  body.id_map = id_map;
  body.with_network = with_network;
  body.with_owner = owner >= 0;
  auto reply =
      ask_launcher(MessageKind::make_namespaces, body, body.with_owner ? std::span<const int>(&owner, 1) : std::span<const int>());
  TRY_PLAIN(std::move(reply.status));
  const bool with_user = !id_map.empty() && !body.with_owner;
  const std::size_t wanted = (with_user ? 1U : 0U) + (with_network ? 1U : 0U);
  if (reply.fds.size() != wanted) return Error(ErrorKind::internal, "the launcher sent the wrong number of namespaces");
  NamespacePair pair;
  if (with_network) pair.network = std::move(reply.fds.back());
  if (with_user) pair.user = std::move(reply.fds.front());
  return pair;
}

ClientBody to_body(const AttachRequest& request) {
  ClientBody body;
  body.pending_input = request.pending_input;
  body.with_stdin = request.with_stdin;
  body.with_stdout = request.with_stdout;
  body.with_stderr = request.with_stderr;
  body.framed = request.framed;
  body.detach_keys = request.detach_keys;
  return body;
}

void remember(Container& container, const LaunchPlan& plan, const Spec& spec) {
  container.shared = SharedSettings::of(spec);
  container.exec_namespaces = exec_namespaces(plan);
  container.in_user_namespace = plan.in_user_namespace;
  container.own_pid_namespace = (plan.clone_flags & CLONE_NEWPID) != 0;
  container.id_map = plan.id_map;
  container.terminal = plan.process.terminal;
  container.cgroup_path = plan.cgroups_path;
}

namespace {
/// The monitor's `started`. None when it did not come: why, the event thread finds out from the connection's end or the launcher's answer.
std::optional<ReceivedMessage> receive_first(int control) {
  constexpr int limit_ms = static_cast<int>(std::chrono::milliseconds(answer_limit).count());
  if (!linux::wait_readable(control, limit_ms).value_or(false)) return std::nullopt;
  auto message = receive_body(control);  // an end of the connection stays there to be seen again
  if (!message || message->closed) return std::nullopt;
  return std::move(*message);
}
}  // namespace

void OciRuntime::take_first(Container& container, ReceivedMessage message) {
  auto body = read_body<StateBody>(message.body, "started");
  if (!body) return;
  if (!body->error) take_state(container, *body, std::move(message.fds));
  container.state = std::move(*body);
  container.state_arrived = true;
}

Result<Started> OciRuntime::start(StartRequest request) {
  const std::string where = concat("container ", request.id);
  PlanOptions options;
  options.clamp_rlimits = true;
  options.use_init = request.use_init;
  options.rootfs = request.rootfs;
  options.has_user_namespace = static_cast<bool>(request.user_namespace);
  options.has_network_namespace = static_cast<bool>(request.network_namespace);
  const auto plan = TRY_PLAIN(compute_plan(request.spec, options_.starter->facts(), options));

  StartBody body;
  body.monitor.id = request.id;
  body.monitor.run_dir = request.run_dir;
  body.monitor.log_path = request.log.path;
  body.monitor.log_max_size_bytes = request.log.max_size_bytes;
  body.monitor.log_max_files = request.log.max_files;
  body.monitor.log_attributes = request.log.attributes;
  body.monitor.terminal = plan.process.terminal;
  body.monitor.open_stdin = request.open_stdin;
  body.monitor.stdin_once = request.stdin_once;
  auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), where);
  std::vector<int> fds{pair.second.get()};
  if (request.user_namespace) fds.push_back(request.user_namespace.get());
  if (request.network_namespace) fds.push_back(request.network_namespace.get());
  body.has_user_namespace = static_cast<bool>(request.user_namespace);
  body.has_network_namespace = static_cast<bool>(request.network_namespace);
  body.plan = encode(plan);
  UniqueFd memfd;
  constexpr std::size_t inline_limit = std::size_t{96} * 1024;
  if (body.plan.size() > inline_limit) {
    memfd = TRY(linux::sealed_memfd("plan", body.plan), where);
    fds.push_back(memfd.get());
    body.plan.clear();
    body.plan_in_memfd = true;
  }
  for (const auto& client : request.attached) {
    body.monitor.clients.push_back(to_body(client));
    fds.push_back(client.client.get());
  }

  auto container = std::make_shared<Container>();
  container->id = request.id;
  container->run_dir = request.run_dir;
  container->log = request.log;
  container->stdin_once = request.stdin_once;
  remember(*container, plan, request.spec);

  std::unique_lock lock(mutex_);
  auto known = containers_.find(request.id);
  if (known != containers_.end() && (known->second->running || !known->second->exit))
    return Error(ErrorKind::conflict, concat(where, " is already running"));
  containers_[request.id] = container;
  auto undo = [&](Error error) -> Error {
    forget_connection(*container);
    containers_.erase(request.id);
    return error;
  };
  container->control = std::move(pair.first);
  const std::uint64_t number = next_request_++;
  starting_[number] = request.id;
  auto sent = tell_launcher(MessageKind::start, number, body, fds);
  pair.second.reset();
  if (!sent) {
    starting_.erase(number);
    return undo(std::move(sent).error());
  }
  lock.unlock();
  // Nobody else knows the connection yet: taken here, the first message needs no event thread to wake this one.
  auto first = receive_first(container->control.get());
  lock.lock();
  if (first) take_first(*container, std::move(*first));
  auto watched = watch(container, std::move(container->control));
  if (!watched && container->pidfd) ignore(linux::pidfd_send_signal(container->pidfd.get(), SIGKILL));  // it must not run on unseen
  auto outcome = watched ? wait_for_state(lock, *container) : std::move(watched);
  starting_.erase(number);
  if (!outcome) return undo(std::move(outcome).error());
  Started started;
  started.pid = container->pid;
  started.start_time = container->start_time;
  started.warnings = plan.warnings;
  return started;
}

}  // namespace detail

}  // namespace caisson::runtime
