// TrustGate: lets images in, and containers out of them, as the host's signature policy says. By digest, never by name alone.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "image/image_store.hpp"
#include "image/registries.hpp"
#include "state/store.hpp"
#include "trust/judge.hpp"
#include "trust/policy_file.hpp"

namespace caisson::image {

/// Where an image came from and what was found there to vouch for it: enough to judge it again under another policy, without a network.
struct Origin {
  std::string transport;                           ///< as policies name it: "docker", "docker-archive", "oci-archive", "tarball", "containers-storage"
  std::string reference;                           ///< canonical; of "docker" alone
  std::vector<Digest> digests;                     ///< the manifest, then the indexes by which it was found
  std::vector<trust::FoundSignature> signatures;   ///< of those kinds that the policy of that time asked for
};

/// Thread-safe.
class TrustGate {
 public:
  TrustGate(TrustOptions options, state::Store& store) : options_(std::move(options)), store_(store) {}

  /// At a pull, before anything but manifests has come: fetches the signatures that the policy asks for and judges. Returns what is to be
  /// recorded with the image. Errors: denied, naming image, digest, scope and requirement; invalid (the policy), the registry's.
  Result<Origin> admit_pull(const Registries& registries, RegistrySession& session, const Reference& reference, const std::vector<Digest>& digests, const Cancel& cancel) const;
  /// What comes as a stream or is made here. Errors: denied, invalid (the policy).
  Result<Origin> admit_local(std::string_view transport, const Digest& manifest) const;
  /// At use: some origin of the image satisfies the policy; one of the repository of `name`, when the image came from there. What was judged
  /// under this very policy is remembered. Errors: denied, invalid (the policy), corrupt (a record).
  Status admit_use(const Digest& id, const std::optional<Reference>& name);
  /// The judgement of what is in a registry now, under the policy or under other requirements. Errors: as admit_pull.
  struct Verdict {
    std::string where;  ///< the policy's file, or "the given requirements"
    trust::Admission admission;
    std::size_t signatures = 0;
  };
  Result<Verdict> verify(const Registries& registries, RegistrySession& session, const Reference& reference, const std::vector<Digest>& digests,
                         std::optional<trust::Requirements> requirements, const Cancel& cancel) const;

  /// Adds `origin` to what is known of the image, in place of an older one of the same name.
  Status put(state::Transaction& transaction, const Digest& id, const Origin& origin) const;
  static void erase(state::Transaction& transaction, const Digest& id);

 private:
  Result<std::vector<Origin>> origins(const Digest& id) const;
  Status judge_use(const trust::HostPolicy& host, const Digest& id, const std::optional<Reference>& name);
  [[nodiscard]] std::optional<TimestampNs> remembered(const std::string& key);
  void remember(const std::string& key, TimestampNs valid_until);

  TrustOptions options_;
  state::Store& store_;
  std::mutex mutex_;
  std::map<std::string, TimestampNs> passed_;  ///< "POLICY ID REPOSITORY" → until when (0: for ever)
};

}  // namespace caisson::image
