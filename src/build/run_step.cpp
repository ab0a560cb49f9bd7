// RUN: a container of the engine, whose writable folder becomes a layer.
#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.hpp"
#include "build/stage.hpp"
#include "build/tree.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/sysinfo.hpp"
#include "linux/tree.hpp"

namespace caisson::build {

using dockerfile::Instruction;
using dockerfile::MountKind;
using dockerfile::RunMount;

struct StageBuilder::RunPlan {
  std::vector<std::string> argv;
  std::vector<std::string> environment;  ///< in the key
  std::vector<std::string> unkeyed;      ///< proxies: not in the key
  std::string text;                      ///< for history and messages
  std::string script;                    ///< of a here-document that begins with "#!"
  std::string script_name;
  std::string network;
  bool insecure = false;
  std::vector<RunMount> mounts;
  std::vector<Cache::Held> held;         ///< cache mounts that nobody else may use now
  std::vector<std::unique_ptr<AgentSocket>> agents;
};

namespace {

constexpr std::size_t frame_header_bytes = 8;

/// Of the places that mounts go to, what the files do not have yet: deepest first.
std::vector<std::string> missing_places(int root_fd, const std::vector<std::string>& targets) {
  std::set<std::string> missing;
  for (const auto& target : targets) {
    auto path = std::string_view(target).substr(1);
    for (auto end = path.find('/');; end = path.find('/', end + 1)) {
      std::string prefix(path.substr(0, end));
      if (!linux::open_in_root(root_fd, prefix, O_PATH).ok()) missing.insert(std::move(prefix));
      if (end == std::string_view::npos) break;
    }
  }
  return {missing.rbegin(), missing.rend()};  // "a/b" stands behind "a"
}

/// Takes away what was made for a mount to stand on, unless the step has put something there.
Status remove_stub(int upper_fd, const std::string& path) {
  auto halves = split_last(path, '/');
  auto parent = linux::open_beneath(upper_fd, halves.found ? std::string(halves.before) : ".", O_RDONLY | O_DIRECTORY);
  if (!parent.ok()) return {};
  std::string name(halves.found ? halves.after : std::string_view(path));
  auto status = linux::fstatat(parent->get(), name, AT_SYMLINK_NOFOLLOW);
  if (!status.ok()) return {};
  if (S_ISREG(status->st_mode) && status->st_size == 0) return linux::unlinkat(parent->get(), name);
  if (!S_ISDIR(status->st_mode)) return {};
  auto removed = linux::unlinkat(parent->get(), name, AT_REMOVEDIR);
  bool is_used = !removed.ok() && (removed.error().error_number() == ENOTEMPTY || removed.error().error_number() == EEXIST);
  return is_used ? Status() : removed;
}

std::string_view sharing_text(dockerfile::CacheSharing sharing) {
  switch (sharing) {
    case dockerfile::CacheSharing::shared: return "shared";
    case dockerfile::CacheSharing::private_: return "private";
    case dockerfile::CacheSharing::locked: return "locked";
  }
  return "shared";
}

Error cancelled() { return {ErrorKind::unavailable, "the build was cancelled", ECANCELED}; }

/// Takes docker's frames apart as they come.
class FrameSplitter {
 public:
  explicit FrameSplitter(std::function<void(std::string, bool)> sink) : sink_(std::move(sink)) {}
  void take(std::string_view bytes) {
    pending_ += bytes;
    while (pending_.size() >= frame_header_bytes) {
      std::size_t length = 0;
      for (std::size_t i = 4; i < 8; ++i) length = length << 8U | static_cast<unsigned char>(pending_[i]);
      if (pending_.size() < frame_header_bytes + length) return;
      sink_(pending_.substr(frame_header_bytes, length), pending_[0] == 2);
      pending_.erase(0, frame_header_bytes + length);
    }
  }

 private:
  std::function<void(std::string, bool)> sink_;
  std::string pending_;
};

}  // namespace

Result<StageBuilder::RunPlan> StageBuilder::plan_run(const Instruction& instruction) {
  RunPlan plan;
  if (instruction.json) {
    plan.argv = instruction.words;
    plan.text = join(plan.argv, " ");
  } else {
    auto command = instruction.words[0];
    bool is_one_heredoc = instruction.heredocs.size() == 1 && dockerfile::split_words(command, build_.file.directives.escape).size() == 1;
    if (is_one_heredoc) {
      const auto& document = instruction.heredocs[0];
      command = document.content;
      if (command.starts_with("#!")) {
        plan.script = command;
        plan.script_name = concat("/dev/pipes/", document.name);
        command = plan.script_name;
      }
    } else if (!instruction.heredocs.empty()) {
      command += "\n";
      for (const auto& document : instruction.heredocs) command += concat(document.content, document.name, "\n");
    }
    if (plan.script.empty()) {
      plan.argv = shell();
      plan.argv.push_back(command);
    } else {
      plan.argv = {command};
    }
    plan.text = plan.script.empty() ? join(plan.argv, " ") : instruction.statement;
  }
  plan.network = instruction.flag_value("network");
  if (plan.network == "default") plan.network.clear();
  if (plan.network == "host" && !build_.request.allowed.contains("network.host"))
    return Error(ErrorKind::denied, "network.host is not allowed").with_hint("say --allow network.host");
  if (plan.network.empty()) plan.network = build_.request.network;
  plan.insecure = instruction.flag_value("security") == "insecure";
  if (plan.insecure && !build_.request.allowed.contains("security.insecure"))
    return Error(ErrorKind::denied, "security.insecure is not allowed").with_hint("say --allow security.insecure");
  if (instruction.flag("device") != nullptr) return Error(ErrorKind::unsupported, "RUN --device is not supported");
  std::vector<std::string> agents;
  for (const auto& flag : instruction.flags) {
    if (flag.name != "mount") continue;
    auto mount = TRY(dockerfile::parse_mount(TRY_PLAIN(scope_.expand(flag.value))), "--mount");
    if (mount.kind == MountKind::ssh && mount.target.empty()) mount.target = concat("/run/buildkit/ssh_agent.", agents.size());
    if (!mount.target.empty()) {
      mount.target = dockerfile::clean_path(mount.target.starts_with('/') ? mount.target : concat("/", state_.config.config.working_dir, "/", mount.target));
      if (mount.target == "/") return Error(ErrorKind::invalid, "--mount: the target cannot be /");
    }
    if (mount.kind == MountKind::ssh) agents.push_back(mount.target);
    plan.mounts.push_back(std::move(mount));
  }
  plan.environment = state_.config.config.env;
  // As BuildKit has it: also where the agent is not given, and not over the image's own. The key has the mount instead.
  const bool has_own = std::any_of(plan.environment.begin(), plan.environment.end(), [](const std::string& entry) { return entry.starts_with("SSH_AUTH_SOCK="); });
  if (!agents.empty() && !has_own) plan.unkeyed.push_back(concat("SSH_AUTH_SOCK=", agents.front()));
  std::set<std::string_view> declared;
  auto arguments = scope_.visible_arguments();
  for (const auto& argument : arguments) declared.insert(split_once(argument, '=').before);
  plan.environment.insert(plan.environment.end(), arguments.begin(), arguments.end());
  for (const auto& [name, value] : build_.request.arguments)
    if (dockerfile::is_proxy_argument(name) && !declared.contains(name)) plan.unkeyed.push_back(concat(name, "=", value));
  return plan;
}

Result<std::string> StageBuilder::bind_source(const RunMount& mount) {
  auto source = dockerfile::clean_path(concat("/", mount.source));
  OpenedTree tree;
  int root_fd = build_.context.get();
  bool keeps_owner = false;
  if (!mount.from.empty()) {
    auto named = TRY_PLAIN(find_source(mount.from));
    root_fd = TRY_PLAIN(open_source(named, tree));
    keeps_owner = named.folder_fd < 0;
  }
  if (root_fd < 0) return Error(ErrorKind::invalid, "--mount=type=bind: this build has no context");
  // A copy: the engine mounts by path, and a symbolic link in a context leads wherever its author likes.
  auto from = TRY(linux::open_in_root(root_fd, source == "/" ? "." : source.substr(1), O_PATH), concat("--mount: source ", source));
  auto place = TRY_PLAIN(build_.folder.make("bind"));
  auto to = TRY_PLAIN(linux::open(place, O_RDONLY | O_DIRECTORY));
  CopyOptions options;
  if (!keeps_owner) options.owner = {0, 0};
  options.cancel = build_.cancel;
  TreeCopier copier(options);
  if (!S_ISDIR(TRY_PLAIN(linux::fstat(from.get())).st_mode)) {
    TRY(copier.copy_file(from.get(), to.get(), "file"), concat("--mount: source ", source));
    return place + "/file";
  }
  auto folder = TRY_PLAIN(linux::openat(from.get(), ".", O_RDONLY | O_DIRECTORY));
  TRY(copier.copy_children(folder.get(), to.get()), concat("--mount: source ", source));
  return place;
}

Result<std::string> StageBuilder::digest_of_bind(const RunMount& mount) {
  auto source = dockerfile::clean_path(concat("/", mount.source));
  int root_fd = build_.context.get();
  if (!mount.from.empty()) {
    auto named = TRY_PLAIN(find_source(mount.from));
    if (named.folder_fd < 0) return KeyHasher("bind").add(named.state.key).add(source).finish();
    root_fd = named.folder_fd;
  }
  if (root_fd < 0) return Error(ErrorKind::invalid, "--mount=type=bind: this build has no context");
  return TreeHasher(nullptr, false, TRY_PLAIN(tree_limits(build_))).digest(root_fd, source == "/" ? "." : source.substr(1));
}

Result<engine::StepMount> StageBuilder::make_mount(const RunMount& mount) {
  engine::StepMount spec;
  spec.target = mount.target;
  switch (mount.kind) {
    case MountKind::bind:
      spec.source = TRY_PLAIN(bind_source(mount));
      spec.read_only = mount.read_only;
      return spec;
    case MountKind::cache: {
      CacheMountWish wish{cache_scope_of(*build_.caller.role), mount.id, mount.target, std::string(sharing_text(mount.sharing)), mount.mode, mount.uid, mount.gid};
      auto use = TRY_PLAIN(build_.mounts.acquire(wish, [&](int folder_fd) -> Status {
        if (mount.from.empty()) return {};
        auto filled = TRY_PLAIN(linux::open(TRY_PLAIN(bind_source(mount)), O_RDONLY | O_DIRECTORY));
        return TreeCopier({}).copy_children(filled.get(), folder_fd);
      }, build_.cancel));
      spec.source = build_.keep_mount(std::move(use));
      spec.read_only = mount.read_only;
      return spec;
    }
    case MountKind::secret: {
      auto place = TRY_PLAIN(build_.run_folder.make("secret"));
      spec.source = place + "/secret";
      TRY_PLAIN(linux::write_file(spec.source, build_.request.secrets.at(mount.id), 0600));
      auto fd = TRY_PLAIN(linux::open(spec.source, O_RDONLY));
      TRY_PLAIN(linux::fchown(fd.get(), mount.uid, mount.gid));
      TRY_PLAIN(linux::fchmod(fd.get(), mount.mode & 0777));
      spec.read_only = true;
      return spec;
    }
    case MountKind::tmpfs:
    case MountKind::ssh: break;
  }
  return Error(ErrorKind::internal, "mount without a folder");
}

Result<bool> StageBuilder::is_given(const RunMount& mount) {
  const bool is_agent = mount.kind == MountKind::ssh;
  if (!is_agent && mount.kind != MountKind::secret) return true;
  if (is_agent ? build_.agents != nullptr && build_.request.agents.contains(mount.id) : build_.request.secrets.contains(mount.id)) return true;
  if (!mount.required) return false;
  if (is_agent) return Error(ErrorKind::not_found, concat("ssh agent ", mount.id, ": not given")).with_hint(concat("say --ssh ", mount.id, "[=SOCKET|KEY]"));
  return Error(ErrorKind::not_found, concat("secret ", mount.id, ": not found"));
}

Result<engine::StepMount> StageBuilder::make_agent_mount(const RunMount& mount, RunPlan& plan) {
  engine::StepMount spec;
  spec.source = TRY_PLAIN(build_.run_folder.make("ssh")) + "/agent";
  spec.target = mount.target;
  spec.read_only = true;
  auto warn = [this](std::string text) { send(EventKind::warning, std::move(text)); };
  plan.agents.push_back(TRY(AgentSocket::open({spec.source, mount.mode, mount.uid, mount.gid}, mount.id, *build_.agents, std::move(warn)), concat("ssh agent ", mount.id)));
  return spec;
}

Status StageBuilder::dispatch_run(const Instruction& instruction) {
  auto plan = TRY_PLAIN(plan_run(instruction));
  const auto& config = state_.config.config;
  KeyHasher key("RUN");
  key.add(state_.key).add(plan.argv).add(plan.environment).add(plan.script).add(config.working_dir).add(config.user).add(plan.network).add(plan.insecure ? "insecure" : "").add(state_.platform);
  for (const auto& mount : plan.mounts) {
    key.add(concat(static_cast<int>(mount.kind))).add(mount.target).add(mount.read_only ? "ro" : "rw");
    if (mount.kind == MountKind::bind) key.add(TRY_PLAIN(digest_of_bind(mount)));
    if (mount.kind == MountKind::secret) key.add(mount.id).add(mount.environment);
    if (mount.kind == MountKind::ssh) key.add(mount.id);
  }
  if (build_.source_date_epoch_s) key.add(concat(*build_.source_date_epoch_s));
  TRY_PLAIN(cached_step(key.finish(), instruction.statement, [&] { return make_run(plan); }));
  auto arguments = scope_.visible_arguments();
  auto text = arguments.empty() ? plan.text : concat("|", arguments.size(), " ", join(arguments, " "), " ", plan.text);
  add_history(text, state_.layers.back().is_empty);
  return {};
}

Result<std::string> StageBuilder::image_to_run() {
  if (state_.image.empty()) return Error(ErrorKind::invalid, "RUN needs a file system to run in, and FROM scratch has none so far");
  if (state_.image != state_.base_image) return state_.image;
  auto base = TRY_PLAIN(build_.images.find(state_.base_image));
  if (base.config.volumes.empty() && !base.config.healthcheck) return state_.image;
  // What a step writes below a volume of the base would be lost with the volume.
  auto key = KeyHasher("bare").add(state_.base_image).finish();
  auto held = TRY_PLAIN(build_.cache.hold(key, build_.cancel));
  build_.use_key(key);
  if (auto found = TRY_PLAIN(build_.cache.find(key))) return found->image;
  Made made;
  made.layer.is_empty = true;
  made.layer.diff_id = made.layer.blob = sha256_of("");
  image::ComposeRequest request;
  request.base = state_.base_image;
  request.comment = "a base image without its configuration, for the build cache";
  made.image = TRY_PLAIN(build_.images.compose(request)).id.text();
  made.owns_image = true;
  TRY_PLAIN(build_.cache.put(key, concat("FROM ", state_.base_image), made));
  return made.image;
}

Result<engine::ContainerSpec> StageBuilder::step_spec() {
  engine::ContainerSpec spec;
  spec.image = TRY_PLAIN(image_to_run());
  spec.entrypoint = std::vector<std::string>{""};
  spec.working_dir = state_.config.config.working_dir;
  spec.user = state_.config.config.user;
  // By it the next daemon knows the container of an interrupted build: its folder is still there.
  spec.labels[std::string(build_label)] = std::string(split_last(build_.folder.path(), '/').after);
  spec.log_driver = "none";
  spec.attach_stdout = spec.attach_stderr = true;
  spec.network.mode = build_.request.network.empty() ? "bridge" : build_.request.network;
  spec.extra_hosts = build_.request.extra_hosts;
  spec.resources = build_.request.resources;
  spec.ulimits = build_.request.ulimits;
  spec.shm_size_bytes = build_.request.shm_size_bytes;
  spec.cgroup_parent = build_.request.cgroup_parent;
  return spec;
}

Result<engine::StepSpec> StageBuilder::run_spec(RunPlan& plan) {
  engine::StepSpec step;
  auto& spec = step.container;
  spec = TRY_PLAIN(step_spec());
  spec.cmd = plan.argv;
  if (!plan.network.empty()) spec.network.mode = plan.network;
  spec.privileged = plan.insecure;
  // In order of names, and each once: two steps that want the same two folders cannot wait for each other.
  std::set<std::string> alone;
  for (const auto& mount : plan.mounts)
    if (mount.kind == MountKind::cache && mount.sharing != dockerfile::CacheSharing::shared) alone.insert(mount.id);
  for (const auto& id : alone) plan.held.push_back(TRY_PLAIN(build_.cache.hold(concat("mount ", cache_mount_key(cache_scope_of(*build_.caller.role), id)), build_.cancel)));
  for (const auto& mount : plan.mounts) {
    if (!TRY_PLAIN(is_given(mount))) continue;
    if (mount.kind == MountKind::secret && !mount.environment.empty()) spec.secret_env.push_back(concat(mount.environment, "=", build_.request.secrets.at(mount.id)));
    if (mount.target.empty()) continue;
    if (mount.kind == MountKind::tmpfs) {
      spec.mounts.push_back({.type = engine::MountType::tmpfs, .target = mount.target, .tmpfs_size_bytes = mount.size_bytes, .origin = "mounts"});
      continue;
    }
    step.mounts.push_back(TRY_PLAIN(mount.kind == MountKind::ssh ? make_agent_mount(mount, plan) : make_mount(mount)));
  }
  if (!plan.script.empty()) {
    engine::StepMount script;
    script.source = TRY_PLAIN(build_.folder.make("script")) + "/script";
    script.target = plan.script_name;
    script.read_only = true;
    TRY_PLAIN(linux::write_file(script.source, plan.script, 0755));
    step.mounts.push_back(std::move(script));
  }
  spec.env = plan.environment;
  spec.env.insert(spec.env.end(), plan.unkeyed.begin(), plan.unkeyed.end());
  return step;
}

Result<image::MadeLayer> StageBuilder::make_run(RunPlan& plan) {
  auto spec = TRY_PLAIN(run_spec(plan));
  StepContainer container(build_, TRY_PLAIN(build_.engine.create_step(build_.caller, spec)).id);
  const auto id = container.id();
  send(EventKind::running, "", id);
  auto layer = run_and_take_layer(id, plan, spec);
  for (const auto& mount : plan.mounts)
    if (mount.kind == MountKind::cache) build_.mounts.measure_later(cache_mount_key(cache_scope_of(*build_.caller.role), mount.id));
  const bool is_kept = !layer.ok() && build_.request.debug && layer.error().error_number() != ECANCELED;
  if (is_kept) {
    kept_.emplace(FailedStep{std::move(spec), std::move(plan.held), std::move(plan.agents), std::move(container)});
    return layer;
  }
  auto removed = container.remove();
  plan.agents.clear();
  plan.held.clear();  // others may have the cache mounts before this step's layer is recorded
  auto made = TRY_PLAIN(std::move(layer));
  TRY_PLAIN(std::move(removed));
  send(EventKind::removed, "", id);
  return made;
}

Result<image::MadeLayer> StageBuilder::run_and_take_layer(const std::string& id, const RunPlan& plan, const engine::StepSpec& step) {
  std::vector<std::string> targets;
  for (const auto& mount : step.container.mounts) targets.push_back(mount.target);
  for (const auto& mount : step.mounts) targets.push_back(mount.target);
  std::vector<std::string> stubs;
  if (!targets.empty()) {
    auto files = TRY_PLAIN(hold_tree(build_, TRY_PLAIN(lower_folders(build_, state_)), false));
    stubs = missing_places(files.root.get(), targets);
  }
  const auto code = TRY_PLAIN(run_container(id));
  if (code != 0) {
    failed_.exit_code = code;
    std::lock_guard lock(build_.mutex);
    if (!build_.failed_code) build_.failed_code = code;
    return Error(ErrorKind::invalid, concat("The command '", plan.text, "' returned a non-zero code: ", code));
  }
  auto info = TRY_PLAIN(build_.engine.inspect(build_.caller, id, false));
  if (!stubs.empty()) {
    auto upper = TRY_PLAIN(linux::open(info.upper_dir, O_RDONLY | O_DIRECTORY));
    for (const auto& stub : stubs) TRY(remove_stub(upper.get(), stub), concat("remove the place of the mount /", stub));
  }
  return layer_of(build_, info.upper_dir);
}

/// A program for another machine runs where the kernel knows an emulator for it.
Error StageBuilder::explain_start_error(Error error) const {
  const auto wanted = image::parse_platform(state_.platform);
  const auto machine = linux::uname();
  if (error.text().find("exec format error") == std::string::npos || !wanted.ok() || !machine.ok()) return error;
  if (image::platform_matches(*wanted, image::platform_of_machine(machine->machine))) return error;
  return {error.kind(), concat(error.text(), ": the step is for ", state_.platform, ", and this host knows no emulator for it (Debian: apt install qemu-user-static)"), error.error_number()};
}

Result<int> StageBuilder::run_container(const std::string& id) {
  auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  auto waiter = TRY_PLAIN(build_.engine.begin_wait(build_.caller, id, engine::WaitCondition::next_exit));
  engine::AttachOptions attach;
  attach.request.client = std::move(ends.second);
  attach.request.with_stdout = attach.request.with_stderr = true;
  TRY_PLAIN(build_.engine.attach(build_.caller, id, std::move(attach)));
  auto started = build_.engine.start(build_.caller, id);
  if (!started.ok()) return explain_start_error(std::move(started).error());
  FrameSplitter frames([&](std::string text, bool is_error) {
    Event event;
    event.kind = EventKind::output;
    event.text = std::move(text);
    event.is_error = is_error;
    build_.reporter.send(place_.order, std::move(event));
  });
  std::string buffer(64 << 10, '\0');
  while (true) {
    std::array<linux::PollEntry, 2> entries{{{ends.first.get(), POLLIN, 0}, {build_.cancel.fd, POLLIN, 0}}};
    TRY_PLAIN(linux::poll(entries, -1));
    if (entries[1].revents != 0) return cancelled();  // the guard kills it
    auto got = linux::read(ends.first.get(), buffer);
    if (!got.ok() || *got == 0) break;
    frames.take(std::string_view(buffer).substr(0, *got));
  }
  auto ended = waiter->wait(build_.cancel);
  if (!ended.ok()) return ended.error().kind() == ErrorKind::timeout ? cancelled() : std::move(ended).error();
  return ended->exit_code;
}

}  // namespace caisson::build
