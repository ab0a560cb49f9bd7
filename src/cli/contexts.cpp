// context: naming daemons and the keys that open them, in docker's own folder.
#include <algorithm>
#include <array>

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/context.hpp"
#include "cli/context_store.hpp"
#include "cli/daemon.hpp"
#include "cli/listing.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

namespace {

constexpr std::array context_columns = {
    Column{"Name", "NAME"}, Column{"Description", "DESCRIPTION"}, Column{"DockerEndpoint", "DOCKER ENDPOINT"}, Column{"Error", "ERROR"}, Column{"Current", "CURRENT"},
};
constexpr std::string_view default_description = "The daemon that is used without a context";
constexpr std::size_t description_width = 45;
constexpr std::size_t error_width = 45;
// --docker's keys that name a file, and what the file is called in docker's folder.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> key_options = {{{"ca", "docker/ca.pem"}, {"cert", "docker/cert.pem"}, {"key", "docker/key.pem"}}};

ContextStore store_of(const Session& session) { return ContextStore(config_folder(session.global())); }

// The address without any context: -H, CAISSON_HOST, or our own default.
std::string default_address(const Session& session) {
  Invocation plain(global_flags());
  for (const auto& host : session.global().list("host")) plain.add(*find_flag(global_flags(), "host"), host);
  plain.add(*find_flag(global_flags(), "context"), "default");
  auto endpoint = choose_endpoint(plain);
  return endpoint.ok() ? endpoint->address : "";
}

std::string overriding_variable(const Session& session) {
  if (session.global().has("host")) return "";
  for (const char* name : {"CAISSON_HOST", "DOCKER_CONTEXT"})
    if (const char* value = environment(name); value != nullptr && *value != 0) return name;
  return "";
}

Result<std::string> shown_name(const Session& session) {
  std::string name = TRY_PLAIN(chosen_context(session.global()));
  return name.empty() ? "default" : name;
}

Row context_row(const std::string& name, const Result<StoredContext>& context, bool is_current, bool is_table) {
  Row row;
  row.fields["Current"] = is_current;
  row.fields["Name"] = is_current && is_table ? name + " *" : name;
  row.fields["Description"] = context.ok() ? ellipsis(context->description, is_table ? description_width : 0) : "";
  row.fields["DockerEndpoint"] = context.ok() ? context->host : "";
  row.fields["Error"] = context.ok() ? "" : ellipsis(context.error().text(), error_width);
  return row;
}

// What --docker says: "host=tcp://h:2376,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=true", or "from=NAME".
struct EndpointWish {
  std::string from;
  std::string host;
  std::optional<bool> skips_verify;
  KeyMaterial keys;
  bool is_given = false;
};

Error endpoint_error(std::string_view text) { return {ErrorKind::invalid, concat("unable to create docker endpoint config: ", text)}; }

Status check_host(std::string_view host) {
  for (std::string_view scheme : {"unix://", "tcp://", "http://", "https://", "ssh://"})
    if (host.starts_with(scheme) && host.size() > scheme.size()) return {};
  return endpoint_error(concat("unable to parse docker host `", host, "`")).with_hint("unix:///path, tcp://host:port or ssh://user@host");
}

Status read_field(std::string_view key, std::string_view value, EndpointWish& wish) {
  for (const auto& [option, file] : key_options) {
    if (key != option) continue;
    auto bytes = linux::read_file(std::string(value), 1U << 20U);
    if (!bytes.ok()) return std::move(bytes).error().in("unable to create docker endpoint config: open " + std::string(value));
    wish.keys[std::string(file)] = std::move(*bytes);
    return {};
  }
  if (key == "from") wish.from = value;
  else if (key == "host") wish.host = value;
  else if (key == "skip-tls-verify" && (value == "true" || value == "1" || value == "false" || value == "0")) wish.skips_verify = value == "true" || value == "1";
  else if (key == "skip-tls-verify") return endpoint_error(concat("skip-tls-verify: parsing \"", value, "\": invalid syntax"));
  else return endpoint_error(concat("unrecognized config key: ", key));
  return {};
}

Result<EndpointWish> read_wish(const Invocation& invocation) {
  EndpointWish wish;
  for (const auto& text : invocation.list("docker"))
    for (auto field : split(text, ',')) {
      auto halves = split_once(field, '=');
      if (!halves.found) return Error(ErrorKind::invalid, concat("invalid argument \"", text, "\" for \"--docker\" flag: ", field, " must be formatted as key=value"));
      TRY_PLAIN(read_field(trim(halves.before), halves.after, wish));
      wish.is_given = true;
    }
  return wish;
}

struct Draft {
  json::object document;
  KeyMaterial keys;
};

Result<Draft> copy_of(const Session& session, const std::string& name) {
  Draft draft;
  if (name == "default") {
    draft.document = {{"Metadata", json::object{}}, {"Endpoints", json::object{{"docker", json::object{{"Host", default_address(session)}, {"SkipTLSVerify", false}}}}}};
    return draft;
  }
  auto store = store_of(session);
  auto stored = TRY_PLAIN(store.find(name));
  draft.document = std::move(stored.document);
  draft.keys = TRY_PLAIN(store.keys(name));
  return draft;
}

json::object& object_at(json::object& object, std::string_view key) {
  auto& value = object[key];
  if (!value.is_object()) value = json::object();
  return value.get_object();
}

// As docker: whoever names an endpoint replaces all of it, keys included.
Status apply_endpoint(const Session& session, const EndpointWish& wish, Draft& draft) {
  if (!wish.is_given) return {};
  if (!wish.from.empty()) {
    auto source = TRY_PLAIN(copy_of(session, wish.from));
    object_at(draft.document, "Endpoints")["docker"] = object_at(source.document, "Endpoints")["docker"];
    draft.keys = std::move(source.keys);
    return {};
  }
  if (wish.host.empty()) return endpoint_error("host is required");
  TRY_PLAIN(check_host(wish.host));
  object_at(draft.document, "Endpoints")["docker"] = json::object{{"Host", wish.host}, {"SkipTLSVerify", wish.skips_verify.value_or(false)}};
  std::erase_if(draft.keys, [](const auto& entry) { return entry.first.starts_with("docker/"); });
  draft.keys.insert(wish.keys.begin(), wish.keys.end());
  return {};
}

Status save(const Session& session, const std::string& name, const Invocation& invocation, Draft draft) {
  json::object document{{"Name", name}, {"Metadata", object_at(draft.document, "Metadata")}, {"Endpoints", object_at(draft.document, "Endpoints")}};
  if (invocation.has("description")) object_at(document, "Metadata")["Description"] = invocation.text("description");
  return store_of(session).save(name, document, draft.keys);
}

Result<json::value> inspected(const Session& session, const std::string& name) {
  auto draft = TRY_PLAIN(copy_of(session, name));
  json::object keys;
  for (const auto& [file, bytes] : draft.keys) {
    auto halves = split_once(file, '/');
    auto& list = keys[halves.before];
    if (!list.is_array()) list = json::array();
    list.get_array().emplace_back(halves.after);
  }
  auto store = store_of(session);
  const bool is_stored = name != "default";
  return json::value(json::object{{"Name", name},
                                  {"Metadata", object_at(draft.document, "Metadata")},
                                  {"Endpoints", object_at(draft.document, "Endpoints")},
                                  {"TLSMaterial", std::move(keys)},
                                  {"Storage", json::object{{"MetadataPath", is_stored ? store.meta_folder(name) : "<IN MEMORY>"},
                                                           {"TLSPath", is_stored ? store.tls_folder(name) : "<IN MEMORY>"}}}});
}

}  // namespace

Result<int> list_contexts(Session& session, const Invocation& invocation) {
  auto store = store_of(session);
  const std::string current = TRY_PLAIN(shown_name(session));
  auto names = TRY_PLAIN(store.names());
  names.emplace_back("default");
  if (std::find(names.begin(), names.end(), current) == names.end()) names.push_back(current);  // it is not there, and that is said
  std::sort(names.begin(), names.end());
  ListFormat list;
  list.columns = context_columns;
  list.table = "{{.Name}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";
  list.format = invocation.text("format");
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "Name";
  const bool is_table = !list.is_quiet && (list.format.empty() || list.format.starts_with("table"));
  std::vector<Row> rows;
  for (const auto& name : names) {
    StoredContext own{.name = "default", .description = std::string(default_description), .host = name == "default" ? default_address(session) : "", .skips_verify = false, .document = {}};
    rows.push_back(context_row(name, name == "default" ? Result<StoredContext>(own) : store.find(name), name == current, is_table));
  }
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

Result<int> show_context(Session& session, const Invocation& /*invocation*/) {
  session.out().line(TRY_PLAIN(shown_name(session)));
  return 0;
}

Result<int> use_context(Session& session, const Invocation& invocation) {
  const std::string& name = invocation.word(0);
  if (name != "default") {
    TRY_PLAIN(check_context_name(name));
    TRY_PLAIN(store_of(session).find(name));
  }
  TRY_PLAIN(set_current_context(session.global(), name));
  session.out().line(name);
  session.err().line(concat("Current context is now \"", name, "\""));
  if (auto variable = overriding_variable(session); !variable.empty())
    session.err().line(concat("Warning: the environment variable ", variable, " overrides the current context. To use \"", name, "\", unset it or give --context."));
  return 0;
}

Result<int> create_context(Session& session, const Invocation& invocation) {
  const std::string& name = invocation.word(0);
  TRY_PLAIN(check_context_name(name));
  if (store_of(session).find(name).ok()) return Error(ErrorKind::conflict, concat("context \"", name, "\" already exists"));
  auto wish = TRY_PLAIN(read_wish(invocation));
  std::string from(invocation.text("from"));
  if (from.empty() && !wish.is_given) from = "default";
  Draft draft;
  if (!from.empty()) draft = TRY_PLAIN(copy_of(session, from));
  TRY_PLAIN(apply_endpoint(session, wish, draft));
  TRY_PLAIN(save(session, name, invocation, std::move(draft)));
  session.out().line(name);
  session.err().line(concat("Successfully created context \"", name, "\""));
  return 0;
}

Result<int> update_context(Session& session, const Invocation& invocation) {
  const std::string& name = invocation.word(0);
  TRY_PLAIN(check_context_name(name));
  auto draft = TRY_PLAIN(copy_of(session, name));
  TRY_PLAIN(apply_endpoint(session, TRY_PLAIN(read_wish(invocation)), draft));
  TRY_PLAIN(save(session, name, invocation, std::move(draft)));
  session.out().line(name);
  session.err().line(concat("Successfully updated context \"", name, "\""));
  return 0;
}

Result<int> remove_contexts(Session& session, const Invocation& invocation) {
  auto store = store_of(session);
  const std::string current = TRY_PLAIN(shown_name(session));
  const bool force = invocation.flag("force");
  auto remove = [&](const std::string& name) -> Status {
    if (name == "default") return Error(ErrorKind::invalid, "context \"default\" cannot be removed");
    if (name == current && !force) return Error(ErrorKind::conflict, concat("context \"", name, "\" is in use, set -f flag to force remove"));
    auto found = store.find(name);
    if (!found.ok() && found.error().kind() == ErrorKind::not_found)
      return force ? Status() : Status(Error(ErrorKind::not_found, concat("context \"", name, "\" does not exist")));
    if (TRY_PLAIN(current_context(session.global())) == name) TRY_PLAIN(set_current_context(session.global(), ""));
    return store.remove(name);
  };
  int code = 0;
  for (const auto& name : invocation.words()) {
    auto removed = remove(name);
    if (removed.ok()) {
      session.out().line(name);
      continue;
    }
    TRY_PLAIN(session.out().flush());
    print_error(session.err(), removed.error());
    code = 1;
  }
  return code;
}

Result<int> inspect_contexts(Session& session, const Invocation& invocation) {
  auto names = invocation.words();
  if (names.empty()) names.push_back(TRY_PLAIN(shown_name(session)));
  json::array found;
  std::vector<Error> errors;
  for (const auto& name : names) {
    auto document = inspected(session, name);
    if (document.ok()) found.push_back(std::move(*document));
    else errors.push_back(document.error());
  }
  TRY_PLAIN(print_documents(session.out(), found, invocation.text("format")));
  TRY_PLAIN(session.out().flush());
  for (const auto& error : errors) print_error(session.err(), error);
  return errors.empty() ? 0 : 1;
}

Result<int> export_context(Session& session, const Invocation& invocation) {
  const std::string& name = invocation.word(0);
  auto draft = TRY_PLAIN(copy_of(session, name));
  json::object document{{"Name", name}, {"Metadata", object_at(draft.document, "Metadata")}, {"Endpoints", object_at(draft.document, "Endpoints")}};
  const std::string archive = TRY_PLAIN(pack_context_archive(document, draft.keys));
  const std::string file = invocation.words().size() == 2 ? invocation.word(1) : name + ".dockercontext";
  if (file == "-") {
    if (session.out().is_terminal()) return Error(ErrorKind::invalid, "cowardly refusing to export to a terminal, specify a file path");
    session.out().write(archive);
    return 0;
  }
  // Exclusive, and for nobody else's eyes: keys may be in it.
  UniqueFd target = TRY(linux::open(file, O_WRONLY | O_CREAT | O_EXCL, 0600), concat("open ", file));
  TRY(linux::write_all(target.get(), archive), concat("write ", file));
  session.err().line(concat("Written file \"", file, "\""));
  return 0;
}

Result<int> import_context(Session& session, const Invocation& invocation) {
  const std::string& name = invocation.word(0);
  TRY_PLAIN(check_context_name(name));
  if (store_of(session).find(name).ok()) return Error(ErrorKind::conflict, concat("context \"", name, "\" already exists"));
  constexpr std::size_t limit_bytes = 11U << 20U;
  const std::string& file = invocation.word(1);
  std::string archive = file == "-" ? TRY(linux::read_all(0, limit_bytes), "read the context") : TRY(linux::read_file(file, limit_bytes), concat("open ", file));
  auto unpacked = TRY_PLAIN(unpack_context_archive(archive));
  Draft draft{std::move(unpacked.document), std::move(unpacked.keys)};
  TRY_PLAIN(save(session, name, invocation, std::move(draft)));
  session.out().line(name);
  session.err().line(concat("Successfully imported context \"", name, "\""));
  return 0;
}

}  // namespace caisson::cli
