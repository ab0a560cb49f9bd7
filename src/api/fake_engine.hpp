// The tests' double of Engine, and an exchange without a socket.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/strings.hpp"
#include "engine/engine.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "wire/fake_exchange.hpp"

namespace caisson::api {

/// Answers from its public members and writes every call into `calls`. A container "web" exists, nothing else does.
class FakeEngine : public engine::Engine {
 public:
  std::vector<std::string> calls;
  std::vector<engine::Connection> connections;  ///< that were to be identified; descriptors in them are of the past
  Status next_status;                      ///< what the next verbs without a result return
  Changed next_change = Changed::yes;
  engine::ContainerInfo container;
  std::vector<engine::ContainerSummary> summaries;
  std::vector<engine::VolumeInfo> volumes;
  std::vector<engine::Event> event_list;
  std::vector<engine::LogRecord> log_records;
  engine::WaitResult wait_result;
  engine::ContainerSpec created;
  engine::UpdateSpec updated;
  engine::StopOptions stopped_with;
  engine::ExecInfo exec;
  std::string loaded;                      ///< what load or import read
  Status stream_status;                    ///< how load, import and save end
  image::Image image;
  std::vector<engine::FileChange> file_changes;
  image::PathStatus path_status;
  engine::CommitOptions committed;
  std::string client_text = "hello";       ///< what attach writes to its client

  FakeEngine() {
    container.id = std::string(64, 'a');
    container.name = "web";
    container.state = engine::State::running;
    container.spec.image = "alpine";
    container.args = {"sh", "-c", "echo x"};
    container.log_path = "/var/log/x";
    container.has_logs = true;
    container.pid = 42;
    image.id = *Digest::parse("sha256:" + std::string(64, 'b'));
    image.repo_tags = {"alpine:latest"};
    exec.id = std::string(64, 'e');
    exec.container_id = container.id;
    exec.spec.cmd = {"ls", "-l"};
  }

  [[nodiscard]] Status known(const std::string& name) const {
    if (name == "web" || name == container.id) return {};
    return Error(ErrorKind::not_found, concat("No such container: ", name));
  }
  engine::Caller identify(const engine::Connection& connection) override {
    connections.push_back(connection);
    return {connection.peer.uid, connection.peer.gid, connection.pid, connection.source, "somebody", connection.peer.is_unix ? policy::built_in("admin") : nullptr};
  }
  Status authorize(const engine::Caller& caller, policy::Verb verb, std::string_view) const override {
    if (caller.role && caller.role->allows(verb)) return {};
    return Error(ErrorKind::denied, "not allowed");
  }
  Status reload(const engine::Caller&, engine::Settings) override { return next_status; }
  Status verb(std::string_view what, const std::string& name) {
    calls.push_back(concat(what, " ", name));
    TRY_PLAIN(known(name));
    return next_status;
  }

  Result<engine::CreateResult> create(const engine::Caller&, engine::ContainerSpec spec) override {
    calls.push_back("create " + spec.name);
    created = std::move(spec);
    if (!next_status.ok()) return next_status.error();
    return engine::CreateResult{container.id, created.name, {}};
  }
  Result<engine::CreateResult> create_step(const engine::Caller&, engine::StepSpec) override { return Error(ErrorKind::unsupported, "nothing is built here"); }
  Result<Changed> start(const engine::Caller&, const std::string& name) override {
    TRY_PLAIN(verb("start", name));
    return next_change;
  }
  Result<Changed> stop(const engine::Caller&, const std::string& name, const engine::StopOptions& options) override {
    stopped_with = options;
    TRY_PLAIN(verb("stop", name));
    return next_change;
  }
  Status restart(const engine::Caller&, const std::string& name, const engine::StopOptions& options) override {
    stopped_with = options;
    return verb("restart", name);
  }
  Status kill(const engine::Caller&, const std::string& name, const std::string& signal) override { return verb("kill " + signal, name); }
  Status pause(const engine::Caller&, const std::string& name) override { return verb("pause", name); }
  Status unpause(const engine::Caller&, const std::string& name) override { return verb("unpause", name); }
  Status remove(const engine::Caller&, const std::string& name, const engine::RemoveOptions& options) override {
    const std::string what = concat("remove", options.force ? " force" : "", options.volumes ? " volumes" : "", options.link ? " link" : "");
    if (!options.link) return verb(what, name);
    calls.push_back(concat(what, " ", name));  // OWNER/ALIAS is no container's name
    return next_status;
  }
  Status rename(const engine::Caller&, const std::string& name, const std::string& new_name) override { return verb("rename " + new_name, name); }
  Result<std::vector<std::string>> update(const engine::Caller&, const std::string& name, const engine::UpdateSpec& changes) override {
    updated = changes;
    TRY_PLAIN(verb("update", name));
    return std::vector<std::string>{};
  }
  Result<std::unique_ptr<engine::Waiter>> begin_wait(const engine::Caller&, const std::string& name, engine::WaitCondition condition) override {
    TRY_PLAIN(verb(concat("wait ", static_cast<int>(condition)), name));
    class Ready final : public engine::Waiter {
     public:
      explicit Ready(engine::WaitResult result) : result_(std::move(result)) {}
      Result<engine::WaitResult> wait(Cancel) override { return result_; }

     private:
      engine::WaitResult result_;
    };
    return std::unique_ptr<engine::Waiter>(std::make_unique<Ready>(wait_result));
  }
  Result<engine::ContainerInfo> inspect(const engine::Caller&, const std::string& name, bool) override {
    TRY_PLAIN(known(name));
    return container;
  }
  Result<std::vector<engine::ContainerSummary>> list(const engine::Caller&, const engine::ListOptions& options) override {
    calls.push_back(concat("list", options.all ? " all" : "", options.size ? " size" : ""));
    return summaries;
  }
  Result<engine::TopResult> top(const engine::Caller&, const std::string& name, const std::string& arguments) override {
    TRY_PLAIN(verb("top " + arguments, name));
    return engine::TopResult{{"PID", "CMD"}, {{"1", "sh"}}};
  }
  Result<engine::ContainerStats> stats(const engine::Caller&, const std::string& name) override {
    TRY_PLAIN(verb("stats", name));
    engine::ContainerStats stats;
    stats.id = container.id;
    stats.name = container.name;
    return stats;
  }
  Status logs(const engine::Caller&, const std::string& name, const engine::LogOptions& options, engine::LogSink& sink, Cancel) override {
    TRY_PLAIN(verb(concat("logs", options.follow ? " follow" : "", options.tail ? concat(" tail ", *options.tail) : ""), name));
    for (const auto& record : log_records) TRY_PLAIN(sink.write(record));
    return sink.flush();
  }
  Status attach(const engine::Caller&, const std::string& name, engine::AttachOptions options) override {
    TRY_PLAIN(verb("attach", name));
    if (options.connect) TRY_PLAIN(options.connect(options.request));
    calls.push_back(concat("attached", options.request.with_stdin ? " stdin" : "", options.request.with_stdout ? " stdout" : "", " pending:",
                           options.request.pending_input, " keys:", options.request.detach_keys.size()));
    return linux::send_all(options.request.client.get(), client_text);
  }
  Status resize(const engine::Caller&, const std::string& name, runtime::ConsoleSize size) override {
    return verb(concat("resize ", size.height, "x", size.width), name);
  }
  Result<std::vector<engine::FileChange>> changes(const engine::Caller&, const std::string& name) override {
    TRY_PLAIN(verb("changes", name));
    return file_changes;
  }
  Status export_container(const engine::Caller&, const std::string& name, const engine::ExportOptions&, int target_fd, Cancel) override {
    TRY_PLAIN(verb("export", name));
    return linux::write_all(target_fd, "a tar");
  }
  Result<image::PathStatus> stat_path(const engine::Caller&, const std::string& name, const std::string& path) override {
    TRY_PLAIN(verb("stat " + path, name));
    return path_status;
  }
  Status read_archive(const engine::Caller&, const std::string& name, const std::string& path, const std::string& entry_name, int target_fd, Cancel) override {
    TRY_PLAIN(verb(concat("read ", path, " as ", entry_name), name));
    return linux::write_all(target_fd, "a tar");
  }
  Status write_archive(const engine::Caller&, const std::string& name, const engine::PlaceOptions& options, int source_fd, Cancel) override {
    loaded = TRY_PLAIN(linux::read_all(source_fd));
    return verb(concat("write ", options.path, options.keep_kinds ? " keep-kinds" : "", options.own_by_user ? " own-by-user" : ""), name);
  }
  Result<image::Image> commit(const engine::Caller&, const std::string& name, const engine::CommitOptions& options, Cancel) override {
    committed = options;
    TRY_PLAIN(verb("commit", name));
    return image;
  }
  Result<std::string> create_exec(const engine::Caller&, const std::string& name, engine::ExecSpec spec) override {
    TRY_PLAIN(verb("exec", name));
    exec.spec = std::move(spec);
    return exec.id;
  }
  Status start_exec(const engine::Caller&, const std::string& id, engine::ExecStart options) override {
    calls.push_back(concat("start_exec", options.detach ? " detached" : " attached"));
    if (id != exec.id) return Error(ErrorKind::not_found, "No such exec instance: " + id);
    if (options.attached && next_status.ok()) TRY_PLAIN(linux::send_all(options.attached->client.get(), client_text));
    return next_status;
  }
  Result<engine::ExecInfo> inspect_exec(const engine::Caller&, const std::string& id) override {
    if (id != exec.id) return Error(ErrorKind::not_found, "No such exec instance: " + id);
    return exec;
  }
  Status resize_exec(const engine::Caller&, const std::string&, runtime::ConsoleSize size) override {
    calls.push_back(concat("resize_exec ", size.height, "x", size.width));
    return next_status;
  }
  Result<std::unique_ptr<engine::EventStream>> events(const engine::Caller&, const engine::EventOptions&) override {
    class Replay final : public engine::EventStream {
     public:
      explicit Replay(std::vector<engine::Event> list) : list_(std::move(list)) {}
      Result<std::optional<engine::Event>> next(Cancel) override {
        if (at_ == list_.size()) return std::optional<engine::Event>();
        return std::optional<engine::Event>(list_[at_++]);
      }

     private:
      std::vector<engine::Event> list_;
      std::size_t at_ = 0;
    };
    return std::unique_ptr<engine::EventStream>(std::make_unique<Replay>(event_list));
  }
  Result<engine::VolumeInfo> create_volume(const engine::Caller&, const engine::VolumeSpec& spec) override {
    engine::VolumeInfo volume;
    volume.name = spec.name;
    volume.labels = spec.labels;
    volume.anonymous = spec.name.empty();
    return volume;
  }
  Result<std::vector<engine::VolumeInfo>> list_volumes(const engine::Caller&, bool) override { return volumes; }
  Result<engine::VolumeInfo> inspect_volume(const engine::Caller&, const std::string& name) override {
    return Error(ErrorKind::not_found, concat("get ", name, ": no such volume"));
  }
  Status remove_volume(const engine::Caller&, const std::string& name, bool force) override {
    calls.push_back(concat("remove_volume ", name, force ? " force" : ""));
    return next_status;
  }
  Result<std::vector<engine::NetworkInfo>> list_networks(const engine::Caller&) override {
    engine::NetworkInfo info;
    info.network.name = "bridge";
    info.network.driver = "bridge";
    info.network.subnets = {{"172.30.0.0/16", "172.30.0.1"}};
    return std::vector<engine::NetworkInfo>{info};
  }
  Result<network::Network> create_network(const engine::Caller&, const network::NetworkRequest& request) override {
    calls.push_back(concat("create_network ", request.name, " ", request.driver));
    last_network = request;
    if (!next_status.ok()) return next_status.error();
    network::Network network;
    network.id = std::string(64, 'n');
    network.name = request.name;
    return network;
  }
  Status remove_network(const engine::Caller&, const std::string& name) override {
    calls.push_back("remove_network " + name);
    return next_status;
  }
  Status connect_network(const engine::Caller&, const std::string& container, engine::EndpointSpec wanted) override {
    calls.push_back(concat("connect_network ", wanted.network, " ", container));
    last_endpoint = std::move(wanted);
    return next_status;
  }
  Status disconnect_network(const engine::Caller&, const std::string& network, const std::string& container, bool force) override {
    calls.push_back(concat("disconnect_network ", network, " ", container, force ? " force" : ""));
    return next_status;
  }
  Result<engine::PruneResult> prune_networks(const engine::Caller&, const engine::NetworkFilter& filter) override {
    engine::PruneResult result;
    network::Network old;
    old.name = "old";
    old.labels = {{"keep", "no"}};
    old.created = 1;
    if (filter(old)) result.deleted.push_back(old.name);
    return result;
  }
  network::NetworkRequest last_network;
  engine::EndpointSpec last_endpoint;
  Result<engine::NetworkInfo> inspect_network(const engine::Caller&, const std::string& name) override {
    return Error(ErrorKind::not_found, concat("network ", name, " not found"));
  }
  Result<std::vector<engine::ImageInfo>> list_images(const engine::Caller&) override { return std::vector<engine::ImageInfo>{{image, {}}}; }
  Result<engine::ImageInfo> inspect_image(const engine::Caller&, const std::string& name) override {
    calls.push_back("inspect_image " + name);
    if (name != "alpine" && name != "localhost:5000/t/al:1") return Error(ErrorKind::not_found, "No such image: " + name);
    return engine::ImageInfo{image, {}};
  }
  Result<image::Image> import_image(const engine::Caller&, const image::ImportRequest& request, const image::ProgressSink& progress, Cancel) override {
    TRY_PLAIN(read_source(request.source_fd));
    progress({"", "Importing", 1, 2});
    if (!stream_status.ok()) return stream_status.error();
    return image;
  }
  Result<std::vector<image::Image>> load_images(const engine::Caller&, int source_fd, const image::ProgressSink& progress, Cancel) override {
    if (!stream_status.ok()) return stream_status.error();
    TRY_PLAIN(read_source(source_fd));
    progress({"abc", "Loading layer", 5, 10});
    return std::vector<image::Image>{image};
  }
  Status save_images(const engine::Caller&, const image::SaveRequest& request, int target_fd, Cancel) override {
    if (!stream_status.ok()) return stream_status;
    return linux::send_all(target_fd, "tar of " + join(request.names, ",") + (request.index_name.empty() ? "" : " as " + request.index_name) + said(request.compression));
  }
  Result<image::Image> bootstrap_image(const engine::Caller&, const image::BootstrapRequest& request, const image::ProgressSink& progress, Cancel) override {
    progress({"", "Bootstrapping " + request.suite, 0, 0});
    return image;
  }
  Result<std::vector<image::Image>> pull_images(const engine::Caller&, const image::PullRequest& request, const image::ProgressSink& progress, Cancel) override {
    calls.push_back(concat("pull ", request.reference, request.all_tags ? " all" : "", " as ", request.credentials.username));
    if (!stream_status.ok()) return stream_status.error();
    progress({"latest", "Pulling from library/alpine", 0, 0});
    progress({"0123456789ab", "Downloading", 5, 10});
    if (!next_status.ok()) return next_status.error();
    return std::vector<image::Image>{image};
  }
  static std::string said(const image::CompressionWish& wish) {
    if (wish.format.empty() && !wish.level && !wish.has_all) return "";
    return concat(" as \"", wish.format, "\" ", wish.level ? concat(*wish.level) : std::string("usual"), wish.has_all ? " all" : " new");
  }
  Result<std::vector<image::PushedTag>> push_image(const engine::Caller&, const image::PushRequest& request, const image::ProgressSink& progress, Cancel) override {
    calls.push_back(concat("push ", request.reference, request.all_tags ? " all" : "", request.images.empty() ? "" : " of ", join(request.images, ","), said(request.compression)));
    if (!stream_status.ok()) return stream_status.error();
    progress({"", "The push refers to repository [docker.io/library/alpine]", 0, 0});
    return std::vector<image::PushedTag>{{"latest", image.id, 528}};
  }
  Result<std::string> login(const engine::Caller&, const std::string& server, const image::RegistryCredentials& credentials, Cancel) override {
    calls.push_back(concat("login ", credentials.username, " ", server));
    if (!next_status.ok()) return next_status.error();
    return std::string("refresh");
  }
  Result<std::vector<image::SearchHit>> search_images(const engine::Caller&, const image::SearchRequest& request, Cancel) override {
    calls.push_back(concat("search ", request.term, " ", request.limit));
    return std::vector<image::SearchHit>{{"alpine", "small", 7, true, false}};
  }
  Result<engine::SecurityReport> explain(const engine::Caller&, const std::string& name) override {
    engine::SecurityReport report;
    report.id = name;
    report.name = "web";
    report.pid = 4242;
    report.state = engine::State::running;
    report.capabilities = {"CAP_CHOWN"};
    report.seccomp = "default";
    report.namespaces = {{"user", "own"}};
    report.mounts.push_back({"/data", "/srv/data", true, true});
    report.refusals.push_back({"seccomp", "mount", "sh", 3, 1'700'000'000'000'000'000, 1'700'000'001'000'000'000, false});
    return report;
  }
  Status begin_learning(const engine::Caller&, const std::string& name) override {
    if (!is_learning_.insert(name).second) return Error(ErrorKind::conflict, "container web is being watched already");
    return {};
  }
  Result<engine::Learned> learned(const engine::Caller&, const std::string& name) override {
    if (!is_learning_.contains(name)) return Error(ErrorKind::not_found, "container web is not being watched");
    engine::Learned learned;
    learned.calls = {"openat", "read"};
    learned.profile.default_action = "SCMP_ACT_ERRNO";
    learned.cap_add = {"CAP_CHOWN"};
    return learned;
  }
  Result<engine::Learned> end_learning(const engine::Caller& caller, const std::string& name) override {
    auto last = learned(caller, name);
    is_learning_.erase(name);
    return last;
  }
  std::set<std::string> is_learning_;
  Result<image::VerifyReport> verify_image(const engine::Caller&, const image::VerifyRequest& request, Cancel) override {
    verify_request = request;
    if (!verify_outcome.ok()) return verify_outcome.error();
    return image::VerifyReport{sha256_of("manifest"), "/etc/containers/policy.json", "docker r.example", {"sigstoreSigned: by a key"}, 1};
  }
  Result<Digest> attach_signature(const engine::Caller&, const image::SignRequest& request, Cancel) override {
    sign_request = request;
    return sha256_of("signature");
  }
  image::VerifyRequest verify_request;  ///< the last one
  Status verify_outcome;
  image::SignRequest sign_request;      ///< the last one
  Result<image::DistributionInfo> inspect_distribution(const engine::Caller&, const std::string& reference, const image::RegistryCredentials&, Cancel) override {
    calls.push_back(concat("distribution ", reference));
    image::DistributionInfo info;
    info.descriptor.media_type = "application/vnd.oci.image.manifest.v1+json";
    info.descriptor.digest = image.id;
    info.descriptor.size_bytes = 528;
    info.platforms = {{"linux", "amd64", ""}};
    return info;
  }
  Status tag_image(const engine::Caller&, const std::string& source, const std::string& target) override {
    calls.push_back(concat("tag ", source, " ", target));
    return next_status;
  }
  Result<image::RemovedImage> remove_image(const engine::Caller&, const std::string& name, bool) override {
    return image::RemovedImage{{name}, {"sha256:1"}};
  }
  Result<engine::PruneResult> prune_containers(const engine::Caller&, const engine::ContainerFilter& filter) override {
    engine::PruneResult result;
    for (const auto& summary : summaries)
      if (!filter || filter(summary)) result.deleted.push_back(summary.id);
    return result;
  }
  Result<engine::PruneResult> prune_volumes(const engine::Caller&, const engine::VolumeFilter& filter) override {
    engine::PruneResult result;
    for (const auto& volume : volumes)
      if (!filter || filter(volume)) result.deleted.push_back(volume.name);
    return result;
  }
  Result<engine::PruneResult> prune_images(const engine::Caller&, const engine::ImageFilter&) override { return engine::PruneResult{}; }
  Result<engine::DiskUsage> disk_usage(const engine::Caller&) override { return engine::DiskUsage{}; }
  Result<engine::SystemInfo> info(const engine::Caller& caller) override {
    if (!caller.role) return Error(ErrorKind::denied, "info: not allowed");
    engine::SystemInfo info;
    info.architecture = "x86_64";
    info.version = "0.1.0";
    return info;
  }

 private:
  Status read_source(int fd) {
    char buffer[4096];
    for (;;) {
      auto got = TRY_PLAIN(linux::recv(fd, buffer));
      if (got == 0) return {};
      loaded.append(buffer, got);
    }
  }
};

using wire::FakeExchange;

}  // namespace caisson::api
