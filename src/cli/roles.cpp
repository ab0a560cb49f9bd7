// `roles`: files that say who may do what, read before the daemon does; who one is; tokens.
#include <array>

#include "base/digest.hpp"
#include "base/ids.hpp"
#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/request.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "policy/policy.hpp"

namespace caisson::cli {

namespace {

constexpr const char* usual_path = "/etc/caisson/roles.toml";

constexpr std::array verb_columns = {Column{"Name", "VERB"}, Column{"Level", "LEVEL"}, Column{"Does", "DOES"}, Column{"Audited", "AUDITED"}};

std::string_view to_string(policy::Level level) {
  switch (level) {
    case policy::Level::see: return "see";
    case policy::Level::operate: return "operate";
    case policy::Level::administer: return "administer";
  }
  return "";
}

/// "images: busybox*, debian:*", or nothing for an empty list.
void print_texts(Output& out, const JsonView& bounds, std::string_view key, std::string_view name) {
  std::vector<std::string> texts;
  if (auto view = bounds.at(key); !view.ok() || !view->read(texts).ok() || texts.empty()) return;
  out.line(concat("  ", name, ": ", join(texts, ", ")));
}

Status print_bounds(Output& out, const JsonView& bounds) {
  if (!bounds.is_set()) {
    out.line("Containers:  may ask for anything");
    return {};
  }
  out.line("Containers:  have the default box, and beyond it");
  for (const auto& [key, name] : {std::pair("Privileged", "privileged"), std::pair("Unconfined", "other security profiles"), std::pair("CgroupParent", "another cgroup parent"),
                                  std::pair("VolumeOptions", "volumes that mount something")}) {
    bool is_allowed = false;
    TRY_PLAIN(bounds.read(key, is_allowed));
    if (is_allowed) out.line(concat("  ", name));
  }
  for (const auto& [key, name] : {std::pair("Capabilities", "capabilities"), std::pair("Binds", "bind mounts below"), std::pair("Devices", "devices"), std::pair("HostNamespaces", "the host's namespaces"),
                                  std::pair("Images", "images"), std::pair("Networks", "networks"), std::pair("LogDrivers", "log drivers"), std::pair("Users", "users"), std::pair("Ports", "ports of the host")})
    print_texts(out, bounds, key, name);
  for (const auto& [key, name] : {std::pair("Memory", "memory at most"), std::pair("NanoCpus", "billionths of a CPU at most"), std::pair("Pids", "processes at most")}) {
    std::int64_t most = 0;
    TRY_PLAIN(bounds.read(key, most));
    if (most != 0) out.line(concat("  ", name, ": ", most));
  }
  return {};
}

}  // namespace

Result<int> check_roles(Session& session, const Invocation& invocation) {
  const std::string path = invocation.words().empty() ? usual_path : invocation.word(0);
  auto text = TRY_PLAIN(linux::read_file(path));
  const policy::Accounts accounts{linux::read_file("/etc/passwd").value_or(""), linux::read_file("/etc/group").value_or("")};
  auto policy = TRY_PLAIN(policy::Policy::parse(text, path, accounts, linux::geteuid(), policy::built_in("viewer")));
  for (const auto& warning : policy.warnings()) session.err().line(concat("warning: ", warning));
  session.out().line(concat(path, ": understood", policy.warnings().empty() ? "" : "; some rules fit nobody"));
  return 0;
}

Result<int> show_role(Session& session, const Invocation& invocation) {
  auto answer = TRY_PLAIN(session.get("/caisson/v1/identity"));
  if (!invocation.text("format").empty()) {
    json::array documents{std::move(answer)};
    TRY_PLAIN(print_documents(session.out(), documents, invocation.text("format")));
    return 0;
  }
  const JsonView view(answer, "identity");
  std::string who, role, origin, project;
  std::vector<std::string> may;
  policy::Labels labels;
  TRY_PLAIN(view.read("Who", who));
  TRY_PLAIN(view.read("Role", role));
  TRY_PLAIN(view.read("Origin", origin));
  TRY_PLAIN(view.read("Project", project));
  TRY_PLAIN(view.read("May", may));
  TRY_PLAIN(view.read("Labels", labels));
  session.out().line(concat("You are:     ", who));
  session.out().line(concat("Your role:   ", role, " (", origin, ")"));
  session.out().line(concat("You may:     ", may.empty() ? "nothing" : may.size() == policy::verb_count ? "everything" : join(may, " ")));
  std::vector<std::string> scope;
  for (const auto& [key, value] : labels) scope.push_back(concat(key, "=", value));
  if (!project.empty()) scope.push_back(concat("project ", project));
  session.out().line(concat("On objects:  ", scope.empty() ? "all" : concat("with ", join(scope, ", "))));
  TRY_PLAIN(print_bounds(session.out(), TRY_PLAIN(view.at("Bounds"))));
  return 0;
}

Result<int> make_role_token(Session& session, const Invocation& invocation) {
  const auto& name = invocation.word(0);
  constexpr std::string_view fit = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  if (name.empty() || name.find_first_not_of(fit) != std::string::npos) return Error(ErrorKind::invalid, concat("\"", name, "\": a token's name has letters, digits, and . _ -"));
  const std::string token = random_id();  // 256 bits of the kernel's
  session.err().line("The token, for its holder alone; it is not kept anywhere:");
  session.out().line(token);
  session.err().line(concat("\nIn /etc/caisson/roles.toml:\n\n[[who]]\ntoken = \"", name, "\"\ntoken-sha256 = \"", sha256_of(token).hex(), "\"\nrole = \"viewer\""));
  return 0;
}

Result<int> list_verbs(Session& session, const Invocation& invocation) {
  std::vector<Row> rows;
  for (const auto& verb : policy::all_verbs()) {
    Row row;
    row.fields["Name"] = verb.name;
    row.fields["Level"] = to_string(verb.level);
    row.fields["Does"] = verb.says;
    row.fields["Audited"] = verb.is_audited ? "yes" : "no";
    rows.push_back(std::move(row));
  }
  ListFormat list;
  list.columns = verb_columns;
  list.table = "{{.Name}}\t{{.Level}}\t{{.Does}}\t{{.Audited}}";
  list.format = invocation.text("format");
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "Name";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

}  // namespace caisson::cli
