// recover: containers that an earlier daemon started, and monitors that have to be replaced.
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "runtime/launch.hpp"
#include "runtime/oci_runtime_parts.hpp"

namespace caisson::runtime {

namespace detail {

void reopen_streams(Container& container) {
  if (container.terminal) return;
  auto reopen = [&](int number, UniqueFd& into) {
    auto held = linux::open(concat("/proc/", container.pid, "/fd/", number), O_PATH);
    if (!held) return;
    auto status = linux::fstat(held->get());
    if (!status || (status->st_mode & S_IFMT) != S_IFIFO) return;  // whatever else the program put there is not ours
    if (auto opened = linux::reopen(held->get(), O_RDONLY | O_NONBLOCK)) into = std::move(opened).value();
  };
  reopen(1, container.output);
  reopen(2, container.error);
}

Result<Recovered> OciRuntime::recover(RecoverRequest request) {
  const std::string where = concat("container ", request.id);
  PlanOptions options;
  options.clamp_rlimits = true;
  options.has_user_namespace = request.spec.find_namespace(NamespaceType::user) != nullptr;
  options.has_network_namespace = request.spec.find_namespace(NamespaceType::network) != nullptr;
  auto container = std::make_shared<Container>();
  container->id = request.id;
  container->run_dir = request.run_dir;
  container->log = request.log;
  container->pid = request.pid;
  container->start_time = request.start_time;
  container->is_recovering = true;
  // Only what exec and a new monitor need; a spec that this build would refuse must not lose a running container.
  if (auto plan = compute_plan(request.spec, options_.starter->facts(), options)) remember(*container, *plan, request.spec);

  Recovered out;
  auto connected = linux::unix_connect(concat(request.run_dir, "/", monitor_socket_name), linux::UnixType::seqpacket);
  std::unique_lock lock(mutex_);
  containers_[request.id] = container;
  bool adopting = false;
  if (connected) {
    HelloBody hello;
    hello.build = build_id();
    auto sent = send_body(connected->get(), MessageKind::hello, next_request_++, hello);
    if (sent) TRY_PLAIN(watch(container, std::move(connected).value()));
    else connected = std::move(sent).error();
  }
  if (connected) {
    // One that dies before it has told the state is as good as none.
    auto told = wait_for_state(lock, *container);
    if (!told && container->control) {
      containers_.erase(request.id);
      return std::move(told).error().in(where);
    }
    if (!told) {
      connected = std::move(told).error();
      container->failure.reset();
    }
  }
  container->is_recovering = false;
  if (!connected) {
    // No monitor. Either the container has ended and left a note, or it runs on without one.
    if (auto note = read_exit_file(request.run_dir)) {
      container->exit = to_exit_status(*note);
      out.exit = container->exit;
      return out;
    }
    auto started = linux::process_start_time(request.pid);
    auto pidfd = linux::pidfd_open(request.pid);
    if (!started || !pidfd || *started != request.start_time || linux::pidfd_has_ended(pidfd->get()).value_or(true)) {
      containers_.erase(request.id);
      return Error(ErrorKind::not_found, concat(where, " is gone and left no exit status"));
    }
    container->pidfd = std::move(pidfd).value();
    reopen_streams(*container);
    container->running = true;
    adopting = true;
    begin_adoption(container);
  }
  auto outcome = wait_for_state(lock, *container);
  if (!outcome) {
    containers_.erase(request.id);
    return std::move(outcome).error().in(where);
  }
  if (container->refusal) TRY(watch_the_end(container, request), where);
  const StateBody state = container->state;
  if (!adopting && !state.running && !state.exit) {
    // It has ended but still drains its output: the exit event will come on this connection.
    out.running = true;
  } else {
    out.running = container->running;
  }
  out.pid = container->pid;
  out.monitor_replaced = adopting;
  if (state.exit) {
    container->exit = to_exit_status(*state.exit);
    out.exit = container->exit;
    if (container->control) ignore(send_body(container->control.get(), MessageKind::exit_recorded, 0, *state.exit));
  }
  // It may have ended since that state was told; the observer has heard it, and the monitor that it is recorded.
  if (!out.running && !out.exit) out.exit = container->exit;
  for (const auto& exec : state.finished_execs) {
    out.finished_execs.emplace_back(exec.exec_id, to_exit_status(exec));
    if (container->control) ignore(send_body(container->control.get(), MessageKind::exec_recorded, 0, exec));
  }
  out.running_execs = state.running_execs;
  const std::string cgroup_path = container->cgroup_path;
  lock.unlock();
  if (out.running && !cgroup_path.empty())
    if (auto cgroup = linux::Cgroup::open(layout_, cgroup_path))
      if (auto frozen = cgroup->freeze_state()) out.paused = *frozen != linux::FreezeState::thawed;
  return out;
}

// What holds for every version: a monitor answers hello with a state, a container's pid and cgroup are those of its record, and a monitor ends
// once its container has ended, the exit file is written, and nobody who has said hello is connected.
Status OciRuntime::watch_the_end(const std::shared_ptr<Container>& container, const RecoverRequest& request) {
  forget_connection(*container);
  auto connected = linux::unix_connect(concat(request.run_dir, "/", monitor_socket_name), linux::UnixType::seqpacket);
  if (!connected) return std::move(connected).error().in("monitor");
  auto started = linux::process_start_time(request.pid);
  auto pidfd = linux::pidfd_open(request.pid);
  if (started && pidfd && *started == request.start_time) container->pidfd = std::move(pidfd).value();
  container->running = true;
  return watch(container, std::move(connected).value());
}

void OciRuntime::begin_adoption(const std::shared_ptr<Container>& container) {
  container->being_adopted = true;
  ++container->adoptions;
  container->refusal.reset();  // a monitor of this build takes over
  container->state_arrived = false;
  container->failure.reset();
  auto give_up = [&](Error error) {
    container->being_adopted = false;
    container->failure = std::move(error);
    changed_.notify_all();
  };
  auto pair = linux::socketpair(linux::UnixType::seqpacket);
  if (!pair) return give_up(std::move(pair).error());
  MonitorBody body;
  body.id = container->id;
  body.run_dir = container->run_dir;
  body.log_path = container->log.path;
  body.log_max_size_bytes = container->log.max_size_bytes;
  body.log_max_files = container->log.max_files;
  body.log_attributes = container->log.attributes;
  body.terminal = container->terminal;
  body.stdin_once = container->stdin_once;
  body.cgroup_path = container->cgroup_path;
  body.exec_namespaces = container->exec_namespaces;
  body.in_user_namespace = container->in_user_namespace;
  body.own_pid_namespace = container->own_pid_namespace;
  body.id_map = container->id_map;
  body.pid = container->pid;
  body.start_time = container->start_time;
  body.has_stdin = static_cast<bool>(container->input);
  body.has_stdout = static_cast<bool>(container->output);
  body.has_stderr = static_cast<bool>(container->error);
  std::vector<int> fds{pair->second.get(), container->pidfd.get()};
  for (const UniqueFd* fd : {&container->input, &container->output, &container->error})
    if (*fd) fds.push_back(fd->get());
  const std::uint64_t number = next_request_++;
  starting_[number] = container->id;
  auto watched = watch(container, std::move(pair->first));
  if (!watched) return give_up(std::move(watched).error());
  auto sent = tell_launcher(MessageKind::adopt, number, body, fds);
  if (!sent) {
    forget_connection(*container);
    give_up(std::move(sent).error());
  }
}

}  // namespace detail

}  // namespace caisson::runtime
