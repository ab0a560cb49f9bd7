// Registries: how this host reaches registries. Opens sessions for the store, and answers what needs no store: login, search, inspect.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "image/manifest.hpp"
#include "image/registry_hosts.hpp"
#include "image/registry_session.hpp"

namespace caisson::image {

struct SearchRequest {
  std::string term;       ///< "alpine" (Docker Hub) or "host:5000/alpine"
  std::uint32_t limit = 25;
  RegistryCredentials credentials;
};
struct SearchHit {
  std::string name;
  std::string description;
  std::int64_t stars = 0;
  bool is_official = false;
  bool is_automated = false;
};

/// What /distribution tells of a reference, without pulling it.
struct DistributionInfo {
  Descriptor descriptor;
  std::vector<Platform> platforms;
};

/// Thread-safe.
class Registries {
 public:
  /// `fetch`: its path is that of `options`.
  Registries(RegistryOptions options, FetchOptions fetch) : options_(std::move(options)), fetch_(std::move(fetch)) { fetch_.path = options_.fetch_path; }

  /// `actions`: "pull" or "pull,push". Errors: unavailable (no caisson-fetch), invalid (a bad hosts.toml).
  Result<std::unique_ptr<RegistrySession>> open(const Reference& repository, const std::string& actions, const RegistryCredentials& credentials) const;
  /// A process for reading that somebody else will speak to, for whom waiting has an end: within about half a minute every request is answered.
  /// Errors: as open.
  Result<FetchProcess> start_impatient(const Reference& repository, const RegistryCredentials& credentials) const;
  /// Checks the credentials. Returns the identity token that the registry gave, or "". Errors: denied, unavailable.
  Result<std::string> login(const std::string& server, const RegistryCredentials& credentials, const Cancel& cancel) const;
  Result<std::vector<SearchHit>> search(const SearchRequest& request, const Cancel& cancel) const;
  Result<DistributionInfo> inspect(const std::string& reference, const RegistryCredentials& credentials, const Cancel& cancel) const;

  /// A document of at most 16 MiB from any web server: no credentials, no registry's API. Errors: not_found, unavailable, invalid (no URL).
  Result<std::string> get_document(const std::string& url, const Cancel& cancel) const;

  [[nodiscard]] const RegistryOptions& options() const { return options_; }

 private:
  Result<FetchSession> session_for(const Reference& repository, const std::string& actions, const RegistryCredentials& credentials) const;
  Result<std::unique_ptr<RegistrySession>> open_session(FetchSession session) const;
  RegistryOptions options_;
  FetchOptions fetch_;
};

/// A manifest or index as a registry gave it, checked: the digest that was asked for or announced is the content's, the media type says
/// what the content is. Errors: corrupt, invalid, unsupported, and the registry's in docker's words.
struct FetchedManifest {
  std::string text;
  std::string media_type;
  Digest digest;
  std::string etag;  ///< "": the registry gives none
};
Result<FetchedManifest> fetch_manifest(RegistrySession& session, const Reference& reference, const std::string& tag_or_digest, const Cancel& cancel);

/// What an image's config may take; attached documents may be given more.
inline constexpr std::size_t most_document_bytes = 8 << 20;
/// A manifest for one platform, and the digests that lead to it: its own, then those of the indexes above it.
struct FoundManifest {
  FetchedManifest manifest;
  std::vector<Digest> digests;
};
/// Follows indexes, nested three deep at most, from `top` down to the manifest for `wanted`. Errors: as fetch_manifest and choose_platform.
Result<FoundManifest> find_manifest(RegistrySession& session, const Reference& reference, FetchedManifest top, const Platform& wanted, const Cancel& cancel);

/// A document such as an image's config, checked against its descriptor. Errors: corrupt, invalid (too large), the registry's.
Result<std::string> fetch_small_blob(RegistrySession& session, const Descriptor& descriptor, const Cancel& cancel, std::size_t most_bytes = most_document_bytes);

/// The entry of an index for a machine: the nearest variant, no attestations. Errors: unsupported, listing what is offered.
Result<Descriptor> choose_platform(const Index& index, const Platform& wanted);
/// "https://index.docker.io/v1/", "docker.io", "localhost:5000" → the domain part of references. Errors: invalid.
Result<std::string> domain_of_server(std::string_view server);
/// Hub's answer to a search. Errors: corrupt.
Result<std::vector<SearchHit>> parse_search(std::string_view body);

}  // namespace caisson::image
