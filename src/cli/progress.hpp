// Progress of long work: bars on a terminal, plain lines otherwise; always on standard error.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/output.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

class LiveTree;

struct ProgressStyle {
  bool is_quiet = false;
  bool prints_results = true;  ///< {"stream"} texts go to standard output; else they are progress like the rest
  /// {"aux":{"DebugShell"}}: the daemon says nothing more before it has been dealt with.
  std::function<Status(const JsonView& shell)> on_debug_shell;
  LiveTree* tree = nullptr;    ///< takes {"event"}s; borrowed. {"stream"} texts are kept for kept_text() then
};

/// Reads docker's progress stream: JSON documents {"status","id","progressDetail":{"current","total"}}, {"stream"}, {"error"}.
class ProgressPrinter {
 public:
  /// The outputs are borrowed.
  ProgressPrinter(Output& out, Output& err, ProgressStyle style) : out_(&out), err_(&err), style_(style) {}

  /// Bytes as they come; documents may be cut anywhere. Lines that are results ({"stream"}) go to standard output.
  /// Errors: internal with the text of an {"error"} document; corrupt for something that is no JSON.
  Status feed(std::string_view bytes);
  /// After the last byte. Errors: corrupt when the stream ended inside a document.
  Status finish();
  /// The last {"status"} without an id: what an import answers with (the image's id).
  [[nodiscard]] const std::string& last_status() const { return last_status_; }
  /// {"aux":{"ID"}}: the image that was made.
  [[nodiscard]] const std::string& result_id() const { return result_id_; }
  /// {"aux":{"CacheID"}}: the images with the build's cache, one for each place that it goes to from here.
  [[nodiscard]] const std::vector<std::string>& cache_ids() const { return cache_ids_; }
  /// {"aux":{"Provenance"}}: what the image was made of, JSON.
  [[nodiscard]] const std::string& provenance() const { return provenance_; }
  /// {"aux":{"Outline"}} or {"aux":{"Targets"}}: what was asked instead of a build; null: nothing.
  [[nodiscard]] const json::value& answer() const { return answer_; }
  /// {"aux":{"Digest"}}: the last manifest that was pushed.
  [[nodiscard]] const std::string& pushed_digest() const { return pushed_digest_; }
  /// All {"stream"} texts, where a tree was drawn meanwhile.
  [[nodiscard]] const std::string& kept_text() const { return kept_text_; }
  /// The last {"stream"}.
  [[nodiscard]] const std::string& last_result() const { return last_result_; }

 private:
  struct Line {
    std::string id;
    std::string status;
    std::uint64_t current = 0;
    std::uint64_t total = 0;
  };
  Status take(const json::value& document);
  void show(const Line& line);
  void draw(const Line& line);

  Output* out_;
  Output* err_;
  ProgressStyle style_;
  std::string buffer_;
  std::string result_id_;
  std::vector<std::string> cache_ids_;
  std::string provenance_;
  json::value answer_;
  std::string kept_text_;
  std::string pushed_digest_;
  std::string last_result_;
  std::string last_status_;
  std::vector<Line> lines_;
};

/// Streams a progress answer to its end. Errors: those of the printer, and of the connection.
Result<ProgressPrinter> follow_progress(Session& session, wire::Client& client, ProgressStyle style);

/// "[=====>     ] 12.3MB/45.6MB", at most `width` characters.
std::string progress_bar(std::uint64_t current, std::uint64_t total, std::size_t width);

}  // namespace caisson::cli
