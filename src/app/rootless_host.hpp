// What the supervisor of an engine without root does for it in the host's namespaces, request by request.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "app/rootless.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/registry_session.hpp"
#include "linux/mount.hpp"

namespace caisson::app {

/// The map of a fetch process's own user namespace: of the engine's ids (as the host sees them) nobody's alone, to which no file belongs and over which the engine
/// has no rights there. Pure. Errors: invalid (there is none).
Result<linux::IdMap> fetch_id_map(const linux::IdMap& engine);

/// A copy of an error for the other side.
HostAnswer refusal(const Error& error);

/// Believes nothing of a request: what it may execute, and as whom, is settled before the first one comes.
class HostServices {
 public:
  explicit HostServices(image::FetchOptions fetch) : fetch_(std::move(fetch)) {}
  HostServices(const HostServices&) = delete;
  HostServices& operator=(const HostServices&) = delete;

  struct Reply {
    HostAnswer answer;
    std::vector<UniqueFd> fds;
  };
  /// Errors: corrupt (no request of an engine: whoever sent it is not listened to any more). What cannot be done is an answer.
  Result<Reply> answer(std::string_view request);
  /// pidfds of the fetch processes that run, borrowed: readable when one has ended.
  [[nodiscard]] std::vector<int> fetch_pidfds() const;
  /// Takes leave of those that have ended.
  void reap_fetches();

 private:
  Result<Reply> carry_out(const HostRequest& request);
  Result<Reply> start_fetch();
  Status end_fetch(std::int32_t pid);
  image::FetchOptions fetch_;
  std::map<std::int32_t, UniqueFd> fetches_;  ///< pidfds by number; not reaped, so no number is another's
};

}  // namespace caisson::app
