// The daemon's side of launcher and monitors: connections, and requests matched to answers.
#include "runtime/oci_runtime_parts.hpp"

#include "linux/socket.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::runtime {

namespace detail {

OciRuntime::~OciRuntime() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    launcher_socket_.reset();  // the launcher ends with it; monitors go on
  }
  if (wake_) ignore(linux::eventfd_signal(wake_.get()));
  if (thread_.joinable()) thread_.join();
}

Status OciRuntime::setup() {
  layout_ = std::make_shared<const linux::CgroupLayout>(TRY_PLAIN(linux::detect_cgroup_layout()));
  memory_total_ = TRY_PLAIN(linux::total_memory_bytes());
  epoll_ = TRY_PLAIN(linux::epoll_create());
  wake_ = TRY_PLAIN(linux::eventfd());
  TRY_PLAIN(linux::epoll_add(epoll_.get(), wake_.get(), EPOLLIN, tag_wake));
  {
    std::unique_lock lock(mutex_);
    TRY_PLAIN(start_launcher());
  }
  thread_ = std::thread([this] { event_loop(); });
  HelloBody hello;
  hello.build = build_id();
  return ask_launcher(MessageKind::hello, hello, {}).status;
}

// --- launcher ------------------------------------------------------------------------------------------------------

Status OciRuntime::start_launcher() {
  auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), "launcher");
  launcher_ = TRY_PLAIN(options_.starter->launch(pair.second.get()));
  TRY_PLAIN(linux::epoll_add(epoll_.get(), pair.first.get(), EPOLLIN, tag_launcher));
  launcher_socket_ = std::move(pair.first);
  return {};
}

OciRuntime::Reply OciRuntime::wait_for(std::unique_lock<std::mutex>& lock, std::uint64_t request) {
  const bool answered = changed_.wait_for(lock, answer_limit, [&] { return pending_[request].done; });
  Pending pending = std::move(pending_[request]);
  pending_.erase(request);
  pending_owner_.erase(request);
  Reply reply;
  reply.answer = std::move(pending.answer);
  reply.fds = std::move(pending.fds);
  if (!answered) reply.status = Error(ErrorKind::timeout, "no answer within 60 s");
  else if (pending.error) reply.status = std::move(*pending.error);
  else if (reply.answer.error) reply.status = from_wire(*reply.answer.error);
  return reply;
}

// --- connections ---------------------------------------------------------------------------------------------------

Status OciRuntime::watch(const std::shared_ptr<Container>& container, UniqueFd control) {
  container->tag = next_tag_++;
  by_tag_[container->tag] = container;
  container->control = std::move(control);
  return linux::epoll_add(epoll_.get(), container->control.get(), EPOLLIN, container->tag);
}

void OciRuntime::forget_connection(Container& container) {
  by_tag_.erase(container.tag);
  for (auto& [request, owner] : pending_owner_) {
    if (owner != container.tag) continue;
    auto& pending = pending_[request];
    pending.done = true;
    // A monitor that has told the container's end ends too, and leaves what has come since unanswered.
    pending.error = container.running ? Error(ErrorKind::unavailable, concat("the monitor of ", container.id, " died")) : not_running(container.id);
  }
  container.control.reset();
  changed_.notify_all();
}

Result<std::shared_ptr<Container>> OciRuntime::find(const std::string& id) {
  auto found = containers_.find(id);
  if (found == containers_.end()) return no_container(id);
  return found->second;
}

void OciRuntime::take_state(Container& container, const StateBody& body, std::vector<UniqueFd> fds) {
  std::size_t next = 0;
  auto take = [&](bool present, UniqueFd& into) {
    if (present && next < fds.size()) into = std::move(fds[next++]);
  };
  take(body.has_pidfd, container.pidfd);
  take(body.has_stdin, container.input);
  take(body.has_stdout, container.output);
  take(body.has_stderr, container.error);
  container.pid = body.pid;
  container.start_time = body.start_time;
  container.terminal = body.terminal;
  container.running = body.running;
  if (!body.cgroup_path.empty()) container.cgroup_path = body.cgroup_path;
}

Status OciRuntime::wait_for_state(std::unique_lock<std::mutex>& lock, Container& container) {
  const bool arrived = changed_.wait_for(lock, answer_limit, [&] { return container.state_arrived || container.failure; });
  if (container.failure) return *container.failure;
  if (!arrived) return Error(ErrorKind::timeout, "the monitor did not answer within 60 s");
  if (container.state.error) return from_wire(*container.state.error);
  return {};
}

}  // namespace detail

Result<std::unique_ptr<Runtime>> create_oci_runtime(const OciOptions& options, RuntimeObserver& observer) {
  auto made = std::make_unique<detail::OciRuntime>(options, observer);
  TRY(made->setup(), "runtime");
  return std::unique_ptr<Runtime>(std::move(made));
}

}  // namespace caisson::runtime
