// Docker's contexts on disk: names of daemons with the keys that open them, in the layout that docker's own client reads and writes.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::cli {

/// "docker/ca.pem" and the like to the file's bytes. The first part is the endpoint's name.
using KeyMaterial = std::map<std::string, std::string>;

struct StoredContext {
  std::string name;
  std::string description;
  std::string host;           ///< of the endpoint "docker"; "" when it has none
  bool skips_verify = false;  ///< of its certificate
  json::object document;      ///< meta.json as it is: what we do not know of stays
};

/// CONFIG/contexts: meta/<sha256 of the name>/meta.json, and tls/<the same>/ENDPOINT/FILE. Nothing is cached; every call reads the disk.
class ContextStore {
 public:
  /// `folder`: docker's configuration folder.
  explicit ContextStore(std::string_view folder);

  /// Errors: not_found in docker's words; invalid.
  [[nodiscard]] Result<StoredContext> find(const std::string& name) const;
  /// Names in order. A folder whose meta.json cannot be read is left out: `find` of its name says why.
  [[nodiscard]] Result<std::vector<std::string>> names() const;
  /// The key files of a context, without their bytes: paths as in KeyMaterial.
  [[nodiscard]] Result<std::vector<std::string>> key_files(const std::string& name) const;
  /// The same with their bytes. Errors: invalid for what is too large to be a key.
  [[nodiscard]] Result<KeyMaterial> keys(const std::string& name) const;
  /// Writes a context over what was there; keys that are not in `keys` are removed.
  [[nodiscard]] Status save(const std::string& name, const json::object& document, const KeyMaterial& keys) const;
  [[nodiscard]] Status remove(const std::string& name) const;

  [[nodiscard]] std::string meta_folder(const std::string& name) const;
  [[nodiscard]] std::string tls_folder(const std::string& name) const;

 private:
  std::string folder_;
};

/// Errors: invalid in docker's words, also for "default", which names no stored one.
Status check_context_name(const std::string& name);
/// meta.json's fields. Errors: invalid.
Result<StoredContext> parse_context(const json::value& document);

/// docker's export format: a tar of meta.json and of the keys below tls/. The same context gives the same bytes.
Result<std::string> pack_context_archive(const json::object& document, const KeyMaterial& keys);
struct UnpackedContext {
  json::object document;
  KeyMaterial keys;
};
/// The reverse, of an archive that anybody may have made. Errors: invalid, unsupported (zip).
Result<UnpackedContext> unpack_context_archive(std::string_view archive);

}  // namespace caisson::cli
