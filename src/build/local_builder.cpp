// A build from its context to its image: stages side by side, the result composed once.
#include "build/local_builder.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <numeric>
#include <thread>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "build/kept_context.hpp"
#include "build/stage.hpp"
#include "engine/bounds.hpp"
#include "image/manifest.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"
#include "linux/tree.hpp"

namespace caisson::build {

namespace {

using policy::Verb;

/// The request with the limits of the caller's role. Errors: denied (more than the role allows).
Result<BuildRequest> within_bounds(const engine::Caller& caller, BuildRequest request) {
  engine::ContainerSpec step;
  step.network.mode = request.network;
  step.cgroup_parent = request.cgroup_parent;
  step.ulimits = request.ulimits;
  step.resources = request.resources;
  TRY_PLAIN(engine::apply_build_bounds(*caller.role, step, request.allowed.contains("security.insecure"), request.allowed.contains("network.host")));
  request.resources = step.resources;
  return request;
}

/// Whoever may not use an image may not take steps from it either: their files are in what is built. Errors: denied, naming the source.
Status check_cache_sources(const engine::Caller& caller, image::ImageStore& images, const std::vector<CacheSource>& sources) {
  if (!caller.role->bounds) return {};
  for (const auto& source : sources) {
    const auto here = source.is_remote ? Result<image::Image>(Error(ErrorKind::not_found, "in its registry")) : images.find(source.reference);
    auto judged = here.ok() ? engine::check_image_here(*caller.role, source.reference, *here) : engine::check_image(*caller.role, source.reference, {});
    TRY(std::move(judged), concat("cache source ", source.reference));
  }
  return {};
}

/// Becomes readable when the client is gone, or when stop() was called.
class StopSignal {
 public:
  static Result<std::unique_ptr<StopSignal>> create(Cancel client) {
    auto stop = TRY_PLAIN(linux::eventfd());
    auto end = TRY_PLAIN(linux::eventfd());
    return std::unique_ptr<StopSignal>(new StopSignal(client, std::move(stop), std::move(end)));
  }
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  ~StopSignal() {
    ignore(linux::eventfd_signal(end_.get()));  // an eventfd of ours takes a count
    watcher_.join();
  }
  void stop() { ignore(linux::eventfd_signal(stop_.get())); }
  [[nodiscard]] Cancel cancel() const { return {stop_.get()}; }

 private:
  StopSignal(Cancel client, UniqueFd stop, UniqueFd end) : stop_(std::move(stop)), end_(std::move(end)), watcher_([this, client] { watch(client); }) {}
  void watch(Cancel client) {
    std::array<linux::PollEntry, 2> entries{{{end_.get(), POLLIN, 0}, {client.fd, POLLIN, 0}}};
    auto ready = linux::poll(entries, -1);
    if (ready.ok() && entries[1].revents != 0) stop();
  }
  UniqueFd stop_;
  UniqueFd end_;
  std::thread watcher_;
};

/// The keys that a build used may go again when it ends.
class KeyPins {
 public:
  explicit KeyPins(SharedBuild& build) : build_(build) {}
  KeyPins(const KeyPins&) = delete;
  KeyPins& operator=(const KeyPins&) = delete;
  ~KeyPins() { build_.cache.unpin(build_.used_keys); }

 private:
  SharedBuild& build_;
};

/// Of an archive by an address, whatever the server calls it.
Result<bool> is_archive(int fd) {
  std::array<char, 512> head{};
  const auto got = TRY_PLAIN(linux::pread(fd, head, 0));
  return looks_like_archive({head.data(), got});
}

Result<UniqueFd> unpack_context(const BuilderOptions& options, image::ReadyWorkers* workers, BuildFolder& folder, int source_fd, Cancel cancel) {
  auto path = TRY_PLAIN(folder.make("context"));
  auto fd = TRY_PLAIN(linux::open(path, O_RDONLY | O_DIRECTORY));
  if (source_fd < 0) return fd;
  image::WorkerJob job;
  job.request.task = image::WorkerTask::unpack;
  job.input_fd = source_fd;
  job.target_fd = fd.get();
  job.cancel = cancel;
  TRY(image::run_worker(options.worker, job, workers), "build context");
  return fd;
}

std::string_view words_for(CacheKind kind) {
  switch (kind) {
    case CacheKind::mount: return "a cache mount";
    case CacheKind::context: return "a kept build context";
    case CacheKind::step: break;
  }
  return "a step of the build cache";
}

Result<std::string> read_from_context(int context_fd, const std::string& path) {
  auto fd = TRY_PLAIN(linux::open_in_root(context_fd, path, O_RDONLY | O_NONBLOCK));
  auto status = TRY_PLAIN(linux::fstat(fd.get()));
  if (!S_ISREG(status.st_mode)) return Error(ErrorKind::invalid, concat(path, " is not a file"));
  return linux::read_all(fd.get());
}

Result<dockerfile::Source> read_dockerfile(const BuildRequest& request, int context_fd) {
  dockerfile::Source source;
  source.name = request.dockerfile.empty() ? "Dockerfile" : request.dockerfile;
  if (!request.dockerfile_text.empty()) {
    source.text = request.dockerfile_text;
    return source;
  }
  auto text = read_from_context(context_fd, source.name);
  if (!text.ok() && text.error().kind() == ErrorKind::not_found && request.dockerfile.empty()) text = read_from_context(context_fd, "dockerfile");
  if (!text.ok() && text.error().kind() == ErrorKind::not_found)
    return Error(ErrorKind::invalid, concat("Cannot locate specified Dockerfile: ", source.name));
  if (!text.ok()) return std::move(text).error().in("Dockerfile");
  if (text->empty()) return Error(ErrorKind::invalid, concat("the Dockerfile (", source.name, ") cannot be empty"));
  source.text = std::move(*text);
  return source;
}

/// The ignore file that goes with a Dockerfile; its own comes first.
Result<dockerfile::IgnoreList> read_ignore_list(const std::string& dockerfile_name, int context_fd) {
  for (const auto& name : {dockerfile_name + ".dockerignore", std::string(".dockerignore")}) {
    auto text = read_from_context(context_fd, name);
    if (!text.ok() && text.error().kind() == ErrorKind::not_found) continue;
    if (!text.ok()) return std::move(text).error().in(name);
    return dockerfile::IgnoreList::parse(*text);
  }
  return dockerfile::IgnoreList();
}

/// Dockerfile and ignore file reach the builder even when they are excluded; COPY must not see them then.
Status hide_excluded(int context_fd, const dockerfile::IgnoreList& ignored, const std::string& dockerfile_name) {
  for (const auto& name : {dockerfile_name, std::string(".dockerignore"), dockerfile_name + ".dockerignore"}) {
    auto path = dockerfile::clean_path(concat("/", name)).substr(1);
    // Our command line sends a Dockerfile from outside the context under such a name.
    if (!ignored.excludes(path) && !path.starts_with(".dockerfile.")) continue;
    auto halves = split_last(path, '/');
    auto folder = linux::open_in_root(context_fd, halves.found ? std::string(halves.before) : ".", O_RDONLY | O_DIRECTORY);
    auto removed = folder.ok() ? linux::unlinkat(folder->get(), halves.found ? std::string(halves.after) : path) : Status(std::move(folder).error());
    if (!removed.ok() && removed.error().kind() != ErrorKind::not_found) return std::move(removed).error().in(name);
  }
  return {};
}

Result<std::string> own_platform() {
  return image::platform_text(image::platform_of_machine(TRY_PLAIN(linux::uname()).machine));
}

Result<std::optional<std::int64_t>> source_date_epoch(const BuildRequest& request) {
  auto given = request.arguments.find("SOURCE_DATE_EPOCH");
  if (given == request.arguments.end() || given->second.empty()) return std::optional<std::int64_t>();
  return std::optional(TRY(parse_integer<std::int64_t>(given->second), "SOURCE_DATE_EPOCH"));
}

BuildRecord record_of(const BuildRequest& request) {
  BuildRecord record;
  record.dockerfile = request.dockerfile.empty() ? "Dockerfile" : request.dockerfile;
  record.name = !request.tags.empty() ? request.tags.front() : !request.target.empty() ? request.target : record.dockerfile;
  record.tags = request.tags;
  record.target = request.target;
  record.platform = request.platform;
  record.context = without_credentials(request.remote);
  return record;
}

}  // namespace

Status LocalBuilder::open() {
  if (options_.worker.first_host_id != 0) {
    auto workers = image::ReadyWorkers::create(options_.worker);
    if (workers.ok()) workers_ = std::move(*workers);
    else log_error("keep workers ready", options_.worker.path, workers.error());  // each context starts its own
  }
  TRY_PLAIN(linux::make_dirs(options_.root + "/builds", 0700));
  TRY_PLAIN(linux::make_dirs(options_.root + "/build-history", 0700));
  TRY_PLAIN(linux::make_dirs(options_.exec_root + "/builds", 0700));
  TRY(history_.open(), "build history");
  TRY_PLAIN(remove_leftovers());
  TRY_PLAIN(cache_.load());
  TRY_PLAIN(remove_transfer_leftovers());
  TRY(mounts_.open(), "cache mounts");
  TRY(contexts_.open(), "kept build contexts");
  images_.when_full([this] { return release_oldest(); });
  return {};
}

Status LocalBuilder::remove_leftovers() {
  engine::ListOptions all;
  all.all = true;
  auto caller = engine::engine_itself();
  for (const auto& container : TRY_PLAIN(engine_.list(caller, all))) {
    auto label = container.labels.find(std::string(build_label));
    // A label alone proves nothing: anybody may set it.
    if (label == container.labels.end() || label->second.empty() || label->second.find_first_not_of("0123456789abcdef") != std::string::npos) continue;
    if (!TRY_PLAIN(linux::exists(concat(options_.root, "/builds/", label->second)))) continue;
    engine::RemoveOptions options;
    options.force = options.volumes = true;
    auto removed = engine_.remove(caller, container.id, options);
    if (!removed.ok() && removed.error().kind() != ErrorKind::not_found) return std::move(removed).error().in("remove the container of an interrupted build");
    log(LogLevel::info, "build", container.id.substr(0, 12), "removed the container of an interrupted build");
  }
  TRY_PLAIN(remove_git_leftovers(git_work_prefix(options_)));
  for (const auto& parent : {options_.root + "/builds", options_.exec_root + "/builds"})
    for (const auto& entry : TRY_PLAIN(linux::list_dir(parent))) TRY(linux::remove_tree(concat(parent, "/", entry.name)), "remove the folder of an interrupted build");
  return {};
}

/// A context that is kept, as long as a build of it goes on. At its end the build's files go there.
class LocalBuilder::ContextInUse {
 public:
  static Result<std::unique_ptr<ContextInUse>> begin(LocalBuilder& builder, const engine::Caller& caller, const KeptContext& kept) {
    CacheMountWish wish;
    wish.scope = cache_scope_of(*caller.role);
    wish.id = kept.name;
    wish.target = kept.text;
    wish.mode = 0700;
    auto use = TRY_PLAIN(builder.contexts_.acquire(wish, [](int /*folder_fd*/) { return Status(); }));
    auto folder = TRY(linux::open(use.path(), O_RDONLY | O_DIRECTORY), "build context");
    return std::unique_ptr<ContextInUse>(new ContextInUse(builder, kept, std::move(use), std::move(folder)));
  }
  ContextInUse(const ContextInUse&) = delete;
  ContextInUse& operator=(const ContextInUse&) = delete;
  ~ContextInUse() {
    auto kept = end();
    if (!kept.ok()) log_error("keep a build context", kept_.text, kept.error());  // the next build sends what is not there
    builder_.contexts_.measure_later(use_.key());
  }
  /// Files that the archive left out. Until then nothing is kept: what was unpacked in part is no context.
  Status restore(int context_fd, Cancel cancel) {
    const auto alone = TRY_PLAIN(builder_.cache_.hold(concat("context ", use_.key()), cancel));
    TRY_PLAIN(files_.restore(kept_.files, context_fd, cancel));
    return add_folder(context_fd);
  }
  /// Where more of its files are.
  Status add_folder(int fd) {
    folders_.push_back(TRY_PLAIN(linux::dup(fd)));
    return {};
  }

 private:
  ContextInUse(LocalBuilder& builder, const KeptContext& kept, CacheMounts::Use use, UniqueFd folder)
      : builder_(builder), kept_(kept), use_(std::move(use)), folder_(std::move(folder)), files_(folder_.get(), builder.lent_, use_.key()) {}
  Status end() {
    const auto alone = TRY_PLAIN(builder_.cache_.hold(concat("context ", use_.key()), {}));
    if (folders_.empty()) return files_.give_back();
    std::vector<int> fds;
    for (const auto& folder : folders_) fds.push_back(folder.get());
    return files_.keep(fds);
  }

  LocalBuilder& builder_;
  const KeptContext& kept_;
  CacheMounts::Use use_;
  UniqueFd folder_;
  KeptFiles files_;
  std::vector<UniqueFd> folders_;
};

Result<std::vector<std::size_t>> LocalBuilder::missing_files(const engine::Caller& caller, const std::string& name, const std::vector<std::string>& digests) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_run, "build context"));
  const auto key = cache_mount_key(cache_scope_of(*caller.role), name);
  TRY_PLAIN(check_digests(digests));
  auto folder = linux::open(contexts_.path_of(key), O_RDONLY | O_DIRECTORY);
  if (folder.ok()) {
    auto missing = TRY_PLAIN(build::missing_files(folder->get(), digests));
    std::erase_if(missing, [&](std::size_t n) { return lent_.find(key, digests[n]).has_value(); });
    return missing;
  }
  if (folder.error().kind() != ErrorKind::not_found) return std::move(folder).error();
  std::vector<std::size_t> all(digests.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  return all;
}

Result<UniqueFd> LocalBuilder::fetch_context(const std::string& address, const BuildRequest& request, BuildFolder& folder, Materials& materials, BuildAgents* agents, std::string& other, Cancel cancel) {
  if (dockerfile::is_git_url(address)) {
    const auto repository = TRY_PLAIN(dockerfile::parse_git_url(address));
    auto fd = TRY_PLAIN(linux::open(TRY_PLAIN(folder.make("context")), O_RDONLY | O_DIRECTORY));
    materials.add(git_material(address, TRY_PLAIN(fetch_git(repository, git_options(options_, repository, request, agents), fd.get(), cancel))));
    return fd;
  }
  if (!is_url(address)) return Error(ErrorKind::invalid, concat(address, ": neither a git repository nor an http or https address"));
  auto file = TRY_PLAIN(linux::open(concat(TRY_PLAIN(folder.make("remote")), "/context"), O_RDWR | O_CREAT | O_EXCL, 0600));
  materials.add(url_material(address, TRY_PLAIN(fetch_url(address, file.get(), cancel))));
  const bool is_packed = TRY_PLAIN(is_archive(file.get()));
  TRY_PLAIN(linux::lseek(file.get(), 0, SEEK_SET));
  if (is_packed) return unpack_context(options_, workers_.get(), folder, file.get(), cancel);
  constexpr std::size_t longest = 1U << 20U;
  other = TRY(linux::read_all(file.get(), longest), address);
  return UniqueFd();
}

Result<UniqueFd> LocalBuilder::open_context(BuildRequest& request, BuildFolder& folder, Materials& materials, BuildAgents* agents, Cancel cancel) {
  if (request.remote.empty()) return unpack_context(options_, workers_.get(), folder, request.context_fd, cancel);
  auto fd = TRY(fetch_context(request.remote, request, folder, materials, agents, request.dockerfile_text, cancel), "build context");
  if (fd) return fd;
  if (request.dockerfile_text.empty()) return Error(ErrorKind::invalid, concat("build context ", request.remote, ": the Dockerfile cannot be empty"));
  return unpack_context(options_, workers_.get(), folder, -1, cancel);
}

Result<NamedContexts> LocalBuilder::open_named_contexts(const BuildRequest& request, int context_fd, BuildFolder& folder, ContextInUse* kept, Materials& materials, BuildAgents* agents, Cancel cancel) {
  NamedContexts contexts;
  std::set<std::string> hidden;
  for (const auto& [name, context] : request.contexts) {
    const auto step = concat("build context ", name);
    NamedContexts::Opened opened;
    if (context.kind == ContextKind::image) {
      opened.image = context.value;
      TRY(parse_reference(context.value), step);
    } else if (context.kind == ContextKind::remote) {
      std::string other;
      opened.folder = TRY(fetch_context(context.value, request, folder, materials, agents, other, cancel), step);
      if (!opened.folder) return Error(ErrorKind::invalid, concat(step, ": ", context.value, " is no archive"));
    } else {
      const auto halves = split_once(context.value, '/');
      const std::string top(halves.before);
      if (!halves.found || top.empty() || top == "." || top == ".." || !request.remote.empty()) return Error(ErrorKind::invalid, concat(step, ": \"", context.value, "\" is no folder of this context"));
      opened.folder = TRY(linux::open_in_root(context_fd, context.value, O_RDONLY | O_DIRECTORY), step);
      hidden.insert(top);
    }
    TRY_PLAIN(contexts.add(name, std::move(opened)));
  }
  // Their descriptors stay; a COPY of the context does not see them.
  if (!hidden.empty()) {
    const auto place = TRY_PLAIN(linux::open(TRY_PLAIN(folder.make("named")), O_RDONLY | O_DIRECTORY));
    for (const auto& top : hidden) TRY(linux::renameat2(context_fd, top, place.get(), top), "named contexts");
    if (kept != nullptr) TRY(kept->add_folder(place.get()), "named contexts");
  }
  return contexts;
}

Result<BuildOutcome> LocalBuilder::build(const engine::Caller& caller, const BuildRequest& asked, const EventSink& sink, Cancel cancel) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_run, join(asked.tags, ", ")));
  const BuildRequest request = TRY(within_bounds(caller, asked), "build");
  TRY(check_cache_sources(caller, images_, request.cache_from), "build");
  if (request.call != BuildCall::build) return build_now(caller, request, "", sink, cancel);
  auto recording = TRY(history_.begin(record_of(request)), "record the build");
  auto outcome = build_now(
      caller, request, recording->id(),
      [&](const Event& event) {
        recording->take(event);
        sink(event);
      },
      cancel);
  recording->finish(outcome, !outcome.ok() && outcome.error().error_number() == ECANCELED);
  constexpr int until_the_answer_is_out_ms = 2;
  if (workers_ && request.remote.empty()) workers_->refill(until_the_answer_is_out_ms);
  return outcome;
}

Result<BuildOutcome> LocalBuilder::build_now(const engine::Caller& caller, const BuildRequest& given, const std::string& id, const EventSink& sink, Cancel cancel) {
  const auto started = now_ns();
  BuildRequest request = given;
  std::unique_ptr<BuildAgents> agents;
  if (!request.agent_session.empty()) agents = TRY_PLAIN(agents_.begin(caller, request.agent_session));
  for (const auto& tag : request.tags)
    if (TRY_PLAIN(image::parse_reference(tag)).digest) return Error(ErrorKind::invalid, concat("refusing to create a tag with a digest reference: ", tag));
  auto folder = TRY_PLAIN(BuildFolder::create(options_.root + "/builds"));
  auto run_folder = BuildFolder::create_later(options_.exec_root + "/builds");
  auto stop = TRY_PLAIN(StopSignal::create(cancel));
  Materials materials;
  std::unique_ptr<ContextInUse> kept;  // ends before the folder does, and behind all that reads it
  if (request.kept && request.remote.empty()) kept = TRY_PLAIN(ContextInUse::begin(*this, caller, *request.kept));
  auto context = TRY_PLAIN(open_context(request, folder, materials, agents.get(), stop->cancel()));
  if (kept) TRY_PLAIN(kept->restore(context.get(), stop->cancel()));
  const auto contexts = TRY_PLAIN(open_named_contexts(request, context.get(), folder, kept.get(), materials, agents.get(), stop->cancel()));
  auto source = TRY_PLAIN(read_dockerfile(request, context.get()));
  auto file = TRY_PLAIN(dockerfile::parse(source));
  // A repository or an archive is what its author put into it.
  auto ignored = request.remote.empty() ? TRY(read_ignore_list(source.name, context.get()), ".dockerignore") : dockerfile::IgnoreList();
  TRY_PLAIN(hide_excluded(context.get(), ignored, source.name));

  auto build_platform = TRY_PLAIN(own_platform());
  auto platform = request.platform.empty() ? build_platform : request.platform;
  TRY_PLAIN(image::parse_platform(platform));
  dockerfile::GlobalScope globals(dockerfile::platform_arguments(platform, build_platform, request.target), request.arguments);
  for (const auto& argument : file.arguments) {
    auto declared = globals.declare(argument, file.directives.escape);
    if (!declared.ok()) return dockerfile::parse_error(source, argument.lines, "", declared.error().text());
  }
  auto target = TRY_PLAIN(find_target(file, request.target));

  BuildOutcome outcome;
  outcome.dockerfile_name = source.name;
  const auto needed = needed_stages(file, globals, target, contexts);
  if (request.call == BuildCall::targets) outcome.targets = dockerfile::targets_of(file);
  if (request.call == BuildCall::outline) outcome.outline = TRY_PLAIN(dockerfile::outline_of(file, needed, target, globals));
  if (request.call == BuildCall::targets || request.call == BuildCall::outline) return outcome;
  dockerfile::LintInput lint_input;
  lint_input.platform = dockerfile::platform_arguments(platform, build_platform, request.target);
  lint_input.given = request.arguments;
  lint_input.ignore = &ignored;
  if (auto check = request.arguments.find("BUILDKIT_DOCKERFILE_CHECK"); check != request.arguments.end()) lint_input.check = check->second;
  lint_input.base_environment = [&](const std::string& name) -> std::optional<std::vector<std::string>> {
    auto image = images_.find(name);
    return image.ok() ? std::optional(image->config.env) : std::nullopt;
  };
  auto checked = dockerfile::lint(source, file, lint_input);
  // What the checks cannot expand the build says itself, at the step.
  if (checked.ok()) {
    outcome.warnings = std::move(checked->warnings);
    outcome.warnings_are_errors = checked->warnings_are_errors;
  } else if (request.call == BuildCall::check) {
    return std::move(checked).error();
  }
  if (request.call == BuildCall::check) return outcome;
  if (outcome.warnings_are_errors && !outcome.warnings.empty()) {
    const auto& first = outcome.warnings.front();
    return Error(ErrorKind::invalid, dockerfile::show_place(source, first.lines, "", concat("lint violation found for rules: ", first.rule, ": ", first.message)));
  }

  Reporter reporter(sink, request.at_once, needed.size());
  auto epoch = TRY_PLAIN(source_date_epoch(request));
  ImportedCache imported(images_);
  if (request.use_cache) import_cache(request, platform, imported, reporter, stop->cancel());
  SharedBuild build{caller, request, engine_, images_, cache_, mounts_, options_, folder, run_folder, reporter, source, file, globals, std::move(context), platform,
                    epoch, imported, contexts, materials, agents.get(), stop->cancel(), {}, {}, {}, {}, {}};
  KeyPins pins(build);
  auto built = run_stages(build, needed, [&] { stop->stop(); }, cancel);
  if (!built.ok()) {
    if (!build.failed_code) return std::move(built).error();
    outcome.failed_code = build.failed_code;
    outcome.failure = built.error().text();
    return outcome;
  }
  outcome.image = TRY_PLAIN(finish(build, target));
  for (const auto& tag : request.tags) TRY(engine_.tag_image(caller, outcome.image.id.text(), tag), concat("tag ", tag));
  TRY_PLAIN(export_cache(build, target, outcome));
  if (request.provenance != Provenance::none) outcome.provenance = write_provenance(request, source, materials.all(), {id, build_platform, platform, started, now_ns()});
  TRY(cache_.record_uses(), "record what the build used");
  TRY(bound_cache(), "bound the build cache");
  return outcome;
}

Result<AgentUse> LocalBuilder::lend_agent(const engine::Caller& caller, const std::string& session, const std::string& id, Cancel client) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_run, ""));
  return agents_.wait_for_use(caller, session, id, client);
}

Status LocalBuilder::run_stages(SharedBuild& build, const std::vector<std::size_t>& needed, const std::function<void()>& stop, Cancel client) {
  const auto& file = build.file;
  std::uint32_t steps = static_cast<std::uint32_t>(file.arguments.size());
  std::vector<std::unique_ptr<StageBuilder>> stages;
  std::vector<StageBuilder::Place> places;
  for (std::size_t order = 0; order < needed.size(); ++order) {
    StageBuilder::Place place;
    place.number = needed[order];
    place.order = order;
    place.first_step = steps + 1;
    place.is_target = order + 1 == needed.size();
    steps += 1 + static_cast<std::uint32_t>(file.stages[place.number].instructions.size());
    if (place.is_target && !build.request.labels.empty()) ++steps;
    places.push_back(place);
  }
  std::uint32_t number = 0;
  for (const auto& argument : file.arguments) {
    Event event;
    event.text = argument.statement;
    event.step = ++number;
    event.steps = steps;
    build.reporter.send_now(event);
  }
  for (auto& place : places) {
    place.steps = steps;
    stages.push_back(std::make_unique<StageBuilder>(build, file.stages[place.number], place));
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::set<std::size_t> begun;
  std::set<std::size_t> done;
  std::optional<Error> failure;
  std::size_t failed_order = 0;
  // The next stage whose needs are met; nothing when all are begun or one has failed.
  auto take = [&]() -> std::optional<std::size_t> {
    std::unique_lock lock(mutex);
    while (true) {
      if (failure || begun.size() == needed.size()) return std::nullopt;
      for (std::size_t order = 0; order < needed.size(); ++order) {
        if (begun.contains(order)) continue;
        auto wants = needs_of(file, build.globals, needed[order], build.contexts);
        if (!std::all_of(wants.begin(), wants.end(), [&](std::size_t stage) { return done.contains(stage); })) continue;
        begun.insert(order);
        return order;
      }
      changed.wait(lock);
    }
  };
  auto work = [&] {
    while (auto order = take()) {
      auto base = dockerfile::Expander(build.globals.lookup(), file.directives.escape).word(file.stages[needed[*order]].base);
      auto base_stage = base.ok() && build.contexts.find(*base) == nullptr ? StageBuilder::find_stage(file, *base, needed[*order]) : std::nullopt;
      const dockerfile::StageScope* scope = nullptr;
      for (std::size_t i = 0; base_stage && i < needed.size(); ++i)
        if (needed[i] == *base_stage) scope = &stages[i]->scope();
      auto status = stages[*order]->run(scope);
      build.reporter.finish(*order);
      std::lock_guard lock(mutex);
      if (status.ok()) done.insert(needed[*order]);
      else if (!failure) {
        failure = std::move(status).error();
        failed_order = *order;
        stop();
      }
      changed.notify_all();
    }
  };
  auto count = std::min<std::size_t>(needed.size(), static_cast<std::size_t>(std::max(linux::cpu_count(), 2)));
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < count; ++i) others.emplace_back(work);
  work();
  for (auto& thread : others) thread.join();
  if (!failure) return {};
  build.reporter.flush();
  if (build.request.debug && failure->error_number() != ECANCELED) stages[failed_order]->offer_shell(client);
  return std::move(*failure);
}

void LocalBuilder::import_cache(const BuildRequest& request, const std::string& platform, ImportedCache& imported, Reporter& reporter, Cancel cancel) {
  for (const auto& source : request.cache_from) {
    auto reference = parse_reference(source.reference);  // an image of this store may be called by its id
    auto offered = imported.add(source, reference.ok() ? request.credentials_for(*reference) : image::RegistryCredentials(), platform, cancel);
    Event event;
    event.kind = EventKind::warning;
    if (!offered.ok()) event.text = concat("cache source ", source.reference, " is left out: ", offered.error().text());
    else if (*offered == 0) event.text = concat("cache source ", source.reference, " offers no steps");
    else continue;
    reporter.send_now(event);
  }
}

std::vector<ExportedStep> LocalBuilder::steps_to_export(SharedBuild& build, std::size_t target, bool all_stages) {
  std::set<std::string> keys;
  if (all_stages) {
    for (const auto& [number, state] : build.finished) keys.insert(state.keys.begin(), state.keys.end());
  } else {
    const auto& own = build.finished.at(target).keys;
    keys.insert(own.begin(), own.end());
  }
  return cache_.steps(keys);
}

Status LocalBuilder::export_cache(SharedBuild& build, std::size_t target, BuildOutcome& outcome) {
  for (const auto& wanted : build.request.cache_to) {
    if (wanted.kind == CacheTargetKind::inline_) continue;  // it went with the image
    auto image = TRY(compose_cache_image(images_, steps_to_export(build, target, wanted.all_stages), build.platform), "export the build cache");
    if (wanted.kind == CacheTargetKind::image) {
      outcome.cache_images.push_back(image.id.text());
      continue;
    }
    image::PushRequest push;
    push.reference = wanted.reference;
    push.images = {image.id.text()};
    push.credentials = build.request.credentials_for(TRY_PLAIN(parse_reference(wanted.reference)));
    auto pushed = images_.push(push, {}, build.cancel);
    auto removed = cache_.remove_image(image.id.text());
    TRY(std::move(pushed), concat("export the build cache to ", wanted.reference));
    TRY_PLAIN(std::move(removed));
  }
  return {};
}

Result<image::Image> LocalBuilder::finish(SharedBuild& build, std::size_t target) {
  auto& state = build.finished.at(target);
  // A FROM alone is the base image itself, as docker has it.
  if (state.history.empty() && !state.base_image.empty()) {
    if (!build.request.annotations.empty()) return Error(ErrorKind::invalid, "annotations: the result is the base image, whose manifest has its own");
    return images_.find(state.base_image);
  }
  image::ComposeRequest request;
  request.base = state.base_image;
  request.platform = state.platform;
  request.layers = state.layers;
  request.config = state.config.config;
  request.on_build = state.config.on_build;
  request.author = state.config.author;
  request.history = state.history;
  // The same result has the same id: everything in it but the times.
  auto nameless = state.config;
  nameless.created = 0;
  nameless.history = state.history;
  for (auto& entry : nameless.history) entry.created = 0;
  for (const auto& layer : state.layers) nameless.diff_ids.push_back(layer.diff_id);
  const auto& targets = build.request.cache_to;
  request.annotations = build.request.annotations;
  std::string inline_records;
  if (std::any_of(targets.begin(), targets.end(), [](const CacheTarget& wanted) { return wanted.kind == CacheTargetKind::inline_; })) {
    inline_records = write_cache_records(records_of(steps_to_export(build, target, false)));
    request.annotations[std::string(cache_annotation)] = inline_records;
  }
  KeyHasher hasher("final");
  hasher.add(state.base_image).add(image::write_image_config(nameless)).add(inline_records);
  for (const auto& [name, value] : build.request.annotations) hasher.add(name).add(value);
  const auto key = hasher.finish();
  auto held = TRY_PLAIN(cache_.hold(concat("final ", key), build.cancel));
  // Of a given time the image is the same anyway, and another build may have left it with other annotations.
  const bool is_remembered = !build.source_date_epoch_s;
  if (build.request.use_cache && is_remembered)
    if (auto found = TRY_PLAIN(cache_.find_final(key))) return std::move(*found);
  request.created = build.source_date_epoch_s ? *build.source_date_epoch_s * 1'000'000'000 : now_ns();
  auto image = TRY_PLAIN(images_.compose(request));
  if (is_remembered) TRY_PLAIN(cache_.put_final(key, image.id.text()));
  return image;
}

std::vector<CacheEntry> LocalBuilder::oldest_first() {
  auto all = cache_.entries();
  for (auto* folders : {&mounts_, &contexts_})
    for (auto& entry : folders->entries()) all.push_back(std::move(entry));
  std::stable_sort(all.begin(), all.end(), [](const CacheEntry& a, const CacheEntry& b) { return a.last_used < b.last_used; });
  return all;
}

Result<std::vector<CacheEntry>> LocalBuilder::take(const std::vector<CacheEntry>& entries) {
  std::map<CacheKind, std::vector<std::string>> keys;
  for (const auto& entry : entries) keys[entry.kind].push_back(entry.key);
  auto taken = TRY_PLAIN(cache_.take(keys[CacheKind::step]));
  for (auto& entry : TRY_PLAIN(mounts_.take(keys[CacheKind::mount]))) taken.push_back(std::move(entry));
  for (auto& entry : TRY_PLAIN(contexts_.take(keys[CacheKind::context]))) taken.push_back(std::move(entry));
  return taken;
}

Result<std::vector<CacheEntry>> LocalBuilder::prune(const engine::Caller& caller, const std::function<bool(const CacheEntry&)>& select) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_prune, ""));
  std::set<std::string> own;
  for (const auto* folders : {&mounts_, &contexts_})
    for (const auto& entry : in_scope(caller, folders->entries())) own.insert(entry.key);
  std::vector<CacheEntry> selected;
  for (auto& entry : oldest_first()) {
    if (entry.in_use || (entry.kind != CacheKind::step && !own.contains(entry.key))) continue;
    if (!select || select(entry)) selected.push_back(std::move(entry));
  }
  return take(selected);
}

Result<bool> LocalBuilder::release_oldest() {
  auto all = oldest_first();
  std::erase_if(all, [](const CacheEntry& entry) { return entry.in_use; });
  if (all.empty()) return false;
  const auto& oldest = all.front();
  // Whoever was quicker has let it go; the next question finds another one.
  for (const auto& entry : TRY_PLAIN(take({oldest})))
    log(LogLevel::info, "store quota", entry.key,
        concat("gave ", words_for(entry.kind), " away (", human_size(entry.size_bytes), "): ", entry.kind == CacheKind::mount ? entry.id : entry.text));
  return true;
}

Status LocalBuilder::bound_cache() {
  const auto all = oldest_first();
  std::uint64_t total = 0;
  for (const auto& entry : all) total += entry.size_bytes;
  std::vector<CacheEntry> selected;
  for (const auto& entry : all) {
    if (total <= options_.cache_limit_bytes) break;
    if (entry.in_use) continue;
    selected.push_back(entry);
    total -= entry.size_bytes;
  }
  for (const auto& entry : TRY_PLAIN(take(selected)))
    if (entry.kind != CacheKind::step) log(LogLevel::info, "build cache", entry.key, concat("gave ", words_for(entry.kind), " away (", human_size(entry.size_bytes), "): ", entry.kind == CacheKind::mount ? entry.id : entry.text));
  // A step's cache mounts grow unasked; what they took beyond the quota is given back here.
  for (auto room = images_.room(); room.quota_bytes != 0 && room.used_bytes + room.reserved_bytes > room.quota_bytes && !(mounts_.entries().empty() && contexts_.entries().empty()); room = images_.room())
    if (!TRY_PLAIN(release_oldest())) break;
  return {};
}

void LocalBuilder::bound_behind() {
  auto bounded = bound_cache();
  if (!bounded.ok()) log_error("bound the build cache", options_.root, bounded.error());
}

Result<std::vector<CacheEntry>> LocalBuilder::cache(const engine::Caller& caller) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_cache_list, ""));
  auto all = cache_.entries();
  for (const auto* folders : {&mounts_, &contexts_})
    for (auto& entry : in_scope(caller, folders->entries())) all.push_back(std::move(entry));
  return all;
}

Result<std::vector<BuildRecord>> LocalBuilder::history(const engine::Caller& caller) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_list, ""));
  return history_.records();
}

Result<BuildRecord> LocalBuilder::find_build(const engine::Caller& caller, const std::string& name) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_inspect, name));
  return history_.find(name);
}

Result<UniqueFd> LocalBuilder::open_build_log(const engine::Caller& caller, const std::string& name) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_log, name));
  return history_.open_log(name);
}

Status LocalBuilder::remove_build(const engine::Caller& caller, const std::string& name) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_remove, name));
  return history_.remove(name);
}

Result<std::unique_ptr<Builder>> open_builder(BuilderOptions options, engine::Engine& engine, image::ImageStore& images, state::Store& store) {
  auto builder = std::make_unique<LocalBuilder>(std::move(options), engine, images, store);
  TRY(builder->open(), "open the builder");
  return std::unique_ptr<Builder>(std::move(builder));
}

}  // namespace caisson::build
