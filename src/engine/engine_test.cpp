// The verbs against fakes: states, names, races, and what is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/time.hpp"
#include "engine/container.hpp"
#include "engine/fake_parts.hpp"

namespace caisson::engine {
namespace {

using fake::Harness;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Verbs : public testing::Test {
 protected:
  Engine& engine() { return *h.engine; }
  ContainerInfo info(const std::string& name) {
    auto found = engine().inspect(h.admin, name, false);
    EXPECT_TRUE(found.ok()) << found.error().text();
    return found.ok() ? *found : ContainerInfo{};
  }
  /// Until what runs in the background after an exit is done: a start of the same container waits for it.
  void expect_gone(const std::string& id) {
    auto deadline = monotonic_ns() + 5'000'000'000;
    while (h.names_in("root/containers").contains(id) && monotonic_ns() < deadline) std::this_thread::yield();
    EXPECT_FALSE(h.names_in("root/containers").contains(id));
  }
  Harness h;
};

TEST_F(Verbs, create_merges_the_image_and_reserves_the_name) {
  auto spec = Harness::spec({}, "web");
  spec.env = {"MINE=1"};
  spec.labels = {{"mine", "1"}};
  auto id = h.create(std::move(spec));
  auto created = info("web");
  EXPECT_EQ(created.id, id);
  EXPECT_EQ(created.state, State::created);
  EXPECT_THAT(created.args, ElementsAre("sh"));
  EXPECT_THAT(created.spec.env, ElementsAre("PATH=/bin", "FROM_IMAGE=1", "MINE=1"));
  EXPECT_EQ(created.spec.labels.at("from"), "image");
  EXPECT_THAT(created.spec.exposed_ports, ElementsAre("80/tcp"));
  auto again = engine().create(h.admin, Harness::spec({"x"}, "web"));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().kind(), ErrorKind::conflict);
  EXPECT_THAT(again.error().text(), HasSubstr("is already in use by container"));
  EXPECT_EQ(h.names_in("root/containers").size(), 1U);
}

TEST_F(Verbs, entrypoint_and_cmd_follow_dockers_merge) {
  h.images->image().config.entrypoint = {"/entry"};
  EXPECT_THAT(info(h.create(Harness::spec({}))).args, ElementsAre("/entry", "sh"));
  EXPECT_THAT(info(h.create(Harness::spec({"own"}))).args, ElementsAre("/entry", "own"));
  auto spec = Harness::spec({});
  spec.entrypoint = std::vector<std::string>{"/mine"};
  EXPECT_THAT(info(h.create(spec)).args, ElementsAre("/mine"));
  spec.entrypoint = std::vector<std::string>{""};
  spec.cmd = std::vector<std::string>{"only"};
  EXPECT_THAT(info(h.create(spec)).args, ElementsAre("only"));
  h.images->image().config.entrypoint.clear();
  h.images->image().config.cmd.clear();
  auto nothing = engine().create(h.admin, Harness::spec({}));
  ASSERT_FALSE(nothing.ok());
  EXPECT_THAT(nothing.error().text(), HasSubstr("no command specified"));
}

TEST_F(Verbs, an_image_that_the_policy_refuses_becomes_no_container) {
  h.images->policy = Error(ErrorKind::denied, "image busybox is refused by policy.json");
  auto result = engine().create(h.admin, Harness::spec({"x"}, "web"));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind(), ErrorKind::denied);
  EXPECT_TRUE(h.names_in("root/containers").empty());
  EXPECT_TRUE(engine().inspect_image(h.admin, "busybox").ok());  // looking is not using
}

TEST_F(Verbs, refused_creates_leave_nothing) {
  auto refused = [&](ContainerSpec spec) {
    auto result = engine().create(h.admin, std::move(spec));
    EXPECT_FALSE(result.ok());
    EXPECT_THAT(h.names_in("root/containers"), IsEmpty());
    EXPECT_THAT(h.names_in("root/volumes"), IsEmpty());
    return result.ok() ? ErrorKind::internal : result.error().kind();
  };
  auto missing_image = Harness::spec({"x"}, "name1");
  missing_image.image = "nosuch";
  EXPECT_EQ(refused(missing_image), ErrorKind::not_found);
  auto missing_source = Harness::spec({"x"}, "name2");
  missing_source.mounts = {{.type = MountType::volume, .source = "vol", .target = "/v"}, {.source = h.folder() + "/nosuch", .target = "/x"}};
  EXPECT_EQ(refused(missing_source), ErrorKind::invalid);
  EXPECT_EQ(refused(Harness::spec({"x"}, "bad name")), ErrorKind::invalid);
  auto platform = Harness::spec({"x"});
  platform.platform = "linux/s390x";
  EXPECT_EQ(refused(platform), ErrorKind::not_found);
  h.create(Harness::spec({"x"}, "name1"));  // the name was given back
}

TEST_F(Verbs, a_program_that_ends_is_exited_with_its_code_and_leaves_nothing_running) {
  auto id = h.run(Harness::spec({"exit", "7"}));
  EXPECT_EQ(h.wait(id), 7);
  auto ended = info(id);
  EXPECT_EQ(ended.state, State::exited);
  EXPECT_EQ(ended.exit_code, 7);
  EXPECT_EQ(ended.pid, 0);
  EXPECT_GE(ended.finished_at, ended.started_at);
}

TEST_F(Verbs, rm_on_exit_frees_record_and_name_before_the_waiter_hears_of_it) {
  for (int turn = 0; turn < 20; ++turn) {
    auto spec = Harness::spec({"exit", "7"}, "once");
    spec.auto_remove = true;
    spec.ports = {{network::Protocol::tcp, 80, "", 8080}};
    spec.mounts = {{.type = MountType::volume, .target = "/data"}};
    auto id = h.create(spec);
    auto waiter = engine().begin_wait(h.admin, id, WaitCondition::removed);
    ASSERT_TRUE(waiter.ok());
    ASSERT_TRUE(engine().start(h.admin, id).ok());
    auto result = (*waiter)->wait({});
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->exit_code, 7);
    EXPECT_FALSE(engine().inspect(h.admin, id, false).ok());
    EXPECT_TRUE(engine().list_volumes(h.admin, false)->empty());
  }
  // The files go behind the answer, and their removal is queued after the waiter has heard.
  const auto deadline = monotonic_ns() + 5'000'000'000;
  while (!h.names_in("root/containers").empty() && monotonic_ns() < deadline) std::this_thread::yield();
  h.close();
  EXPECT_THAT(h.names_in("root/containers"), IsEmpty());
  EXPECT_THAT(h.names_in("root/volumes"), IsEmpty());
  EXPECT_THAT(h.names_in("run/containers"), IsEmpty());
}

TEST_F(Verbs, the_exit_code_of_one_that_removed_itself_can_be_asked_for_by_its_id) {
  auto spec = Harness::spec({"exit", "7"}, "once");
  spec.auto_remove = true;
  const auto id = h.create(spec);
  auto waiter = engine().begin_wait(h.admin, id, WaitCondition::removed);
  ASSERT_TRUE(engine().start(h.admin, id).ok());
  ASSERT_TRUE((*waiter)->wait({}).ok());
  auto late = engine().begin_wait(h.admin, id, WaitCondition::not_running);
  ASSERT_TRUE(late.ok()) << late.error().text();
  EXPECT_EQ((*late)->wait({})->exit_code, 7);
  EXPECT_EQ(engine().begin_wait(h.admin, "once", WaitCondition::not_running).error().kind(), ErrorKind::not_found) << "its name is another's by now";
  const auto kept = h.run(Harness::spec({"exit", "3"}));
  EXPECT_EQ(h.wait(kept), 3);
  ASSERT_TRUE(engine().remove(h.admin, kept, {}).ok());
  EXPECT_FALSE(engine().begin_wait(h.admin, kept, WaitCondition::not_running).ok()) << "somebody took it away";
}

TEST_F(Verbs, starts_that_fail_keep_the_container_with_dockers_codes) {
  auto id = h.create(Harness::spec({"missing"}));
  auto started = engine().start(h.admin, id);
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(started.error().text(), HasSubstr("executable file not found"));
  EXPECT_EQ(info(id).state, State::created);
  EXPECT_EQ(info(id).exit_code, 127);
  EXPECT_THAT(info(id).error, HasSubstr("missing"));
  EXPECT_EQ(h.network->endpoint_count(), 0U);
  EXPECT_THAT(h.names_in("run/containers"), IsEmpty());
  auto other = h.create(Harness::spec({"forbidden"}));
  EXPECT_FALSE(engine().start(h.admin, other).ok());
  EXPECT_EQ(info(other).exit_code, 126);
}

TEST_F(Verbs, a_failed_start_with_rm_removes_the_container) {
  auto spec = Harness::spec({"missing"}, "gone");
  spec.auto_remove = true;
  auto id = h.create(spec);
  auto waiter = engine().begin_wait(h.admin, id, WaitCondition::removed);
  EXPECT_FALSE(engine().start(h.admin, id).ok());
  EXPECT_EQ((*waiter)->wait({})->exit_code, 127);
  EXPECT_FALSE(engine().inspect(h.admin, "gone", false).ok());
}

TEST_F(Verbs, starting_twice_says_already_and_a_stopped_one_starts_again) {
  auto id = h.run(Harness::spec({"sleep"}));
  EXPECT_EQ(*engine().start(h.admin, id), Engine::Changed::already);
  EXPECT_EQ(*engine().stop(h.admin, id, {}), Engine::Changed::yes);
  EXPECT_EQ(*engine().stop(h.admin, id, {}), Engine::Changed::already);
  EXPECT_EQ(info(id).exit_code, 128 + 15);
  EXPECT_EQ(*engine().start(h.admin, id), Engine::Changed::yes);
  EXPECT_EQ(info(id).state, State::running);
  EXPECT_EQ(h.runtime->starts(), 2U);
}

TEST_F(Verbs, stop_uses_the_stop_signal_and_kills_the_deaf) {
  auto spec = Harness::spec({"sleep"});
  spec.stop_signal = "INT";
  auto id = h.run(spec);
  EXPECT_TRUE(engine().stop(h.admin, id, {}).ok());
  EXPECT_THAT(h.runtime->signals(), ElementsAre(2));
  ASSERT_TRUE(engine().start(h.admin, id).ok());
  h.runtime->set_deaf(true);
  StopOptions at_once;
  at_once.timeout_s = 0;
  EXPECT_TRUE(engine().stop(h.admin, id, at_once).ok());
  EXPECT_THAT(h.runtime->signals(), ElementsAre(2, 2, 9));
  EXPECT_EQ(info(id).exit_code, 137);
}

TEST_F(Verbs, a_stop_without_limit_does_not_hold_up_a_daemon_that_ends) {
  auto id = h.run(Harness::spec({"sleep"}));
  h.runtime->set_deaf(true);
  StopOptions for_ever;
  for_ever.timeout_s = -1;
  std::optional<Error> refusal;
  std::thread stopping([&] {
    auto stopped = engine().stop(h.admin, id, for_ever);
    if (!stopped.ok()) refusal = std::move(stopped).error();
  });
  const auto deadline = monotonic_ns() + 5'000'000'000;
  while (h.runtime->signals().empty() && monotonic_ns() < deadline) std::this_thread::yield();
  EXPECT_TRUE(linux::eventfd_signal(h.ending.get()).ok());
  stopping.join();
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->kind(), ErrorKind::unavailable) << refusal->text();
  EXPECT_THAT(h.runtime->signals(), ElementsAre(15)) << "nobody waited long enough to kill it";
  EXPECT_EQ(h.state_of(id), State::running);
}

TEST_F(Verbs, kill_pause_and_remove_obey_the_state) {
  auto id = h.create(Harness::spec({"sleep"}));
  EXPECT_EQ(engine().kill(h.admin, id, "").error().kind(), ErrorKind::conflict);
  EXPECT_EQ(engine().pause(h.admin, id).error().kind(), ErrorKind::conflict);
  ASSERT_TRUE(engine().start(h.admin, id).ok());
  EXPECT_EQ(engine().remove(h.admin, id, {}).error().kind(), ErrorKind::conflict);
  ASSERT_TRUE(engine().pause(h.admin, id).ok());
  EXPECT_EQ(info(id).state, State::paused);
  EXPECT_EQ(engine().pause(h.admin, id).error().kind(), ErrorKind::conflict);
  EXPECT_THAT(engine().list(h.admin, {})->at(0).status, HasSubstr("(Paused)"));
  ASSERT_TRUE(engine().unpause(h.admin, id).ok());
  EXPECT_EQ(engine().kill(h.admin, id, "NOPE").error().kind(), ErrorKind::invalid);
  RemoveOptions force;
  force.force = true;
  ASSERT_TRUE(engine().remove(h.admin, id, force).ok());
  EXPECT_FALSE(engine().inspect(h.admin, id, false).ok());
  expect_gone(id);
}

TEST_F(Verbs, lookup_takes_ids_prefixes_and_names) {
  auto id = h.create(Harness::spec({"x"}, "web"));
  for (const auto& name : {id, id.substr(0, 12), std::string("web"), std::string("/web")}) EXPECT_EQ(info(name).id, id);
  EXPECT_EQ(engine().inspect(h.admin, "nosuch", false).error().kind(), ErrorKind::not_found);
  EXPECT_EQ(engine().inspect(h.admin, "", false).error().kind(), ErrorKind::not_found);
  ASSERT_TRUE(engine().rename(h.admin, "web", "shop").ok());
  EXPECT_EQ(info("shop").id, id);
  EXPECT_FALSE(engine().inspect(h.admin, "web", false).ok());
  h.create(Harness::spec({"x"}, "web"));
  EXPECT_EQ(engine().rename(h.admin, "shop", "web").error().kind(), ErrorKind::conflict);
}

TEST_F(Verbs, published_ports_are_free_again_once_the_wait_is_over) {
  auto with_port = [] {
    auto spec = Harness::spec({"sleep"});
    spec.ports = {{network::Protocol::tcp, 80, "", 8080}};
    return spec;
  };
  auto first = h.run(with_port());
  auto second = h.create(with_port());
  auto refused = engine().start(h.admin, second);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().text(), HasSubstr("port is already allocated"));
  h.runtime->end(first, 0);
  h.wait(first);
  EXPECT_TRUE(engine().start(h.admin, second).ok());  // waits for the teardown of the first
}

TEST_F(Verbs, an_image_in_use_is_not_removed_and_a_used_volume_neither) {
  auto spec = Harness::spec({"x"});
  spec.mounts = {{.type = MountType::volume, .source = "data", .target = "/data"}};
  auto id = h.create(spec);
  EXPECT_EQ(engine().remove_image(h.admin, "busybox", false).error().kind(), ErrorKind::conflict);
  EXPECT_EQ(engine().remove_volume(h.admin, "data", false).error().kind(), ErrorKind::conflict);
  ASSERT_TRUE(engine().remove(h.admin, id, {}).ok());
  EXPECT_TRUE(engine().remove_volume(h.admin, "data", false).ok());
  EXPECT_EQ(engine().remove_volume(h.admin, "data", false).error().kind(), ErrorKind::not_found);
  EXPECT_TRUE(engine().remove_volume(h.admin, "data", true).ok());
  EXPECT_TRUE(engine().remove_image(h.admin, "busybox", false).ok());
}

TEST_F(Verbs, rm_v_takes_anonymous_volumes_only) {
  auto spec = Harness::spec({"x"});
  spec.mounts = {{.type = MountType::volume, .source = "kept", .target = "/a"}, {.type = MountType::volume, .target = "/b"}};
  auto id = h.create(spec);
  EXPECT_EQ(engine().list_volumes(h.admin, false)->size(), 2U);
  RemoveOptions options;
  options.volumes = true;
  ASSERT_TRUE(engine().remove(h.admin, id, options).ok());
  auto left = engine().list_volumes(h.admin, false);
  ASSERT_EQ(left->size(), 1U);
  EXPECT_EQ(left->front().name, "kept");
}

TEST_F(Verbs, a_new_volume_begins_with_the_images_content_and_keeps_its_own) {
  const std::string html = h.root() + "/layers/one/fs/srv/html";
  ASSERT_TRUE(linux::make_dirs(html + "/sub", 0750).ok());
  ASSERT_TRUE(linux::write_file(html + "/index", "from the image").ok());
  ASSERT_TRUE(linux::symlinkat("/etc/shadow", AT_FDCWD, html + "/link").ok());
  auto spec = Harness::spec({"x"});
  spec.mounts = {{.type = MountType::volume, .source = "site", .target = "/srv/html"}, {.type = MountType::volume, .source = "bare", .target = "/srv/html2"}};
  h.create(spec);
  const std::string data = h.root() + "/volumes/site/_data";
  EXPECT_EQ(linux::read_file(data + "/index").value_or(""), "from the image");
  EXPECT_EQ(linux::stat(data)->st_mode & 07777U, 0750U);
  EXPECT_TRUE(S_ISLNK(linux::lstat(data + "/link")->st_mode));
  EXPECT_TRUE(linux::list_dir(h.root() + "/volumes/bare/_data")->empty());
  ASSERT_TRUE(linux::write_file(data + "/index", "changed").ok());
  h.create(spec);
  EXPECT_EQ(linux::read_file(data + "/index").value_or(""), "changed");
  spec.mounts = {{.type = MountType::volume, .source = "nocopy", .target = "/srv/html", .no_copy = true}};
  h.create(spec);
  EXPECT_TRUE(linux::list_dir(h.root() + "/volumes/nocopy/_data")->empty());
}

TEST_F(Verbs, exec_keeps_its_code_and_starts_once) {
  auto id = h.run(Harness::spec({"sleep"}));
  ExecSpec spec;
  spec.cmd = {"id"};
  spec.user = "web";
  auto exec = engine().create_exec(h.admin, id, spec);
  ASSERT_TRUE(exec.ok());
  EXPECT_FALSE(engine().inspect_exec(h.admin, *exec)->running);
  auto events = engine().events(h.admin, {});
  ASSERT_TRUE(engine().start_exec(h.admin, *exec, {}).ok());
  EXPECT_EQ(h.runtime->last_exec().user.uid, 33U);
  EXPECT_EQ(engine().start_exec(h.admin, *exec, {}).error().kind(), ErrorKind::conflict);
  for (;;)
    if ((*(*events)->next({}))->action == "exec_die") break;
  EXPECT_EQ(engine().inspect_exec(h.admin, *exec)->exit_code, 5);
  spec.cmd = {"missing"};
  auto broken = engine().create_exec(h.admin, id, spec);
  EXPECT_FALSE(engine().start_exec(h.admin, *broken, {}).ok());
  EXPECT_EQ(engine().inspect_exec(h.admin, *broken)->exit_code, 127);
  spec.cmd.clear();
  EXPECT_EQ(engine().create_exec(h.admin, id, spec).error().kind(), ErrorKind::invalid);
  ASSERT_TRUE(engine().stop(h.admin, id, {}).ok());
  spec.cmd = {"id"};
  EXPECT_EQ(engine().create_exec(h.admin, id, spec).error().kind(), ErrorKind::conflict);
}

TEST_F(Verbs, clients_that_come_before_the_start_are_handed_over) {
  auto id = h.create(Harness::spec({"sleep"}));
  for (int i = 0; i < 2; ++i) {
    AttachOptions options;
    options.request.client = std::move(*linux::eventfd());
    ASSERT_TRUE(engine().attach(h.admin, id, std::move(options)).ok());
  }
  ASSERT_TRUE(engine().start(h.admin, id).ok());
  EXPECT_EQ(h.runtime->clients(), 2U);
  AttachOptions late;
  ASSERT_TRUE(engine().attach(h.admin, id, std::move(late)).ok());
  EXPECT_EQ(h.runtime->clients(), 3U);
}

TEST_F(Verbs, what_a_change_tells_comes_ahead_of_the_next_change) {
  Record record;
  record.info.id = std::string(64, 'a');
  Container container(record, h.store());
  std::atomic<bool> erased{false};
  std::jthread other;
  auto tell = [&](const Record& changed) {
    EXPECT_EQ(changed.info.state, State::exited);
    EXPECT_EQ(container.snapshot()->info.state, State::exited);  // seen by whoever waits for it, as the one beside
    other = std::jthread([&] { EXPECT_TRUE(container.erase([](Record&) {}, [&](const Record&, state::Transaction&) { erased = true; }).ok()); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(erased);
  };
  EXPECT_TRUE(container.change([](Record& changed) { changed.info.state = State::exited; }, tell).ok());
  other.join();
  EXPECT_TRUE(erased);
}

TEST_F(Verbs, events_tell_a_life_in_order) {
  auto stream = engine().events(h.admin, {});
  ASSERT_TRUE(stream.ok());
  auto spec = Harness::spec({"exit", "3"}, "brief");
  spec.auto_remove = true;
  h.run(spec);
  std::vector<std::string> actions;
  for (int i = 0; i < 6; ++i) {
    auto event = (*stream)->next({});
    ASSERT_TRUE(event.ok() && event->has_value());
    actions.push_back((*event)->action);
    EXPECT_EQ((*event)->attributes.at("name"), (*event)->type == "network" ? "bridge" : "brief");
    if ((*event)->action == "die") {
      EXPECT_EQ((*event)->attributes.at("exitCode"), "3");
    }
  }
  EXPECT_THAT(actions, ElementsAre("create", "connect", "start", "die", "disconnect", "destroy"));
  EventOptions past;
  past.since = 1;
  past.until = now_ns();
  auto replay = engine().events(h.admin, past);
  std::size_t count = 0;
  while ((*replay)->next({})->has_value()) ++count;
  EXPECT_GE(count, 4U);
}

TEST_F(Verbs, restart_policies_restart_until_the_user_stops) {
  auto spec = Harness::spec({"exit", "1"});
  spec.restart = {RestartCondition::on_failure, 2};
  auto id = h.run(spec);
  EXPECT_EQ(h.wait(id), 1);
  EXPECT_EQ(info(id).restart_count, 2);
  EXPECT_EQ(h.runtime->starts(), 3U);

  auto always = Harness::spec({"sleep"});
  always.restart = {RestartCondition::always, 0};
  auto kept = h.run(always);
  auto events = engine().events(h.admin, {});
  h.runtime->end(kept, 0);
  while ((*(*events)->next({}))->action != "start") continue;
  EXPECT_EQ(info(kept).state, State::running);
  ASSERT_TRUE(engine().stop(h.admin, kept, {}).ok());
  EXPECT_EQ(info(kept).state, State::exited);
}

TEST_F(Verbs, a_restart_that_is_only_planned_can_be_stopped_and_removed) {
  auto spec = Harness::spec({"exit", "1"});
  spec.restart = {RestartCondition::always, 0};
  auto id = h.run(spec);
  StopOptions now;
  now.timeout_s = 0;
  EXPECT_TRUE(engine().stop(h.admin, id, now).ok());
  EXPECT_EQ(info(id).state, State::exited);
  EXPECT_TRUE(engine().remove(h.admin, id, {}).ok());
}

TEST_F(Verbs, restart_does_not_remove_a_container_with_rm) {
  auto spec = Harness::spec({"sleep"}, "stays");
  spec.auto_remove = true;
  auto id = h.run(spec);
  ASSERT_TRUE(engine().restart(h.admin, id, {}).ok());
  EXPECT_EQ(info("stays").state, State::running);
}

TEST_F(Verbs, update_changes_limits_and_keeps_the_rest) {
  auto spec = Harness::spec({"sleep"});
  spec.resources.memory_bytes = 64 << 20;
  auto id = h.run(spec);
  UpdateSpec changes;
  changes.resources.pids_limit = 7;
  ASSERT_TRUE(engine().update(h.admin, id, changes).ok());
  EXPECT_EQ(h.runtime->updated().pids_limit, 7);
  EXPECT_EQ(h.runtime->updated().memory.limit_bytes, 64 << 20);
  changes.resources.memory_bytes = 5;
  EXPECT_EQ(engine().update(h.admin, id, changes).error().kind(), ErrorKind::invalid);
  EXPECT_EQ(info(id).spec.resources.memory_bytes, 64 << 20);
}

TEST_F(Verbs, top_stats_and_logs_answer) {
  auto id = h.run(Harness::spec({"sleep"}));
  auto top = engine().top(h.admin, id, "-o pid,comm");
  ASSERT_TRUE(top.ok()) << top.error().text();
  EXPECT_THAT(top->titles, ElementsAre("PID", "COMMAND"));
  ASSERT_EQ(top->processes.size(), 1U);
  EXPECT_EQ(engine().top(h.admin, id, "-o nosuch").error().kind(), ErrorKind::invalid);
  auto stats = engine().stats(h.admin, id);
  ASSERT_TRUE(stats.ok());
  EXPECT_TRUE(stats->running);
  EXPECT_GT(stats->system_cpu_ns, 0U);
  ASSERT_TRUE(engine().stop(h.admin, id, {}).ok());
  EXPECT_FALSE(engine().stats(h.admin, id)->running);
  EXPECT_EQ(engine().top(h.admin, id, "").error().kind(), ErrorKind::conflict);
}

TEST_F(Verbs, a_container_is_connected_and_disconnected_running_and_stopped) {
  for (const char* name : {"front", "back"}) {
    network::NetworkRequest request;
    request.name = name;
    ASSERT_TRUE(engine().create_network(h.admin, request).ok());
  }
  auto spec = Harness::spec({"sleep"});
  spec.network.mode = "front";
  spec.ports = {{network::Protocol::tcp, 80, "", 8080}};
  auto id = h.run(spec);
  ASSERT_EQ(info(id).endpoints.size(), 1U);
  EXPECT_EQ(info(id).endpoints[0].network_name, "front");
  EXPECT_EQ(info(id).ports.size(), 1U);
  EXPECT_EQ(engine().connect_network(h.admin, id, {.network = "front"}).error().kind(), ErrorKind::denied);
  EXPECT_EQ(engine().connect_network(h.admin, id, {.network = "nowhere"}).error().kind(), ErrorKind::not_found);
  EXPECT_EQ(engine().disconnect_network(h.admin, "back", id, false).error().kind(), ErrorKind::internal);
  ASSERT_TRUE(engine().connect_network(h.admin, id, {.network = "back", .aliases = {"b"}}).ok());
  EXPECT_EQ(info(id).endpoints.size(), 2U);
  EXPECT_EQ(info(id).spec.network.endpoints[1].aliases, std::vector<std::string>{"b"});
  EXPECT_EQ(engine().remove_network(h.admin, "back").error().kind(), ErrorKind::denied);
  ASSERT_TRUE(engine().stop(h.admin, id, {}).ok());
  EXPECT_TRUE(info(id).endpoints.empty());
  ASSERT_TRUE(engine().disconnect_network(h.admin, "front", id, false).ok());
  ASSERT_TRUE(engine().start(h.admin, id).ok());
  ASSERT_EQ(info(id).endpoints.size(), 1U);
  EXPECT_EQ(info(id).endpoints[0].network_name, "back");
  ASSERT_TRUE(engine().disconnect_network(h.admin, "back", id, false).ok());
  EXPECT_TRUE(info(id).endpoints.empty());
  auto pruned = engine().prune_networks(h.admin, {});
  ASSERT_TRUE(pruned.ok());
  EXPECT_EQ(pruned->deleted.size(), 2U);
  EXPECT_EQ(engine().list_networks(h.admin)->size(), 1U);
}

TEST_F(Verbs, modes_without_a_network_of_their_own_take_no_endpoints) {
  auto refused = [&](const std::string& mode) {
    auto spec = Harness::spec({"sleep"});
    spec.network.mode = mode;
    spec.network.endpoints = {{.network = "bridge"}};
    auto created = engine().create(h.admin, spec);
    return created.ok() ? "" : created.error().text();
  };
  EXPECT_THAT(refused("none"), testing::HasSubstr("private (none) mode"));
  EXPECT_THAT(refused("host"), testing::HasSubstr("sharing network namespace"));
  EXPECT_THAT(refused("container:x"), testing::HasSubstr("sharing network namespace"));
  auto spec = Harness::spec({"sleep"});
  spec.network.mode = "none";
  spec.network.endpoints = {{.network = "none"}};  // what clients send with --network none
  auto id = h.run(spec);
  EXPECT_EQ(engine().connect_network(h.admin, id, {.network = "bridge"}).error().kind(), ErrorKind::invalid);
}

TEST_F(Verbs, joining_a_network_needs_a_running_container_and_shares_its_ids) {
  auto target = h.run(Harness::spec({"sleep"}, "target"));
  auto spec = Harness::spec({"sleep"});
  spec.network.mode = "container:target";
  auto joined = h.run(spec);
  EXPECT_EQ(info(joined).first_host_id, info(target).first_host_id);
  ASSERT_TRUE(engine().stop(h.admin, target, {}).ok());
  auto late = h.create(spec);
  EXPECT_EQ(engine().start(h.admin, late).error().kind(), ErrorKind::conflict);
  // The range outlives its first owner: nobody else may get it while the second one runs.
  auto other = h.run(Harness::spec({"sleep"}));
  EXPECT_NE(info(other).first_host_id, info(joined).first_host_id);
}

TEST_F(Verbs, a_caller_without_the_role_is_refused) {
  Caller nobody{1000, 1000, 1, "tcp:127.0.0.1:9", "nobody", policy::built_in("none")};
  EXPECT_EQ(engine().list(nobody, {}).error().kind(), ErrorKind::denied);
  Caller viewer{1000, 1000, 1, "tcp", "viewer", policy::built_in("viewer")};
  EXPECT_TRUE(engine().list(viewer, {}).ok());
  EXPECT_EQ(engine().create(viewer, Harness::spec({"x"})).error().kind(), ErrorKind::denied);
  auto id = h.run(Harness::spec({"sleep"}));
  EXPECT_EQ(engine().kill(viewer, id, "").error().kind(), ErrorKind::denied);
  Caller operator_role{1000, 1000, 1, "tcp", "operator", policy::built_in("operator")};
  EXPECT_TRUE(engine().kill(operator_role, id, "").ok());
  EXPECT_EQ(engine().remove(operator_role, id, {}).error().kind(), ErrorKind::denied);
}

TEST_F(Verbs, prune_takes_what_has_ended) {
  auto ended = h.run(Harness::spec({"true"}));
  h.wait(ended);
  auto running = h.run(Harness::spec({"sleep"}));
  auto pruned = engine().prune_containers(h.admin, {});
  ASSERT_TRUE(pruned.ok());
  EXPECT_THAT(pruned->deleted, ElementsAre(ended));
  EXPECT_EQ(info(running).state, State::running);
  auto system = engine().info(h.admin);
  ASSERT_TRUE(system.ok());
  EXPECT_EQ(system->containers_running, 1U);
}

TEST_F(Verbs, many_clients_at_once_leave_a_consistent_engine) {
  std::vector<std::thread> clients;
  for (int c = 0; c < 8; ++c)
    clients.emplace_back([&, c] {
      for (int i = 0; i < 15; ++i) {
        auto spec = Harness::spec({i % 2 == 0 ? "true" : "sleep"}, concat("c", c, "-", i));
        spec.auto_remove = i % 3 == 0;
        auto created = engine().create(h.admin, spec);
        ASSERT_TRUE(created.ok()) << created.error().text();
        ASSERT_TRUE(engine().start(h.admin, created->id).ok());
        EXPECT_TRUE(engine().list(h.admin, {.all = true}).ok());
        RemoveOptions force;
        force.force = true;
        auto removed = engine().remove(h.admin, created->id, force);
        EXPECT_TRUE(removed.ok() || removed.error().kind() == ErrorKind::not_found) << removed.error().text();
      }
    });
  for (auto& client : clients) client.join();
  EXPECT_TRUE(engine().list(h.admin, {.all = true})->empty());
  h.close();
  EXPECT_THAT(h.names_in("root/containers"), IsEmpty());
  EXPECT_THAT(h.names_in("run/containers"), IsEmpty());
  EXPECT_THAT(h.names_in("world"), IsEmpty());
}

}  // namespace
}  // namespace caisson::engine
