// diff, export and commit.
#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/request.hpp"
#include "cli/save_stream.hpp"

namespace caisson::cli {

Result<int> show_changes(Session& session, const Invocation& invocation) {
  auto answer = TRY_PLAIN(session.get(object_path("containers", invocation.word(0), "changes")));
  JsonView changes(answer);
  if (!changes.is_set()) return 0;  // nothing was changed
  TRY_PLAIN(changes.for_each_element([&](const JsonView& change) -> Status {
    std::string path;
    std::int64_t kind = 0;
    TRY_PLAIN(change.read("Path", path));
    TRY_PLAIN(change.read("Kind", kind));
    session.out().line(concat(kind == 1 ? "A" : kind == 2 ? "D" : "C", " ", path));
    return {};
  }));
  return 0;
}

Result<int> export_container(Session& session, const Invocation& invocation) {
  std::string output(invocation.text("output"));
  if (output.empty() && session.out().is_terminal())
    return Error(ErrorKind::invalid, "cowardly refusing to save to a terminal. Use the -o flag or redirect").with_hint("caisson export -o container.tar …");
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "GET", object_path("containers", invocation.word(0), "export")));
  TRY_PLAIN(save_stream(*client, output));
  return 0;
}

Result<int> commit_container(Session& session, const Invocation& invocation) {
  Query query;
  query.add("container", invocation.word(0));
  if (invocation.words().size() == 2) query.add("repo", invocation.word(1));
  query.add_if(invocation.has("author"), "author", invocation.text("author"));
  query.add_if(invocation.has("message"), "comment", invocation.text("message"));
  for (const auto& change : invocation.list("change")) query.add("changes", change);
  query.add_if(!invocation.flag("pause"), "pause", "0");
  auto answer = TRY_PLAIN(session.post("/commit" + query.text()));
  std::string id;
  TRY_PLAIN(JsonView(answer).read("Id", id));
  session.out().line(id);
  return 0;
}

}  // namespace caisson::cli
