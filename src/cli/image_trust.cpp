// image trust show, image trust set: the policy file of this host, seen and changed without a daemon.
#include <array>

#include "base/signature.hpp"
#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/policy_places.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"
#include "trust/policy_file.hpp"

namespace caisson::cli {

namespace {

constexpr std::array trust_columns = {Column{"Transport", "TRANSPORT"}, Column{"Name", "NAME"}, Column{"Type", "TYPE"}, Column{"Keys", "KEYS"}, Column{"Identity", "IDENTITY"}};
constexpr mode_t policy_mode = 0644;
constexpr std::string_view own_policy = "/etc/caisson/policy.json";

Result<trust::PolicyPlaces> places_of(const Invocation& invocation) {
  if (invocation.has("policy")) return trust::PolicyPlaces{std::string(invocation.text("policy")), {}};
  return daemon_policy_places();
}

/// podman shows "accept" for the longest of the words.
std::string_view short_type(trust::RequirementKind kind) { return kind == trust::RequirementKind::accept ? "accept" : trust::to_string(kind); }

Row row_of(std::string_view transport, std::string_view scope, const trust::Requirement& requirement) {
  std::vector<std::string> keys;
  for (const auto& key : requirement.keys) keys.push_back(key.path.empty() ? "(in the policy)" : key.data.empty() ? concat(key.path, " (unreadable)") : key.path);
  Row row;
  row.fields["Transport"] = transport;
  row.fields["Name"] = scope;
  row.fields["Type"] = short_type(requirement.kind);
  row.fields["Keys"] = join(keys, ", ");
  const auto written = trust::to_json({requirement})[0].as_object();
  const auto* identity = written.if_contains("signedIdentity");
  row.fields["Identity"] = identity != nullptr ? std::string(identity->at("type").as_string()) : join(requirement.identities, "; ");
  return row;
}

std::vector<Row> rows_of(const trust::Policy& policy) {
  std::vector<Row> rows;
  for (const auto& requirement : policy.fallback) rows.push_back(row_of("all", "default", requirement));
  for (const auto& [transport, scopes] : policy.transports)
    for (const auto& [scope, requirements] : scopes)
      for (const auto& requirement : requirements) rows.push_back(row_of(transport == "docker" ? "repository" : transport, scope, requirement));
  return rows;
}

/// "quay.io/team" as policies write it; what is a whole name becomes one.
Result<std::string> scope_of(const std::string& text) {
  if (text.empty() || text == "*" || text.starts_with("*.")) return text == "*" ? std::string() : text;
  // A host alone, or a namespace, is no reference; with something behind it, it has to be one.
  auto below = parse_reference(concat(text, "/x"));
  if (below.ok() && below->repository() == concat(text, "/x")) return text;
  auto reference = TRY(parse_reference(text), concat("\"", text, "\""));
  if (reference.canonical() == text) return text;
  return Error(ErrorKind::invalid, concat("\"", text, "\": write it in full, as policies do: ", reference.repository()));
}

Result<trust::Requirements> wanted_requirements(const Invocation& invocation) {
  trust::Requirement requirement;
  const auto type = invocation.text("type");
  if (type == "accept" || type == "insecureAcceptAnything") requirement.kind = trust::RequirementKind::accept;
  else if (type == "reject") requirement.kind = trust::RequirementKind::reject;
  else if (type == "signedBy") requirement.kind = trust::RequirementKind::signed_by;
  else if (type == "sigstoreSigned") requirement.kind = trust::RequirementKind::sigstore_signed;
  else return Error(ErrorKind::invalid, concat("invalid argument \"", type, "\" for \"--type\" flag: it can be accept, reject, signedBy or sigstoreSigned"));
  const bool needs_keys = requirement.kind == trust::RequirementKind::signed_by || requirement.kind == trust::RequirementKind::sigstore_signed;
  const auto paths = invocation.list("pubkeysfile");
  if (needs_keys == paths.empty()) return Error(ErrorKind::invalid, needs_keys ? concat("--type ", type, " needs --pubkeysfile") : concat("--type ", type, " takes no --pubkeysfile"));
  for (const auto& path : paths) {
    if (!path.starts_with('/')) return Error(ErrorKind::invalid, concat("--pubkeysfile ", path, ": must be an absolute path"));
    auto text = TRY(linux::read_file(path), concat("--pubkeysfile ", path));
    if (requirement.kind == trust::RequirementKind::sigstore_signed) TRY(PublicKey::parse(text), concat("--pubkeysfile ", path));
    requirement.keys.push_back({path, ""});
  }
  return trust::Requirements{requirement};
}

}  // namespace

Result<int> show_trust(Session& session, const Invocation& invocation) {
  auto host = TRY_PLAIN(trust::read_host_policy(TRY_PLAIN(places_of(invocation))));
  if (host->path.empty()) session.err().line("There is no policy file: images from anywhere are accepted.");
  if (invocation.flag("raw") && !host->path.empty()) {
    session.out().write(TRY_PLAIN(linux::read_file(host->path)));
    return 0;
  }
  auto policy = host->policy;
  if (!invocation.words().empty()) {
    // What holds for one name: podman prints the scope's lines, and we say which scope that is.
    auto reference = TRY_PLAIN(parse_reference(invocation.word(0)));
    auto chosen = trust::choose(host->policy, "docker", reference);
    policy = trust::Policy{};
    auto scope = chosen.scope.starts_with("docker ") ? chosen.scope.substr(std::string_view("docker ").size()) : std::string();
    if (scope.empty()) policy.fallback = *chosen.requirements;
    else policy.transports["docker"][scope == "\"\"" ? "" : scope] = *chosen.requirements;
  }
  const auto rows = rows_of(policy);
  if (invocation.flag("json")) {
    json::array out;
    for (const auto& row : rows) out.push_back(row.fields);
    session.out().line(to_text(out));
    return 0;
  }
  ListFormat list;
  list.columns = trust_columns;
  list.table = "{{.Transport}}\t{{.Name}}\t{{.Type}}\t{{.Keys}}\t{{.Identity}}";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

Result<int> set_trust(Session& session, const Invocation& invocation) {
  const auto& name = invocation.word(0);
  auto requirements = TRY_PLAIN(wanted_requirements(invocation));
  auto places = TRY_PLAIN(places_of(invocation));
  std::string path = places.chosen;
  // A file that is named and not there yet is begun, as the usual ones are, by accepting everything else.
  if (!path.empty() && !TRY_PLAIN(linux::exists(path))) places = {"", {}};
  auto host = TRY_PLAIN(trust::read_host_policy(places));
  if (path.empty()) path = host->path.empty() ? std::string(own_policy) : host->path;
  auto policy = host->policy;
  if (name == "default") policy.fallback = std::move(requirements);
  else policy.transports["docker"][TRY_PLAIN(scope_of(name))] = std::move(requirements);
  TRY(linux::make_dirs(path.substr(0, path.rfind('/')), 0755), concat("folder of ", path));
  TRY(linux::write_file_atomic(path, concat(indented_json(TRY_PLAIN(parse_json(trust::write_policy(policy), "policy"))), "\n"), policy_mode, linux::Durability::synced), concat("write ", path));
  session.out().line(concat("Changed ", path));
  return 0;
}

}  // namespace caisson::cli
