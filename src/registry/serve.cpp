// From the superuser's rights to none, in the order in which things need them.
#include "registry/serve.hpp"

#include <malloc.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/environment.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/service_manager.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"
#include "registry/admin.hpp"
#include "registry/confine.hpp"
#include "registry/service.hpp"
#include "wire/http_server.hpp"

namespace caisson::registry {

namespace {

constexpr int command_timeout_ms = 30'000;
constexpr int grace_ms = 3000;  // a push that is cut goes on with the next process

/// Cleans up every so often, in a thread of its own.
class Cleaner {
 public:
  explicit Cleaner(Service& service) : service_(service) {
    if (service.config().clean_up_every_ns > 0) thread_ = std::thread([this] { run(); });
  }
  ~Cleaner() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  Cleaner(const Cleaner&) = delete;
  Cleaner& operator=(const Cleaner&) = delete;

 private:
  void run() {
    const auto& config = service_.config();
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, std::chrono::nanoseconds(config.clean_up_every_ns), [&] { return stopping_; })) {
      lock.unlock();
      auto done = service_.clean_up({config.grace_ns, config.removes_untagged});
      if (done.ok()) log(LogLevel::info, "clean up", config.root, concat(done->blobs, " blobs, ", human_size(done->bytes), ", ", done->uploads, " uploads removed"));
      else log_error("clean up", config.root, done.error());
      lock.lock();
    }
  }
  Service& service_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

/// A server with the thread that runs it.
class Running {
 public:
  explicit Running(wire::Handler handler) : server_(wire::create_server(std::move(handler), wire::ServerOptions{})) {}
  ~Running() { stop(); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  wire::Server& server() { return *server_; }
  void start() {
    thread_ = std::thread([this] {
      if (auto status = server_->run(); !status.ok()) log_error("serve", "", status.error());
    });
  }
  void stop() {
    if (!thread_.joinable()) return;
    server_->stop(grace_ms);
    thread_.join();
    server_.reset();  // waits for handlers that are busy elsewhere: what they use goes next
  }

 private:
  std::unique_ptr<wire::Server> server_;
  std::thread thread_;
};

/// Every listener of the API. Where the kernel chose a port, the address tells which.
Status listen(const Config& config, wire::Server& server, std::vector<std::string>& addresses) {
  const bool has_tls = !config.tls.certificate.empty();
  auto files = config.tls;
  files.verify = !files.ca.empty();
  auto add = [&](UniqueFd socket) -> Status {
    auto endpoint = linux::local_endpoint(socket.get());
    addresses.push_back(endpoint.ok() ? linux::to_string(*endpoint) : "inherited socket");
    if (!has_tls) return server.add_listener(std::move(socket));
    return server.add_tls_listener(std::move(socket), TRY_PLAIN(wire::TlsContext::create_server(files)));
  };
  auto inherited = TRY(wire::inherited_listeners(linux::getpid()), "sockets of the service manager");
  for (auto& socket : inherited) TRY(add(std::move(socket)), "listen");
  if (!addresses.empty()) return {};
  for (const auto& address : config.listen) TRY(add(TRY_PLAIN(wire::listen_tcp(address))), concat("listen on ", address));
  return {};
}

void raise_descriptor_limit() {
  auto limit = linux::get_limit(0, RLIMIT_NOFILE);
  if (!limit.ok()) return;
  limit->soft = limit->hard;
  ignore(linux::set_limit(0, RLIMIT_NOFILE, *limit));  // without it fewer clients fit, and those that do not are told so
}

void answer_admin(Admin& admin, wire::Exchange& exchange, bool only_metrics) {
  if (only_metrics && exchange.path() != "/metrics") {
    auto answer = refuse(404, code::unsupported, "only /metrics is here");
    ignore(exchange.respond(answer.status, answer.headers, answer.body));  // whoever left needs no answer
    return;
  }
  auto answer = admin.answer(exchange.method(), exchange.path(), exchange.query());
  ignore(exchange.respond(answer.status, answer.headers, answer.body));  // the same
}

Status wait_for_the_end(int signals) {
  for (;;) {
    TRY_PLAIN(linux::wait_readable(signals, -1));
    auto event = TRY_PLAIN(linux::signalfd_take(signals));
    if (event && event->signal != SIGHUP) return {};
    if (event) log(LogLevel::info, "serve", "", "SIGHUP: settings are read at the start only");
  }
}

}  // namespace

Status serve(const Config& config) {
  // Blocked before the first thread exists, so that they arrive at the signalfd only.
  linux::SignalSet endings{SIGTERM, SIGINT, SIGHUP};
  TRY(linux::signal_mask(SIG_BLOCK, endings), "signals");
  auto signals = TRY(linux::signalfd(endings), "signals");
  TRY(linux::ignore_signal(SIGPIPE), "signals");
  raise_descriptor_limit();
  mallopt(M_ARENA_MAX, 4);  // many threads that allocate little
  linux::umask(077);

  // With the rights we were started with: addresses, secrets, the folder, helpers.
  Service* assembled = nullptr;
  Running main([&](wire::Exchange& exchange) { assembled->api().handle(exchange); });
  std::vector<std::string> addresses;
  TRY_PLAIN(listen(config, main.server(), addresses));
  std::optional<UniqueFd> metrics_socket;
  if (!config.metrics_listen.empty()) metrics_socket = TRY(wire::listen_tcp(config.metrics_listen), concat("listen on ", config.metrics_listen));
  const auto identity = TRY_PLAIN(choose_identity(config.user, config.root));
  TRY_PLAIN(prepare_root(config.root, identity));
  auto prepared = TRY_PLAIN(prepare(config, identity.uid));

  // While there is still a right to reach it; the socket stays.
  UniqueFd manager;
  if (const auto address = environment_text("NOTIFY_SOCKET"); !address.empty()) manager = TRY(linux::connect_service_manager(address), "service manager");

  TRY_PLAIN(become(identity));
  auto admin_listener = TRY(wire::listen_unix(admin_socket(config.root), 0600, std::nullopt), "administrators' socket");
  TRY(confine(config.root), "give up rights");

  // Whoever finds the administrators' socket asks there from now on, so only a command that opened the folder before can still have it.
  auto records = TRY_PLAIN(open_records(config, command_timeout_ms));
  auto service = TRY_PLAIN(Service::open(config, std::move(records), std::move(prepared)));
  assembled = service.get();
  Admin admin(*service);
  Running admins([&](wire::Exchange& exchange) { answer_admin(admin, exchange, false); });
  TRY_PLAIN(admins.server().add_listener(std::move(admin_listener)));
  Running metrics([&](wire::Exchange& exchange) { answer_admin(admin, exchange, true); });
  if (metrics_socket) TRY_PLAIN(metrics.server().add_listener(std::move(*metrics_socket)));
  Cleaner cleaner(*service);
  admins.start();
  if (metrics_socket) metrics.start();
  main.start();
  log(LogLevel::info, "serve", join(addresses, " "), concat("caisson-registry ", CAISSON_VERSION, " is ready, as user ", identity.uid));
  if (manager) TRY(linux::send_message(manager.get(), "READY=1"), "service manager");
  auto ended = wait_for_the_end(signals.get());
  log(LogLevel::info, "serve", "", "ending");
  if (manager) TRY(linux::send_message(manager.get(), "STOPPING=1"), "service manager");
  main.stop();
  return ended;
}

}  // namespace caisson::registry
