// /build as docker's clients use it, over a builder that does what it is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/api.hpp"
#include "api/fake_builder.hpp"
#include "api/fake_engine.hpp"
#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::api {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Build : public testing::Test {
 protected:
  FakeEngine engine;
  FakeBuilder builder;
  wire::Handler handler = create_api(engine, builder, ApiOptions{});

  FakeExchange call(std::string_view target, std::string body = "a tar", wire::Headers headers = {}) {
    FakeExchange exchange("POST", target, std::move(body), std::move(headers));
    handler(exchange);
    return exchange;
  }
  void SetUp() override {
    build::BuildOutcome outcome;
    outcome.image.id = sha256_of("image");
    builder.outcome = outcome;
  }
  void tell(build::EventKind kind, std::string text, std::string id = "") {
    build::Event event;
    event.kind = kind;
    event.text = std::move(text);
    event.id = std::move(id);
    event.step = 1;
    event.steps = 2;
    builder.events.push_back(std::move(event));
  }
};

TEST_F(Build, the_words_are_those_of_dockers_classic_builder) {
  tell(build::EventKind::step, "FROM alpine");
  tell(build::EventKind::cached, "");
  tell(build::EventKind::running, "", "0123456789abcdef");
  tell(build::EventKind::output, "hello\n");
  tell(build::EventKind::removed, "", "0123456789abcdef");
  tell(build::EventKind::made, "", "sha256:fedcba9876543210");
  auto answer = call("/build?t=a&t=b:1");
  EXPECT_EQ(answer.status, 200);
  auto id = sha256_of("image");
  auto short_id = std::string(id.hex().substr(0, 12));
  std::string all;
  for (auto line : split(answer.answer, '\n'))
    if (!trim(line).empty()) {
      auto document = parse_json(trim(line), "line");
      ASSERT_TRUE(document.ok()) << line;
      if (auto* stream = document->get_object().if_contains("stream")) all += stream->get_string();
    }
  EXPECT_EQ(all, concat("Step 1/2 : FROM alpine\n ---> Using cache\n ---> Running in 0123456789ab\nhello\nRemoving intermediate container 0123456789ab\n ---> fedcba987654\nSuccessfully built ", short_id,
                        "\nSuccessfully tagged a:latest\nSuccessfully tagged b:1\n"));
  EXPECT_THAT(answer.answer, HasSubstr(concat("{\"aux\":{\"ID\":\"", id.text(), "\"}}")));
  EXPECT_EQ(builder.context, "a tar");
  EXPECT_THAT(builder.request.tags, ElementsAre("a", "b:1"));
}

TEST_F(Build, quiet_builds_say_the_id_only) {
  tell(build::EventKind::step, "FROM alpine");
  EXPECT_EQ(call("/build?q=1").answer, concat("{\"stream\":\"", sha256_of("image").text(), "\\n\"}\r\n"));
}

TEST_F(Build, parameters_reach_the_builder) {
  call("/build?dockerfile=d/F&buildargs={\"A\":\"1\",\"B\":null}&labels={\"l\":\"v\"}&target=t&nocache=1&platform=linux/arm64&networkmode=none&extrahosts=a:1.2.3.4&memory=5&cachefrom=[\"from:query\"]&ulimits=[{\"Name\":\"nofile\",\"Soft\":1,\"Hard\":2}]",
       "x", {{"X-Registry-Config", base64_encode(R"({"https://index.docker.io/v1/":{"username":"u","password":"p"},"h:5000":{"auth":"YTpi"},"bad":7})")}, {"X-Caisson-Build", base64_encode(R"({"secrets":{"k":"dmFsdWU="},"allow":["network.host"],"call":"check","no_cache":["one","2"],"annotations":{"a.b":"c"},"provenance":"max","ssh":{"session":"s1","ids":["default","k"],"known_hosts":"h key\n"},"contexts":{"src":{"type":"folder","value":"top/0"}},"cache_from":[{"ref":"h/c:1","remote":true}],"cache_to":[{"type":"inline"},{"type":"registry","ref":"h/c:1","all_stages":true}]})")}});
  const auto& request = builder.request;
  EXPECT_EQ(request.dockerfile, "d/F");
  EXPECT_EQ(request.arguments, (dockerfile::Arguments{{"A", "1"}}));
  EXPECT_EQ(request.labels.at("l"), "v");
  EXPECT_EQ(request.target, "t");
  EXPECT_FALSE(request.use_cache);
  EXPECT_EQ(request.platform, "linux/arm64");
  EXPECT_EQ(request.network, "none");
  EXPECT_THAT(request.extra_hosts, ElementsAre("a:1.2.3.4"));
  EXPECT_EQ(request.resources.memory_bytes, 5);
  EXPECT_EQ(request.ulimits.at(0).hard, 2);
  EXPECT_EQ(request.secrets.at("k"), "value");
  EXPECT_EQ(request.provenance, build::Provenance::max);
  EXPECT_TRUE(request.allowed.contains("network.host"));
  EXPECT_EQ(request.call, build::BuildCall::check);
  EXPECT_THAT(request.no_cache_stages, testing::ElementsAre("one", "2"));
  EXPECT_EQ(request.annotations.at("a.b"), "c");
  EXPECT_EQ(request.agent_session, "s1");
  EXPECT_THAT(request.agents, ElementsAre("default", "k"));
  EXPECT_EQ(request.known_hosts, "h key\n");
  EXPECT_EQ(request.contexts.at("src").kind, build::ContextKind::folder);
  EXPECT_EQ(request.contexts.at("src").value, "top/0");
  ASSERT_EQ(request.cache_from.size(), 2U);
  EXPECT_EQ(request.cache_from[0].reference, "from:query");
  EXPECT_FALSE(request.cache_from[0].is_remote);
  EXPECT_TRUE(request.cache_from[1].is_remote);
  ASSERT_EQ(request.cache_to.size(), 2U);
  EXPECT_EQ(request.cache_to[1].kind, build::CacheTargetKind::registry);
  EXPECT_TRUE(request.cache_to[1].all_stages);
  EXPECT_EQ(request.registries.at("docker.io").password, "p");
  EXPECT_EQ(request.registries.at("h:5000").username, "a");
  EXPECT_EQ(request.registries.size(), 2U);
}

TEST_F(Build, failures_are_answers_before_the_first_line_and_documents_behind_it) {
  builder.outcome = Error(ErrorKind::invalid, "dockerfile parse error on line 1: x");
  auto refused = call("/build");
  EXPECT_EQ(refused.status, 400);
  EXPECT_THAT(refused.answer, HasSubstr("dockerfile parse error on line 1: x"));
  tell(build::EventKind::step, "FROM alpine");
  auto late = call("/build");
  EXPECT_EQ(late.status, 200);
  EXPECT_THAT(late.answer, HasSubstr("{\"errorDetail\":{\"message\":\"dockerfile parse error on line 1: x\"},\"error\":\"dockerfile parse error on line 1: x\"}"));
  build::BuildOutcome failed;
  failed.failed_code = 3;
  failed.failure = "The command 'x' returned a non-zero code: 3";
  builder.outcome = failed;
  EXPECT_THAT(call("/build").answer, HasSubstr("{\"errorDetail\":{\"code\":3,\"message\":\"The command 'x' returned a non-zero code: 3\"}"));
  for (auto target : {"/build?version=2", "/build?remote=client-session", "/build?squash=1"}) EXPECT_EQ(call(target).status, 501) << target;
  for (auto target : {"/build?buildargs=x", "/build?memory=x", "/build?ulimits=x", "/build?cachefrom=x", "/build?cachefrom=[7]"}) EXPECT_EQ(call(target).status, 400) << target;
}

TEST_F(Build, an_agent_is_lent_by_an_upgraded_connection) {
  builder.agent_session = "mine";
  builder.agent_says = "to the client";
  wire::Headers json{{"Content-Type", "application/json"}};
  EXPECT_EQ(call("/caisson/v1/builds/agents", R"({"session":"mine","id":"a"})", json).status, 400);
  wire::Headers upgrade{{"Content-Type", "application/json"}, {"Connection", "Upgrade"}, {"Upgrade", "tcp"}};
  EXPECT_EQ(call("/caisson/v1/builds/agents", R"({"session":"other","id":"a"})", upgrade).status, 403);
  EXPECT_EQ(call("/caisson/v1/builds/agents", R"({"session":7})", upgrade).status, 400);
  auto lent = call("/caisson/v1/builds/agents", R"({"session":"mine","id":"a"})", upgrade);
  EXPECT_EQ(lent.status, 101);
  EXPECT_EQ(builder.agent_id, "a");
  std::string said(64, '\0');
  said.resize(*linux::read(lent.client.get(), said));
  EXPECT_EQ(said, "to the client");
}

TEST_F(Build, caches_and_contexts_of_no_known_kind_are_refused) {
  for (auto text : {R"({"contexts":{"a":{"type":"x"}}})", R"({"contexts":7})", R"({"cache_to":[{"type":"x"}]})", R"({"cache_to":[{"type":"registry","ref":"//"}]})", R"({"cache_from":[7]})"})
    EXPECT_EQ(call("/build", "x", {{"X-Caisson-Build", base64_encode(text)}}).status, 400) << text;
}

TEST_F(Build, events_come_instead_of_lines_for_whoever_asks) {
  tell(build::EventKind::step, "FROM alpine");
  tell(build::EventKind::running, "", "0123456789abcdef");
  tell(build::EventKind::failed, "");
  auto answer = call("/build", "a tar", {{"X-Caisson-Build", base64_encode(R"({"events":true})")}}).answer;
  EXPECT_THAT(answer, HasSubstr(R"({"event":{"kind":"step","stage":0,"step":1,"steps":2,"text":"FROM alpine"}})"));
  EXPECT_THAT(answer, HasSubstr(R"("kind":"failed")"));
  EXPECT_THAT(answer, testing::Not(HasSubstr("Step 1/2")));
  EXPECT_THAT(answer, testing::Not(HasSubstr("running")));
  EXPECT_THAT(answer, HasSubstr("Successfully built"));
  EXPECT_EQ(call("/build", "a tar", {{"X-Caisson-Build", base64_encode(R"({"events":7})")}}).status, 400);
}

TEST_F(Build, a_debug_shell_is_told_with_lines_and_with_events_and_asked_for_by_our_parameter_alone) {
  auto shell = std::make_shared<build::DebugShell>();
  shell->container = "0123456789abcdef";
  shell->program = "/bin/sh";
  shell->step = "RUN make";
  shell->line = 4;
  shell->exit_code = 2;
  build::Event event;
  event.kind = build::EventKind::shell;
  event.debug_shell = shell;
  builder.events.push_back(event);
  const std::string told = R"({"aux":{"DebugShell":{"ID":"0123456789abcdef","Problem":"","Program":"/bin/sh","Step":"RUN make","Line":4,"Failure":"","BeforeStep":false,"ExitCode":2}}})";
  EXPECT_THAT(call("/build?q=1").answer, HasSubstr(told));
  EXPECT_FALSE(builder.request.debug.has_value());
  auto answer = call("/build", "a tar", {{"X-Caisson-Build", base64_encode(R"({"events":true,"debug_shell":{"program":"bash","tty":true,"size":[33,99]}})")}});
  EXPECT_EQ(answer.answer.find(told), answer.answer.rfind(told)) << "once";
  EXPECT_THAT(answer.answer, HasSubstr(told));
  ASSERT_TRUE(builder.request.debug.has_value());
  EXPECT_EQ(builder.request.debug->program, "bash");
  EXPECT_TRUE(builder.request.debug->has_terminal);
  EXPECT_EQ(builder.request.debug->console_size.height, 33);
  EXPECT_EQ(builder.request.debug->console_size.width, 99);
  for (const auto* wrong : {R"({"debug_shell":7})", R"({"debug_shell":{"tty":"yes"}})", R"({"debug_shell":{"size":[1]}})", R"({"debug_shell":{"size":[1,99999]}})"})
    EXPECT_EQ(call("/build", "x", {{"X-Caisson-Build", base64_encode(wrong)}}).status, 400) << wrong;
}

TEST_F(Build, what_the_image_was_made_of_is_told_to_whoever_asked) {
  EXPECT_THAT(call("/build").answer, testing::Not(HasSubstr("Provenance")));
  builder.outcome->provenance = R"({"buildDefinition":{}})";
  EXPECT_THAT(call("/build").answer, HasSubstr(R"({"aux":{"Provenance":"{\"buildDefinition\":{}}"}})"));
}

TEST_F(Build, the_history_is_listed_shown_and_forgotten) {
  build::BuildRecord record;
  record.id = "0123456789abcdef012345678";
  record.name = "web";
  record.status = build::BuildStatus::failed;
  record.error = "no good";
  record.started = 1;
  record.ended = 3;
  builder.builds.push_back(record);
  auto get = [&](std::string_view method, const std::string& target) {
    FakeExchange exchange(std::string(method), target, "", {});
    handler(exchange);
    return exchange;
  };
  EXPECT_THAT(get("GET", "/caisson/v1/builds").answer, HasSubstr("\"Status\":\"Error\""));
  EXPECT_THAT(get("GET", "/caisson/v1/builds/" + record.id).answer, HasSubstr("\"DurationNs\":2"));
  EXPECT_EQ(get("GET", "/caisson/v1/builds/" + record.id + "/logs").answer, "Step 1/1 : FROM x\n");
  EXPECT_EQ(get("DELETE", "/caisson/v1/builds/" + record.id).status, 204);
  EXPECT_EQ(get("GET", "/caisson/v1/builds/" + record.id).status, 404);
}

TEST_F(Build, the_cache_is_shown_pruned_and_kept_out_of_the_list_of_images) {
  build::CacheEntry entry;
  entry.key = std::string(64, 'k');
  entry.text = "RUN x";
  entry.size_bytes = 7;
  builder.entries.push_back(entry);
  EXPECT_THAT(call("/build/prune").answer, HasSubstr("\"SpaceReclaimed\":7"));
  EXPECT_THAT(call("/build/prune?keep-storage=100").answer, HasSubstr("\"CachesDeleted\":null"));
  EXPECT_EQ(call("/build/prune?filters={\"what\":[\"x\"]}").status, 400);
  FakeExchange usage("GET", "/system/df", "", {});
  handler(usage);
  EXPECT_THAT(usage.answer, HasSubstr("\"Description\":\"RUN x\""));
  EXPECT_THAT(usage.answer, HasSubstr("\"BuilderSize\":7"));
}

TEST_F(Build, cache_mounts_are_rows_of_the_cache_that_filters_tell_from_steps) {
  build::CacheEntry step;
  step.key = std::string(64, 'k');
  step.text = "RUN x";
  step.size_bytes = 7;
  build::CacheEntry mount;
  mount.kind = build::CacheKind::mount;
  mount.key = std::string(64, 'm');
  mount.id = "/root/.cache";
  mount.text = "/c";
  mount.scope = "team=web";
  mount.sharing = "locked";
  mount.size_bytes = 5;
  builder.entries = {mount, step};
  FakeExchange usage("GET", "/system/df", "", {});
  handler(usage);
  EXPECT_THAT(usage.answer, HasSubstr(R"("Type":"exec.cachemount","Description":"cached mount /c with id \"/root/.cache\"")"));
  EXPECT_THAT(usage.answer, HasSubstr(R"("CacheMount":{"ID":"/root/.cache","Scope":"team=web","Sharing":"locked","Target":"/c"})"));
  EXPECT_THAT(usage.answer, HasSubstr("\"BuilderSize\":12"));
  auto reclaimed = [&](const std::string& filters) { return call("/build/prune?filters=" + filters).answer; };
  EXPECT_THAT(reclaimed(R"({"type":["exec.cachemount"]})"), HasSubstr("\"SpaceReclaimed\":5"));
  EXPECT_THAT(reclaimed(R"({"type":["regular"]})"), HasSubstr("\"SpaceReclaimed\":7"));
  EXPECT_THAT(reclaimed(R"({"id":["/root/.cache"]})"), HasSubstr("\"SpaceReclaimed\":5"));
  EXPECT_THAT(reclaimed(R"({"id":["/root"]})"), HasSubstr("\"SpaceReclaimed\":0"));
  EXPECT_THAT(reclaimed(R"({"id":["mmmm"]})"), HasSubstr("\"SpaceReclaimed\":5"));
  EXPECT_THAT(reclaimed(R"({"description":["RUN"]})"), HasSubstr("\"SpaceReclaimed\":7"));
  EXPECT_THAT(reclaimed(R"({"inuse":["true"]})"), HasSubstr("\"SpaceReclaimed\":0"));
  EXPECT_THAT(reclaimed(R"({"private":["true"],"shared":["false"],"inuse":["0"]})"), HasSubstr("\"SpaceReclaimed\":12"));
  EXPECT_THAT(call("/build/prune?reserved-space=7").answer, HasSubstr("\"SpaceReclaimed\":5")) << "the one that was used longest ago";
}

TEST_F(Build, cache_mounts_are_looked_at_removed_exported_and_imported_one_by_one) {
  build::CacheEntry mount;
  mount.kind = build::CacheKind::mount;
  mount.key = std::string(64, 'm');
  mount.id = "a/b";
  builder.entries = {mount, build::CacheEntry{}};
  auto ask = [&](std::string_view method, const std::string& target, std::string body = "") {
    FakeExchange exchange(std::string(method), target, std::move(body), {});
    handler(exchange);
    return exchange;
  };
  const std::string mounts = "/caisson/v1/cache-mounts";
  EXPECT_THAT(ask("GET", mounts).answer, testing::Not(HasSubstr("\"regular\"")));
  EXPECT_THAT(ask("GET", mounts + "?id=a%2Fb").answer, HasSubstr("\"ID\":\"a/b\""));
  EXPECT_EQ(ask("GET", mounts + "?id=b").status, 404);
  EXPECT_EQ(ask("GET", mounts + "/archive?id=a%2Fb").answer, "an archive");
  EXPECT_EQ(ask("GET", mounts + "/archive").status, 400);
  EXPECT_EQ(ask("POST", mounts + "/archive?id=new", "a tar").status, 201);
  EXPECT_EQ(builder.context, "a tar");
  EXPECT_EQ(builder.imported.id, "new");
  EXPECT_EQ(ask("POST", mounts + "/archive?ref=h:5000/x:1").status, 201);
  EXPECT_EQ(builder.imported.reference, "h:5000/x:1");
  EXPECT_LT(builder.imported.source_fd, 0);
  EXPECT_EQ(ask("DELETE", mounts + "?id=a/b").status, 204);
  EXPECT_EQ(ask("DELETE", mounts + "?id=a/b").status, 404);
}

}  // namespace
}  // namespace caisson::api
