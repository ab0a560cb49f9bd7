// What the worker process does for the inventory, and how it is asked: hostile layers and foreign data are read there and nowhere else.
#pragma once

#include <string>

#include "base/result.hpp"
#include "image/byte_source.hpp"
#include "image/examine.hpp"
#include "inventory/advisories.hpp"
#include "inventory/layer.hpp"

namespace caisson::inventory {

/// In the worker: an answer to `question` about the decoded input. caisson-worker's main() hands it to image::examiner_main.
Result<std::string> answer_question(const std::string& question, image::ByteSource& input);

/// In the parent, one worker each. `blob_fd`: a layer as it is stored, compressed or not. Errors: those of examine_in_worker.
Result<LayerReport> examine_layer_in_worker(const image::WorkerOptions& worker, int blob_fd, const Cancel& cancel);
/// `data_fd`: advisories of any kind that find_faults knows, gzip or zstd around them too.
Result<std::vector<Finding>> find_faults_in_worker(const image::WorkerOptions& worker, int data_fd, const ScanQuestion& question, const Cancel& cancel);

}  // namespace caisson::inventory
