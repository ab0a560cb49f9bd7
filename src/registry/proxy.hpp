// Pull-through cache: repositories below a prefix stand for those of another registry, and are filled as they are asked for.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "image/registry_session.hpp"
#include "registry/catalog.hpp"
#include "registry/metrics.hpp"
#include "registry/storage.hpp"

namespace caisson::registry {

/// One other registry. Its process was started before this one gave up the right to start any.
struct Upstream {
  std::string prefix;  ///< "hub/": the repository hub/library/alpine here is library/alpine there
  std::string name;    ///< "docker.io", for messages
  std::int64_t fresh_ns = 0;  ///< for so long a tag is not asked for again
  std::shared_ptr<image::RegistrySession> session;  // shared: a request may still use it while the server ends
};

/// Thread-safe.
class Proxies {
 public:
  Proxies(Catalog& catalog, Storage& storage, Metrics& metrics, std::vector<Upstream> upstreams)
      : catalog_(catalog), storage_(storage), metrics_(metrics), upstreams_(std::move(upstreams)) {}

  /// Whether the repository is another registry's: nobody may push there.
  [[nodiscard]] bool is_proxied(std::string_view repository) const { return find(repository) != nullptr; }
  /// Sees to it that the manifest is here and, if it is a tag, fresh. What cannot be had is left as it is: the caller finds the old one or nothing.
  /// Errors: io (our own disk).
  Status bring_manifest(const std::string& repository, const std::string& reference);
  /// The same for a blob that a manifest here names.
  Status bring_blob(const std::string& repository, const Digest& digest);

 private:
  [[nodiscard]] const Upstream* find(std::string_view repository) const;
  Status fetch_manifest(const Upstream& upstream, const std::string& repository, const std::string& reference);
  Status fetch_blob(const Upstream& upstream, const std::string& repository, const Digest& digest, std::uint64_t size_bytes);
  Result<std::optional<std::uint64_t>> announced_size(const std::string& repository, const Digest& digest);
  /// One request at a time brings a thing; the others wait and find it.
  class Turn;

  Catalog& catalog_;
  Storage& storage_;
  Metrics& metrics_;
  const std::vector<Upstream> upstreams_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> under_way_;
};

}  // namespace caisson::registry
