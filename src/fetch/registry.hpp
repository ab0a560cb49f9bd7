// Registry: the distribution API of one repository over its endpoints: mirrors first, tries again, goes on where it stopped.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "fetch/authorizer.hpp"
#include "fetch/http.hpp"
#include "image/fetch_protocol.hpp"

namespace caisson::fetch {

/// What a running request can be told, and tells.
class Ticket {
 public:
  std::function<void(std::uint64_t bytes)> on_progress;
  void cancel();
  [[nodiscard]] bool is_cancelled() const { return cancelled_; }
  [[nodiscard]] const std::atomic<bool>* flag() const { return &cancelled_; }
  /// Waits, or returns at once when cancelled. False: cancelled.
  bool pause(std::uint32_t milliseconds);

 private:
  std::atomic<bool> cancelled_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
};

/// Thread-safe: requests run side by side.
class Registry {
 public:
  Registry(HttpClient& http, image::FetchSession session);

  /// One request of any task. `fd` is borrowed; -1: none came. Never fails by itself: the reply carries what went wrong.
  image::FetchReply serve(const image::FetchRequest& request, int fd, Ticket& ticket);

 private:
  struct Endpoint {
    image::RegistryEndpoint settings;
    HttpSettings http;
    std::unique_ptr<Authorizer> authorizer;
    std::atomic<bool> has_answered = false;  ///< HTTP is spoken there: a lost connection is worth another attempt
    std::atomic<bool> is_dead = false;       ///< nobody did so far: the next requests go elsewhere first
  };
  using Reply = image::FetchReply;
  using Request = image::FetchRequest;

  Status run(const Request& request, int fd, Ticket& ticket, Reply& reply);
  Status get_manifest(const Request& request, Ticket& ticket, Reply& reply);
  Status list_tags(Ticket& ticket, Reply& reply);
  Status list_referrers(const Request& request, Ticket& ticket, Reply& reply);
  Status login(Ticket& ticket, Reply& reply);
  Status search(const Request& request, Ticket& ticket, Reply& reply);
  Status post(const Request& request, Ticket& ticket);
  Status exchange(const Request& request, int fd, Ticket& ticket, Reply& reply);

  // download.cpp
  Status get_blob(const Request& request, int fd, Ticket& ticket, Reply& reply);
  Status get_range(const Request& request, int fd, Ticket& ticket, Reply& reply);
  Status range_from(Endpoint& endpoint, const Request& request, int fd, std::uint64_t& done, Ticket& ticket, Reply& reply);
  struct Download;
  Status download_from(Endpoint& endpoint, const Request& request, Download& download, Ticket& ticket, Reply& reply);

  // upload.cpp
  Status has_blob(const Request& request, Ticket& ticket, Reply& reply);
  Status upload(const Request& request, int fd, Ticket& ticket, Reply& reply);
  /// An upload without bytes: succeeds also when no repository gave it, and reply.mounted_from is empty then.
  Status mount(const Request& request, Ticket& ticket, Reply& reply);
  Result<HttpReply> ask_to_mount(Endpoint& endpoint, const std::string& digest, const std::string& source, Ticket& ticket);
  Result<Url> begin_upload(Endpoint& endpoint, const Request& request, Ticket& ticket, Reply& reply);
  Result<Url> send_content(Endpoint& endpoint, const Request& request, int fd, Url location, Ticket& ticket);
  Status put_manifest(const Request& request, Ticket& ticket, Reply& reply);

  /// Sends with authorization and answers challenges. Any other status is the caller's.
  Result<HttpReply> send(Endpoint& endpoint, HttpRequest request, Ticket& ticket);
  /// The same, and again after 429 and 5xx and lost connections.
  Result<HttpReply> send_patiently(Endpoint& endpoint, const HttpRequest& request, Ticket& ticket);
  /// Calls `attempt` with each endpoint that `may` serve until one succeeds or the origin has refused. The last error is reported.
  Status try_each(const std::function<bool(const image::RegistryEndpoint&)>& may, const std::function<Status(Endpoint&)>& attempt, Ticket& ticket);
  [[nodiscard]] std::uint32_t pause_ms(std::uint32_t failures, const HttpReply* reply) const;
  [[nodiscard]] std::string url(const Endpoint& endpoint, std::string_view rest) const;
  /// The error of an answer that is no success, with the registry's code noted in `reply`.
  static Error error_of(const HttpReply& answer, const std::string& method, const std::string& url, Reply& reply);

  HttpClient& http_;
  const image::FetchSession session_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
};

/// A status that another attempt may change.
bool is_passing(int status);

}  // namespace caisson::fetch
