// create, run and start.
#include <array>

#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "runtime/oci_create.hpp"

namespace caisson::runtime {

namespace {

/// Lets the waiting process go on, and returns when it has become the program (or died trying): what comes after start comes after
/// exec, poststart hooks above all.
Status release(const OciContext& context, const OciState& state) {
  // Fails with ENXIO when nobody holds the other side: the process died meanwhile.
  auto fifo = linux::open(context.store.fifo(state.id), O_WRONLY | O_NONBLOCK);
  if (!fifo) return Error(ErrorKind::conflict, "cannot start a container that has stopped");
  TRY(linux::write_all(fifo->get(), "s"), "exec fifo");
  TRY(linux::unlinkat(AT_FDCWD, context.store.fifo(state.id), 0), "exec fifo");
  std::array<linux::PollEntry, 1> entry{};
  entry[0].fd = fifo->get();  // no events asked for: POLLERR comes when its last reader is gone, and exec closes that one
  (void)TRY(linux::poll(entry, -1), "exec fifo");
  return {};
}

/// Whether the process stands behind the exec fifo, and who passes signals on to the program.
enum class Waiting : std::uint8_t { no, for_our_foreground, for_nobody };

/// The lifecycle from start on (runtime-spec, runtime.md): startContainer hooks, the program, poststart hooks. A hook that fails
/// ends the container.
Status begin_program(OciContext& context, const OciState& state, const Spec& spec, Waiting waiting) {
  auto begin = [&]() -> Status {
    std::vector<Hook> hooks = spec.hooks.start_container;
    for (auto& hook : hooks)
      if (hook.env.empty()) hook.env = spec.process.env;  // runc's habit
    TRY_PLAIN(run_hooks(hooks, "startContainer", state, OciStatus::created, HookPlace::container_namespaces));
    if (waiting == Waiting::for_our_foreground) TRY_PLAIN(hold_foreground_signals());
    if (waiting != Waiting::no) TRY_PLAIN(release(context, state));
    return run_hooks(spec.hooks.poststart, "poststart", state, OciStatus::running, HookPlace::runtime_namespaces);
  };
  auto begun = begin();
  if (begun || begun.error().kind() == ErrorKind::conflict) return begun;
  if (auto pidfd = linux::pidfd_open(state.pid); pidfd && linux::process_start_time(state.pid).value_or(0) == state.start_time) {
    ignore(linux::pidfd_send_signal(pidfd->get(), SIGKILL));  // it may have ended by itself
    ignore(linux::wait_readable(pidfd->get(), -1));
  }
  ignore(oci_destroy(context, state, &spec));  // the hook's failure is the one to report
  return begun;
}

}  // namespace

Result<int> oci_create(OciContext& context) {
  (void)TRY_PLAIN(create_container(context, CreateFor::create));
  return 0;
}

Result<int> oci_run(OciContext& context) {
  const bool detached = context.arguments.has("detach");
  // Before the container exists, so that nothing of it can be orphaned past us.
  if (!detached && !context.arguments.has("no-subreaper")) TRY_PLAIN(linux::set_child_subreaper(true));
  auto created = TRY_PLAIN(create_container(context, CreateFor::run));
  const auto waiting = !created.waits ? Waiting::no : detached ? Waiting::for_nobody : Waiting::for_our_foreground;
  if (auto begun = begin_program(context, created.state, created.spec, waiting); !begun) {
    linux::kill_and_reap(created.launching.pidfd.get());
    // One that has stopped by itself stays for `delete` after start; run cleans up behind itself.
    if (begun.error().kind() == ErrorKind::conflict) ignore(oci_destroy(context, created.state, &created.spec));
    return std::move(begun).error();
  }
  if (detached) {
    if (created.notify) TRY_PLAIN(created.notify->wait_until_ready(created.launching.pidfd, created.launching.pid));
    return 0;
  }
  const int code = TRY_PLAIN(serve_foreground(
      {created.launching.pid, &created.launching.pidfd, &created.launching.terminal, created.notify ? &*created.notify : nullptr, false}));
  if (!context.arguments.has("keep")) TRY_PLAIN(oci_destroy(context, created.state, &created.spec));
  return code;
}

Result<int> oci_start(OciContext& context) {
  auto state = TRY_PLAIN(oci_load(context));
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  if (status == OciStatus::stopped) return Error(ErrorKind::conflict, "cannot start a container that has stopped");
  if (status == OciStatus::creating) return Error(ErrorKind::conflict, "cannot start a container that is still being created");
  if (status != OciStatus::created) return Error(ErrorKind::conflict, "cannot start an already running container");
  auto spec = TRY_PLAIN(context.store.load_spec(state.id));
  auto pidfd = linux::pidfd_open(state.pid);
  if (!pidfd) return Error(ErrorKind::conflict, "cannot start a container that has stopped");
  auto notify = TRY_PLAIN(NotifyProxy::listen(notify_folder(context.store, state.id)));
  TRY_PLAIN(begin_program(context, state, spec, Waiting::for_nobody));
  if (notify) TRY_PLAIN(notify->wait_until_ready(*pidfd, state.pid));
  return 0;
}

}  // namespace caisson::runtime
