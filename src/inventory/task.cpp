// A question and its answer, in the codec's form.
#include "inventory/task.hpp"

#include "base/strings.hpp"

namespace caisson::inventory {

namespace {

constexpr std::size_t most_data_bytes = 1 << 30;

struct Question {
  bool is_about_layer = true;
  ScanQuestion scan;
};
template <class C>
void visit(C& c, Question& q) {
  c(q.is_about_layer);
  c(q.scan);
}

struct Findings {
  std::vector<Finding> list;
};
template <class C>
void visit(C& c, Findings& f) {
  c(f.list);
}

}  // namespace

Result<std::string> answer_question(const std::string& question, image::ByteSource& input) {
  const auto asked = TRY_PLAIN(decode<Question>(question, "question"));
  if (asked.is_about_layer) return encode(TRY_PLAIN(examine_layer(input)));
  std::string data;
  for (;;) {
    const auto piece = TRY_PLAIN(input.next());
    if (piece.empty()) break;
    if (data.size() + piece.size() > most_data_bytes) return Error(ErrorKind::unsupported, concat("the data have more than ", most_data_bytes, " bytes"));
    data += piece;
  }
  Findings findings;
  findings.list = TRY_PLAIN(find_faults(data, asked.scan));
  return encode(findings);
}

Result<LayerReport> examine_layer_in_worker(const image::WorkerOptions& worker, int blob_fd, const Cancel& cancel) {
  return decode<LayerReport>(TRY_PLAIN(image::examine_in_worker(worker, blob_fd, encode(Question{}), cancel)), "the worker's answer");
}

Result<std::vector<Finding>> find_faults_in_worker(const image::WorkerOptions& worker, int data_fd, const ScanQuestion& question, const Cancel& cancel) {
  Question asked;
  asked.is_about_layer = false;
  asked.scan = question;
  const auto text = TRY_PLAIN(image::examine_in_worker(worker, data_fd, encode(asked), cancel));
  return TRY_PLAIN(decode<Findings>(text, "the worker's answer")).list;
}

}  // namespace caisson::inventory
