// RegistryPlace: a registry's repository, through a fetch process of its own.
#pragma once

#include <memory>
#include <string>

#include "transport/place.hpp"

namespace caisson::transport {

class RegistryPlace final : public Place {
 public:
  /// `actions`: "pull" or "pull,push". Errors: those of Registries::open.
  static Result<std::unique_ptr<RegistryPlace>> open(const image::Registries& registries, const image::Reference& reference, const std::string& actions,
                                                     const image::RegistryCredentials& credentials, Cancel cancel);

  [[nodiscard]] std::string name() const override { return reference_.repository(); }
  [[nodiscard]] std::optional<image::Reference> repository() const override { return reference_; }
  Result<image::FetchedManifest> manifest(const std::string& name) override;
  Result<std::vector<std::string>> tags() override;
  Result<UniqueFd> open_blob(const image::Descriptor& /*blob*/) override { return UniqueFd(); }
  Status fetch_blob(const image::Descriptor& blob, int fd, std::uint64_t offset, const OnBytes& on_bytes) override;
  Result<bool> has_blob(const image::Descriptor& blob) override;
  Result<bool> mount_blob(const image::Descriptor& blob, const std::string& from_path) override;
  Status put_blob(const image::Descriptor& blob, const ReadyBlob& ready, const OnBytes& on_bytes) override;
  Status put_manifest(const image::FetchedManifest& manifest, const std::optional<std::string>& tag) override;
  Result<std::vector<image::Descriptor>> referrers(const Digest& subject) override;
  Status put_referrer(const image::FetchedManifest& manifest, const image::Attachment& attachment) override;

 private:
  RegistryPlace(image::Reference reference, std::unique_ptr<image::RegistrySession> session, Cancel cancel)
      : reference_(std::move(reference)), session_(std::move(session)), cancel_(cancel) {}
  /// The reply of a success; a failure as an error that names the registry and `what`.
  Result<image::FetchReply> call(image::FetchRequest request, int fd, const OnBytes& on_bytes, const std::string& what);

  image::Reference reference_;
  std::unique_ptr<image::RegistrySession> session_;
  Cancel cancel_;
};

}  // namespace caisson::transport
