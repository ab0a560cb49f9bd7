// Verbs on existing containers: one request each, names printed as they are done, errors collected.
#include <functional>

#include "base/strings.hpp"
#include "cli/attached.hpp"
#include "cli/commands.hpp"
#include "cli/create_body.hpp"
#include "cli/prune.hpp"
#include "cli/request.hpp"

namespace caisson::cli {

namespace {

// Calls `work` for every word; prints what it returns ("" prints nothing), or the error. 1 when any failed.
Result<int> for_each_name(Session& session, const Invocation& invocation, const std::function<Result<std::string>(const std::string&)>& work) {
  int code = 0;
  for (const auto& name : invocation.words()) {
    auto done = work(name);
    if (done.ok()) {
      if (!done->empty()) session.out().line(*done);
      TRY_PLAIN(session.out().flush());  // a stop takes seconds: show each as it is done
    } else {
      print_error(session, done.error());
      code = 1;
    }
  }
  return code;
}

// POST /containers/NAME/VERB?query
Result<int> post_each(Session& session, const Invocation& invocation, std::string_view verb, const Query& query = {}) {
  return for_each_name(session, invocation, [&](const std::string& name) -> Result<std::string> {
    TRY_PLAIN(session.call("POST", object_path("containers", name, verb) + query.text()));
    return name;
  });
}

Query stop_query(const Invocation& invocation) {
  Query query;
  query.add_if(invocation.has("signal"), "signal", invocation.text("signal")).add_if(invocation.has("timeout"), "t", invocation.text("timeout"));
  return query;
}

}  // namespace

Result<int> stop_containers(Session& session, const Invocation& invocation) { return post_each(session, invocation, "stop", stop_query(invocation)); }

Result<int> restart_containers(Session& session, const Invocation& invocation) { return post_each(session, invocation, "restart", stop_query(invocation)); }

Result<int> kill_containers(Session& session, const Invocation& invocation) {
  Query query;
  query.add_if(invocation.has("signal"), "signal", invocation.text("signal"));
  return post_each(session, invocation, "kill", query);
}

Result<int> pause_containers(Session& session, const Invocation& invocation) { return post_each(session, invocation, "pause"); }

Result<int> unpause_containers(Session& session, const Invocation& invocation) { return post_each(session, invocation, "unpause"); }

Result<int> wait_containers(Session& session, const Invocation& invocation) {
  return for_each_name(session, invocation, [&](const std::string& name) -> Result<std::string> {
    auto watch = TRY_PLAIN(ExitWatch::open(session, name, ""));
    return concat(TRY_PLAIN(watch.wait()));
  });
}

Result<int> remove_containers(Session& session, const Invocation& invocation) {
  Query query;
  query.add_if(invocation.flag("force"), "force").add_if(invocation.flag("link"), "link").add_if(invocation.flag("volumes"), "v");
  return for_each_name(session, invocation, [&](const std::string& name) -> Result<std::string> {
    std::string_view plain = name;
    while (plain.size() > 1 && plain.starts_with("/")) plain.remove_prefix(1);
    auto removed = session.call("DELETE", object_path("containers", plain) + query.text());
    if (removed.ok()) return name;
    // docker's rule: with --force a container that is not there is what was asked for, but its name is not printed as removed.
    if (invocation.flag("force") && removed.error().kind() == ErrorKind::not_found) {
      print_error(session, removed.error());
      return std::string();
    }
    return std::move(removed).error();
  });
}

Result<int> rename_container(Session& session, const Invocation& invocation) {
  if (trim(invocation.word(0)).empty() || trim(invocation.word(1)).empty()) return Error(ErrorKind::invalid, "neither old nor new names may be empty");
  Query query;
  query.add("name", trim(invocation.word(1)));
  TRY_PLAIN(session.call("POST", object_path("containers", invocation.word(0), "rename") + query.text()));
  return 0;
}

Result<int> update_containers(Session& session, const Invocation& invocation) {
  bool any = false;
  for (const auto& flag : find_command("update")->flags) any = any || invocation.has(flag.name);
  if (!any) return Error(ErrorKind::invalid, "you must provide one or more flags when using this command").with_hint("see 'caisson update --help'");
  json::value body(TRY_PLAIN(build_update(invocation)));
  std::vector<std::string> warnings;
  int code = TRY_PLAIN(for_each_name(session, invocation, [&](const std::string& name) -> Result<std::string> {
    auto answer = TRY_PLAIN(session.post(object_path("containers", name, "update"), &body));
    std::vector<std::string> some;
    TRY_PLAIN(JsonView(answer).read("Warnings", some));
    warnings.insert(warnings.end(), some.begin(), some.end());
    return name;
  }));
  for (const auto& warning : warnings) session.err().line(concat("WARNING: ", warning));
  return code;
}

Result<int> prune_containers(Session& session, const Invocation& invocation) {
  auto filters = TRY_PLAIN(parse_filters(invocation.list("filter")));
  return prune(session, invocation.flag("force"), "This will remove all stopped containers.", {{"containers", filters}});
}

}  // namespace caisson::cli
