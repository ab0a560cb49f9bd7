// Test doubles of what the engine stands on. The fake world is a folder, so that it outlives an engine as real containers do.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "engine/local.hpp"
#include "linux/event.hpp"
#include "linux/fault.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/sysinfo.hpp"
#include "linux/tree.hpp"

namespace caisson::engine::fake {

/// A folder that goes with the test.
class TempFolder {
 public:
  TempFolder() {
    std::string bytes(8, '\0');
    EXPECT_TRUE(linux::random_bytes(bytes).ok());
    path_ = "/tmp/caisson-test-" + to_hex(std::span(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
    EXPECT_TRUE(linux::make_dirs(path_, 0700).ok());
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { ignore(linux::remove_tree(path_)); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// The world is no part of the engine: its files are reached past the wrappers of system calls, which tests make fail.
inline std::optional<std::string> read_world(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}
inline void write_world(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::trunc);
  EXPECT_TRUE(file << text << std::flush) << path;
}
/// One call of a part counts as one of a wrapper: it fails where a fault walk says so.
inline Status asked(const char* what) {
  if (const int number = linux::fault::check(what); number != 0) return Error::from_errno(number, what);
  return {};
}

/// Programs by their first argument: "true" and "exit" (code in the second) end at once, "missing" and "forbidden" cannot be started,
/// everything else runs until it is signalled. What runs is a file "<world>/<id>".
class FakeRuntime final : public runtime::Runtime {
 public:
  FakeRuntime(std::string world, runtime::RuntimeObserver& observer) : world_(std::move(world)), observer_(observer), thread_([this] { deliver(); }) {
    EXPECT_TRUE(linux::make_dirs(world_, 0700).ok());
  }
  ~FakeRuntime() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  [[nodiscard]] pid_t spawner() const override { return 0; }

  Result<NamespacePair> make_namespaces(const linux::IdMap& id_map, bool with_network, int owner) override {
    NamespacePair pair;
    if (!id_map.empty() && owner < 0) pair.user = TRY_PLAIN(linux::eventfd());
    if (with_network) pair.network = TRY_PLAIN(linux::eventfd());
    return pair;
  }

  Result<runtime::Started> start(runtime::StartRequest request) override {
    const auto& args = request.spec.process.args;
    if (args[0] == "missing") return Error(ErrorKind::not_found, "exec: \"missing\": executable file not found in $PATH");
    if (args[0] == "forbidden") return Error(ErrorKind::denied, "exec: \"forbidden\": permission denied");
    TRY_PLAIN(asked("runtime start"));
    write_world(world_ + "/" + request.id, "running");
    if (!request.log.path.empty()) write_world(request.log.path, "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T10:00:00.000000001Z\"}\n");
    std::lock_guard lock(mutex_);
    last_ = request.spec;
    last_init_ = request.use_init;
    clients_ = request.attached.size();
    ++starts_;
    if (args[0] == "true") end_locked(request.id, 0);
    if (args[0] == "exit") end_locked(request.id, parse_integer<int>(args[1]).value_or(1));
    runtime::Started started;
    started.pid = linux::getpid();
    started.start_time = 7;
    return started;
  }

  Result<runtime::Recovered> recover(runtime::RecoverRequest request) override {
    TRY_PLAIN(asked("runtime recover"));
    auto text = read_world(world_ + "/" + request.id);
    if (!text) return Error(ErrorKind::not_found, concat("container ", request.id, " does not exist"));
    runtime::Recovered found;
    if (text->starts_with("exited ")) {
      runtime::ExitStatus status;
      status.code = parse_integer<int>(text->substr(7)).value_or(0);
      status.finished_at = now_ns();
      found.exit = status;
      return found;
    }
    found.running = true;
    found.paused = *text == "paused";
    found.pid = linux::getpid();
    return found;
  }

  Status attach(const std::string& id, runtime::AttachRequest) override {
    std::lock_guard lock(mutex_);
    ++clients_;
    return require_running(id);
  }
  Status kill(const std::string& id, int signal) override {
    TRY_PLAIN(asked("runtime kill"));
    std::lock_guard lock(mutex_);
    TRY_PLAIN(require_running(id));
    signals_.push_back(signal);
    if (deaf_ && signal != 9) return {};
    end_locked(id, 128 + signal);
    return {};
  }
  Status kill_all(const std::string& id) override { return kill(id, 9); }
  Result<pid_t> exec(const std::string& id, runtime::ExecRequest request) override {
    TRY_PLAIN(asked("runtime exec"));
    std::lock_guard lock(mutex_);
    TRY_PLAIN(require_running(id));
    if (request.process.args[0] == "missing") return Error(ErrorKind::not_found, "exec: \"missing\": executable file not found in $PATH");
    last_exec_ = request.process;
    last_exec_timeout_ms_ = request.timeout_ms;
    runtime::ExitStatus status;
    status.code = 5;
    // "say CODE TEXT" writes to its client before it ends; "hang" keeps its client and never ends.
    const auto& words = request.process.args;
    if (words[0] == "say" && request.attached) {
      EXPECT_TRUE(linux::write_all(request.attached->client.get(), words[2]).ok());
    }
    if (words[0] == "say") status.code = parse_integer<int>(words[1]).value_or(1);
    if (words[0] == "hang") {
      if (request.attached) hanging_.push_back(std::move(request.attached->client));
      return linux::getpid();
    }
    std::string exec_id = request.exec_id;
    events_.emplace_back([this, id, exec_id, status] { observer_.exec_exited(id, exec_id, status); });
    changed_.notify_all();
    return linux::getpid();
  }
  Status resize(const std::string& id, const std::string&, runtime::ConsoleSize) override { return require_running(id); }
  Status pause(const std::string& id) override {
    TRY_PLAIN(asked("runtime pause"));
    write_world(world_ + "/" + id, "paused");
    return {};
  }
  Status resume(const std::string& id) override {
    TRY_PLAIN(asked("runtime resume"));
    write_world(world_ + "/" + id, "running");
    return {};
  }
  Status update(const std::string& id, const runtime::Resources& resources) override {
    TRY_PLAIN(asked("runtime update"));
    updated_ = resources;
    return require_running(id);
  }
  Result<std::vector<pid_t>> processes(const std::string& id) override {
    TRY_PLAIN(asked("runtime processes"));
    TRY_PLAIN(require_running(id));
    return std::vector<pid_t>{linux::getpid()};
  }
  Result<runtime::Stats> stats(const std::string& id) override {
    TRY_PLAIN(asked("runtime stats"));
    TRY_PLAIN(require_running(id));
    runtime::Stats stats;
    stats.pids = 1;
    return stats;
  }
  Status remove(const std::string& id, const std::string&, const std::string& cgroups_path) override {
    TRY_PLAIN(asked("runtime remove"));
    auto text = read_world(world_ + "/" + id);
    if (text && (*text == "running" || *text == "paused")) return Error(ErrorKind::conflict, concat("container ", id, " is running"));
    std::lock_guard lock(mutex_);
    removed_.push_back(id);
    removed_cgroups_.push_back(cgroups_path);
    if (text) std::filesystem::remove(world_ + "/" + id);
    return {};
  }

  // -- for tests
  void end(const std::string& id, int code) {
    std::lock_guard lock(mutex_);
    end_locked(id, code);
  }
  runtime::Spec last_spec() {
    std::lock_guard lock(mutex_);
    return last_;
  }
  runtime::Process last_exec() {
    std::lock_guard lock(mutex_);
    return last_exec_;
  }
  std::int64_t last_exec_timeout_ms() {
    std::lock_guard lock(mutex_);
    return last_exec_timeout_ms_;
  }
  std::vector<int> signals() {
    std::lock_guard lock(mutex_);
    return signals_;
  }
  std::size_t clients() {
    std::lock_guard lock(mutex_);
    return clients_;
  }
  std::size_t starts() {
    std::lock_guard lock(mutex_);
    return starts_;
  }
  std::vector<std::string> removed() {
    std::lock_guard lock(mutex_);
    return removed_;
  }
  void set_deaf(bool deaf) {
    std::lock_guard lock(mutex_);
    deaf_ = deaf;
  }
  runtime::Resources updated() { return updated_; }

 private:
  Status require_running(const std::string& id) {
    auto text = read_world(world_ + "/" + id);
    if (text && !text->starts_with("exited")) return {};
    return Error(ErrorKind::conflict, concat("container ", id, " is not running"));
  }
  void end_locked(const std::string& id, int code) {
    write_world(world_ + "/" + id, concat("exited ", code));
    runtime::ExitStatus status;
    status.code = code;
    status.finished_at = now_ns();
    events_.emplace_back([this, id, status] { observer_.container_exited(id, status); });
    changed_.notify_all();
  }
  void deliver() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stopping_ || !events_.empty(); });
      if (events_.empty()) return;
      auto event = std::move(events_.front());
      events_.pop_front();
      lock.unlock();
      event();
      lock.lock();
    }
  }

  std::string world_;
  runtime::RuntimeObserver& observer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> events_;
  bool stopping_ = false;
  bool deaf_ = false;
  runtime::Spec last_;
  bool last_init_ = false;
  runtime::Process last_exec_;
  std::int64_t last_exec_timeout_ms_ = 0;
  std::vector<UniqueFd> hanging_;
  runtime::Resources updated_;
  std::vector<int> signals_;
  std::vector<std::string> removed_;
  std::vector<std::string> removed_cgroups_;
  std::size_t clients_ = 0;
  std::size_t starts_ = 0;
  std::thread thread_;
};

/// One image, "busybox:latest", with one layer: a folder with passwd and group.
class FakeImages : public image::ImageStore {
 public:
  explicit FakeImages(const std::string& root) : layer_(root + "/layers/one/fs") {
    EXPECT_TRUE(linux::make_dirs(layer_ + "/etc", 0755).ok());
    EXPECT_TRUE(linux::write_file(layer_ + "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var/www:/bin/sh\n").ok());
    EXPECT_TRUE(linux::write_file(layer_ + "/etc/group", "root:x:0:\nweb:x:33:\nlogs:x:44:web\n").ok());
    image_.id = sha256_of("busybox");
    image_.repo_tags = {"busybox:latest"};
    image_.architecture = "amd64";
    image_.config.cmd = {"sh"};
    image_.config.env = {"PATH=/bin", "FROM_IMAGE=1"};
    image_.config.exposed_ports = {"80/tcp"};
    image_.config.labels = {{"from", "image"}};
    image_.size_bytes = 1000;
  }
  Result<image::Image> find(const std::string& name) override {
    if (!removed_ && (name == "busybox" || name == "busybox:latest" || name == image_.id.text())) return image_;
    return Error(ErrorKind::not_found, concat("No such image: ", name));
  }
  Result<image::Image> admit(const std::string& name) override {
    TRY_PLAIN(Status(policy));
    return find(name);
  }
  Result<std::vector<image::Image>> list() override { return removed_ ? std::vector<image::Image>{} : std::vector<image::Image>{image_}; }
  Result<std::string> raw_config(const Digest&) override { return std::string("{}"); }
  Result<image::Image> import(const image::ImportRequest&, const image::ProgressSink&, Cancel) override { return image_; }
  Result<std::vector<image::Image>> load(int, const image::ProgressSink&, Cancel) override { return std::vector<image::Image>{image_}; }
  Result<std::vector<image::Image>> load_artifacts(int, const std::string&, Cancel) override { return Error(ErrorKind::unsupported, "these images are no files"); }
  Status extract_layer(const image::MadeLayer&, int, Cancel) override { return Error(ErrorKind::unsupported, "these images are no files"); }
  void count_folder(const std::string&, std::uint64_t) override {}
  Status save(const image::SaveRequest&, int, Cancel) override { return {}; }
  Result<image::Image> bootstrap(const image::BootstrapRequest&, const image::ProgressSink&, Cancel) override { return image_; }
  Result<image::MadeLayer> make_layer(const image::LayerTrees&, const image::ProgressSink&, Cancel) override {
    if (before_layer) before_layer();
    if (!layer_outcome.ok()) return layer_outcome.error();
    image::MadeLayer layer;
    layer.diff_id = layer.blob = sha256_of("layer");
    return layer;
  }
  Result<image::Image> compose(const image::ComposeRequest& request) override {
    composed = request;
    return image_;
  }
  Result<image::LayerList> list_layers(const image::LayersRequest&, Cancel) override { return image::LayerList{}; }
  Result<image::MadeLayer> bring_layer(const image::LayerList&, std::size_t, const image::RegistryCredentials&, const image::ProgressSink&, Cancel) override { return make_layer({}, {}, {}); }
  Result<std::vector<image::Image>> pull(const image::PullRequest&, const image::ProgressSink&, Cancel) override { return std::vector<image::Image>{image_}; }
  Result<std::vector<image::PushedTag>> push(const image::PushRequest&, const image::ProgressSink&, Cancel) override { return std::vector<image::PushedTag>{}; }
  Result<image::VerifyReport> verify(const image::VerifyRequest&, Cancel) override { return image::VerifyReport{}; }
  Result<Digest> attach_signature(const image::SignRequest&, Cancel) override { return sha256_of("signature"); }
  Status tag(const std::string&, const std::string&) override { return {}; }
  Result<image::RemovedImage> remove(const std::string& name, bool force,
                                     const std::function<std::optional<std::string>(const Digest&)>& is_in_use) override {
    auto reason = is_in_use(image_.id);
    if (reason && !force) return Error(ErrorKind::conflict, concat("conflict: unable to remove ", name, ": ", *reason));
    removed_ = true;
    return image::RemovedImage{{"busybox:latest"}, {image_.id.text()}};
  }
  Result<std::vector<std::string>> lowerdirs(const Digest&) override { return std::vector<std::string>{layer_}; }
  Result<std::vector<std::string>> recover() override { return std::vector<std::string>{}; }
  Result<Usage> usage() override { return Usage{10, 1000, 1012, {}}; }
  Result<std::uint64_t> disk_bytes(const std::vector<Digest>& ids) override { return ids.empty() ? std::uint64_t{0} : std::uint64_t{1000}; }
  [[nodiscard]] image::StoreAccount::Reading room() const override { return {5000, 1012, 0}; }
  void when_full(std::function<Result<bool>()>) override {}
  [[nodiscard]] image::SnapshotForm snapshot_form() const override { return image::SnapshotForm::directory; }
  image::Image& image() { return image_; }

  image::ComposeRequest composed;     ///< the last one
  Status layer_outcome;               ///< how the next layers end
  Status policy;                      ///< what the signature policy says of every image
  std::function<void()> before_layer; ///< called while a layer is being made

 private:
  std::string layer_;
  image::Image image_;
  bool removed_ = false;
};

/// Hands out addresses and host ports; a host port can be held by one container only.
class FakeNetwork final : public network::NetworkManager {
 public:
  Result<std::vector<network::Network>> list() override {
    std::lock_guard lock(mutex_);
    return networks_;
  }
  Result<network::Network> find(const std::string& name) override {
    std::lock_guard lock(mutex_);
    for (const auto& network : networks_)
      if (name == network.name || name == network.id) return network;
    return Error(ErrorKind::not_found, concat("network ", name, " not found"));
  }
  Result<network::Network> create(const network::NetworkRequest& request) override {
    std::lock_guard lock(mutex_);
    networks_.push_back(named(request.name, static_cast<char>('0' + networks_.size())));
    return networks_.back();
  }
  Result<network::Network> remove(const std::string& name) override {
    auto network = TRY_PLAIN(find(name));
    std::lock_guard lock(mutex_);
    for (const auto& [id, endpoint] : endpoints_)
      if (endpoint.network_id == network.id) return Error(ErrorKind::denied, "has active endpoints");
    std::erase_if(networks_, [&](const auto& each) { return each.id == network.id; });
    return network;
  }
  Result<network::Endpoint> connect(const network::ConnectRequest& request) override {
    TRY_PLAIN(asked("network connect"));
    auto network = TRY_PLAIN(find(request.network));
    std::lock_guard lock(mutex_);
    for (const auto& port : request.ports)
      for (const auto& [id, endpoint] : endpoints_)
        for (const auto& taken : endpoint.ports)
          if (taken.host_port == port.host_port && port.host_port != 0 && id != request.container_id)
            return Error(ErrorKind::conflict, concat("Bind for 0.0.0.0:", port.host_port, " failed: port is already allocated"));
    network::Endpoint endpoint;
    endpoint.network_id = network.id;
    endpoint.network_name = network.name;
    if (request.ready) ready_.erase(request.ready->ipv4);
    if (request.ready && ready_links_are_gone) return Error(ErrorKind::not_found, "the link is not on the bridge any more");
    endpoint.ipv4 = request.ready ? request.ready->ipv4 : request.ipv4 ? *request.ipv4 : concat("10.0.0.", ++last_);
    endpoint.gateway = "10.0.0.1";
    const bool has_ports = std::any_of(endpoints_.begin(), endpoints_.end(), [&](const auto& other) { return other.first == request.container_id && !other.second.ports.empty(); });
    if (!has_ports) endpoint.ports = request.ports;
    endpoints_.emplace_back(request.container_id, endpoint);
    return endpoint;
  }
  Result<network::ReadyLink> prepare_link(int) override {
    std::lock_guard lock(mutex_);
    if (refuse_ready_links) return Error(ErrorKind::unavailable, "no address left");
    ready_.insert(concat("10.0.0.", ++last_));
    return network::ReadyLink{concat("10.0.0.", last_), concat("veth", last_), 1};
  }
  void give_back(const network::ReadyLink& link) override {
    std::lock_guard lock(mutex_);
    ready_.erase(link.ipv4);
  }
  Status bring_up_loopback(int) override { return {}; }
  Status disconnect(const std::string& id) override {
    TRY_PLAIN(asked("network disconnect"));
    std::lock_guard lock(mutex_);
    std::erase_if(endpoints_, [&](const auto& endpoint) { return endpoint.first == id; });
    return {};
  }
  Status disconnect_from(const std::string& id, const std::string& network_id, int) override {
    std::lock_guard lock(mutex_);
    if (std::erase_if(endpoints_, [&](const auto& endpoint) { return endpoint.first == id && endpoint.second.network_id == network_id; }) != 0) return {};
    return Error(ErrorKind::not_found, "not connected");
  }
  Result<std::vector<std::string>> recover(const std::vector<std::string>& live) override {
    std::lock_guard lock(mutex_);
    live_ = live;
    return std::vector<std::string>{};
  }
  Result<std::vector<std::pair<std::string, network::Endpoint>>> endpoints() override {
    std::lock_guard lock(mutex_);
    return endpoints_;
  }
  std::vector<network::Endpoint> endpoints_of(const std::string& id) override {
    std::lock_guard lock(mutex_);
    std::vector<network::Endpoint> own;
    for (const auto& [owner, endpoint] : endpoints_)
      if (owner == id) own.push_back(endpoint);
    return own;
  }
  Status shut_down() override { return {}; }
  std::atomic<bool> refuse_ready_links{false};
  std::atomic<bool> ready_links_are_gone{false};  ///< somebody has removed the bridge
  std::set<std::string> ready_links() {
    std::lock_guard lock(mutex_);
    return ready_;
  }
  std::size_t endpoint_count() {
    std::lock_guard lock(mutex_);
    return endpoints_.size();
  }
  std::vector<std::string> live() {
    std::lock_guard lock(mutex_);
    return live_;
  }

 private:
  static network::Network named(std::string name, char digit) {
    network::Network network;
    network.id = std::string(64, digit);
    network.name = std::move(name);
    network.driver = "bridge";
    return network;
  }
  std::mutex mutex_;
  std::vector<network::Network> networks_ = {named("bridge", 'b')};
  std::vector<std::pair<std::string, network::Endpoint>> endpoints_;
  std::set<std::string> ready_;  ///< addresses of links that no container has yet
  std::vector<std::string> live_;
  int last_ = 1;
};

/// Counts whom it serves.
class FakeDns final : public network::DnsServer {
 public:
  FakeDns(network::NameSource& source, std::set<std::string>& served) : names(source), served_(served) {}
  Status serve(const std::string& id, int, network::DnsConfig) override {
    served_.insert(id);
    return {};
  }
  Status update(const std::string&, network::DnsConfig) override { return {}; }
  Status forget(const std::string& id) override {
    served_.erase(id);
    return {};
  }
  network::NameSource& names;

 private:
  std::set<std::string>& served_;
};

/// An engine over fakes and a real store; close() and open() again is a restart of the daemon.
class Harness {
 public:
  Harness() : temp_(std::make_unique<TempFolder>()) { open(); }
  explicit Harness(std::string folder) : given_(std::move(folder)) { open(); }
  explicit Harness(std::size_t start_pool) : temp_(std::make_unique<TempFolder>()), start_pool_(start_pool) { open(); }

  void open() {
    LocalParts parts;
    EXPECT_TRUE(linux::make_dirs(root(), 0700).ok());
    auto store = state::open_sqlite_store({.path = root() + "/state.db"});
    ASSERT_TRUE(store.ok()) << store.error().text();
    store_ = store->store.get();
    parts.store = std::move(store->store);
    parts.repairs = std::move(store->repairs);
    auto fake_images = std::make_unique<FakeImages>(root());
    images = fake_images.get();
    parts.images = std::move(fake_images);
    auto fake_network = std::make_unique<FakeNetwork>();
    network = fake_network.get();
    parts.network = std::move(fake_network);
    parts.make_runtime = [this](runtime::RuntimeObserver& observer) -> Result<std::unique_ptr<runtime::Runtime>> {
      auto fake_runtime = std::make_unique<FakeRuntime>(folder() + "/world", observer);
      runtime = fake_runtime.get();
      return std::unique_ptr<runtime::Runtime>(std::move(fake_runtime));
    };
    parts.make_dns = [this](network::NameSource& names) -> Result<std::unique_ptr<network::DnsServer>> {
      auto fake_dns = std::make_unique<FakeDns>(names, served_names);
      dns = fake_dns.get();
      return std::unique_ptr<network::DnsServer>(std::move(fake_dns));
    };
    LocalOptions options;
    options.root = root();
    options.exec_root = folder() + "/run";
    options.resolv_conf_path = folder() + "/resolv.conf";
    options.start_pool = start_pool_;
    auto event = linux::eventfd();
    ASSERT_TRUE(event.ok());
    ending = std::move(*event);
    options.ending = {ending.get()};
    auto opened = open_local_engine(std::move(options), std::move(parts));
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    engine = std::move(*opened);
  }
  void close() { engine.reset(); }

  [[nodiscard]] const std::string& folder() const { return temp_ ? temp_->path() : given_; }
  [[nodiscard]] std::string root() const { return folder() + "/root"; }
  state::Store& store() { return *store_; }

  static ContainerSpec spec(std::vector<std::string> cmd, std::string name = "") {
    ContainerSpec spec;
    spec.image = "busybox";
    spec.cmd = std::move(cmd);
    spec.name = std::move(name);
    return spec;
  }
  std::string create(ContainerSpec spec) {
    auto created = engine->create(admin, std::move(spec));
    EXPECT_TRUE(created.ok()) << created.error().text();
    return created.ok() ? created->id : "";
  }
  std::string run(ContainerSpec spec) {
    std::string id = create(std::move(spec));
    auto started = engine->start(admin, id);
    EXPECT_TRUE(started.ok()) << started.error().text();
    return id;
  }
  State state_of(const std::string& name) {
    auto info = engine->inspect(admin, name, false);
    EXPECT_TRUE(info.ok()) << info.error().text();
    return info.ok() ? info->state : State::dead;
  }
  int wait(const std::string& name) {
    auto waiter = engine->begin_wait(admin, name, WaitCondition::not_running);
    EXPECT_TRUE(waiter.ok());
    auto result = (*waiter)->wait({});
    EXPECT_TRUE(result.ok());
    return result.ok() ? result->exit_code : -1;
  }
  /// Names of entries in a folder below the test's.
  [[nodiscard]] std::set<std::string> names_in(const std::string& below) const {
    std::set<std::string> names;
    auto entries = linux::list_dir(folder() + "/" + below);
    if (entries.ok())
      for (const auto& entry : *entries) names.insert(entry.name);
    return names;
  }

  const Caller admin{0, 0, 1, "test", "uid:0", policy::built_in("admin")};
  FakeImages* images = nullptr;     // borrowed from the engine
  FakeNetwork* network = nullptr;
  FakeRuntime* runtime = nullptr;
  FakeDns* dns = nullptr;             ///< once a container has needed it
  std::set<std::string> served_names; ///< ids of containers that the DNS server serves
  UniqueFd ending;                    ///< what tells the engine that its daemon ends
  std::unique_ptr<Engine> engine;

 private:
  std::string given_;
  std::unique_ptr<TempFolder> temp_;
  std::size_t start_pool_ = 0;
  state::Store* store_ = nullptr;
};

}  // namespace caisson::engine::fake
