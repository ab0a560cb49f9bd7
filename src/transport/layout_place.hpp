// LayoutPlace: a folder in the form that the image specification calls an OCI image layout.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/json.hpp"
#include "transport/place.hpp"

namespace caisson::transport {

class LayoutPlace final : public Place {
 public:
  enum class Mode : std::uint8_t { read, write };
  /// Mode::write makes what is missing. Errors: not_found (no layout), invalid (a layout of another version), io.
  static Result<std::unique_ptr<LayoutPlace>> open(const std::string& folder, Mode mode);

  /// Written beside each tag as the image's full name, for whoever loads the layout into an engine.
  void set_repository_name(std::string name) { repository_name_ = std::move(name); }

  [[nodiscard]] std::string name() const override { return "oci:" + folder_; }
  Result<image::FetchedManifest> manifest(const std::string& name) override;
  Result<std::vector<std::string>> tags() override;
  Result<UniqueFd> open_blob(const image::Descriptor& blob) override;
  Status fetch_blob(const image::Descriptor& blob, int fd, std::uint64_t offset, const OnBytes& on_bytes) override;
  Result<bool> has_blob(const image::Descriptor& blob) override;
  Result<bool> mount_blob(const image::Descriptor& /*blob*/, const std::string& /*from_path*/) override { return false; }
  Status put_blob(const image::Descriptor& blob, const ReadyBlob& ready, const OnBytes& on_bytes) override;
  Status put_manifest(const image::FetchedManifest& manifest, const std::optional<std::string>& tag) override;
  Result<std::vector<image::Descriptor>> referrers(const Digest& subject) override;
  Status put_referrer(const image::FetchedManifest& manifest, const image::Attachment& attachment) override;
  [[nodiscard]] std::string spool_folder() const override { return folder_ + "/partial"; }

  [[nodiscard]] std::string blob_path(const Digest& digest) const;
  [[nodiscard]] const std::string& folder() const { return folder_; }
  Result<image::Index> index() const;

 private:
  explicit LayoutPlace(std::string folder) : folder_(std::move(folder)) {}
  Result<UniqueFd> open_file(const Digest& digest) const;
  Result<json::object> read_index() const;
  Status list(const image::FetchedManifest& manifest, const std::string& tag, const std::string& artifact_type);
  /// What a listed manifest is attached to; without a subject also what is missing or no manifest.
  Result<image::Attachment> attachment(const image::Descriptor& entry);
  /// The entry of the only image: what is attached to it does not count.
  Result<image::Descriptor> only_image(const std::vector<image::Descriptor>& entries);

  std::string folder_;
  std::string repository_name_;
  std::mutex mutex_;
  std::map<Digest, image::Attachment> attachments_;  // as far as manifests have been read for it; what a digest names does not change
};

/// The folders below `folder` (itself too) that are layouts, relative to it and in order of their names. Links are not followed.
Result<std::vector<std::string>> find_layouts(const std::string& folder);

}  // namespace caisson::transport
