// Images: lists, names, archives and base images.
#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/progress.hpp"
#include "cli/platform.hpp"
#include "cli/prune.hpp"
#include "cli/ps.hpp"
#include "cli/request.hpp"
#include "cli/save_stream.hpp"
#include "linux/file.hpp"
#include "linux/terminal.hpp"

namespace caisson::cli {

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;

constexpr std::array image_columns = {
    Column{"ID", "IMAGE ID"}, Column{"Repository", "REPOSITORY"}, Column{"Tag", "TAG"}, Column{"Digest", "DIGEST"}, Column{"CreatedSince", "CREATED"},
    Column{"CreatedAt", "CREATED AT"}, Column{"Size", "SIZE"}, Column{"Containers", "CONTAINERS"}, Column{"VirtualSize", "SIZE"},
    Column{"SharedSize", "SHARED SIZE"}, Column{"UniqueSize", "UNIQUE SIZE"}, Column{"Coming", "COMING"},
};

constexpr std::array history_columns = {
    Column{"ID", "IMAGE"}, Column{"CreatedSince", "CREATED"}, Column{"CreatedAt", "CREATED AT"}, Column{"CreatedBy", "CREATED BY"}, Column{"Size", "SIZE"}, Column{"Comment", "COMMENT"},
};

// "localhost:5000/a:1" → name and tag; a colon before the last slash belongs to a port.
struct Name {
  std::string repository;
  std::string tag;
};
Name cut_reference(std::string_view reference) {
  auto at = split_once(reference, '@');
  if (at.found) return {std::string(at.before), ""};
  std::size_t slash = reference.rfind('/');
  std::size_t colon = reference.rfind(':');
  if (colon == std::string_view::npos || (slash != std::string_view::npos && colon < slash)) return {std::string(reference), ""};
  return {std::string(reference.substr(0, colon)), std::string(reference.substr(colon + 1))};
}

struct ImageFacts {
  std::string id;
  std::vector<std::string> tags;
  std::vector<std::string> digests;
  std::int64_t created = 0;
  std::uint64_t size = 0;
  std::string coming;  ///< "2/7 layers"; "": it is here
};

/// Of an image that was pulled lazily.
Result<std::string> read_coming(const JsonView& view) {
  if (!view.is_set()) return std::string();
  std::uint64_t layers = 0;
  std::uint64_t here = 0;
  bool is_refused = false;
  std::string trouble;
  TRY_PLAIN(view.read("Layers", layers));
  TRY_PLAIN(view.read("LayersHere", here));
  TRY_PLAIN(view.read("Refused", is_refused));
  TRY_PLAIN(view.read("Trouble", trouble));
  if (is_refused) return std::string("refused");
  return concat(here, "/", layers, " layers", trouble.empty() ? "" : " (trouble)");
}

Result<ImageFacts> read_image(const JsonView& view) {
  ImageFacts facts;
  TRY_PLAIN(view.read("Id", facts.id));
  TRY_PLAIN(view.read("RepoTags", facts.tags));
  TRY_PLAIN(view.read("RepoDigests", facts.digests));
  TRY_PLAIN(view.read("Created", facts.created));
  TRY_PLAIN(view.read("Size", facts.size));
  facts.coming = TRY_PLAIN(read_coming(TRY_PLAIN(view.at("Coming"))));
  return facts;
}

void add_rows(std::vector<Row>& rows, const ImageFacts& facts, const Invocation& invocation, TimestampNs now) {
  bool no_trunc = invocation.flag("no-trunc");
  bool shows_digests = invocation.flag("digests") || format_mentions(invocation.text("format"), "Digest");
  std::vector<std::string> tags = facts.tags;
  std::erase(tags, "<none>:<none>");
  if (tags.empty()) tags.emplace_back("<none>:<none>");
  for (const auto& tag : tags) {
    Name name = cut_reference(tag);
    std::string digest = "<none>";
    for (const auto& entry : facts.digests) {
      auto halves = split_once(entry, '@');
      if (halves.before == name.repository || name.repository == "<none>") digest = halves.after;
    }
    Row row;
    row.fields["Coming"] = facts.coming;
    row.fields["Containers"] = "N/A";
    row.fields["CreatedAt"] = list_time(facts.created * second_ns);
    row.fields["CreatedSince"] = facts.created > 0 ? concat(human_duration(now - facts.created * second_ns), " ago") : "N/A";
    row.fields["Digest"] = shows_digests ? digest : "<none>";
    row.fields["ID"] = no_trunc ? facts.id : short_id(facts.id);
    row.fields["Repository"] = name.repository;
    row.fields["SharedSize"] = "N/A";
    row.fields["Size"] = human_size(facts.size);
    row.fields["Tag"] = name.tag;
    row.fields["UniqueSize"] = "N/A";
    row.fields["VirtualSize"] = four_digit_size(facts.size);
    rows.push_back(std::move(row));
  }
}

// Standard input for "-" or "", else the file. `owner` keeps it open.
Result<int> open_source(std::string_view name, UniqueFd& owner) {
  if (name.empty() || name == "-") return 0;
  auto opened = linux::open(std::string(name), O_RDONLY);
  if (!opened.ok()) return std::move(opened).error();
  owner = std::move(opened).value();
  return owner.get();
}

}  // namespace

Status check_platform(Session& session, std::string_view image, std::string_view platform) {
  if (platform.empty()) return {};
  auto document = TRY_PLAIN(session.get(object_path("images", image, "json")));
  JsonView view(document);
  std::string system;
  std::string machine;
  std::string variant;
  TRY_PLAIN(view.read("Os", system));
  TRY_PLAIN(view.read("Architecture", machine));
  TRY_PLAIN(view.read("Variant", variant));
  const std::string plain = concat(system, "/", machine);
  const std::string full = variant.empty() ? plain : concat(plain, "/", variant);
  if (platform == plain || platform == full) return {};
  return Error(ErrorKind::not_found, concat("image with reference ", image, " was found but does not provide the specified platform (", platform, "); it is for ", full));
}

Result<std::string> daemon_platform(Session& session) {
  std::string system;
  std::string machine;
  const auto version = TRY_PLAIN(session.get("/version"));
  TRY_PLAIN(JsonView(version).read("Os", system));
  TRY_PLAIN(JsonView(version).read("Arch", machine));
  return concat(system, "/", machine);
}

Result<int> list_images(Session& session, const Invocation& invocation) {
  auto filters = TRY_PLAIN(parse_filters(invocation.list("filter")));
  if (!invocation.words().empty()) add_filter(filters, "reference", invocation.word(0));
  Query query;
  query.add_if(invocation.flag("all"), "all").add_filters(filters);
  auto answer = TRY_PLAIN(session.get("/images/json" + query.text()));
  std::vector<Row> rows;
  TimestampNs now = now_ns();
  TRY_PLAIN(JsonView(answer).for_each_element([&](const JsonView& view) -> Status {
    add_rows(rows, TRY_PLAIN(read_image(view)), invocation, now);
    return {};
  }));
  ListFormat list;
  list.columns = image_columns;
  list.table = invocation.flag("digests") ? "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
                                          : "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
  // Docker has no such column: it is there while something is coming, or is asked for.
  const std::string with_coming = concat(list.table, "\t{{.Coming}}");
  if (std::any_of(rows.begin(), rows.end(), [](const Row& row) { return !row.fields.at("Coming").as_string().empty(); })) list.table = with_coming;
  else if (!format_mentions(invocation.text("format"), "Coming"))
    for (auto& row : rows) row.fields.erase("Coming");
  list.format = invocation.text("format");
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "ID";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

Result<int> tag_image(Session& session, const Invocation& invocation) {
  Name name = cut_reference(invocation.word(1));
  Query query;
  query.add("repo", name.repository).add("tag", name.tag.empty() ? "latest" : name.tag);
  TRY_PLAIN(session.call("POST", object_path("images", invocation.word(0), "tag") + query.text()));
  return 0;
}

Result<int> remove_images(Session& session, const Invocation& invocation) {
  Query query;
  query.add_if(invocation.flag("force"), "force").add_if(invocation.flag("no-prune"), "noprune");
  int code = 0;
  for (const auto& name : invocation.words()) {
    auto fits = check_platform(session, name, invocation.text("platform"));
    auto reply = fits.ok() ? session.call("DELETE", object_path("images", name) + query.text()) : Result<Reply>(std::move(fits).error());
    if (!reply.ok()) {
      TRY_PLAIN(session.out().flush());
      print_error(session, reply.error());
      // with --force an image that is not there is what was asked for (docker's rule)
      if (!(invocation.flag("force") && reply.error().kind() == ErrorKind::not_found)) code = 1;
      continue;
    }
    auto removed = TRY_PLAIN(parse_json(reply->body, "the daemon's answer"));
    TRY_PLAIN(JsonView(removed).for_each_element([&](const JsonView& item) -> Status {
      std::string untagged;
      std::string deleted;
      TRY_PLAIN(item.read("Untagged", untagged));
      TRY_PLAIN(item.read("Deleted", deleted));
      if (!untagged.empty()) session.out().line(concat("Untagged: ", untagged));
      if (!deleted.empty()) session.out().line(concat("Deleted: ", deleted));
      return {};
    }));
  }
  return code;
}

Result<int> show_history(Session& session, const Invocation& invocation) {
  TRY_PLAIN(check_platform(session, invocation.word(0), invocation.text("platform")));
  auto answer = TRY_PLAIN(session.get(object_path("images", invocation.word(0), "history")));
  bool human = invocation.flag("human");
  bool no_trunc = invocation.flag("no-trunc");
  TimestampNs now = now_ns();
  std::vector<Row> rows;
  TRY_PLAIN(JsonView(answer).for_each_element([&](const JsonView& item) -> Status {
    std::string id;
    std::string created_by;
    std::string comment;
    std::int64_t created = 0;
    std::uint64_t size = 0;
    TRY_PLAIN(item.read("Id", id));
    TRY_PLAIN(item.read("CreatedBy", created_by));
    TRY_PLAIN(item.read("Comment", comment));
    TRY_PLAIN(item.read("Created", created));
    TRY_PLAIN(item.read("Size", size));
    created_by = replace_all(created_by, "\t", " ");
    std::string at = to_rfc3339(created * second_ns);
    Row row;
    row.fields["Comment"] = comment;
    row.fields["CreatedAt"] = concat(std::string_view(at).substr(0, 19), "Z");
    row.fields["CreatedBy"] = no_trunc ? created_by : ellipsis(created_by, 45);
    std::string age = created > 0 ? concat(human_duration(now - created * second_ns), " ago") : "N/A";
    row.fields["CreatedSince"] = human ? json::value(age) : row.fields["CreatedAt"];
    row.fields["ID"] = no_trunc ? id : short_id(id);
    row.fields["Size"] = human ? human_size(size) : concat(size);
    rows.push_back(std::move(row));
    return {};
  }));
  ListFormat list;
  list.columns = history_columns;
  list.table = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
  list.format = invocation.text("format");
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "ID";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

Result<int> import_image(Session& session, const Invocation& invocation) {
  const std::string& source = invocation.word(0);
  if (source.find("://") != std::string::npos)
    return Error(ErrorKind::unsupported, "import from a URL is not supported").with_hint(concat("curl -L ", source, " | caisson import -"));
  UniqueFd owner;
  int fd = TRY_PLAIN(open_source(source, owner));
  Query query;
  for (const auto& change : invocation.list("change")) query.add("changes", change);
  query.add("fromSrc", "-").add_if(invocation.has("message"), "message", invocation.text("message"));
  query.add_if(invocation.has("platform"), "platform", invocation.text("platform"));
  query.add_if(invocation.words().size() == 2, "repo", invocation.words().back());
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.upload(*client, "/images/create" + query.text(), fd));
  // The image's id comes as the last status and is the command's result.
  auto progress = TRY_PLAIN(follow_progress(session, *client, {.is_quiet = true, .prints_results = true}));
  session.out().line(progress.last_status());
  return 0;
}

Result<int> load_images(Session& session, const Invocation& invocation) {
  std::string_view input = invocation.text("input");
  if (input.empty() && linux::is_terminal(0))
    return Error(ErrorKind::invalid, "requested load from stdin, but stdin is empty").with_hint("name the archive: caisson load -i FILE");
  UniqueFd owner;
  int fd = TRY_PLAIN(open_source(input, owner));
  bool is_quiet = invocation.flag("quiet");
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.upload(*client, concat("/images/load?quiet=", is_quiet ? "1" : "0"), fd));
  TRY_PLAIN(follow_progress(session, *client, {.is_quiet = is_quiet, .prints_results = true}));
  return 0;
}

Result<int> save_images(Session& session, const Invocation& invocation) {
  std::string output(invocation.text("output"));
  if (output.empty() && session.out().is_terminal())
    return Error(ErrorKind::invalid, "cowardly refusing to save to a terminal. Use the -o flag or redirect").with_hint("caisson save -o images.tar …");
  Query query;
  for (const auto& name : invocation.words()) {
    TRY_PLAIN(check_platform(session, name, invocation.text("platform")));
    query.add("names", name);
  }
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "GET", "/images/get" + query.text()));
  TRY_PLAIN(save_stream(*client, output));
  return 0;
}

Result<int> bootstrap_image(Session& session, const Invocation& invocation) {
  json::array include;
  for (const auto& list : invocation.list("include"))
    for (auto package : split(list, ','))
      if (!trim(package).empty()) include.emplace_back(trim(package));
  json::value body(json::object{
      {"suite", invocation.word(0)}, {"include", include}, {"reference", invocation.text("tag")}, {"mirror", invocation.text("mirror")}, {"snapshot", invocation.text("snapshot")}});
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "POST", "/caisson/v1/images/bootstrap", &body));
  auto progress = TRY_PLAIN(follow_progress(session, *client, {.is_quiet = invocation.flag("quiet"), .prints_results = false}));
  if (progress.result_id().empty()) return Error(ErrorKind::corrupt, "the daemon's progress ended without an image");
  session.out().line(progress.result_id());
  return 0;
}

Result<int> prune_images(Session& session, const Invocation& invocation) {
  auto filters = TRY_PLAIN(parse_filters(invocation.list("filter")));
  bool all = invocation.flag("all");
  add_filter(filters, "dangling", all ? "false" : "true");
  return prune(session, invocation.flag("force"),
               all ? "This will remove all images without at least one container associated to them." : "This will remove all dangling images.",
               {{"images", filters}});
}

}  // namespace caisson::cli
