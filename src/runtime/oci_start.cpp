// create, run and start.
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "runtime/oci_create.hpp"

namespace caisson::runtime {

namespace {

/// Runs the startContainer hooks and lets the waiting process go on.
Status release(const OciContext& context, const OciState& state, const Spec& spec) {
  TRY_PLAIN(run_hooks(spec.hooks.start_container, "startContainer", state, OciStatus::created, HookPlace::container_namespaces));
  // Fails with ENXIO when nobody holds the other side: the process died meanwhile.
  auto fifo = linux::open(context.store.fifo(state.id), O_WRONLY | O_NONBLOCK);
  if (!fifo) return Error(ErrorKind::conflict, "cannot start a container that has stopped");
  TRY(linux::write_all(fifo->get(), "s"), "exec fifo");
  TRY(linux::unlinkat(AT_FDCWD, context.store.fifo(state.id), 0), "exec fifo");
  return {};
}

/// What is left to do once the process exists.
Status begin(const OciContext& context, const Created& created) {
  if (created.waits) TRY_PLAIN(release(context, created.state, created.spec));
  return run_hooks(created.spec.hooks.poststart, "poststart", created.state, OciStatus::running, HookPlace::runtime_namespaces);
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
  if (auto begun = begin(context, created); !begun) {
    linux::kill_and_reap(created.launching.pidfd.get());
    ignore(oci_destroy(context, created.state));  // the hook's failure is the one to report
    return std::move(begun).error();
  }
  if (detached) {
    if (created.notify) TRY_PLAIN(created.notify->wait_until_ready(created.launching.pidfd, created.launching.pid));
    return 0;
  }
  const int code = TRY_PLAIN(serve_foreground(
      {created.launching.pid, &created.launching.pidfd, &created.launching.terminal, created.notify ? &*created.notify : nullptr}));
  if (!context.arguments.has("keep")) TRY_PLAIN(oci_destroy(context, created.state));
  return code;
}

Result<int> oci_start(OciContext& context) {
  auto state = TRY_PLAIN(oci_load(context));
  const auto status = status_of(state, context.store, context.layout);
  if (status == OciStatus::stopped) return Error(ErrorKind::conflict, "cannot start a container that has stopped");
  if (status == OciStatus::creating) return Error(ErrorKind::conflict, "cannot start a container that is still being created");
  if (status != OciStatus::created) return Error(ErrorKind::conflict, "cannot start an already running container");
  auto spec = TRY_PLAIN(context.store.load_spec(state.id));
  auto pidfd = linux::pidfd_open(state.pid);
  if (!pidfd) return Error(ErrorKind::conflict, "cannot start a container that has stopped");
  auto notify = TRY_PLAIN(NotifyProxy::listen(notify_folder(context.store, state.id)));
  TRY_PLAIN(release(context, state, spec));
  TRY_PLAIN(run_hooks(spec.hooks.poststart, "poststart", state, OciStatus::running, HookPlace::runtime_namespaces));
  if (notify) TRY_PLAIN(notify->wait_until_ready(*pidfd, state.pid));
  return 0;
}

}  // namespace caisson::runtime
