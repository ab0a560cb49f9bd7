// CRIU as a program that answers requests: `criu swrk FD`, protobuf messages over a socket pair (criu.org/RPC).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::runtime {

/// Numbers of rpc.proto's criu_req_type.
enum class CriuRequest : std::uint8_t { dump = 1, restore = 2, pre_dump = 4, notify = 6, feature_check = 9, version = 10 };

struct CriuPair {
  std::string key;
  std::string value;
};
/// The options of rpc.proto's criu_opts that we use. Descriptors are ours: CRIU opens them through /proc/PID/fd.
struct CriuOptions {
  int images_fd = -1;
  int work_fd = -1;
  std::string log_file;
  int pid = 0;
  std::string root;
  std::string parent_image;  ///< relative to the images
  std::string freeze_cgroup;
  std::string lsm_profile;
  std::string lsm_mount_context;
  std::string config_file;
  std::optional<std::int32_t> cgroups_mode;       ///< rpc.proto's criu_cg_mode
  std::optional<std::int32_t> network_lock;       ///< criu_network_lock_method
  std::optional<std::uint32_t> empty_namespaces;  ///< CLONE_NEW*
  std::optional<int> status_fd;
  std::optional<CriuPair> page_server;    ///< address, port
  std::vector<CriuPair> external_mounts;  ///< dump: mount point → name; restore: name → source
  std::vector<std::string> external;
  std::vector<CriuPair> cgroup_roots;                      ///< controllers (perhaps empty) → path
  std::vector<std::pair<std::string, int>> inherited_fds;  ///< name → number in CRIU, see CriuStart
  bool leave_running = false;
  bool track_memory = false;
  bool tcp_established = false;
  bool tcp_skip_in_flight = false;
  bool tcp_close = false;
  bool external_unix_sockets = false;
  bool shell_job = false;
  bool file_locks = false;
  bool link_remap = false;
  bool auto_dedup = false;
  bool lazy_pages = false;
  bool evasive_devices = false;
  bool restore_as_sibling = false;  ///< the restored init is our child
  bool orphan_terminal = false;     ///< the pty's master is kept by somebody outside
};

struct CriuAnswer {
  bool success = false;
  int pid = 0;  ///< restore
  int error_number = 0;
  std::string message;
  bool can_track_memory = false;  ///< feature_check
  bool has_lazy_pages = false;
};

/// Pure: a request's bytes; a message's meaning.
std::string encode_criu_request(CriuRequest type, const CriuOptions* options);
struct CriuMessage {
  CriuAnswer answer;
  bool is_notification = false;
  std::string script;  ///< "setup-namespaces", "post-restore", "orphan-pts-master", …
  int pid = 0;
};
Result<CriuMessage> decode_criu_message(std::string_view bytes);

/// What the program is started with.
struct CriuStart {
  std::string program = "criu";        ///< searched in PATH without a slash
  int standard_fds[3] = {-1, -1, -1};  ///< -1: /dev/null
  std::vector<int> inherited;          ///< become 4, 5, …
};

class CriuClient {
 public:
  static constexpr int first_inherited_fd = 4;
  /// Errors: unavailable with a hint when there is no such program.
  static Result<CriuClient> start(const CriuStart& start);
  CriuClient(CriuClient&&) noexcept = default;
  CriuClient& operator=(CriuClient&&) = delete;
  CriuClient(const CriuClient&) = delete;
  CriuClient& operator=(const CriuClient&) = delete;
  ~CriuClient();

  [[nodiscard]] int pid() const { return pid_; }
  using Notify = std::function<Status(const CriuMessage&, UniqueFd fd)>;
  /// One request and its answer; the program ends afterwards. `notify` is called for each step that CRIU announces; its error
  /// makes CRIU give up, and is the one returned.
  Result<CriuAnswer> request(CriuRequest type, const CriuOptions* options, const Notify& notify);

 private:
  CriuClient(UniqueFd socket, int pid, UniqueFd pidfd) : socket_(std::move(socket)), pidfd_(std::move(pidfd)), pid_(pid) {}
  UniqueFd socket_;
  UniqueFd pidfd_;
  int pid_;
};

/// The reasons in CRIU's log: its last lines that say "Error", or else its last lines at all.
std::string criu_log_reason(std::string_view log);

}  // namespace caisson::runtime
