// RegistrySession: the store's side of one fetch process, which speaks HTTP to a registry without any right on this host.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/fetch_protocol.hpp"
#include "image/frames.hpp"
#include "linux/mount.hpp"
#include "linux/process.hpp"

namespace caisson::image {

/// A running caisson-fetch: a child of ours, or of somebody who must be asked to end it.
class FetchChild {
 public:
  using Kill = std::function<Status()>;
  FetchChild() = default;
  /// `kill`: for one that is no child of ours. Errors of it: not_found (it has ended already).
  explicit FetchChild(UniqueFd pidfd, Kill kill = {}) : pidfd_(std::move(pidfd)), kill_(std::move(kill)) {}
  explicit operator bool() const { return static_cast<bool>(pidfd_); }
  /// Readable once it has ended.
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }
  /// Ends it, whatever it does; when this returns it uses no descriptor any more.
  void end();
  /// Takes leave of one that has ended. How it did, of a child of ours.
  std::optional<linux::ExitStatus> take_end();

 private:
  UniqueFd pidfd_;
  Kill kill_;
};

/// A fetch process that whoever has the channel speaks to. It ends when the channel does.
struct FetchProcess {
  UniqueFd channel;
  FetchChild child;
};

struct FetchOptions {
  std::string path;             ///< the caisson-fetch binary
  std::uint32_t host_id = 0;    ///< user and group it runs as; 0: nobody's where this process may choose, else its own
  linux::IdMap id_map;          ///< of a user namespace that it gets; then `host_id` is one of its ids, and no privilege is needed
  bool ends_with_parent = false;  ///< killed when the thread that has started it ends, whatever its channel says
  std::function<Result<FetchProcess>()> start_elsewhere;  ///< instead of all that: by who is where the registries are
};

/// caisson-fetch, speaking on `channel` (borrowed). Errors: unavailable (not installed), io.
Result<linux::ChildProcess> spawn_fetch_process(const FetchOptions& options, int channel);
/// One that knows what it is for. Errors: as above, and those of start_elsewhere.
Result<FetchProcess> start_fetch_process(const FetchOptions& options, const FetchSession& session);

/// A process for one repository, with its connections and tokens, until this object ends. Thread-safe: several calls run side by side.
class RegistrySession {
 public:
  /// Over a channel that another process has opened; whoever did sees to the fetch process's end.
  static std::unique_ptr<RegistrySession> adopt(UniqueFd channel);
  /// Errors: unavailable (no caisson-fetch here), io.
  static Result<std::unique_ptr<RegistrySession>> open(const FetchOptions& options, const FetchSession& session);
  ~RegistrySession();
  RegistrySession(const RegistrySession&) = delete;
  RegistrySession& operator=(const RegistrySession&) = delete;

  using OnProgress = std::function<void(std::uint64_t bytes)>;
  /// Sends the request (with `fd`, borrowed, when ≥ 0) and waits, or until one of `cancel_fds` (-1: none) becomes readable or hangs up.
  /// `on_progress` runs in this thread. The reply may be a failure. When it returns, nobody writes to `fd` any more.
  /// Errors: unavailable ("cancelled"), io (the process ended).
  Result<FetchReply> call(FetchRequest request, int fd, const OnProgress& on_progress, std::span<const int> cancel_fds);
  /// The process has ended, as far as its channel says: every call fails from now on.
  [[nodiscard]] bool has_ended();
  /// The same as call(), with a failed reply as its error.
  Result<FetchReply> ask(FetchRequest request, const Cancel& cancel);

 private:
  struct Pending {
    UniqueFd wake;  // eventfd
    std::atomic<std::uint64_t> bytes = 0;
    std::mutex mutex;
    std::optional<FetchReply> reply;
  };
  explicit RegistrySession(FetchProcess process);
  void listen();
  Status dispatch(FetchFrame type, std::string_view payload);
  void fail_all();
  Status send(FetchFrame type, std::string_view payload, int fd = -1);
  Result<FetchReply> await(Pending& pending, std::uint64_t number, const OnProgress& on_progress, std::span<const int> cancel_fds);
  void end_process();

  UniqueFd channel_;
  std::mutex process_mutex_;
  FetchChild child_;
  std::mutex send_mutex_;
  std::mutex pending_mutex_;
  std::map<std::uint64_t, std::shared_ptr<Pending>> pending_;  // shared: the listener may wake a call that is just leaving
  std::uint64_t next_number_ = 1;
  bool has_ended_ = false;
  std::thread listener_;
};

/// The reply's failure as an Error of ours, in the registry's words.
Error error_of(const FetchReply& reply);

}  // namespace caisson::image
