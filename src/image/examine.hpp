// Asking a worker process about the contents of hostile bytes: it has them, a question, and nothing else, not even a folder.
#pragma once

#include <string>

#include "base/cancel.hpp"
#include "base/codec.hpp"
#include "base/result.hpp"
#include "image/byte_source.hpp"
#include "image/worker.hpp"

namespace caisson::image {

/// The answer to a question about an input, decompressed. Both are texts of the examiner's own making; it belongs to a higher floor.
using Examiner = Result<std::string> (*)(const std::string& question, ByteSource& input);

/// caisson-worker's argument that makes an examiner of it.
inline constexpr const char* examine_argument = "examine";
/// Its main() then. Gives up the rest of its rights before it reads the first byte of input, as worker_main does.
int examiner_main(Examiner examine);

/// What it says at its end.
struct Examination {
  bool ok = false;
  ErrorKind kind = ErrorKind::internal;  ///< of a failure
  std::string text;
  std::string hint;
  std::string answer;
};
template <class C>
void visit(C& c, Examination& e) {
  c(e.ok);
  c(e.kind);
  c(e.text);
  c(e.hint);
  c(e.answer);
}

/// Starts such a process and returns its answer. `input_fd` is borrowed and read from where it stands. Works for ordinary users too, with the one id they have.
/// Errors: the examiner's; io (it died); unavailable ("cancelled").
Result<std::string> examine_in_worker(const WorkerOptions& options, int input_fd, const std::string& question, const Cancel& cancel);

}  // namespace caisson::image
