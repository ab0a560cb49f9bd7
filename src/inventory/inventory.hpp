// Inventory: what is installed in an image, with the layer that each package came with. Pure: layers' reports in, one list out.
#pragma once

#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "inventory/layer.hpp"

namespace caisson::inventory {

struct InstalledPackage {
  Package package;
  std::size_t layer = 0;  ///< index into Inventory::layers: the one that installed this version
};

struct Inventory {
  std::vector<Digest> layers;  ///< blobs, lowest first
  Distribution distribution;
  std::vector<InstalledPackage> packages;  ///< by kind, name, version, architecture
};

/// Stacks the layers' reports as an overlay stacks the layers. `reports`: one for each of `layers`, lowest first.
/// Errors: unsupported and corrupt, naming file and layer: a database that counts in the end and could not be read.
Result<Inventory> stack_layers(const std::vector<Digest>& layers, const std::vector<LayerReport>& reports);

}  // namespace caisson::inventory
