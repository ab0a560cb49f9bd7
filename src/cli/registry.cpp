// pull, push, login, logout, search.
#include "cli/registry.hpp"

#include <array>
#include <iterator>

#include "base/strings.hpp"
#include "cli/ask.hpp"
#include "cli/commands.hpp"
#include "cli/credentials.hpp"
#include "cli/listing.hpp"
#include "cli/platform.hpp"
#include "cli/progress.hpp"
#include "cli/request.hpp"
#include "image/image_store.hpp"
#include "linux/file.hpp"
#include "linux/terminal.hpp"

namespace caisson::cli {

namespace {

constexpr std::array search_columns = {
    Column{"Name", "NAME"}, Column{"Description", "DESCRIPTION"}, Column{"StarCount", "STARS"}, Column{"IsOfficial", "OFFICIAL"}, Column{"IsAutomated", "AUTOMATED"},
};
constexpr std::size_t description_width = 45;

struct Answers {
  std::string username;
  std::string password;
};

Result<Answers> ask_user(Session& session, const Invocation& invocation) {
  Answers out{std::string(invocation.text("username")), std::string(invocation.text("password"))};
  if (invocation.flag("password-stdin")) {
    if (!out.password.empty()) return Error(ErrorKind::invalid, "--password and --password-stdin are mutually exclusive");
    if (out.username.empty()) return Error(ErrorKind::invalid, "Must provide --username with --password-stdin");
    out.password = TRY(linux::read_all(0, most_password_bytes), "read the password");
    while (out.password.ends_with('\n') || out.password.ends_with('\r')) out.password.pop_back();
    return out;
  }
  if (!out.password.empty()) session.err().line("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
  if (!out.username.empty() && !out.password.empty()) return out;
  if (!linux::is_terminal(0)) return Error(ErrorKind::invalid, "Cannot perform an interactive login from a non TTY device").with_hint("caisson login -u USER --password-stdin SERVER");
  if (out.username.empty()) {
    session.err().write("Username: ");
    TRY_PLAIN(session.err().flush());
    out.username = trim(TRY(read_line(), "read the user name"));
    if (out.username.empty()) return Error(ErrorKind::invalid, "username is required");
  }
  out.password = TRY(ask_secret(session.err(), "Password: "), "read the password");
  if (out.password.empty()) return Error(ErrorKind::invalid, "password is required");
  return out;
}

}  // namespace

Result<wire::Headers> auth_headers(Session& session, const image::Reference& reference) {
  auto file = TRY_PLAIN(CredentialFile::open(credentials_path(session.global().text("config"))));
  const auto key = credentials_key(reference.domain);
  return wire::Headers{{"X-Registry-Auth", auth_header(TRY_PLAIN(file.find(key)), key)}};
}

Result<wire::Headers> all_auth_headers(Session& session) {
  auto file = TRY_PLAIN(CredentialFile::open(credentials_path(session.global().text("config"))));
  std::vector<std::string> problems;
  auto known = file.all(problems);
  for (const auto& problem : problems) session.err().line(concat("WARNING: ", problem));
  if (known.empty()) return wire::Headers{};
  return wire::Headers{{"X-Registry-Config", base64_encode(to_text(known))}};
}

Status pull(Session& session, const PullWish& wish) {
  auto reference = TRY_PLAIN(image::parse_reference(wish.name));
  const std::string tag = wish.all_tags ? "" : reference.digest ? reference.digest->text() : reference.tag;
  Query query;
  query.add("fromImage", reference.familiar_name()).add_if(!wish.platform.empty(), "platform", wish.platform).add_if(!tag.empty(), "tag", tag).add_if(wish.is_lazy, "lazy", "1");
  auto headers = TRY_PLAIN(auth_headers(session, reference));
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "POST", "/images/create" + query.text(), nullptr, headers));
  TRY_PLAIN(follow_progress(session, *client, {.is_quiet = wish.is_quiet, .prints_results = true}));
  return {};
}

Result<int> pull_image(Session& session, const Invocation& invocation) {
  PullWish wish;
  wish.name = invocation.word(0);
  wish.platform = invocation.text("platform");
  wish.all_tags = invocation.flag("all-tags");
  wish.is_quiet = invocation.flag("quiet");
  wish.is_lazy = invocation.flag("lazy");
  auto reference = TRY_PLAIN(image::parse_reference(wish.name));
  const bool names_tag = reference.digest || split_last(wish.name, '/').after.find(':') != std::string_view::npos ||
                         (wish.name.find('/') == std::string::npos && wish.name.find(':') != std::string::npos);
  if (wish.all_tags && names_tag) return Error(ErrorKind::invalid, "tag can't be used with --all-tags/-a");
  if (!wish.all_tags && !names_tag && !wish.is_quiet) session.err().line("Using default tag: latest");
  TRY_PLAIN(pull(session, wish));
  session.out().line(wish.all_tags ? reference.repository() : reference.canonical());
  return 0;
}

void add_compression(Query& query, const LayerCompression& compression) {
  query.add_if(!compression.format.empty(), "compression", compression.format);
  query.add_if(!compression.level.empty(), "compression-level", compression.level);
  query.add_if(!compression.is_of_all_layers, "force-compression", "0");
}

Result<std::string> push(Session& session, const PushWish& wish) {
  auto reference = TRY_PLAIN(image::parse_reference(wish.name));
  Query query;
  query.add_if(!wish.all_tags, "tag", reference.tag);
  for (const auto& image : wish.images) query.add("image", image);
  add_compression(query, wish.compression);
  query.add_if(!wish.annotations.empty(), "annotations", to_text(wish.annotations));
  auto headers = TRY_PLAIN(auth_headers(session, reference));
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "POST", object_path("images", reference.familiar_name(), "push") + query.text(), nullptr, headers));
  return TRY_PLAIN(follow_progress(session, *client, {.is_quiet = wish.is_quiet, .prints_results = true})).pushed_digest();
}

Result<int> push_image(Session& session, const Invocation& invocation) {
  auto reference = TRY_PLAIN(image::parse_reference(invocation.word(0)));
  if (reference.digest) return Error(ErrorKind::invalid, "cannot push a digest reference");
  TRY_PLAIN(check_platform(session, reference.familiar_name(), invocation.text("platform")));
  const bool all_tags = invocation.flag("all-tags");
  PushWish wish{invocation.word(0), all_tags, invocation.flag("quiet"), {}, {}, {}};
  wish.compression.format = invocation.text("compression-format");
  if (invocation.has("compression-level")) wish.compression.level = concat(invocation.integer("compression-level"));
  TRY_PLAIN(push(session, wish));
  if (invocation.flag("quiet")) session.out().line(all_tags ? reference.repository() : reference.canonical());
  return 0;
}

Result<int> login(Session& session, const Invocation& invocation) {
  const std::string key = credentials_key(invocation.words().empty() ? "" : invocation.word(0));
  auto file = TRY_PLAIN(CredentialFile::open(credentials_path(session.global().text("config"))));
  auto answers = TRY_PLAIN(ask_user(session, invocation));
  json::value body(json::object{{"username", answers.username}, {"password", answers.password}, {"serveraddress", key}});
  auto reply = TRY_PLAIN(session.post("/auth", &body));
  JsonView view(reply);
  Credentials credentials;
  credentials.username = answers.username;
  credentials.password = answers.password;
  std::string status;
  TRY_PLAIN(view.read("IdentityToken", credentials.identity_token));
  TRY_PLAIN(view.read("Status", status));
  bool is_plain = false;
  TRY(file.keep(key, credentials, is_plain), "keep the credentials");
  if (is_plain) {
    session.err().line("");
    session.err().line(concat("WARNING! Your credentials are stored unencrypted in '", credentials_path(session.global().text("config")), "'."));
    session.err().line("Configure a credential helper to remove this warning.");
    session.err().line("");
    TRY_PLAIN(session.err().flush());
  }
  session.out().line(status);
  return 0;
}

Result<int> logout(Session& session, const Invocation& invocation) {
  const std::string key = credentials_key(invocation.words().empty() ? "" : invocation.word(0));
  auto file = TRY_PLAIN(CredentialFile::open(credentials_path(session.global().text("config"))));
  if (!TRY_PLAIN(file.forget(key))) {
    session.out().line(concat("Not logged in to ", key));
    return 0;
  }
  session.out().line(concat("Removing login credentials for ", key));
  return 0;
}

Result<int> search_images(Session& session, const Invocation& invocation) {
  auto filters = TRY_PLAIN(parse_filters(invocation.list("filter")));
  Query query;
  query.add_filters(filters).add_if(invocation.has("limit"), "limit", invocation.text("limit")).add("term", invocation.word(0));
  auto answer = TRY_PLAIN(session.get("/images/search" + query.text()));
  std::vector<Row> rows;
  TRY_PLAIN(JsonView(answer).for_each_element([&](const JsonView& item) -> Status {
    std::string name;
    std::string description;
    std::int64_t stars = 0;
    bool is_official = false;
    bool is_automated = false;
    TRY_PLAIN(item.read("name", name));
    TRY_PLAIN(item.read("description", description));
    TRY_PLAIN(item.read("star_count", stars));
    TRY_PLAIN(item.read("is_official", is_official));
    TRY_PLAIN(item.read("is_automated", is_automated));
    for (char& c : description)
      if (c == '\n' || c == '\r' || c == '\t') c = ' ';
    Row row;
    row.fields["Name"] = name;
    row.fields["Description"] = invocation.flag("no-trunc") ? description : ellipsis(description, description_width);
    row.fields["StarCount"] = concat(stars);
    // docker's own distinction: a mark in tables and templates, a word in JSON, where the deprecated field has gone.
    const bool is_json = invocation.text("format") == "json";
    row.fields["IsOfficial"] = is_json ? (is_official ? "true" : "false") : is_official ? "[OK]" : "";
    if (!is_json) row.fields["IsAutomated"] = is_automated ? "[OK]" : "";
    rows.push_back(std::move(row));
    return {};
  }));
  ListFormat list;
  list.columns = search_columns;
  list.table = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
  list.format = invocation.text("format");
  list.quiet_field = "Name";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

}  // namespace caisson::cli
