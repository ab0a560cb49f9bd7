// What layers became in other forms: "image/form/<diffID>/<form>-<level>". By it a push learns that the registry has such a blob without making it again.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "image/layer_form.hpp"
#include "state/store.hpp"

namespace caisson::image {

struct FormRecord {
  Digest blob;
  std::uint64_t blob_bytes = 0;
  std::map<std::string, std::string> annotations;  ///< that its descriptor needs
  std::vector<std::string> repositories;           ///< that have it, as far as is known; the last one that was pushed to comes first
};

class FormRecords {
 public:
  explicit FormRecords(state::Store& store) : store_(store) {}

  /// Nothing when it was never made, or when what is remembered cannot be read: it is made again then.
  Result<std::optional<FormRecord>> find(const Digest& diff_id, const FormPlan& plan) const;
  /// A blob of another digest replaces what was known: a new version of a library makes other bytes. `repository`: one that has it now; "": none.
  /// Precondition: nobody else adds to the records of this layer.
  Status note(const Digest& diff_id, const FormPlan& plan, FormRecord made, const std::string& repository);
  /// Of layers that have gone from the store.
  Status forget(const std::vector<Digest>& diff_ids);
  /// Of all layers but these.
  Status keep_only(const std::vector<Digest>& diff_ids);

 private:
  Status commit(const state::Transaction& transaction);
  state::Store& store_;
};

}  // namespace caisson::image
