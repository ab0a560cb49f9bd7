// ArchivePlan: which images an archive holds, read from its split members. Pure over a lookup of members, no disk layout.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "image/manifest.hpp"
#include "image/worker_protocol.hpp"

namespace caisson::image {

struct PlannedLayer {
  Digest diff_id;
  Digest blob;
  std::uint64_t size_bytes = 0;
  std::uint64_t file = 0;  ///< number of the split member
  std::string media_type;
};

struct PlannedImage {
  std::string config_text;
  std::string manifest_text;  ///< as in the archive, or ours for a docker-archive
  std::vector<PlannedLayer> layers;
  std::vector<std::string> names;  ///< canonical references
};

/// The members of an archive by normalised name, and how to read one of them.
class ArchiveMembers {
 public:
  using Reader = std::function<Result<std::string>(const ArchiveMember& member)>;
  ArchiveMembers(const std::vector<ArchiveMember>& members, Reader read);

  /// The file behind a name; links inside the archive are followed by name. Errors: invalid ("X is missing", a link that
  /// leads nowhere), naming the member.
  Result<const ArchiveMember*> find(const std::string& name) const;
  [[nodiscard]] bool has(const std::string& name) const { return by_name_.count(name) != 0; }
  /// A document. Errors: as find; invalid when it is larger than 16 MiB.
  Result<std::string> text(const std::string& name) const;
  /// The blob of a descriptor in an OCI layout, checked for size and digest. Errors: invalid, corrupt.
  Result<const ArchiveMember*> blob(const Descriptor& descriptor) const;
  Result<std::string> blob_text(const Descriptor& descriptor) const;
  /// First bytes of a member, for its compression.
  Result<Compression> compression(const ArchiveMember& member) const { return sniff_(member); }
  void set_sniffer(std::function<Result<Compression>(const ArchiveMember&)> sniff) { sniff_ = std::move(sniff); }

 private:
  std::map<std::string, const ArchiveMember*> by_name_;
  Reader read_;
  std::function<Result<Compression>(const ArchiveMember&)> sniff_;
};

/// All images of an OCI layout (preferred: it keeps digests) or a docker-archive. `wanted` chooses inside multi-platform
/// indexes; `artifact_type`: what may stand in a layout beside images. Errors: invalid, naming the document and field; corrupt (digests that do not match); unsupported.
Result<std::vector<PlannedImage>> plan_archive(const ArchiveMembers& members, const Platform& wanted, std::string_view artifact_type = {});

}  // namespace caisson::image
