// The event thread: answers, exits, and what to do when a helper dies.
#include <array>

#include "linux/event.hpp"
#include "linux/process.hpp"
#include "runtime/oci_runtime_parts.hpp"

namespace caisson::runtime {

namespace detail {

void OciRuntime::event_loop() {
  std::array<linux::EpollEvent, 32> events;
  while (true) {
    auto count = linux::epoll_wait(epoll_.get(), events, -1);
    {
      std::lock_guard lock(mutex_);
      if (stopping_ || !count) return;
    }
    for (std::size_t i = 0; i < *count; ++i) {
      if (events[i].tag == tag_launcher) handle_launcher();
      else if (events[i].tag >= first_tag) handle_monitor(events[i].tag);
    }
  }
}

void OciRuntime::launcher_died() {
  // Its monitors live on, and the next request starts another. Starts that are under way go on when their monitor was forked already; of
  // another the connection ends now, which tells.
  launcher_socket_.reset();
  for (auto& [request, owner] : pending_owner_) {
    if (owner != tag_launcher) continue;
    pending_[request].done = true;
    pending_[request].error = Error(ErrorKind::unavailable, "the launcher died");
  }
  launcher_.pidfd.reset();
  changed_.notify_all();
}

void OciRuntime::handle_launcher() {
  std::unique_lock lock(mutex_);
  if (!launcher_socket_) return;
  auto received = receive_body(launcher_socket_.get());
  if (!received || received->closed) return launcher_died();
  if (received->head.kind == MessageKind::reaped) {
    auto body = read_body<ReapedBody>(received->body, "reaped");
    lock.unlock();
    if (body) orphan_reaped(*body);
    return;
  }
  if (received->head.kind != MessageKind::answer) return;
  auto answer = read_body<AnswerBody>(received->body, "answer");
  if (!answer) return;
  auto starting = starting_.find(received->head.request);
  if (starting != starting_.end()) {
    auto found = containers_.find(starting->second);
    if (answer->error && found != containers_.end()) found->second->failure = from_wire(*answer->error);
    if (answer->error && found != containers_.end()) found->second->being_adopted = false;
    starting_.erase(starting);
    changed_.notify_all();
    return;
  }
  auto pending = pending_.find(received->head.request);
  if (pending == pending_.end()) return;
  pending->second.done = true;
  pending->second.answer = std::move(answer).value();
  pending->second.fds = std::move(received->fds);
  changed_.notify_all();
}

void OciRuntime::handle_monitor(std::uint64_t tag) {
  std::shared_ptr<Container> container;
  Result<ReceivedMessage> received = ReceivedMessage{};
  {
    std::lock_guard lock(mutex_);
    auto found = by_tag_.find(tag);
    if (found == by_tag_.end()) return;
    container = found->second.lock();
    if (!container || !container->control) return;
    received = receive_body(container->control.get());
  }
  if (!received || received->closed) return monitor_gone(container);
  handle_event(container, std::move(received).value());
}

void OciRuntime::handle_event(const std::shared_ptr<Container>& container, ReceivedMessage message) {
  switch (message.head.kind) {
    case MessageKind::started:
    case MessageKind::state: {
      auto body = read_state(message.body);
      if (!body) {
        {
          std::lock_guard lock(mutex_);
          container->refusal = body.error();
          container->state_arrived = true;
          changed_.notify_all();
        }
        return observer_.monitor_replaced(container->id, std::move(body).error().in("exec, attach and resize are refused"));
      }
      bool replaced = false;
      Status outcome;
      {
        std::lock_guard lock(mutex_);
        if (body->error) {
          if (container->being_adopted) outcome = from_wire(*body->error);
        } else {
          take_state(*container, *body, std::move(message.fds));
        }
        replaced = container->being_adopted;
        container->being_adopted = false;
        container->adoptions = 0;
        container->state = *body;
        container->state_arrived = true;
        // A container that ended without a monitor: its parent, the launcher, may have told how before the new one asked.
        auto known = reaped_.find(container->pid);
        if (replaced && known != reaped_.end() && container->control) {
          ExitBody exit;
          exit.code = known->second;
          ignore(send_body(container->control.get(), MessageKind::exit_known, 0, exit));
          reaped_.erase(known);
        }
        changed_.notify_all();
      }
      if (replaced) observer_.monitor_replaced(container->id, outcome);
      return;
    }
    case MessageKind::answer: {
      auto answer = read_body<AnswerBody>(message.body, "answer");
      std::lock_guard lock(mutex_);
      auto pending = pending_.find(message.head.request);
      if (pending == pending_.end() || !answer) return;
      pending->second.done = true;
      pending->second.answer = std::move(answer).value();
      pending->second.fds = std::move(message.fds);
      changed_.notify_all();
      return;
    }
    case MessageKind::exited: {
      auto body = read_body<ExitBody>(message.body, "exited");
      if (body) container_over(container, *body);
      return;
    }
    case MessageKind::exec_exited: {
      auto body = read_body<ExitBody>(message.body, "exec_exited");
      if (!body) return;
      {
        std::lock_guard lock(mutex_);
        container->execs.erase(body->exec_id);
      }
      observer_.exec_exited(container->id, body->exec_id, to_exit_status(*body));
      std::lock_guard lock(mutex_);
      if (container->control) ignore(send_body(container->control.get(), MessageKind::exec_recorded, 0, *body));
      return;
    }
    case MessageKind::oom: return observer_.container_oom(container->id);
    case MessageKind::stdin_closed: {
      std::lock_guard lock(mutex_);
      container->input.reset();
      return;
    }
    case MessageKind::client_detached: return observer_.client_detached(container->id);
    default: return;  // of a newer monitor; what we do not know we did not ask for
  }
}

void OciRuntime::container_over(const std::shared_ptr<Container>& container, const ExitBody& body) {
  const ExitStatus status = to_exit_status(body);
  {
    std::lock_guard lock(mutex_);
    container->exit = status;
    container->running = false;
    container->pidfd.reset();
    container->input.reset();
    container->output.reset();
    container->error.reset();
    changed_.notify_all();
  }
  observer_.container_exited(container->id, status);
  std::lock_guard lock(mutex_);
  if (container->control) ignore(send_body(container->control.get(), MessageKind::exit_recorded, 0, body));
}

namespace {
constexpr unsigned most_adoptions = 3;  // one that was killed before it spoke says nothing against the next; three do
}

void OciRuntime::monitor_gone(const std::shared_ptr<Container>& container) {
  std::optional<ExitBody> note;
  {
    std::lock_guard lock(mutex_);
    const bool was_up = container->state_arrived && !container->state.error;
    const bool was_adopting = container->being_adopted;
    forget_connection(*container);
    if (!was_up) {
      container->being_adopted = false;
      if (!container->state_arrived && !container->failure)
        container->failure = Error(ErrorKind::unavailable, "the monitor died while the container was being started");
      changed_.notify_all();
      if (!was_adopting && container->is_recovering) return;  // recover() goes on without it
      if (!was_adopting) {
        // What it had made so far must not go on without anybody to know of it.
        if (!container->cgroup_path.empty())
          if (auto cgroup = linux::Cgroup::open(layout_, container->cgroup_path)) {
            ignore(cgroup->kill_all());
            ignore(cgroup->remove());
          }
        return;
      }
    }
    if (container->exit || !container->running) return;  // it has said everything and ended
    if (auto kept = read_exit_file(container->run_dir)) {
      note = std::move(kept).value();
    } else if (!was_adopting || container->adoptions < most_adoptions) {
      if (container->refusal) reopen_streams(*container);
      begin_adoption(container);
      if (container->being_adopted) return;
    }
  }
  if (note) return container_over(container, *note);
  observer_.monitor_replaced(container->id, Error(ErrorKind::unavailable, "the monitor died and cannot be replaced"));
}

void OciRuntime::orphan_reaped(const ReapedBody& body) {
  std::string id;
  std::string exec_id;
  {
    std::lock_guard lock(mutex_);
    for (auto& [name, container] : containers_) {
      if (container->pid == body.pid && container->running) {
        ExitBody exit;
        exit.code = body.code;
        if (container->control && !container->being_adopted)
          ignore(send_body(container->control.get(), MessageKind::exit_known, 0, exit));
        else reaped_[body.pid] = body.code;
        return;
      }
      for (auto it = container->execs.begin(); it != container->execs.end(); ++it) {
        if (it->second != body.pid) continue;
        id = name;
        exec_id = it->first;
        container->execs.erase(it);
        break;
      }
      if (!exec_id.empty()) break;
    }
    if (exec_id.empty()) return;
  }
  ExitStatus status;
  status.code = body.code;
  status.finished_at = now_ns();
  observer_.exec_exited(id, exec_id, status);
}

}  // namespace detail

}  // namespace caisson::runtime
