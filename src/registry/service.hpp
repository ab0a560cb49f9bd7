// The registry put together over one folder: what the server, and the commands on a folder that no server has, work on.
#pragma once

#include <memory>
#include <string>

#include "base/result.hpp"
#include "registry/api.hpp"
#include "registry/config.hpp"
#include "registry/s3_client.hpp"

namespace caisson::registry {

/// What had to be read or started with the rights that are gone by now.
struct Prepared {
  AccessOptions access;
  std::vector<Upstream> upstreams;
  std::vector<EventTarget> event_targets;
  std::unique_ptr<S3Client> bucket;  ///< none: the folder is the storage
};
/// The client of the bucket with its keys and its process, if blobs are to lie in one.
Result<std::unique_ptr<S3Client>> prepare_bucket(const Config& config, std::uint32_t helper_id);
/// Reads htpasswd, keys and passwords, and starts the processes that speak to other servers, as the user `helper_id`.
Result<Prepared> prepare(const Config& config, std::uint32_t helper_id);

/// The registry's records, and with them the folder: no other process gets it meanwhile. Waits at most `wait_ms` for one that has it.
/// Errors: unavailable (another process has the folder), corrupt, io.
Result<state::OpenedStore> open_records(const Config& config, int wait_ms);

class Service {
 public:
  /// Takes up whatever an earlier process left. Errors: corrupt, io.
  static Result<std::unique_ptr<Service>> open(const Config& config, state::OpenedStore records, Prepared prepared);

  Catalog& catalog() { return *catalog_; }
  Uploads& uploads() { return *uploads_; }
  Metrics& metrics() { return metrics_; }
  Api& api() { return *api_; }
  const Config& config() const { return config_; }

  /// Removes what nothing leads to, and forgotten uploads.
  Result<CleanUp> clean_up(const Catalog::CleanUpOptions& options);
  Gauges gauges();

 private:
  explicit Service(Config config) : config_(std::move(config)) {}

  // In the order of their dependence: destroyed from the end.
  Config config_;
  Metrics metrics_;
  std::unique_ptr<state::Store> store_;
  std::unique_ptr<image::ContentStore> content_;
  std::unique_ptr<Storage> storage_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<Uploads> uploads_;
  std::unique_ptr<Access> access_;
  std::unique_ptr<Proxies> proxies_;
  std::unique_ptr<EventSink> events_;
  std::unique_ptr<Api> api_;
};

}  // namespace caisson::registry
