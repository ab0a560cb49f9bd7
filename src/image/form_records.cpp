// Form records as JSON texts in the state store. None of them is worth a sync: what is lost is made again.
#include "image/form_records.hpp"

#include <algorithm>
#include <set>

#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::image {

namespace {

constexpr std::string_view prefix = "image/form/";
constexpr std::size_t most_repositories = 8;

std::string layer_prefix(const Digest& diff_id) { return concat(prefix, diff_id.text(), "/"); }

std::string key_of(const Digest& diff_id, const FormPlan& plan) { return concat(layer_prefix(diff_id), to_string(plan.form), "-", plan.level); }

Result<FormRecord> parse(const std::string& text) {
  auto document = TRY_PLAIN(parse_json(text, "record"));
  const JsonView view(document);
  FormRecord out;
  std::string blob;
  TRY_PLAIN(view.read("blob", blob));
  out.blob = TRY_PLAIN(Digest::parse(blob));
  TRY_PLAIN(view.read("blob_bytes", out.blob_bytes));
  TRY_PLAIN(view.read("annotations", out.annotations));
  TRY_PLAIN(view.read("repositories", out.repositories));
  return out;
}

std::string write(const FormRecord& record) {
  json::object annotations;
  for (const auto& [name, value] : record.annotations) annotations[name] = value;
  json::array repositories;
  for (const auto& repository : record.repositories) repositories.push_back(json::value(repository));
  return to_text(json::object{{"blob", record.blob.text()}, {"blob_bytes", record.blob_bytes}, {"annotations", std::move(annotations)}, {"repositories", std::move(repositories)}});
}

}  // namespace

Result<std::optional<FormRecord>> FormRecords::find(const Digest& diff_id, const FormPlan& plan) const {
  auto entry = store_.get(key_of(diff_id, plan));
  if (!entry.ok() && entry.error().kind() == ErrorKind::not_found) return std::optional<FormRecord>();
  if (!entry.ok()) return std::move(entry).error();
  auto record = parse(entry->value);
  return record.ok() ? std::optional(std::move(*record)) : std::nullopt;
}

Status FormRecords::note(const Digest& diff_id, const FormPlan& plan, FormRecord made, const std::string& repository) {
  auto known = TRY_PLAIN(find(diff_id, plan));
  made.repositories.clear();
  if (known && known->blob == made.blob) made.repositories = std::move(known->repositories);
  if (!repository.empty()) {
    made.repositories.erase(std::remove(made.repositories.begin(), made.repositories.end(), repository), made.repositories.end());
    made.repositories.insert(made.repositories.begin(), repository);
    if (made.repositories.size() > most_repositories) made.repositories.pop_back();
  }
  state::Transaction transaction;
  transaction.put(key_of(diff_id, plan), write(made));
  return commit(transaction);
}

Status FormRecords::forget(const std::vector<Digest>& diff_ids) {
  state::Transaction transaction;
  transaction.frees = true;
  for (const auto& diff_id : diff_ids)
    for (const auto& entry : TRY_PLAIN(store_.list(layer_prefix(diff_id)))) transaction.erase(entry.key);
  return commit(transaction);
}

Status FormRecords::keep_only(const std::vector<Digest>& diff_ids) {
  std::set<std::string> kept;
  for (const auto& diff_id : diff_ids) kept.insert(diff_id.text());
  state::Transaction transaction;
  for (const auto& entry : TRY_PLAIN(store_.list(prefix)))
    if (kept.count(std::string(split_once(std::string_view(entry.key).substr(prefix.size()), '/').before)) == 0) transaction.erase(entry.key);
  return commit(transaction);
}

Status FormRecords::commit(const state::Transaction& transaction) {
  if (!transaction.writes.empty()) TRY_PLAIN(store_.commit(transaction));
  return {};
}

}  // namespace caisson::image
